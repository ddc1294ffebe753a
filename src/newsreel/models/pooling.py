"""Masked pooling: from the states of a document's tokens to one vector.

Axes: B documents, T tokens, H state size.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PoolingName = Literal["last", "max", "mean", "max_mean", "attention"]


def token_mask(lengths: Tensor, num_tokens: int) -> Tensor:
    """(B, T) bool: which positions of a padded batch are tokens."""
    return torch.arange(num_tokens, device=lengths.device) < lengths[:, None]


class MaskedPooling(nn.Module):
    """Pools (B, T, H) over the tokens of each document; the result for an empty document is zero.

    `attention` weights the states h by softmax(v · tanh(W h + b)) with learned v, W and b (Yang et al. 2016, eqs. 5
    to 7).
    """

    def __init__(self, name: PoolingName, size: int) -> None:
        """size: H."""
        super().__init__()
        self.name = name
        self.num_parts = 2 if name == "max_mean" else 1  # the result has num_parts · H values
        if name == "attention":
            self.attention = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False))

    def forward(self, states: Tensor, lengths: Tensor, backward: Sequence[bool] = (False,)) -> Tensor:
        """(B, T, H), (B,) → (B, num_parts · H).

        backward: for each of the equal parts of a state, whether it was read backwards; its `last` state is then at
        the first token.
        """
        mask = token_mask(lengths, states.shape[1])[:, :, None]  # (B, T, 1)
        parts = []
        if self.name == "last":
            documents = torch.arange(states.shape[0], device=states.device)
            last = (lengths - 1).clamp(min=0)
            final = [
                part[:, 0] if reverse else part[documents, last]
                for part, reverse in zip(states.chunk(len(backward), dim=2), backward, strict=True)
            ]
            parts.append(torch.cat(final, dim=1) * (lengths > 0)[:, None])  # (B, H)
        if self.name in ("max", "max_mean"):
            # Padding never wins; adding is several times as fast as `masked_fill`
            padding = torch.zeros_like(states[:, :, :1]).masked_fill(~mask, -torch.inf)  # (B, T, 1)
            parts.append(self._max_over_time(states + padding).masked_fill((lengths == 0)[:, None], 0.0))  # (B, H)
        if self.name in ("mean", "max_mean"):
            weights = mask.transpose(1, 2) / lengths.clamp(min=1)[:, None, None].to(states.dtype)  # (B, 1, T)
            parts.append((weights @ states)[:, 0])  # (B, H)
        if self.name == "attention":
            scores = self.attention(states).masked_fill(~mask, torch.finfo(states.dtype).min)  # (B, T, 1)
            parts.append((scores.softmax(dim=1) * mask * states).sum(dim=1))  # (B, H)
        return torch.cat(parts, dim=1)

    def _max_over_time(self, states: Tensor) -> Tensor:
        """(B, T, H) → (B, H)."""
        if self.training:  # its backward pass is much faster than that of `amax`
            return F.adaptive_max_pool1d(states.transpose(1, 2), 1)[:, :, 0]
        return states.amax(dim=1)
