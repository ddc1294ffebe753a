"""Intervals and tests beside SciPy's functions on the same made-up documents, and beside figures worked out by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from newsreel.evaluation.statistics import (
    Outcomes,
    confidence_interval,
    difference,
    holm,
    mcnemar,
    mean_interval,
    p_value,
    permutation_test,
    residuals,
    seeds_test,
)


def classes(*counts: tuple[int, int]) -> Outcomes:
    """Documents with one label: (0 or 1 hit, number of them)."""
    hits = np.concatenate([[hit] * count for hit, count in counts])
    return Outcomes(hits, np.ones(len(hits), dtype=np.int64))


def random_classes(seed: int, accuracy: float, num_documents: int = 300) -> Outcomes:
    return classes(*((int(hit), 1) for hit in np.random.default_rng(seed).random(num_documents) < accuracy))


def random_labels(seed: int, error: float, num_documents: int = 300) -> Outcomes:
    """Documents with several of four labels, of which a fraction is predicted wrongly."""
    targets = np.random.default_rng(0).random((num_documents, 4)) < 0.4
    return Outcomes.of(targets ^ (np.random.default_rng(seed).random(targets.shape) < error), targets)


def ratio(hits: np.ndarray, sizes: np.ndarray, axis: int = -1) -> Any:
    return hits.sum(axis=axis) / sizes.sum(axis=axis)


def test_the_score_is_the_accuracy_or_the_micro_f1_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    assert Outcomes.of(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])).score == 0.75
    targets, preds = random.random((2, 50, 4)) < 0.4
    assert Outcomes.of(preds, targets).score == pytest.approx(f1_score(targets, preds, average="micro"))
    assert Outcomes.of(np.zeros((3, 2)), np.zeros((3, 2))).score == 0


def test_the_interval_of_an_accuracy_is_that_of_clopper_and_pearson() -> None:
    # quantiles of beta distributions: Clopper and Pearson 1934
    low, high = confidence_interval(classes((1, 81), (0, 19)))
    assert (low, high) == pytest.approx((stats.beta.ppf(0.025, 81, 20), stats.beta.ppf(0.975, 82, 19)))
    assert (round(low, 4), round(high, 4)) == (0.7193, 0.8816)
    assert confidence_interval(classes((1, 30))) == pytest.approx((0.025 ** (1 / 30), 1))


def test_the_interval_of_micro_f1_is_that_of_scipys_bootstrap() -> None:
    outcomes = random_labels(1, 0.2)
    expected = stats.bootstrap(
        (outcomes.hits, outcomes.sizes), ratio, paired=True, vectorized=True, method="percentile", rng=3
    ).confidence_interval
    low, high = confidence_interval(outcomes)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.002)
    assert high - low > 0.05  # 25 times the tolerance
    assert confidence_interval(outcomes) == (low, high)


def test_micro_f1_without_an_error_or_a_hit_is_not_certain() -> None:
    targets = np.array([[1, 1], [0, 1], [0, 0]] * 10)
    assert confidence_interval(Outcomes.of(targets, targets)) == pytest.approx((0.025 ** (1 / 30), 1))
    assert confidence_interval(Outcomes.of(1 - targets, targets)) == pytest.approx((0, 1 - 0.025 ** (1 / 30)))


def test_mcnemars_test_counts_documents_that_only_one_gets_right() -> None:
    one, other = classes((1, 59), (0, 6), (1, 20), (0, 15)), classes((1, 59), (1, 6), (0, 20), (0, 15))
    # 6 of 26: twice the sum of C(26, k) / 2²⁶ for k up to 6
    assert mcnemar(one, other) == mcnemar(other, one) == pytest.approx(2 * stats.binom.cdf(6, 26, 0.5))
    assert mcnemar(one, other) == pytest.approx(0.009355, abs=1e-6)
    assert mcnemar(one, one) == 1
    assert p_value([one], [other]) == mcnemar(one, other)


def test_the_permutation_test_of_micro_f1_is_that_of_scipy() -> None:
    one, other = random_labels(1, 0.2), random_labels(2, 0.21)

    def score(packed: np.ndarray, axis: int) -> Any:
        return ratio(*np.divmod(packed, 1_000), axis)

    expected = stats.permutation_test(
        [outcomes.hits * 1_000 + outcomes.sizes for outcomes in (one, other)],  # SciPy exchanges both together
        lambda first, second, axis: score(first, axis) - score(second, axis),
        permutation_type="samples",
        vectorized=True,
        rng=5,
    ).pvalue
    assert 0.02 < expected < 0.5
    assert permutation_test(one, other) == pytest.approx(expected, abs=4 * (expected / 9_999) ** 0.5)
    assert p_value([one], [other]) == permutation_test(one, other)
    assert permutation_test(one, one) == 1
    assert permutation_test(one, random_labels(2, 0.4)) == 1 / 10_000


def test_without_differences_between_seeds_the_t_test_is_that_of_pairs() -> None:
    one, other = random_classes(1, 0.8), random_classes(2, 0.72)
    assert seeds_test([one, one], [other, other]) == pytest.approx(stats.ttest_rel(one.hits, other.hits).pvalue)


def test_without_differences_between_documents_the_t_test_is_students() -> None:
    def run(hits: int) -> Outcomes:
        """One document of 100 decisions, and another one with the same fraction of hits: no variance between them."""
        return Outcomes(np.array([hits, hits]), np.array([100, 100]))

    ones, others = [90, 91, 93], [88, 89, 91, 89]
    expected = stats.ttest_ind(ones, others).pvalue
    assert seeds_test([run(hits) for hits in ones], [run(hits) for hits in others]) == pytest.approx(expected)
    single = stats.ttest_ind([95], others).pvalue
    assert seeds_test([run(95)], [run(hits) for hits in others]) == pytest.approx(single)
    assert p_value([run(95)], [run(hits) for hits in others]) == pytest.approx(single)


def rejections(num_runs: int, spread: float, make: Any, repetitions: int = 250) -> float:
    """How often a difference is found between equal configurations."""
    random = np.random.default_rng(7)
    rejected = 0
    for _ in range(repetitions):
        easiness = random.normal(1, 1, 200)  # of each document, for every run
        groups: list[Sequence[Outcomes]] = [
            [make(random, easiness + random.normal(0, spread)) for _ in range(num_runs)] for _ in range(2)
        ]
        rejected += p_value(*groups) <= 0.05
    return rejected / repetitions


def one_label(random: np.random.Generator, easiness: np.ndarray) -> Outcomes:
    return Outcomes((easiness + random.normal(0, 1, len(easiness)) > 0).astype(int), np.ones(len(easiness), dtype=int))


def test_equal_configurations_differ_in_at_most_one_case_of_twenty() -> None:
    # the test of single runs cannot know how much seeds differ: it is exact if they do not, and cautious by its steps
    assert 0.01 < rejections(1, 0, one_label) < 0.07
    assert 0.01 < rejections(3, 0.2, one_label) < 0.07
    assert rejections(1, 0.5, one_label) > 0.1


def test_the_residuals_give_the_standard_error_of_the_bootstrap() -> None:
    outcomes = random_labels(1, 0.2)
    found = np.sqrt((residuals(outcomes) ** 2).sum()) / len(outcomes.hits)
    expected = stats.bootstrap(
        (outcomes.hits, outcomes.sizes), ratio, paired=True, vectorized=True, method="percentile", rng=3
    ).standard_error
    assert found == pytest.approx(expected, rel=0.05)


def test_p_values_are_corrected_by_the_method_of_holm() -> None:
    # by hand: 0.01·4, 0.02·3 (at least 0.04), 0.03·2, then at least that
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


def test_the_interval_of_a_difference_between_single_runs_is_that_of_a_paired_t_test() -> None:
    one, other = random_classes(1, 0.8), random_classes(2, 0.7)
    estimate = difference([one], [other])
    paired = stats.ttest_rel(one.hits, other.hits)
    assert estimate.value == pytest.approx((one.hits - other.hits).mean())
    assert estimate.interval == pytest.approx(tuple(paired.confidence_interval(0.95)))
    assert estimate.p_value == pytest.approx(paired.pvalue)


def test_the_interval_of_a_mean_over_seeds_has_the_variances_of_documents_and_of_seeds() -> None:
    group = [random_classes(seed, accuracy) for seed, accuracy in ((1, 0.74), (2, 0.78), (3, 0.8))]
    scores = [outcomes.hits.mean() for outcomes in group]
    documents = stats.sem(np.mean([outcomes.hits - outcomes.hits.mean() for outcomes in group], axis=0)) ** 2
    seeds = stats.sem(scores) ** 2
    degrees = (documents + seeds) ** 2 / (documents**2 / 299 + seeds**2 / 2)  # Satterthwaite 1946
    reach = stats.t.ppf(0.975, degrees) * np.sqrt(documents + seeds)
    assert mean_interval(group) == pytest.approx((np.mean(scores) - reach, np.mean(scores) + reach))


def test_the_interval_of_runs_with_the_same_outcomes_is_that_of_one() -> None:
    one = random_classes(1, 0.8)
    assert mean_interval([one, one]) == mean_interval([one]) == confidence_interval(one)
    assert mean_interval([classes((1, 300)), classes((1, 299), (0, 1))])[1] == 1  # not above
