"""Dropout with masks that are cheap on CPUs and reproducible in threads.

On CPU, `torch.nn.functional.dropout` draws one random number per value from a generator that all threads share. Here, a
64-bit random number gives four values, and each micro-batch has a generator of its own.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_LEVELS = 2**16  # probabilities are rounded to multiples of 1 / NUM_LEVELS


class _Local(threading.local):
    random: np.random.BitGenerator | None = None


_local = _Local()


@contextmanager
def mask_generator(seed: Sequence[int]) -> Iterator[None]:
    """Context in which masks of this thread depend on `seed` alone."""
    previous, _local.random = _local.random, np.random.SFC64(np.random.SeedSequence(seed))
    try:
        yield
    finally:
        _local.random = previous


@contextmanager
def seeded_masks(seed: int) -> Iterator[None]:
    """Context in which masks depend on `seed` alone, on all devices and also those of torch's dropout layers.

    Not for several threads: it seeds torch's generators, and restores only that of the CPU.
    """
    with torch.random.fork_rng([]), mask_generator([seed]):
        torch.manual_seed(seed)
        yield


def draw_seed() -> int:
    """A seed for `mask_generator` from torch's global generator, so that it is part of a checkpoint's random state."""
    return int(torch.randint(2**63 - 1, ()))


def keep_mask(shape: Sequence[int], probability: float, like: Tensor) -> Tensor:
    """A mask of 0 with `probability`, and otherwise of 1. like: a tensor with the mask's data type and device."""
    if not is_cheap(like):
        return (torch.rand(tuple(shape), device=like.device) >= probability).to(like.dtype)
    random = _local.random or np.random.SFC64(np.random.SeedSequence(draw_seed()))
    size = math.prod(shape)
    levels = torch.from_numpy(random.random_raw(-(-size // 4)).view(np.int16))[:size].view(tuple(shape))
    mask = torch.empty(tuple(shape), dtype=like.dtype)
    torch.ge(levels, round(probability * NUM_LEVELS) - NUM_LEVELS // 2, out=mask)
    return mask


def is_cheap(values: Tensor) -> bool:
    """Whether masks for `values` are drawn here, and not by torch."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def dropout_mask(shape: Sequence[int], probability: float, like: Tensor) -> Tensor:
    """A `keep_mask` divided by the probability of its ones, so that its mean is 1."""
    return keep_mask(shape, probability, like).div_(1 - probability)


class Dropout(nn.Module):
    """Zeroes values with a probability in training and scales the others, as torch.nn.Dropout does."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape."""
        if not self.training or not self.probability:
            return values
        if not is_cheap(values):
            return F.dropout(values, self.probability)
        return values * dropout_mask(values.shape, self.probability, values)

    def extra_repr(self) -> str:
        return f"probability={self.probability}"
