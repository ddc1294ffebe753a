"""Every metric against scikit-learn."""

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from scipy.special import softmax

from newsreel.evaluation.metrics import measure


def measured(scores: np.ndarray, preds: np.ndarray, targets: np.ndarray, task: Any) -> dict[str, float]:
    return measure(torch.from_numpy(scores), torch.from_numpy(preds), torch.from_numpy(targets), task)


def averaged(targets: np.ndarray, preds: np.ndarray, average: str, **options: Any) -> dict[str, float]:
    """Precision, recall and F1 with an average."""
    return {
        f"{name}_{average}": getattr(sk, f"{name}_score")(targets, preds, average=average, zero_division=0, **options)
        for name in ("precision", "recall", "f1")
    }


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over 15 even bins (Guo et al. 2017, eq. 3), by loops."""
    error = 0.0
    for low in np.arange(15) / 15:
        held = (confidence > low) & (confidence <= low + 1 / 15)
        if held.any():
            error += held.mean() * abs(confidence[held].mean() - right[held].mean())
    return error


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_labels", [2, 7])
def test_one_label_a_document(seed: int, num_labels: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.integers(0, num_labels, 60)
    scores = softmax(random.normal(size=(60, num_labels)) + np.eye(num_labels)[targets], axis=1)
    preds = scores.argmax(axis=1)
    labels = range(num_labels)
    expected = {
        "accuracy": sk.accuracy_score(targets, preds),
        "f1_micro": sk.f1_score(targets, preds, average="micro"),
        **averaged(targets, preds, "macro", labels=labels),
        "f1_macro_present": sk.f1_score(targets, preds, average="macro", labels=np.unique(targets)),
        "ece": calibration_error(scores.max(axis=1), preds == targets),
    }
    indicators = np.eye(num_labels, dtype=int)[targets]
    ranked = (targets, scores[:, 1]) if num_labels == 2 else (indicators, scores)
    expected["auroc"] = sk.roc_auc_score(*ranked, average="macro")
    expected["average_precision"] = sk.average_precision_score(*ranked, average="macro")
    if num_labels > 2:
        expected["average_precision_micro"] = sk.average_precision_score(indicators, scores, average="micro")
        for k in (1, 3, 5):
            expected[f"recall_at_{k}"] = sk.top_k_accuracy_score(targets, scores, k=k, labels=labels)
            expected[f"precision_at_{k}"] = expected[f"recall_at_{k}"] / k
            expected[f"ndcg_at_{k}"] = sk.ndcg_score(indicators, scores, k=k)
    task = "binary" if num_labels == 2 else "multiclass"
    assert measured(scores, preds, targets, task) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_several_labels_a_document(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.random((50, 6))
    targets = (random.random((50, 6)) < scores**2).astype(int)
    preds = (scores > 0.6).astype(int)
    targets[:, 5] = preds[:, 5] = 0  # a label that nobody has counts 0 in the mean
    targets[0] = preds[0] = 0  # a document without labels or predictions
    present = (targets[:, :5], scores[:, :5])
    expected = {
        **averaged(targets, preds, "micro"),
        **averaged(targets, preds, "macro"),
        "f1_macro_present": sk.f1_score(targets[:, :5], preds[:, :5], average="macro", zero_division=0),
        "f1_examples": sk.f1_score(targets, preds, average="samples", zero_division=0),
        "subset_accuracy": sk.accuracy_score(targets, preds),
        "hamming_loss": sk.hamming_loss(targets, preds),
        "auroc": sk.roc_auc_score(*present, average="macro"),
        "average_precision": sk.average_precision_score(*present, average="macro"),
        "average_precision_micro": sk.average_precision_score(targets, scores, average="micro"),
        "ece": calibration_error(scores.ravel(), targets.ravel()),
    }
    labelled = targets.any(axis=1)
    ranks = (-scores).argsort(axis=1).argsort(axis=1)
    for k in (1, 3, 5):
        right = (targets & (ranks < k)).sum(axis=1)
        expected[f"precision_at_{k}"] = (right / k).mean()
        expected[f"recall_at_{k}"] = (right[labelled] / targets[labelled].sum(axis=1)).mean()
        expected[f"ndcg_at_{k}"] = sk.ndcg_score(targets[labelled], scores[labelled], k=k)
    assert measured(scores, preds, targets, "multilabel") == pytest.approx(expected, abs=1e-6)


def test_of_equal_probabilities_the_first_labels_are_the_most_probable() -> None:
    scores = torch.zeros(2, 12)
    scores[0, [0, 9]] = 0.5
    found = measure(scores, scores.argmax(dim=1), torch.tensor([0, 0]), "multiclass")
    assert (found["accuracy"], found["precision_at_1"], found["ndcg_at_1"]) == (1, 1, 1)


def test_a_hierarchy_is_measured_level_by_level() -> None:
    targets = torch.tensor([[1, 1, 0, 1], [1, 0, 1, 0]])
    preds = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]])  # in the second, 2 lacks 0 and 3 lacks 1
    found = measure(preds.double(), preds, targets, "multilabel", (-1, 0, 0, 1))
    assert [found[f"f1_micro_level_{level}"] for level in (1, 2, 3)] == pytest.approx([2 / 3, 1, 0])
    assert found["hierarchy_breaks"] == pytest.approx(2 / 4)


def test_what_is_not_defined_is_left_out() -> None:
    everything = torch.ones(3, 2)
    found = measure(everything, everything.long(), everything, "multilabel")
    assert not found.keys() & {"auroc", "average_precision"}
    assert found["f1_micro"] == 1
    assert "f1_macro_present" not in measure(everything, everything.long(), torch.zeros(3, 2), "multilabel")
