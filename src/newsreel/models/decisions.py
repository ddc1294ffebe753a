"""From probabilities to predicted labels.

Axes: N documents, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Task

ThresholdRule = Literal["fixed", "global", "per_label", "scut_fbr", "top_k"]

DEFAULT_THRESHOLD = 0.5  # of every label until thresholds are fitted


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """The section `evaluation` of the config."""

    thresholds: ThresholdRule
    shrinkage: Annotated[float, Ge(0)]
    fbr: Annotated[float, Ge(0), Le(1)] = 0.0  # older run directories lack it
    folds: Annotated[int, Ge(2), Le(100)] | None = None  # older run directories lack it
    hierarchy: Literal["none", "close"]
    figures: bool

    def check(self, nested: bool) -> None:
        """Raise UserError if hierarchy=close but labels have no parents. nested: whether labels have parents."""
        if self.hierarchy == "close" and not nested:
            raise UserError(
                "evaluation.hierarchy is close, but the labels of this corpus have no hierarchy: use "
                "evaluation.hierarchy=none."
            )


class DecisionRule(nn.Module):
    """Predicts the most probable label, or for `multilabel` all labels that a rule selects.

    The rules (SCut and RCut in Yang 2001, section 2.2) are fitted to maximise F1 on documents that the network was not
    trained on: the validation documents or, with `folds`, all but the test documents (training/out_of_fold.py).
    `global`: probabilities above one threshold, for the highest micro-F1. `per_label`: probabilities above a threshold
    per label, shrunk in log-odds towards the global one: the latter has the weight of `shrinkage` documents against the
    n documents with the label, since few documents determine a threshold poorly (0: as published); labels without
    documents use the global one. `top_k`: the k most probable labels, with one k for all documents.
    `scut_fbr`: probabilities above a threshold per label, the mean, in log-odds, of those of the folds
    (`fold_thresholds`); the validation documents are one fold.
    `fixed`: probabilities above 0.5; nothing is fitted.
    A threshold lies halfway, in log-odds, between the probabilities that it separates.
    `hierarchy=close` adds the ancestors of every predicted label.

    Thresholds and k are buffers, and so part of a checkpoint.
    """

    def __init__(self, task: Task, num_labels: int, parents: Sequence[int], settings: EvaluationSettings) -> None:
        """parents: index of each label's parent, -1 for none; empty if the corpus has no hierarchy.

        Raises UserError if hierarchy=close but there is no hierarchy.
        """
        super().__init__()
        settings.check(bool(parents))
        self.task: Task = task
        self.rule = settings.thresholds
        self.shrinkage = settings.shrinkage
        self.fbr = settings.fbr
        self.ancestor_edges = ancestor_edges_of(parents) if settings.hierarchy == "close" else []
        self.thresholds: Tensor
        self.k: Tensor
        self.fallbacks: Tensor
        self.register_buffer("thresholds", torch.full((num_labels,), DEFAULT_THRESHOLD))  # (L,)
        self.register_buffer("k", torch.tensor(1))
        self.register_buffer("fallbacks", torch.tensor(0))  # number of labels that use the global threshold

    def fit(self, probabilities: Tensor, targets: Tensor) -> None:
        """Fit thresholds or k on (N, L) probabilities and (N, L) target indicators of documents."""
        if self.task != "multilabel" or self.rule == "fixed":
            return
        if self.rule == "top_k":
            self.k.fill_(best_k(probabilities, targets))
            return
        if self.rule == "scut_fbr":
            self.fit_folds([(probabilities, targets)])
            return
        overall = best_thresholds(probabilities.reshape(-1, 1), targets.reshape(-1, 1))  # (1,)
        self.thresholds.copy_(overall.expand_as(self.thresholds))
        if self.rule == "per_label":
            counts = targets.sum(dim=0)  # (L,)
            present = counts > 0
            fitted = log_odds(best_thresholds(probabilities[:, present], targets[:, present]))
            weights = counts[present] / (counts[present] + self.shrinkage)
            self.thresholds[present] = (weights * fitted + (1 - weights) * log_odds(overall)).sigmoid()
            self.fallbacks.fill_(int((~present).sum()))

    def fit_folds(self, folds: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Fit thresholds or k on (N, L) probabilities and (N, L) target indicators of several folds of documents."""
        if self.rule != "scut_fbr":
            probabilities, targets = (torch.cat(parts) for parts in zip(*folds, strict=True))
            self.fit(probabilities, targets)
            return
        if len(folds) == 1:
            self.thresholds.copy_(fold_thresholds(*folds[0], self.fbr))
            return
        fitted = [log_odds(fold_thresholds(*fold, self.fbr).double()) for fold in folds]
        self.thresholds.copy_(torch.stack(fitted).mean(dim=0).sigmoid())

    def forward(self, probabilities: Tensor) -> Tensor:
        """(N, L) probabilities → (N,) class indices, or (N, L) bool for `multilabel`."""
        if self.task != "multilabel":
            return probabilities.argmax(dim=1)
        if self.rule == "top_k":
            best = ranking(probabilities)[:, : int(self.k)]  # (N, k)
            preds = torch.zeros_like(probabilities, dtype=torch.bool).scatter_(1, best, True)
        else:
            preds = probabilities > self.thresholds
        for label, parent in self.ancestor_edges:
            preds[:, parent] |= preds[:, label]
        return preds

    @property
    def by_thresholds(self) -> bool:
        """Whether each label has a threshold."""
        return self.task == "multilabel" and self.rule != "top_k"

    @property
    def falls_back(self) -> bool:
        """Whether labels without documents to fit a threshold on use the global one."""
        return self.task == "multilabel" and self.rule == "per_label"

    def describe(self, label_names: Sequence[str]) -> dict[str, Any]:
        """The rule as plain values, for thresholds.json."""
        if self.rule == "top_k":
            return {"rule": self.rule, "k": int(self.k)}
        values = {
            name: float(f"{value:.9g}") for name, value in zip(label_names, self.thresholds.tolist(), strict=True)
        }
        without = {"labels_with_global_threshold": int(self.fallbacks)} if self.falls_back else {}
        return {"rule": self.rule, **without, "thresholds": values}


