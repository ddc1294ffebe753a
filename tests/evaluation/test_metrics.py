"""Metrics against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from newsreel.evaluation.metrics import metrics_for


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_labels", [2, 7])
def test_single_label_metrics(seed: int, num_labels: int) -> None:
    random = np.random.default_rng(seed)
    targets, predictions = random.integers(0, num_labels, (2, 60))
    metrics = metrics_for("binary" if num_labels == 2 else "multiclass", num_labels)
    for part in np.split(np.arange(60), [10, 35]):
        metrics.update(torch.from_numpy(predictions[part]), torch.from_numpy(targets[part]))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found == pytest.approx(
        {
            "accuracy": accuracy_score(targets, predictions),
            "f1_micro": f1_score(targets, predictions, average="micro"),
            "f1_macro": f1_score(targets, predictions, average="macro"),
        }
    )


@pytest.mark.parametrize("seed", range(5))
def test_multilabel_metrics(seed: int) -> None:
    random = np.random.default_rng(seed)
    targets, predictions = (random.random((2, 50, 6)) < 0.3).astype(int)
    targets[:, 5] = predictions[:, 5] = 0  # a label that nobody has counts 0 in the mean
    metrics = metrics_for("multilabel", 6)
    metrics.update(torch.from_numpy(predictions), torch.from_numpy(targets))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found == pytest.approx(
        {
            "f1_micro": f1_score(targets, predictions, average="micro"),
            "f1_macro": f1_score(targets, predictions, average="macro", zero_division=0),
            "subset_accuracy": accuracy_score(targets, predictions),
        }
    )
