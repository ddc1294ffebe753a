"""What a run's report says of its limits."""

from typing import Any

import numpy as np
import pytest

from helpers.predictions import predictions
from newsreel.batches.batch import DocumentDataset
from newsreel.corpora.overlap import TrainingOverlap
from newsreel.evaluation.context import ScoreContext
from newsreel.evaluation.predictions import Predictions
from newsreel.reporting.caveats import (
    TrainingLoss,
    caveats,
    epochs_notes,
    loss_notes,
    majority_label,
    majority_notes,
    training_notes,
)
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


def told(found: Predictions, texts: DocumentDataset, **options: Any) -> str:
    none = np.zeros(len(found.targets), dtype=bool)
    overlap = TrainingOverlap(("train",), none, none, none)
    context = ScoreContext.of(found, majority_label(found))
    return "\n".join(
        caveats(found, context, texts, **{"overlap": overlap, "seed": 7, "drops_unknown": True, **options})
    )


def test_every_limit_is_told_with_its_figures() -> None:
    found = of_classes([0] * 300 + [1] * 100, [0] * 400)
    text = told(found, documents(10, 30, max_tokens=20), drops_unknown=False)
    for sentence in (
        "one of these 3 labels",
        "accuracy of 0.7500 is measured on 400 documents",
        "its 95% confidence interval for others of the same kind is 0.7046–0.7917.",  # Clopper and Pearson's
        "label0, the most frequent label in training, for every document would have a test accuracy of 0.7500.",
        "No test document has the text, or nearly the words, of a document in train.",
        "(seed 7)",
        "Labels with fewer than 20 training documents: 2 of 3.",
        "predicted for no test document, though some have them: 1 of 3 (100 times).",
        "50.0% of the test documents are longer than the 20 tokens that are read; their ends are not.",
        "5.0% of the test documents' tokens are not in the vocabulary",
        "is 0.8000, and the predicted label is correct with a frequency of 0.7500 (expected calibration error 0.0500)",
        "most overconfident at probabilities around 0.80: 0.75 of the 400 predictions there are correct.",
    ):
        assert sentence in text


def test_what_can_be_chance_is_not_told() -> None:
    found = of_classes([0] * 30 + [1] * 10, [0] * 40)  # 0.75 of them where 0.8 was expected, give or take 0.063
    assert "confident" not in told(found, documents(3))


def test_no_mistake_is_no_certainty() -> None:
    text = told(of_classes([0] * 30, [0] * 30), documents(0), drops_unknown=False)
    assert "is 0.8843–1.0000" in text  # 0.025 ** (1 / 30)
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
    text = told(predictions(test, scores > 0.5, scores, "multilabel"), documents(3))
    assert "predicts none for 1 of 4 test documents" in text
    assert "The mean probability of a label is 0.4375, and a label is present with a frequency of 0.5000" in text


def test_the_metric_is_given_without_test_documents_of_training() -> None:
    test = [("a", 0), ("b", 1), ("b!", 1), ("new", 1), ("newer", 1), ("newest", 0)]
    found = predictions(test, [0, 0, 1, 1, 0, 0], np.eye(2)[[0, 0, 1, 1, 0, 0]], "binary", [("a", 0), ("b", 0)])
    exact, near, contradictory = (np.isin(np.arange(6), rows) for rows in ([0, 1], [2], [1]))
    text = told(found, documents(3), overlap=TrainingOverlap(("train", "validation"), exact, near, contradictory))
    # of new, newer and newest, two are right
    assert (
        "2 of the 6 test documents have the text of a document in train or validation, and 1 more nearly its words "
        "(a Jaccard similarity of at least 0.7); without them, the test accuracy is 0.6667. 1 of them have other labels"
    ) in text
    everything = np.ones(6, dtype=bool)
    alone = told(found, documents(3), overlap=TrainingOverlap(("train",), everything, ~everything, ~everything))
    assert "6 of the 6 test documents" in alone
    assert "without them" not in alone