def ancestor_edges_of(parents: Sequence[int]) -> list[tuple[int, int]]:
    """(label, parent) of every label with a parent, deepest first."""
    nested = [label for label in range(len(parents)) if parents[label] >= 0]
    return [(label, parents[label]) for label in sorted(nested, key=lambda label: -level_of(label, parents))]


def level_of(label: int, parents: Sequence[int]) -> int:
    """Level of a label in the hierarchy: 1 for labels without a parent."""
    return 1 if parents[label] < 0 else 1 + level_of(parents[label], parents)


def fold_thresholds(probabilities: Tensor, targets: Tensor, fbr: float) -> Tensor:
    """(N, L) probabilities, (N, L) indicators → (L,) thresholds, by SCutFBR.1 (Yang 2001; Lewis et al. 2004).

    The threshold of a label is the one of highest F1. Where that F1 is below `fbr`, or no document has the label, it is
    the label's highest probability: predicting too many documents costs a rare label more than predicting none.
    """
    highest = probabilities.amax(dim=0)  # (L,)
    present = targets.any(dim=0)
    fitted, f1 = best_cuts(probabilities[:, present], targets[:, present])
    thresholds = highest.clone()
    thresholds[present] = torch.where(f1 < fbr, highest[present], fitted)
    return thresholds


def best_thresholds(probabilities: Tensor, targets: Tensor) -> Tensor:
    """(N, L) probabilities, (N, L) indicators with at least one positive per label → (L,) thresholds of highest F1.

    Ties go to the threshold that predicts the fewest documents.
    """
    return best_cuts(probabilities, targets)[0]


def best_cuts(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The (L,) thresholds of `best_thresholds` and their (L,) F1."""
    scores, order = probabilities.double().sort(dim=0, descending=True)  # (N, L)
    hits = targets.long().gather(0, order).cumsum(dim=0)  # (N, L) true positives if a label's n + 1 best are predicted
    predicted = torch.arange(1, len(scores) + 1, device=scores.device)[:, None]
    f1 = 2 * hits / (predicted + hits[-1:])  # (N, L)
    next_lower = torch.cat([scores[1:], torch.zeros_like(scores[:1])])  # the next lower probability
    f1[scores == next_lower] = -1  # no threshold lies between equal ones
    cut = f1.argmax(dim=0, keepdim=True)  # (1, L)
    upper, lower = scores.gather(0, cut)[0], next_lower.gather(0, cut)[0]  # (L,)
    halfway = ((log_odds(upper) + log_odds(lower)) / 2).sigmoid().to(probabilities.dtype)
    thresholds = torch.where((lower <= halfway) & (halfway < upper), halfway, lower.to(halfway.dtype))  # of rounding
    return thresholds, f1.gather(0, cut)[0]


def ranking(probabilities: Tensor) -> Tensor:
    """(N, L) the labels by falling probability; ties go to the label with the lower index."""
    return probabilities.argsort(dim=1, descending=True, stable=True)


def log_odds(probabilities: Tensor) -> Tensor:
    return probabilities.logit(torch.finfo(torch.float32).eps)  # finite at 0 and 1


def best_k(probabilities: Tensor, targets: Tensor) -> int:
    """The number k of labels per document for which the k most probable labels give the highest micro-F1."""
    order = ranking(probabilities)  # (N, L)
    hits = (
        targets.long().gather(1, order).sum(dim=0).cumsum(dim=0)
    )  # (L,) true positives among the top k of all documents
    predicted = len(order) * torch.arange(1, len(hits) + 1, device=hits.device)
    return int((2 * hits / (predicted + targets.sum())).argmax()) + 1
