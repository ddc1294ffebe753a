"""Whether more training documents would help: runs that differ only in data.train_limit."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from newsreel.evaluation.statistics import CONFIDENCE, Outcomes, difference, mean_interval
from newsreel.runs.records import Run

LIMIT = "data.train_limit"
SMALL_GAIN = 0.01  # of the metric, per doubling of the documents


@dataclass(frozen=True)
class SizePoint:
    """The configuration with one number of training documents."""

    num_documents: int
    outcomes: Sequence[Outcomes]  # of each of its runs

    @property
    def score(self) -> float:
        return float(np.mean([outcomes.score for outcomes in self.outcomes]))

    @property
    def interval(self) -> tuple[float, float]:
        return mean_interval(self.outcomes)


@dataclass(frozen=True)
class SizeCurve:
    """A configuration with several numbers of training documents, the fewest first."""

    name: str
    points: Sequence[SizePoint]

    def verdict(self, metric: str) -> str:
        """Whether more documents would help, by the slope between the last two points."""
        before, last = self.points[-2:]
        gain = difference(last.outcomes, before.outcomes)
        low, high = gain.interval
        doublings = math.log2(last.num_documents / before.num_documents)
        measured = (
            f"from {before.num_documents:,} to {last.num_documents:,} training documents its test {metric} changes by "
            f"{gain.value:+.4f} ({CONFIDENCE:.0%} interval {low:+.4f} to {high:+.4f}), which is "
            f"{gain.value / doublings:+.4f} per doubling"
        )
        if low > 0:
            return f"More documents would probably help {self.name}: {measured}."
        if high / doublings < SMALL_GAIN:
            return f"More documents would hardly help {self.name}: {measured}, and at most {high / doublings:+.4f}."
        return f"Whether more documents would help {self.name} is open: {measured}; that can be chance."


def size_curves(
    runs: Sequence[tuple[str, Sequence[Run]]], outcomes: Mapping[str, Sequence[Outcomes]]
) -> list[SizeCurve]:
    """The configurations that were trained on several numbers of documents.

    runs: (name without the number of documents, runs) of each configuration. outcomes: of each run, by the identity of
    the configuration; those without are left out.
    """
    groups: dict[str, tuple[str, dict[int, list[Outcomes]]]] = {}
    for name, of_configuration in runs:
        first = of_configuration[0]
        num_documents = first.results.get("documents/train")
        if first.identity not in outcomes or not num_documents:
            continue
        _, sizes = groups.setdefault(identity_but_limit(first), (name, {}))
        sizes.setdefault(int(num_documents), []).extend(outcomes[first.identity])
    return [
        SizeCurve(name, [SizePoint(size, sizes[size]) for size in sorted(sizes)])
        for name, sizes in groups.values()
        if len(sizes) > 1
    ]


def identity_but_limit(run: Run) -> str:
    """Equal for runs that differ only in their seed and in the number of training documents."""
    settings = {key: value for key, value in run.settings.items() if key != LIMIT}
    return json.dumps([run.choices, settings], sort_keys=True, default=str)
