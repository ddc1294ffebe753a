"""Confidence intervals and significance tests of the accuracy and of micro-F1, over the documents of a split.

Both metrics are a ratio of sums over documents: hits / sizes. Documents are independent draws in every function.

Axes: N documents, K different kinds of documents, S resamples.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95  # of the intervals
MAX_P = 0.05  # with a higher p-value, a difference can be chance
NUM_RESAMPLES = 9_999
CHUNK_RESAMPLES = 1_000  # resampled at a time, to bound the memory


@dataclass(frozen=True)
class Outcomes:
    """How well the predictions of one run fit the documents of a split; the metric is hits.sum() / sizes.sum().

    With one label per document, a document's hit is 0 or 1 and its size 1: the metric is the accuracy. With several,
    hits are twice the number of correctly predicted labels, and the size is the number of predicted labels and
    targets: the metric is micro-F1.
    """

    hits: np.ndarray  # (N,) int64
    sizes: np.ndarray  # (N,) int64

    @classmethod
    def of(cls, preds: np.ndarray, targets: np.ndarray) -> "Outcomes":
        """From (N,) class indices, or from (N, L) indicators of labels."""
        if targets.ndim == 1:
            return cls((preds == targets).astype(np.int64), np.ones(len(targets), dtype=np.int64))
        preds, targets = preds.astype(bool), targets.astype(bool)
        sizes = preds.sum(axis=1, dtype=np.int64) + targets.sum(axis=1, dtype=np.int64)
        return cls(2 * (preds & targets).sum(axis=1, dtype=np.int64), sizes)

    @property
    def score(self) -> float:
        """The accuracy, or micro-F1; 0 without labels."""
        return float(self.hits.sum() / max(1, self.sizes.sum()))

    @property
    def counts_documents(self) -> bool:
        """Whether every document is either right or wrong, so that the number of right ones is binomial."""
        return bool((self.sizes == 1).all())

    def select(self, documents: np.ndarray) -> "Outcomes":
        return Outcomes(self.hits[documents], self.sizes[documents])


def confidence_interval(outcomes: Outcomes) -> tuple[float, float]:
    """The 95% confidence interval of the metric.

    Of the accuracy, the exact one of a binomial proportion (Clopper and Pearson 1934); of micro-F1, between percentiles
    of the bootstrap over documents (Efron and Tibshirani 1993, chapter 13). If no document has an error, or none a
    hit, resamples do not differ, and the interval is that of the fraction of documents without an error.
    """
    hits, sizes = outcomes.hits, outcomes.sizes
    if outcomes.counts_documents:
        return binomial_interval(int(hits.sum()), len(hits))
    if not hits.any() or (hits == sizes).all():
        return binomial_interval(len(hits) if hits.any() else 0, len(hits))
    kinds, counts = np.unique(np.stack([hits, sizes], axis=1), axis=0, return_counts=True)  # (K, 2), (K,)
    random = np.random.default_rng(0)
    sums = random.multinomial(counts.sum(), counts / counts.sum(), size=NUM_RESAMPLES) @ kinds  # (S, 2)
    scores = sums[:, 0] / np.maximum(1, sums[:, 1])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return float(low), float(high)


def binomial_interval(num_hits: int, num_documents: int) -> tuple[float, float]:
    interval = stats.binomtest(num_hits, num_documents).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def p_value(ones: Sequence[Outcomes], others: Sequence[Outcomes]) -> float:
    """The probability of a difference between the scores of two configurations as large as theirs, if there is none.

    ones, others: of each run of a configuration, all on the same documents. For one run each, whether these two runs
    differ on other documents: `mcnemar`, or `permutation_test` for micro-F1. For several, whether the means of the
    configurations differ on other documents and with other seeds: `seeds_test`.
    """
    if len(ones) > 1 or len(others) > 1:
        return seeds_test(ones, others)
    (one,), (other,) = ones, others
    return mcnemar(one, other) if one.counts_documents and other.counts_documents else permutation_test(one, other)


def mcnemar(one: Outcomes, other: Outcomes) -> float:
    """p-value of the exact test of McNemar (1947): of the documents that only one gets right, each has half."""
    num_only_one = int((one.hits > other.hits).sum())
    num_only_other = int((other.hits > one.hits).sum())
    if not num_only_one + num_only_other:
        return 1.0
    return float(stats.binomtest(num_only_one, num_only_one + num_only_other).pvalue)


def permutation_test(one: Outcomes, other: Outcomes) -> float:
    """p-value of a paired permutation test: the predictions of each document are exchanged at random (Yeh 2000).

    Documents with the same hits and sizes are exchangeable, so their number is drawn instead of each.
    """
    pairs = np.stack([one.hits, one.sizes, other.hits, other.sizes], axis=1)
    totals = pairs.sum(axis=0)  # (4,)
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)  # (K, 4), (K,)
    changes = kinds[:, [2, 3, 0, 1]] - kinds  # (K, 4) of the totals by one exchange
    matters = changes.any(axis=1)
    observed = abs(differences(totals[None])[0])
    random = np.random.default_rng(0)
    num_extreme = 0
    for size in chunk_sizes():
        exchanged = random.binomial(counts[matters], 0.5, size=(size, int(matters.sum())))  # (S, K)
        resampled = np.abs(differences(totals + exchanged @ changes[matters]))
        num_extreme += int((resampled >= observed - 1e-12).sum())
    return (num_extreme + 1) / (NUM_RESAMPLES + 1)


def differences(totals: np.ndarray) -> np.ndarray:
    """(S,) differences of the scores of two runs. totals: (S, 4) hits and sizes of one, then of the other."""
    sizes = np.maximum(1, totals[:, [1, 3]])
    return np.asarray(totals[:, 0] / sizes[:, 0] - totals[:, 2] / sizes[:, 1])


def chunk_sizes() -> Iterator[int]:
    for start in range(0, NUM_RESAMPLES, CHUNK_RESAMPLES):
        yield min(CHUNK_RESAMPLES, NUM_RESAMPLES - start)


@dataclass(frozen=True)
class Estimate:
    """An estimate with an approximately normal error."""

    value: float
    standard_error: float
    degrees: float  # of freedom of the standard error

    @classmethod
    def of(cls, value: float, variances: np.ndarray, degrees: np.ndarray) -> "Estimate":
        """variances: (2,) of its independent parts, with their degrees of freedom; those of the sum are Satterthwaite's
        (1946).
        """
        total = float(variances.sum())
        if not total:
            return cls(value, 0.0, float(degrees.max()))
        return cls(value, math.sqrt(total), total**2 / float((variances**2 / np.maximum(1, degrees)).sum()))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval."""
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.degrees)) * self.standard_error
        return self.value - reach, self.value + reach

    @property
    def p_value(self) -> float:
        """Of the t-test that it is 0."""
        if not self.standard_error:
            return 0.0 if self.value else 1.0
        return float(2 * stats.t.sf(abs(self.value) / self.standard_error, self.degrees))