def test_a_run_that_is_not_better_than_the_majority_guess_has_a_note() -> None:
    # 8 documents are right by the network alone and 2 by the guess alone: p = 2 · (1 + 10 + 45) / 2¹⁰
    targets = [0] * 22 + [1] * 8
    preds = [1, 1] + [0] * 20 + [1] * 8
    (note,) = majority_notes(of_classes(targets, preds), 0)
    assert "accuracy of 0.9333 does not differ significantly from the majority guess's 0.7333" in note
    assert "30 documents, p = 0.1094): these are too few documents to show that the model has learned" in note
    assert majority_notes(of_classes(targets, [0] * 22 + [1] * 8), 0) == []  # 8 and 0: 2 / 2⁸
    (below,) = majority_notes(of_classes(targets, [1] * 10 + [0] * 20), 0)
    assert "accuracy of 0.4000 is below the majority guess's 0.7333" in below
    assert below.endswith(
        "the model has learned next to nothing. It needs more documents, or a network a longer training."
    )
    assert majority_notes(of_classes(targets, preds), None) == []


def test_a_run_of_several_labels_is_compared_with_the_majority_guess_too() -> None:
    targets = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]] * 20, dtype=bool)
    documents_of = [("a", np.flatnonzero(row).tolist()) for row in targets]
    majority = np.zeros_like(targets)
    majority[:, 0] = True
    # 2 · 40 / (60 + 100)
    (note,) = majority_notes(predictions(documents_of, majority, task="multilabel"), 0)
    assert "f1_micro of 0.5000 does not differ significantly from the majority guess's 0.5000" in note
    assert "p = 1.0000): the model has learned next to nothing." in note
    assert majority_notes(predictions(documents_of, targets, task="multilabel"), 0) == []


def test_a_network_that_is_stuck_and_one_that_has_diverged_have_one_note_each() -> None:
    stuck = TrainingLoss(0.70, 0.69, 60)
    (note,) = training_notes(stuck, {"validation": 0.70, "test": 0.71}, "binary", 2)
    assert "hardly left its start: it is 0.7000 after 60 steps, and 0.6900 if" in note
    (note,) = training_notes(TrainingLoss(5e9, 0.69, 60), {"validation": 0.7, "test": 5.8e14}, "binary", 2)
    assert "test loss of 5.8e+14 are above 0.6931" in note
    assert training_notes(TrainingLoss(0.3, 0.69, 60), {"validation": 0.4, "test": 0.5}, "binary", 2) == []


@pytest.mark.parametrize(
    ("kept", "training", "validation", "is_noted"),
    [
        (5, 0.7, 0.75, True),
        (4, 0.7, 0.75, True),
        (3, 0.7, 0.75, False),
        (5, 0.8, 0.75, False),
        (5, 0.9, 1.0, False),
        (5, None, 0.75, False),
    ],
)
def test_more_epochs_may_help_a_network_that_is_still_better_on_other_documents(
    kept: int, training: float | None, validation: float, is_noted: bool
) -> None:
    results = {"train/epochs": 5, "train/kept_epoch": kept, "val/f1_micro": validation}
    results |= {} if training is None else {"train/f1_micro": training}
    notes = epochs_notes(results, "f1_micro")
    assert len(notes) == is_noted
    assert not is_noted or "(0.7500) is still above that on the training documents (0.7000)" in notes[0]
    assert not is_noted or notes[0].endswith("such as training.max_epochs=15.")


def test_a_loss_above_that_of_the_uniform_guess_has_a_note() -> None:
    assert loss_notes({"validation": 0.69, "test": 0.69}, "binary", 2) == []
    (note,) = loss_notes({"validation": 0.69, "test": 5.8e14}, "binary", 2)
    assert "The test loss of 5.8e+14 is above 0.6931" in note
    assert "lower training.learning_rate or set training.gradient_clip" in note
    (both,) = loss_notes({"validation": 0.7, "test": 0.71}, "multilabel", 90)
    assert "The validation loss of 0.7 and the test loss of 0.71 are above 0.6931" in both
    assert loss_notes({"test": 1.09861234}, "multiclass", 3) == []  # above by what is not shown
    assert "above 1.0986" in loss_notes({"test": 1.11}, "multiclass", 3)[0]


def test_test_documents_without_a_token_are_told() -> None:
    found = of_classes([0] * 30, [0] * 30)
    assert "1 of 4 test documents (25.0%) have no token" in told(found, documents(3, 0, 2, 5))
    assert "no token" not in told(found, documents(3, 2))
