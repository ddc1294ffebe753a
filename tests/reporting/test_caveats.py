"""What a run's report says of its limits."""

from typing import Any

import numpy as np
import pytest

from helpers.predictions import predictions
from newsreel.batches.batch import DocumentDataset
from newsreel.evaluation.predictions import Predictions
from newsreel.reporting.caveats import caveats, standard_error
from newsreel.text.tokens import TokenSequences


def documents(*lengths: int, max_tokens: int | None = None) -> DocumentDataset:
    """Documents whose first token is unknown."""
    ids = np.concatenate([[1, *[5] * (length - 1)] if length else [] for length in lengths]).astype(np.int32)
    sequences = TokenSequences(ids, np.cumsum([0, *lengths]))
    return DocumentDataset(sequences, np.arange(len(lengths)), np.zeros(len(lengths)), max_tokens, "head")


def of_classes(targets: list[int], preds: list[int]) -> Predictions:
    """With a confidence of 0.8."""
    probabilities = np.where(np.eye(3, dtype=bool)[preds], 0.8, 0.1).astype(np.float32)
    train = [("a film", label) for label in [0] * 20 + [1] * 19]
    return predictions([("a film", label) for label in targets], preds, probabilities, train=train)


def told(found: Predictions, texts: DocumentDataset, metric: str = "accuracy", **options: Any) -> str:
    return "\n".join(caveats(found, texts, metric, 7, **{"drops_unknown": True, **options}))


def test_the_standard_error_of_an_accuracy_is_that_of_a_share() -> None:
    found = standard_error(of_classes([0] * 100, [0] * 80 + [1] * 20))
    assert found == pytest.approx((0.8, (0.8 * 0.2 / 100) ** 0.5))


def test_the_standard_error_of_micro_f1_is_that_of_many_draws() -> None:
    random = np.random.default_rng(1)
    targets = random.random((400, 3)) < 0.4
    preds = targets ^ (random.random((400, 3)) < 0.15)
    found = predictions([("a", np.flatnonzero(row).tolist()) for row in targets], preds, task="multilabel")
    draws = []
    for _ in range(2_000):
        rows = random.integers(400, size=400)
        draws.append(2 * (targets[rows] & preds[rows]).sum() / (targets[rows].sum() + preds[rows].sum()))
    assert standard_error(found)[1] == pytest.approx(np.std(draws), rel=0.1)


def test_every_limit_is_told_with_its_figures() -> None:
    found = of_classes([0] * 300 + [1] * 100, [0] * 400)
    text = told(found, documents(10, 30, max_tokens=20), drops_unknown=False)
    for sentence in (
        "one of these 3 labels",
        "accuracy of 0.7500 is measured on 400 documents",
        "is 0.0217.",  # the square root of 0.75 · 0.25 / 400
        "(seed 7)",
        "2 of 3 labels have fewer than 20 training documents.",
        "1 of 3 labels are predicted for no test document, though they occur 100 times",
        "50.0% of the test documents are longer than the 20 tokens that are read; their ends are not.",
        "5.0% of the test documents' tokens are not in the vocabulary",
        "is 0.8000, and 0.7500 of them are correct (expected calibration error 0.0500)",
        "most overconfident at probabilities around 0.80: 0.75 of these 400 are correct.",
    ):
        assert sentence in text


def test_what_can_be_chance_is_not_told() -> None:
    found = of_classes([0] * 30 + [1] * 10, [0] * 40)  # 0.75 of them where 0.8 was expected, give or take 0.063
    assert "confident" not in told(found, documents(3))


def test_no_mistake_is_no_certainty() -> None:
    text = told(of_classes([0] * 30, [0] * 30), documents(0), drops_unknown=False)
    assert "on other documents it can differ by 0.1000" in text
    assert "standard error" not in text
    assert "vocabulary" not in text


def test_what_does_not_limit_a_run_is_not_told() -> None:
    train = [("a", 0), ("a", 1)] * 20
    found = predictions(train[:2], [0, 1], [[0.9, 0.1], [0.2, 0.8]], "binary", train)
    text = told(found, documents(10, 30, max_tokens=30))
    for word in ("fewer than", "longer", "vocabulary", "confident", "thresholds"):
        assert word not in text


def test_documents_of_several_labels() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.6], [0.1, 0.1]])
    test: list[tuple[str, Any]] = [("a", [0]), ("a", [1]), ("a", [0, 1]), ("a", [])]
    text = told(predictions(test, scores > 0.5, scores, "multilabel"), documents(3), "f1_micro")
    assert "predicts none for 1 of 4 test documents" in text
    assert "The mean probability of a label is 0.4375, and 0.5000 of them are present" in text


def test_the_metric_is_told_without_test_documents_of_training_and_beside_a_majority_guess() -> None:
    train = [("a", 0), ("b", 0), ("c", 1)] * 20
    test = [("a", 0), ("b", 1), ("new", 1), ("newer", 1), ("newest", 0)]
    found = predictions(test, [0, 0, 1, 0, 0], np.eye(2)[[0, 0, 1, 0, 0]], "binary", train)
    text = told(found, documents(3))
    assert "label in training, for every document would have a test accuracy of 0.4000." in text
    # of new, newer and newest, two are right
    assert "in train; without them, the test accuracy is 0.6667. 1 of them have other labels there." in text
    no_overlap = predictions(test[2:], [1, 0, 0], np.eye(2)[[1, 0, 0]], "binary", train)
    assert "without them" not in told(no_overlap, documents(3))


def test_test_documents_without_a_token_are_told() -> None:
    found = of_classes([0] * 30, [0] * 30)
    assert "1 of 4 test documents (25.0%) have no token" in told(found, documents(3, 0, 2, 5))
    assert "no token" not in told(found, documents(3, 2))
