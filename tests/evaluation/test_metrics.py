"""Every figure against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    hamming_loss,
    ndcg_score,
    precision_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from newsreel.evaluation.metrics import measure


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over 15 even bins (Guo et al. 2017, eq. 3), by loops."""
    error = 0.0
    for low in np.arange(15) / 15:
        held = (confidence > low) & (confidence <= low + 1 / 15)
        if held.any():
            error += held.mean() * abs(confidence[held].mean() - right[held].mean())
    return error


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_labels", [2, 7])
def test_one_label_a_document(seed: int, num_labels: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.integers(0, num_labels, 60)
    scores = softmax(random.normal(size=(60, num_labels)) + np.eye(num_labels)[targets])
    decided = scores.argmax(axis=1)
    task = "binary" if num_labels == 2 else "multiclass"
    found = measure(torch.from_numpy(scores), torch.from_numpy(decided), torch.from_numpy(targets), task)
    labels = range(num_labels)
    expected = {
        "accuracy": accuracy_score(targets, decided),
        "f1_micro": f1_score(targets, decided, average="micro"),
        "f1_macro": f1_score(targets, decided, average="macro", labels=labels, zero_division=0),
        "f1_macro_present": f1_score(targets, decided, average="macro", labels=np.unique(targets)),
        "precision_macro": precision_score(targets, decided, average="macro", labels=labels, zero_division=0),
        "recall_macro": recall_score(targets, decided, average="macro", labels=labels, zero_division=0),
        "ece": calibration_error(scores.max(axis=1), decided == targets),
    }
    if num_labels == 2:
        expected["auroc"] = roc_auc_score(targets, scores[:, 1])
        expected["average_precision"] = average_precision_score(targets, scores[:, 1])
    else:
        wanted = np.eye(num_labels, dtype=int)[targets]
        expected["auroc"] = roc_auc_score(wanted, scores, average="macro")
        expected["average_precision"] = average_precision_score(wanted, scores, average="macro")
        expected["average_precision_micro"] = average_precision_score(wanted, scores, average="micro")
        for k in (1, 3, 5):
            right = top_k_accuracy_score(targets, scores, k=k, labels=labels)
            expected[f"recall_at_{k}"] = right
            expected[f"precision_at_{k}"] = right / k
            expected[f"ndcg_at_{k}"] = ndcg_score(wanted, scores, k=k)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_several_labels_a_document(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.random((50, 6))
    targets = (random.random((50, 6)) < scores**2).astype(int)
    decided = (scores > 0.6).astype(int)
    targets[:, 5] = decided[:, 5] = 0  # a label that nobody has counts 0 in the mean
    targets[0] = decided[0] = 0  # a document without labels or predictions
    found = measure(torch.from_numpy(scores), torch.from_numpy(decided), torch.from_numpy(targets), "multilabel")
    labelled = targets.any(axis=1)
    ranks = (-scores).argsort(axis=1).argsort(axis=1)
    options = {"average": "macro", "zero_division": 0}
    expected = {
        "f1_micro": f1_score(targets, decided, average="micro"),
        "f1_macro": f1_score(targets, decided, **options),
        "f1_macro_present": f1_score(targets[:, :5], decided[:, :5], **options),
        "f1_examples": f1_score(targets, decided, average="samples", zero_division=0),
        "precision_micro": precision_score(targets, decided, average="micro"),
        "precision_macro": precision_score(targets, decided, **options),
        "recall_micro": recall_score(targets, decided, average="micro"),
        "recall_macro": recall_score(targets, decided, **options),
        "subset_accuracy": accuracy_score(targets, decided),
        "hamming_loss": hamming_loss(targets, decided),
        "auroc": roc_auc_score(targets[:, :5], scores[:, :5], average="macro"),
        "average_precision": average_precision_score(targets[:, :5], scores[:, :5], average="macro"),
        "average_precision_micro": average_precision_score(targets[:, :5], scores[:, :5], average="micro"),
        "ece": calibration_error(scores.ravel(), targets.ravel()),
    }
    for k in (1, 3, 5):
        right = (targets & (ranks < k)).sum(axis=1)
        expected[f"precision_at_{k}"] = (right / k).mean()
        expected[f"recall_at_{k}"] = (right[labelled] / targets[labelled].sum(axis=1)).mean()
        expected[f"ndcg_at_{k}"] = ndcg_score(targets[labelled], scores[labelled], k=k)
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_hierarchy_is_measured_level_by_level() -> None:
    parents = (-1, 0, 0, 1)
    targets = torch.tensor([[1, 1, 0, 1], [1, 0, 1, 0]])
    decided = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]])  # in the second, 2 lacks 0 and 3 lacks 1
    found = measure(decided.double(), decided, targets, "multilabel", parents)
    assert found["f1_micro_level_1"] == pytest.approx(2 / 3)
    assert found["f1_micro_level_2"] == pytest.approx(1)
    assert found["f1_micro_level_3"] == 0
    assert found["hierarchy_breaks"] == pytest.approx(2 / 4)


def test_what_is_not_defined_is_left_out() -> None:
    everything = torch.ones(3, 2)
    found = measure(everything, everything.long(), everything, "multilabel")
    assert not found.keys() & {"auroc", "average_precision"}
    assert found["f1_micro"] == 1
    found = measure(everything, everything.long(), torch.zeros(3, 2), "multilabel")
    assert "f1_macro_present" not in found
