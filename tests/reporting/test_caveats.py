"""What a run's report says of its limits."""

from typing import Literal

import numpy as np
import pytest

from helpers.documents import make_corpus
from newsreel.batches.batch import DocumentDataset
from newsreel.evaluation.predictions import Predictions
from newsreel.reporting.caveats import caveats, standard_error
from newsreel.text.tokens import TokenSequences


def documents(*lengths: int, max_tokens: int | None = None) -> DocumentDataset:
    """Documents whose first token is unknown."""
    ids = np.concatenate([[1, *[5] * (length - 1)] if length else [] for length in lengths]).astype(np.int32)
    sequences = TokenSequences(ids, np.cumsum([0, *lengths]))
    rows = np.arange(len(lengths))
    return DocumentDataset(sequences, rows, np.zeros(len(lengths)), max_tokens, "head")


def of_classes(wanted: list[int], given: list[int], confidence: float = 0.8) -> Predictions:
    training = [("a film", label) for label in [0] * 20 + [1] * 19]
    corpus = make_corpus(training, [("a film", label) for label in wanted], "multiclass", num_labels=3)
    probabilities = np.full((len(wanted), 3), (1 - confidence) / 2, dtype=np.float32)
    probabilities[np.arange(len(given)), given] = confidence
    return Predictions(corpus, "test", probabilities, np.array(given), corpus.targets("test"), None)


def test_the_standard_error_of_an_accuracy_is_that_of_a_share() -> None:
    figure, error = standard_error(of_classes([0] * 100, [0] * 80 + [1] * 20))
    assert figure == pytest.approx(0.8)
    assert error == pytest.approx((0.8 * 0.2 / 100) ** 0.5)


def test_the_standard_error_of_micro_f1_is_that_of_many_draws() -> None:
    random = np.random.default_rng(1)
    wanted = random.random((400, 3)) < 0.4
    given = wanted ^ (random.random((400, 3)) < 0.15)
    corpus = make_corpus([("a", [0])], [("a", np.flatnonzero(row).tolist()) for row in wanted], "multilabel", 3)
    predictions = Predictions(corpus, "test", np.zeros((400, 3)), given, corpus.targets("test"), None)
    draws = []
    for _ in range(2_000):
        chosen = random.integers(400, size=400)
        drawn, decided = wanted[chosen], given[chosen]
        draws.append(2 * (drawn & decided).sum() / (drawn.sum() + decided.sum()))
    assert standard_error(predictions)[1] == pytest.approx(np.std(draws), rel=0.1)


def test_every_limit_is_told_with_its_figures() -> None:
    predictions = of_classes([0] * 300 + [1] * 100, [0] * 400)
    found = "\n".join(caveats(predictions, documents(10, 30, max_tokens=20), "accuracy", 7, drops_unknown=False))
    for sentence in (
        "one of these 3 labels",
        "accuracy of 0.7500 is measured on 400 documents",
        "is 0.0217.",  # the square root of 0.75 · 0.25 / 400
        "(seed 7)",
        "2 of 3 labels have fewer than 20 training documents.",
        "1 of 3 labels have no test document",
        "1 of 3 labels are predicted for no test document, though they occur 100 times",
        "50.0% of the test documents are longer than the 20 tokens that are read; their ends are not.",
        "5.0% of the test documents' tokens are not in the vocabulary",
        "is 0.8000, and 0.7500 of them are correct (expected calibration error 0.0500)",
        "most overconfident at probabilities around 0.80: 0.75 of these 400 are correct.",
    ):
        assert sentence in found


def test_what_can_be_chance_is_not_told() -> None:
    predictions = of_classes([0] * 30 + [1] * 10, [0] * 40)  # 0.75 of them where 0.8 was expected, give or take 0.063
    assert "confident" not in "\n".join(caveats(predictions, documents(3), "accuracy", 1, drops_unknown=True))


def test_no_mistake_is_no_certainty() -> None:
    found = "\n".join(caveats(of_classes([0] * 30, [0] * 30), documents(0), "accuracy", 1, drops_unknown=False))
    assert "on other documents it can differ by 0.1000" in found
    assert "standard error" not in found
    assert "vocabulary" not in found


def test_what_does_not_limit_a_run_is_not_told() -> None:
    corpus = make_corpus([("a", 0), ("a", 1)] * 20, [("a", 0), ("a", 1)], "binary")
    predictions = Predictions(
        corpus, "test", np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), corpus.targets("test"), None
    )
    found = "\n".join(caveats(predictions, documents(10, 30, max_tokens=30), "accuracy", 1, drops_unknown=True))
    for word in ("fewer than", "no test document", "longer", "vocabulary", "confident", "thresholds"):
        assert word not in found


@pytest.mark.parametrize(("kind", "none"), [("multilabel", "predicts none for 1 of 4 test documents")])
def test_documents_of_several_labels(kind: Literal["multilabel"], none: str) -> None:
    corpus = make_corpus([("a", [0, 1])], [("a", [0]), ("a", [1]), ("a", [0, 1]), ("a", [])], kind)
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.6], [0.1, 0.1]])
    predictions = Predictions(corpus, "test", probabilities, probabilities > 0.5, corpus.targets("test"), None)
    found = "\n".join(caveats(predictions, documents(3), "f1_micro", 1, drops_unknown=True))
    assert none in found
    assert "The mean probability of a label is 0.4375, and 0.5000 of them are present" in found
