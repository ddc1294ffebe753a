"""Metrics of predictions, computed with torchmetrics where it has them.

Axes: N documents, L labels. The section "What is measured" of the README defines each metric in a sentence.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
    multilabel_auroc,
    multilabel_average_precision,
    multilabel_exact_match,
    multilabel_f1_score,
    multilabel_hamming_distance,
    multilabel_precision,
    multilabel_recall,
)

from newsreel.corpora.corpus import Task
from newsreel.models.decisions import level_of, ranking

RANKS = (1, 3, 5)  # values of k for precision, recall and nDCG at k; only those below the number of labels are used
HEADLINES = ("accuracy", "f1_micro", "f1_macro", "auroc", "average_precision", "loss")  # shown in the closing table
CALIBRATION_BINS = 15


def measure(
    probabilities: Tensor, preds: Tensor, targets: Tensor, task: Task, parents: Sequence[int] = ()
) -> dict[str, float]:
    """All metrics of a split, by name; undefined ones are omitted.

    probabilities: (N, L). preds, targets: (N,) class indices, or for `multilabel` (N, L) indicators. parents: index of
    each label's parent, -1 for none; empty without a hierarchy.
    """
    num_labels = probabilities.shape[1]
    if task == "multilabel":
        true, predicted = targets.bool(), preds.bool()  # (N, L), one byte each
    else:
        true, predicted = F.one_hot(targets.long(), num_labels).bool(), F.one_hot(preds, num_labels).bool()
    metrics = decision_metrics(predicted, true)
    if task == "multilabel":
        metrics |= multilabel_metrics(predicted, true)
        metrics["ece"] = binary_calibration_error(
            probabilities.flatten(), true.flatten(), CALIBRATION_BINS, validate_args=False
        )
    else:
        metrics["accuracy"] = (preds == targets).float().mean()
        metrics["ece"] = multiclass_calibration_error(
            probabilities, targets.long(), num_labels, CALIBRATION_BINS, validate_args=False
        )
    metrics |= curve_metrics(probabilities, true, task)
    if num_labels > 2:
        metrics |= ranking_metrics(probabilities, true)
    if parents:
        metrics |= hierarchy_metrics(predicted, true, parents)
    return {name: float(value) for name, value in metrics.items() if not value.isnan()}


def decision_metrics(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    """F1, precision and recall of (N, L) indicators; 0 for a label without documents or predictions."""
    f1_per_label = multilabel_f1_score(predicted, true, true.shape[1], average="none", validate_args=False)  # (L,)
    present = true.any(dim=0)
    return {
        "f1_micro": multilabel_f1_score(predicted, true, true.shape[1], average="micro", validate_args=False),
        "f1_macro": f1_per_label.mean(),
        "f1_macro_present": f1_per_label[present].mean(),
        "precision_macro": multilabel_precision(
            predicted, true, true.shape[1], average="none", validate_args=False
        ).mean(),
        "recall_macro": multilabel_recall(predicted, true, true.shape[1], average="none", validate_args=False).mean(),
    }


def multilabel_metrics(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Metrics of (N, L) indicators that equal the accuracy (or 1 minus it) unless documents have several labels."""
    options: dict[str, Any] = {"num_labels": true.shape[1], "validate_args": False}
    hits, sizes = (predicted & true).sum(dim=1), predicted.sum(dim=1) + true.sum(dim=1)  # (N,)
    return {
        "f1_examples": (2 * hits / sizes.clamp(min=1)).mean(),
        "precision_micro": multilabel_precision(predicted, true, average="micro", **options),
        "recall_micro": multilabel_recall(predicted, true, average="micro", **options),
        "subset_accuracy": multilabel_exact_match(predicted, true, **options),
        "hamming_loss": multilabel_hamming_distance(predicted, true, average="micro", **options),
    }


def curve_metrics(probabilities: Tensor, true: Tensor, task: Task) -> dict[str, Tensor]:
    """Areas under ROC and precision-recall curves: means over the labels with both positive and negative documents, and
    that of all decisions pooled.

    A binary task has one curve, that of its second label.
    """
    first = 1 if task == "binary" else 0
    scores, truths = probabilities[:, first:], true[:, first:]
    has_both = truths.any(dim=0) & ~truths.all(dim=0)  # (L,)
    if not has_both.any():
        return {}
    options: dict[str, Any] = {"num_labels": int(has_both.sum()), "validate_args": False, "average": "macro"}
    metrics = {
        "auroc": multilabel_auroc(scores[:, has_both], truths[:, has_both], **options),
        "average_precision": multilabel_average_precision(scores[:, has_both], truths[:, has_both], **options),
    }
    if task != "binary":  # over all decisions, also on labels without documents
        options = {"num_labels": scores.shape[1], "validate_args": False, "average": "micro"}
        metrics["average_precision_micro"] = multilabel_average_precision(scores, truths, **options)
    return metrics


def ranking_metrics(probabilities: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Precision, recall and nDCG (Järvelin and Kekäläinen 2002) of the k most probable labels, averaged over documents.

    Recall and nDCG exclude documents without labels, for which they are undefined.
    """
    ranks = [k for k in RANKS if k < true.shape[1]]
    best = ranking(probabilities)[:, : ranks[-1]]  # (N, K)
    hits = true.gather(1, best).double()  # (N, K)
    num_true = true.sum(dim=1)  # (N,) labels of each document
    labelled = num_true > 0
    discounts = 1 / torch.arange(2, ranks[-1] + 2, device=hits.device).double().log2()  # (K,)
    ideal = torch.cat([discounts.new_zeros(1), discounts.cumsum(dim=0)])  # ideal gain with 0 … K true labels
    metrics = {}
    for k in ranks:
        num_hits = hits[:, :k].sum(dim=1)
        gains = (hits[:, :k] * discounts[:k]).sum(dim=1)
        metrics[f"precision_at_{k}"] = (num_hits / k).mean()
        metrics[f"recall_at_{k}"] = (num_hits[labelled] / num_true[labelled]).mean()
        metrics[f"ndcg_at_{k}"] = (gains[labelled] / ideal[num_true[labelled].clamp(max=k)]).mean()
    return metrics


def hierarchy_metrics(predicted: Tensor, true: Tensor, parents: Sequence[int]) -> dict[str, Tensor]:
    """Micro-F1 of each level, and the fraction of predicted labels whose parent is not predicted."""
    levels = torch.tensor([level_of(label, parents) for label in range(len(parents))], device=predicted.device)
    metrics = {}
    for level in range(1, int(levels.max()) + 1):
        at_level = levels == level
        hits = (predicted[:, at_level] & true[:, at_level]).sum()
        size = predicted[:, at_level].sum() + true[:, at_level].sum()
        metrics[f"f1_micro_level_{level}"] = 2 * hits / size.clamp(min=1)
    nested = [label for label, parent in enumerate(parents) if parent >= 0]
    orphans = predicted[:, nested] & ~predicted[:, [parents[label] for label in nested]]
    metrics["hierarchy_breaks"] = orphans.sum() / predicted.sum().clamp(min=1)
    return metrics


def round_metrics(metrics: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """The metrics with this prefix, rounded to the precision of float32."""
    return {name: round(float(value), 7) for name, value in metrics.items() if name.startswith(prefix)}
