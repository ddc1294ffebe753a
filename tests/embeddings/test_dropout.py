"""Dropout with generators of its own."""

import pytest
import torch

from newsreel.embeddings.dropout import Dropout, draw_seed, keep_mask, mask_generator


@pytest.mark.parametrize("probability", [0.001, 0.25, 0.5, 0.9])
def test_masks_drop_with_their_probability(probability: float) -> None:
    with mask_generator([1]):
        mask = keep_mask((400, 1_001), probability, torch.empty(0))
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert 1 - mask.mean().item() == pytest.approx(probability, abs=5 * (probability / 400_400) ** 0.5)


def test_values_and_gradients_are_zeroed_or_scaled_alike() -> None:
    values = torch.rand(200, 100, requires_grad=True)
    dropped = Dropout(0.25)(values)
    dropped.sum().backward()
    assert values.grad is not None
    assert {round(value, 4) for value in values.grad.unique().tolist()} == {0.0, round(1 / 0.75, 4)}
    assert torch.allclose(dropped, values * values.grad)
    assert dropped.mean().item() == pytest.approx(values.mean().item(), rel=0.05)


def test_nothing_is_dropped_in_evaluation_or_without_a_probability() -> None:
    values = torch.rand(20)
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0)(values) is values


def test_neighbouring_values_are_dropped_independently() -> None:
    with mask_generator([7]):
        mask = keep_mask((100_000, 8), 0.5, torch.empty(0))
    correlations = torch.corrcoef(mask.T) - torch.eye(8)
    assert correlations.abs().max() < 0.02


def test_without_a_generator_masks_follow_the_global_seed() -> None:
    def masks() -> list[torch.Tensor]:
        torch.manual_seed(2)
        return [keep_mask((50,), 0.5, torch.empty(0)) for _ in range(2)]

    first, second = masks()
    assert not torch.equal(first, second)
    assert all(map(torch.equal, masks(), (first, second)))
    torch.manual_seed(2)
    assert draw_seed() != draw_seed()


def test_masks_have_the_type_of_the_values() -> None:
    assert keep_mask((4,), 0.5, torch.empty(0, dtype=torch.bfloat16)).dtype == torch.bfloat16
