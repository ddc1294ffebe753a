"""The metric that decides early stopping and the best checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Monitor:
    """A validation metric and which values of it are better."""

    metric: str
    mode: Literal["max", "min"] = "max"  # whether the highest or the lowest value is the best

    @property
    def key(self) -> str:
        """Its name among all metrics."""
        return f"val/{self.metric}"

    def score(self, metrics: Mapping[str, float]) -> float:
        """Its value, with a sign that makes higher scores better."""
        value = float(metrics[self.key])
        return value if self.mode == "max" else -value