def seeds_test(ones: Sequence[Outcomes], others: Sequence[Outcomes]) -> float:
    """p-value of a t-test of the `difference` between mean scores. One of the two must have several runs."""
    return difference(ones, others).p_value


def difference(ones: Sequence[Outcomes], others: Sequence[Outcomes]) -> Estimate:
    """The difference between the mean scores of two configurations, with documents and runs as random samples.

    The variance of the difference is the sum of two: that over documents, of the differences between the means over
    runs (paired, linearised as in `residuals`), and that over runs, pooled as in Student's test for two samples. With
    one run each, the second is unknown and left out.
    """
    num_documents = len(ones[0].hits)
    paired = mean_residuals(ones) - mean_residuals(others)  # (N,)
    num_free_runs = len(ones) + len(others) - 2
    scores = [np.array([outcomes.score for outcomes in group]) for group in (ones, others)]
    squares = sum(float(((of_group - of_group.mean()) ** 2).sum()) for of_group in scores)
    variances = np.array(
        [
            (paired**2).sum() / max(1, num_documents - 1) / num_documents,
            squares / max(1, num_free_runs) * (1 / len(ones) + 1 / len(others)),
        ]
    )
    value = float(scores[0].mean() - scores[1].mean())
    return Estimate.of(value, variances, np.array([num_documents - 1, num_free_runs]))


def mean_interval(group: Sequence[Outcomes]) -> tuple[float, float]:
    """The 95% confidence interval of the mean score of a configuration's runs, for other documents and other seeds.

    For one run, or runs that fit every document equally well, that of `confidence_interval`, whose documents alone are
    random; else that of an `Estimate` with the variances of `difference`, within 0 and 1.
    """
    first = group[0]
    if all(np.array_equal(first.hits, other.hits) and np.array_equal(first.sizes, other.sizes) for other in group):
        return confidence_interval(first)
    scores, num_documents = np.array([outcomes.score for outcomes in group]), len(first.hits)
    variances = np.array(
        [
            (mean_residuals(group) ** 2).sum() / max(1, num_documents - 1) / num_documents,
            scores.var(ddof=1) / len(scores),
        ]
    )
    estimate = Estimate.of(float(scores.mean()), variances, np.array([num_documents - 1, len(scores) - 1]))
    low, high = estimate.interval
    return max(0.0, low), min(1.0, high)


def mean_residuals(group: Sequence[Outcomes]) -> np.ndarray:
    """(N,) mean over runs of their residuals."""
    return np.asarray(np.mean([residuals(outcomes) for outcomes in group], axis=0))


def residuals(outcomes: Outcomes) -> np.ndarray:
    """(N,) contribution of each document to the score's deviation from that of all documents (Cochran 1977, 2.11)."""
    mean_size = max(1, outcomes.sizes.sum()) / len(outcomes.sizes)
    return np.asarray((outcomes.hits - outcomes.score * outcomes.sizes) / mean_size)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, raised so that 5% is the probability of any false difference (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    return [float(value) for value in adjusted[np.argsort(order, kind="stable")]]
