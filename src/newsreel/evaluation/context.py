"""What a score is to be read beside: its confidence interval and the majority guess."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from newsreel.evaluation.predictions import Predictions
from newsreel.evaluation.statistics import CONFIDENCE, Outcomes, confidence_interval

INTERVAL_SUFFIXES = ("_ci_low", "_ci_high")  # of the metric's name, in metrics.json
MAJORITY_PREFIX = "majority_"


@dataclass(frozen=True)
class ScoreContext:
    """The 95% confidence interval of the monitored metric, and the score of the majority guess on the same split."""

    metric: str
    low: float
    high: float
    majority: float | None  # None if the training documents are unknown

    @classmethod
    def of(cls, predictions: Predictions, majority_label: int | None) -> "ScoreContext":
        """majority_label: the label that is most frequent in training."""
        low, high = confidence_interval(Outcomes.of(predictions.preds, predictions.targets))
        majority = None if majority_label is None else majority_outcomes(predictions, majority_label).score
        return cls(predictions.corpus.metric, low, high, majority)

    @classmethod
    def from_results(cls, results: Mapping[str, Any], metric: str) -> "ScoreContext | None":
        """From names without a split's prefix; None if they are of a version that computed no intervals."""
        low, high = (results.get(f"{metric}{suffix}") for suffix in INTERVAL_SUFFIXES)
        if low is None or high is None:
            return None
        return cls(metric, low, high, results.get(f"{MAJORITY_PREFIX}{metric}"))

    def results(self) -> dict[str, float]:
        """By their names in metrics.json, without a split's prefix."""
        low, high = (f"{self.metric}{suffix}" for suffix in INTERVAL_SUFFIXES)
        ends = {low: self.low, high: self.high}
        return ends if self.majority is None else {**ends, f"{MAJORITY_PREFIX}{self.metric}": self.majority}

    @property
    def interval(self) -> str:
        return f"{self.low:.4f}–{self.high:.4f}"

    def __str__(self) -> str:
        majority = "" if self.majority is None else f", majority guess {self.majority:.4f}"
        return f"{CONFIDENCE:.0%} interval {self.interval}{majority}"


def majority_outcomes(predictions: Predictions, label: int) -> Outcomes:
    """The outcomes of predicting one label alone for every document."""
    targets = predictions.targets
    if targets.ndim == 1:
        return Outcomes.of(np.full_like(targets, label), targets)
    return Outcomes.of(np.arange(targets.shape[1]) == np.full((len(targets), 1), label), targets)
