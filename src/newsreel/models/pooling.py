"""From the states of a document's tokens to one vector; padding takes no part.

Axes: B documents, T tokens, H values of a state.
"""

from typing import Literal

import torch
from torch import Tensor, nn

PoolingName = Literal["last", "max", "mean", "max_mean"]


def token_mask(lengths: Tensor, num_tokens: int) -> Tensor:
    """(B, T) bool: which places of a padded batch hold a token."""
    return torch.arange(num_tokens, device=lengths.device) < lengths[:, None]


class MaskedPooling(nn.Module):
    """Pools (B, T, H) over each document's own tokens; a document without tokens becomes zeros."""

    def __init__(self, name: PoolingName) -> None:
        super().__init__()
        self.name = name
        self.num_parts = 2 if name == "max_mean" else 1  # the result has num_parts · H values

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, H), (B,) → (B, num_parts · H)."""
        mask = token_mask(lengths, states.shape[1])[:, :, None]  # (B, T, 1)
        parts = []
        if self.name == "last":
            last = (lengths - 1).clamp(min=0)
            final = states[torch.arange(len(states), device=states.device), last]  # (B, H)
            parts.append(final * (lengths > 0)[:, None])
        if self.name in ("max", "max_mean"):
            highest = states.masked_fill(~mask, -torch.inf).amax(dim=1)  # (B, H)
            parts.append(highest.masked_fill((lengths == 0)[:, None], 0.0))
        if self.name in ("mean", "max_mean"):
            total = (states * mask).sum(dim=1)  # (B, H)
            parts.append(total / lengths.clamp(min=1)[:, None])
        return torch.cat(parts, dim=1)
