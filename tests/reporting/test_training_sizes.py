"""Whether more training documents would help, from made-up predictions."""

import numpy as np

from newsreel.evaluation.statistics import Outcomes, difference
from newsreel.reporting.training_sizes import SizeCurve, SizePoint

NUM_DOCUMENTS = 400


def point(num_documents: int, *accuracies: float) -> SizePoint:
    """The first test documents are right."""
    ones = np.ones(NUM_DOCUMENTS, dtype=np.int64)
    rows = np.arange(NUM_DOCUMENTS)
    return SizePoint(num_documents, [Outcomes((rows < value * NUM_DOCUMENTS).astype(np.int64), ones)
                                     for value in accuracies])  # fmt: skip


def test_a_gain_beyond_chance_says_that_more_documents_would_probably_help() -> None:
    points = [point(50, 0.1), point(100, 0.6), point(400, 0.7)]
    low, high = difference(points[2].outcomes, points[1].outcomes).interval
    assert SizeCurve("bow", points).verdict("accuracy") == (
        "More documents would probably help bow: from 100 to 400 training documents its test accuracy changes by "
        f"+0.1000 (95% interval {low:+.4f} to {high:+.4f}), which is +0.0500 per doubling."  # two doublings
    )


def test_a_small_gain_with_a_narrow_interval_says_that_they_would_hardly_help() -> None:
    sentence = SizeCurve("bow", [point(100, 0.7), point(800, 0.7)]).verdict("accuracy")
    assert sentence.startswith("More documents would hardly help bow: ")
    assert sentence.endswith("+0.0000 per doubling, and at most +0.0000.")


def test_a_change_that_can_be_chance_leaves_it_open() -> None:
    sentence = SizeCurve("bow", [point(100, 0.6, 0.7), point(200, 0.65, 0.75)]).verdict("accuracy")
    assert sentence.startswith("Whether more documents would help bow is open: ")
