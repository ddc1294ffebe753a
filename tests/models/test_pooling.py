"""Masked pooling against a loop over documents."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from newsreel.models.pooling import MaskedPooling, PoolingName, token_mask


def one_document(states: Tensor, pooling: MaskedPooling) -> Tensor:
    """Pool (t, H) states of a single unpadded document."""
    if not len(states):
        return torch.zeros(states.shape[1] * pooling.num_parts)
    if pooling.name == "attention":
        return (pooling.attention(states).softmax(dim=0) * states).sum(dim=0)
    parts = {"last": [states[-1]], "max": [states.max(dim=0).values], "mean": [states.mean(dim=0)]}
    return torch.cat(parts.get(pooling.name, [*parts["max"], *parts["mean"]]))


@pytest.mark.parametrize("name", get_args(PoolingName))
def test_pooling_equals_a_loop_and_its_gradients_stay_away_from_padding(name: PoolingName) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([3, 7, 1, 0, 5])
    states = (torch.randn(5, 7, 4) - 2).requires_grad_()  # below zero, so that padded zeros would win a maximum
    pooling = MaskedPooling(name, 4)
    pooled = pooling(states, lengths)
    for document, length in enumerate(lengths):
        expected = one_document(states[document, :length], pooling)
        assert torch.allclose(pooled[document], expected, atol=1e-6)
    (gradient,) = torch.autograd.grad(pooled.square().sum(), states)
    assert gradient.isfinite().all()
    assert (gradient[~token_mask(lengths, 7)] == 0).all()
