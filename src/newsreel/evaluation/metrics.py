"""What is measured of predictions, by torchmetrics where it has it.

Axes: N documents, L labels. README, "What is measured", says in a sentence what each figure is.
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
from newsreel.models.decisions import level_of

RANKS = (1, 3, 5)  # the k of precision, recall and nDCG at k, as far as there are more labels than that
HEADLINES = ("accuracy", "f1_micro", "f1_macro", "auroc", "average_precision", "loss")  # what the closing table shows
CALIBRATION_BINS = 15


def measure(
    probabilities: Tensor, decided: Tensor, targets: Tensor, task: Task, parents: Sequence[int] = ()
) -> dict[str, float]:
    """All figures of a split, by name; those that are not defined for it are left out.

    probabilities: (N, L). decided, targets: (N,) class numbers, or for `multilabel` (N, L) indicators. parents: each
    label's parent, -1 for none; empty without a hierarchy.
    """
    num_labels = probabilities.shape[1]
    if task == "multilabel":
        wanted, given = targets.bool(), decided.bool()  # a byte for each of N × L
    else:
        wanted, given = F.one_hot(targets.long(), num_labels).bool(), F.one_hot(decided, num_labels).bool()
    figures = of_decisions(given, wanted)
    if task == "multilabel":
        figures |= of_several_labels(given, wanted)
        figures["ece"] = binary_calibration_error(
            probabilities.flatten(), wanted.flatten(), CALIBRATION_BINS, validate_args=False
        )
    else:
        figures["accuracy"] = (decided == targets).float().mean()
        figures["ece"] = multiclass_calibration_error(
            probabilities, targets.long(), num_labels, CALIBRATION_BINS, validate_args=False
        )
    figures |= of_probabilities(probabilities, wanted, task)
    if num_labels > 2:
        figures |= of_ranks(probabilities, wanted)
    if parents:
        figures |= of_hierarchy(given, wanted, parents)
    return {name: float(value) for name, value in figures.items() if not value.isnan()}


def of_decisions(given: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """F1, precision and recall of (N, L) indicators; a label without documents or predictions counts 0."""
    of_labels = multilabel_f1_score(given, wanted, wanted.shape[1], average="none", validate_args=False)  # (L,)
    present = wanted.any(dim=0)
    return {
        "f1_micro": multilabel_f1_score(given, wanted, wanted.shape[1], average="micro", validate_args=False),
        "f1_macro": of_labels.mean(),
        "f1_macro_present": of_labels[present].mean(),
        "precision_macro": multilabel_precision(
            given, wanted, wanted.shape[1], average="none", validate_args=False
        ).mean(),
        "recall_macro": multilabel_recall(given, wanted, wanted.shape[1], average="none", validate_args=False).mean(),
    }


def of_several_labels(given: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """What differs from accuracy only where documents have several labels; (N, L) indicators."""
    options: dict[str, Any] = {"num_labels": wanted.shape[1], "validate_args": False}
    hits, sizes = (given & wanted).sum(dim=1), given.sum(dim=1) + wanted.sum(dim=1)  # (N,)
    return {
        "f1_examples": (2 * hits / sizes.clamp(min=1)).mean(),
        "precision_micro": multilabel_precision(given, wanted, average="micro", **options),
        "recall_micro": multilabel_recall(given, wanted, average="micro", **options),
        "subset_accuracy": multilabel_exact_match(given, wanted, **options),
        "hamming_loss": multilabel_hamming_distance(given, wanted, average="micro", **options),
    }


def of_probabilities(probabilities: Tensor, wanted: Tensor, task: Task) -> dict[str, Tensor]:
    """Areas under curves: the mean over the labels that some documents have and some have not.

    A binary task has one curve, that of its second label.
    """
    first = 1 if task == "binary" else 0
    scores, truths = probabilities[:, first:], wanted[:, first:]
    shares = truths.sum(dim=0) / len(truths)
    told = (shares > 0) & (shares < 1)  # (L,)
    scores, truths = scores[:, told], truths[:, told]
    if not scores.shape[1]:
        return {}
    options: dict[str, Any] = {"num_labels": scores.shape[1], "validate_args": False}
    figures = {
        "auroc": multilabel_auroc(scores, truths, average="macro", **options),
        "average_precision": multilabel_average_precision(scores, truths, average="macro", **options),
    }
    if task != "binary":
        figures["average_precision_micro"] = multilabel_average_precision(scores, truths, average="micro", **options)
    return figures


def of_ranks(probabilities: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Precision, recall and nDCG (Järvelin and Kekäläinen 2002) of the k most probable labels, means over documents.

    Documents without labels are left out of recall and nDCG, which are not defined for them.
    """
    ranks = [k for k in RANKS if k < wanted.shape[1]]
    best = probabilities.topk(ranks[-1], dim=1).indices  # (N, K)
    hits = wanted.gather(1, best).double()  # (N, K)
    numbers = wanted.sum(dim=1)  # (N,) labels of each document
    labelled = numbers > 0
    discounts = 1 / torch.arange(2, ranks[-1] + 2, device=hits.device).double().log2()  # (K,)
    ideal = torch.cat([discounts.new_zeros(1), discounts.cumsum(dim=0)])  # gain of the first 0 … K being right
    figures = {}
    for k in ranks:
        found = hits[:, :k].sum(dim=1)
        gains = (hits[:, :k] * discounts[:k]).sum(dim=1)
        figures[f"precision_at_{k}"] = (found / k).mean()
        figures[f"recall_at_{k}"] = (found[labelled] / numbers[labelled]).mean()
        figures[f"ndcg_at_{k}"] = (gains[labelled] / ideal[numbers[labelled].clamp(max=k)]).mean()
    return figures


def of_hierarchy(given: Tensor, wanted: Tensor, parents: Sequence[int]) -> dict[str, Tensor]:
    """Micro-F1 of the labels of each level, and the share of predicted labels whose parent is not predicted."""
    levels = torch.tensor([level_of(label, parents) for label in range(len(parents))], device=given.device)
    figures = {}
    for level in range(1, int(levels.max()) + 1):
        at_level = levels == level
        hits = (given[:, at_level] & wanted[:, at_level]).sum()
        size = given[:, at_level].sum() + wanted[:, at_level].sum()
        figures[f"f1_micro_level_{level}"] = 2 * hits / size.clamp(min=1)
    below = [label for label, parent in enumerate(parents) if parent >= 0]
    orphans = given[:, below] & ~given[:, [parents[label] for label in below]]
    figures["hierarchy_breaks"] = orphans.sum() / given.sum().clamp(min=1)
    return figures


def rounded(figures: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """The figures under a prefix, without the digits that a 32-bit number does not have."""
    return {name: round(float(value), 7) for name, value in figures.items() if name.startswith(prefix)}
