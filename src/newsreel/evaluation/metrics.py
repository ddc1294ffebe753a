"""Metrics of a task, by torchmetrics."""

from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MultilabelExactMatch,
    MultilabelF1Score,
)

from newsreel.corpora.corpus import Task


def metrics_for(task: Task, num_labels: int) -> MetricCollection:
    """Metrics of (predictions, targets): (B,) class numbers each, or for `multilabel` (B, L) indicators each.

    accuracy: share of documents whose class is right. f1_micro: F1 of all decisions pooled (for one class a document
    the same as accuracy). f1_macro: mean of the labels' F1. subset_accuracy: share of documents whose labels are all
    right.
    """
    metrics: dict[str, Metric | MetricCollection]
    if task == "multilabel":
        metrics = {
            "f1_micro": MultilabelF1Score(num_labels, average="micro"),
            "f1_macro": MultilabelF1Score(num_labels, average="macro"),
            "subset_accuracy": MultilabelExactMatch(num_labels),
        }
    else:
        metrics = {
            "accuracy": MulticlassAccuracy(num_labels, average="micro"),
            "f1_micro": MulticlassF1Score(num_labels, average="micro"),
            "f1_macro": MulticlassF1Score(num_labels, average="macro"),
        }
    return MetricCollection(metrics)
