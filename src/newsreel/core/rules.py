"""Ranges of settings, as annotations in the signature that takes them, and suggestions for misspelled names."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The numbers a setting may take: `Annotated[float, Range(min=0, below=1)]`."""

    min: float | None = None
    max: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.min is None or value >= self.min)
            and (self.max is None or value <= self.max)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        bounds = {"at least": self.min, "above": self.above, "at most": self.max, "below": self.below}
        return " and ".join(f"{word} {bound}" for word, bound in bounds.items() if bound is not None)


RENAMED_SETTINGS = {
    "training.keep": "training.checkpoint",
    "trainer.accumulate": "trainer.accumulate_grad_batches",
    "model.widths": "model.kernel_sizes",
}


def suggest(key: str, known: Sequence[str], prefix: str = "") -> str:
    """A hint for an error message: the most similar known name, or all known names."""
    if f"{prefix}{key}" in RENAMED_SETTINGS:
        return f"; it is now called {RENAMED_SETTINGS[f'{prefix}{key}']}"
    matches = difflib.get_close_matches(key, known, n=1)
    if matches:
        return f"; did you mean {prefix}{matches[0]}?"
    return f"; known are {', '.join(f'{prefix}{name}' for name in known)}" if known else "; there are none here"
