"""What the machine that runs the tests can do."""

from functools import cache

import pytest
import torch
from torch import nn


@cache
def has_bfloat16_lstm() -> bool:
    """Whether torch has a bfloat16 LSTM for this CPU."""
    try:
        with torch.random.fork_rng(devices=[]), torch.autocast("cpu", torch.bfloat16):
            nn.LSTM(2, 2)(torch.ones(1, 1, 2))
    except RuntimeError:
        return False
    return True


needs_bfloat16_lstm = pytest.mark.skipif(not has_bfloat16_lstm(), reason="this CPU has no bfloat16 LSTM")
