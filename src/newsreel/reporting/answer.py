"""Which classifier for this corpus, at what cost, and is the difference real: an answer in two sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from newsreel.evaluation.statistics import CONFIDENCE, MAX_P, Outcomes, holm, mean_interval, p_value

Kind = Literal["nothing", "single", "tie", "pays", "best"]
ABOUT_AS_FAST = 1.25  # training times with a smaller ratio are about the same
UNNOTICED_SECONDS = 2.0  # so are those with a smaller difference


@dataclass(frozen=True, eq=False)  # compared by identity: outcomes are arrays
class Candidate:
    """A configuration that the answer can recommend."""

    name: str
    outcomes: Sequence[Outcomes]  # of each of its runs, all on the same test documents
    fit_s: float  # mean training time
    command: str = ""  # that repeats it

    @property
    def score(self) -> float:
        """The mean over its runs."""
        return float(np.mean([outcomes.score for outcomes in self.outcomes]))

    @cached_property
    def interval(self) -> tuple[float, float]:
        return mean_interval(self.outcomes)

    def described(self, metric: str) -> str:
        low, high = self.interval
        return f"test {metric} {self.score:.4f}, {CONFIDENCE:.0%} interval {low:.4f}–{high:.4f}"

    def is_faster_than(self, other: "Candidate") -> bool:
        """Whether anyone would notice how much faster it trains."""
        return self.fit_s * ABOUT_AS_FAST < other.fit_s and self.fit_s + UNNOTICED_SECONDS < other.fit_s


@dataclass(frozen=True)
class Answer:
    """What to use."""

    kind: Kind
    sentences: Sequence[str]
    recommended: Candidate | None  # None if nothing was learned
    p_values: Sequence[float | None]  # of each candidate against the first, corrected for their number; None: the first


def answer(candidates: Sequence[Candidate], metric: str, majority: Outcomes | None) -> Answer:
    """The answer for one corpus.

    Recommended is the cheapest to train of those that do not differ significantly from the best, or the best by
    validation of those that are about as cheap. The best is the one with the highest validation score, as test scores
    must not choose.

    candidates: the best by validation first. majority: the outcomes of the majority guess on the same test documents;
    None if they are unknown.
    """
    best, *others = candidates
    p_values = [None, *holm([p_value(best.outcomes, other.outcomes) for other in others])]
    if majority is not None and not beats_majority(candidates, majority):
        return Answer("nothing", nothing_learned(best, candidates, metric, majority), None, p_values)
    if not others:
        return Answer("single", alone(best, metric, majority), best, p_values)
    tied = [candidate for candidate, p in zip(candidates, p_values, strict=True) if p is None or p > MAX_P]
    cheapest = min(tied, key=lambda candidate: candidate.fit_s)
    recommended = next(candidate for candidate in tied if not cheapest.is_faster_than(candidate))
    verdicts = Verdicts(candidates, p_values, tied, recommended, metric)
    return Answer(verdicts.kind, [verdicts.quality(), verdicts.cost()], recommended, p_values)


def beats_majority(candidates: Sequence[Candidate], majority: Outcomes) -> bool:
    """Whether any candidate is significantly better than the majority guess, with correction for their number."""
    p_values = holm([p_value(candidate.outcomes, [majority]) for candidate in candidates])
    return any(
        candidate.score > majority.score and p <= MAX_P for candidate, p in zip(candidates, p_values, strict=True)
    )


def nothing_learned(best: Candidate, candidates: Sequence[Candidate], metric: str, majority: Outcomes) -> list[str]:
    who = f"{best.name} is" if len(candidates) == 1 else "no model is significantly"
    better = "not significantly better" if len(candidates) == 1 else "better"
    return [
        f"Nothing was learned: {who} {better} than guessing the majority label (test {metric} {majority.score:.4f}; "
        f"{best.name}: {best.described(metric)}).",
        "Train longer or on more documents, or test on more.",
    ]


def alone(best: Candidate, metric: str, majority: Outcomes | None) -> list[str]:
    beside = "" if majority is None else f"; the majority guess has {majority.score:.4f}"
    return [
        f"{best.name} is the only model here ({best.described(metric)}{beside}).",
        f"It trains in {format_seconds(best.fit_s)}; whether another model is better or cheaper, only other runs on "
        "the same documents can say.",
    ]


@dataclass(frozen=True)
class Verdicts:
    """The two sentences on several candidates, at least one of which has learned."""

    candidates: Sequence[Candidate]  # the best by validation first
    p_values: Sequence[float | None]
    tied: Sequence[Candidate]  # with the best, which is among them
    recommended: Candidate
    metric: str

    @property
    def best(self) -> Candidate:
        return self.candidates[0]

    @property
    def kind(self) -> Kind:
        if len(self.tied) > 1:
            return "tie"
        return "pays" if self.cheaper else "best"

    @property
    def cheaper(self) -> list[Candidate]:
        """Those that are clearly cheaper than the recommended one and significantly worse."""
        return [
            candidate
            for candidate in self.candidates
            if candidate.is_faster_than(self.recommended) and candidate.score < self.best.score
        ]

    @property
    def better_by_test(self) -> list[Candidate]:
        """Those with a significantly higher test score than the best by validation."""
        return [
            candidate
            for candidate, p in zip(self.candidates, self.p_values, strict=True)
            if p is not None and p <= MAX_P and candidate.score > self.best.score
        ]

    def p(self, candidate: Candidate) -> str:
        return format_p(self.p_values[self.candidates.index(candidate)])

    def quality(self) -> str:
        recommended, best, metric = self.recommended, self.best, self.metric
        described = f"{recommended.name} {{}} ({recommended.described(metric)})"
        if self.better_by_test:
            better = max(self.better_by_test, key=lambda candidate: candidate.score)
            return (
                f"{described.format('is the choice by the validation documents')}, but {better.name} has a "
                f"significantly higher test score ({better.score:.4f}, {self.p(better)}): compare the two again with "
                "more validation documents."
            )
        if self.kind == "tie" and recommended is not best:
            return (
                f"No model here is significantly better than {recommended.name} ({recommended.described(metric)}): "
                f"{best.name} has the best validation score, and its test {metric} of {best.score:.4f} does not differ "
                f"significantly ({self.p(recommended)})."
            )
        if self.kind == "tie":
            return (
                f"{described.format('is the best by the validation documents')}, and no other is significantly better."
            )
        if self.kind == "pays":
            next_best = max(self.cheaper, key=lambda candidate: candidate.score)
            return (
                f"{described.format('pays')}: its {metric} is {best.score - next_best.score:.4f} above that of "
                f"{next_best.name}, the best of the cheaper models ({self.p(next_best)})."
            )
        next_best = max(self.candidates[1:], key=lambda candidate: candidate.score)
        return (
            f"{described.format('is the best model here')}: every other is significantly worse, the next, "
            f"{next_best.name}, with {next_best.score:.4f} ({self.p(next_best)})."
        )

    def cost(self) -> str:
        recommended = self.recommended
        trains = f"It trains in {format_seconds(recommended.fit_s)}"
        cheaper = max(self.cheaper, key=lambda candidate: candidate.score, default=None)
        if self.kind == "pays" and cheaper is not None:
            return f"{trains}, {times(recommended.fit_s / max(1e-9, cheaper.fit_s))} as long as {cheaper.name}."
        others = [candidate for candidate in self.tied if candidate is not recommended] or self.candidates[1:]
        compared = self.best if recommended is not self.best else max(others, key=lambda candidate: candidate.score)
        ratio = compared.fit_s / max(1e-9, recommended.fit_s)
        fast = f"{times(ratio)} as fast as" if recommended.is_faster_than(compared) else "about as fast as"
        worse = "" if cheaper is None else f"; {cheaper.name} is cheaper still, but significantly worse"
        return f"{trains}, {fast} {compared.name}{worse}."


def times(ratio: float) -> str:
    """A ratio in words: two digits."""
    return f"{float(f'{ratio:.2g}'):,.0f} times" if ratio >= 3 else f"{ratio:.1f} times"


def format_seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"


def format_p(value: float | None) -> str:
    if value is None:
        return ""
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}"
