"""What training minimises.

Axes: B documents in a batch, L labels of the corpus; logits are (B, 1) for a binary task, else (B, L).
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from newsreel.corpora.corpus import Task
from newsreel.models.functional import task_loss


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """The part of the section `training` that shapes the loss; all zeros and false give `task_loss`, the log loss."""

    class_balance: Annotated[float, Ge(0), Le(1)]
    focal_gamma: Annotated[float, Ge(0), Le(100)]
    label_smoothing: Annotated[float, Ge(0), Lt(1)]
    one_vs_rest: bool


class Loss(nn.Module):
    """Mean loss of a batch: log loss with balanced classes, focal factors and smoothed targets, as far as asked for.

    class_balance β: documents of a class weigh in proportion to (number of its training documents)^-β, on average 1;
    β = 1 is scikit-learn's `class_weight="balanced"`. Where documents have several labels, a label's positives weigh
    (negatives / positives)^β, and its negatives 1.
    focal_gamma γ: each term times (1 - p)^γ, with p the probability of what is right (Lin et al. 2017, eq. 4).
    label_smoothing ε: targets move to 1 - ε + ε/K and ε/K over the K classes of a decision (Szegedy et al. 2016, eq.
    7 on); K is 2 where each label is a decision.
    one_vs_rest: each class of several is a decision against all others, and a document's loss the sum of theirs,
    instead of one decision among all (Rifkin and Klautau 2004). Where documents have several labels, it is so anyway.
    """

    def __init__(self, task: Task, counts: Tensor, num_documents: int, settings: LossSettings) -> None:
        """counts: (L,) training documents with each label, of `num_documents`."""
        super().__init__()
        self.task: Task = task
        self.settings = settings
        counts = counts.clamp(min=1).double()
        if task == "multilabel":
            weights = ((num_documents - counts).clamp(min=1) / counts) ** settings.class_balance
        else:
            weights = counts**-settings.class_balance
            weights *= counts.sum() / (counts * weights).sum()
        self.weights: Tensor
        self.register_buffer("weights", weights.float(), persistent=False)  # (L,)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B, num_outputs) logits, (B,) class numbers or (B, L) indicators → the mean, a scalar."""
        settings = self.settings
        if self.task == "multiclass" and settings.one_vs_rest:
            decisions = self._of_decisions(logits, F.one_hot(targets, logits.shape[1]).to(logits.dtype))  # (B, L)
            return (self.weights[targets] * decisions.sum(dim=1)).mean()
        if not (settings.class_balance or settings.focal_gamma or settings.label_smoothing):
            return task_loss(logits, targets, self.task)
        if self.task == "multiclass":
            return self._of_classes(logits, targets)
        if self.task == "multilabel":
            weights = torch.where(targets > 0, self.weights, 1.0)  # (B, L)
            return (weights * self._of_decisions(logits, targets)).mean()
        weights = self.weights[targets]  # (B,)
        return (weights * self._of_decisions(logits[:, 0], targets.to(logits.dtype))).mean()

    def _of_classes(self, logits: Tensor, targets: Tensor) -> Tensor:
        logarithms = logits.log_softmax(dim=1)  # (B, L)
        smoothing = self.settings.label_smoothing
        wanted = torch.full_like(logarithms, smoothing / logits.shape[1])
        wanted.scatter_add_(1, targets[:, None], torch.full_like(logarithms[:, :1], 1 - smoothing))
        if self.settings.focal_gamma:
            logarithms = logarithms * (1 - logarithms.exp()) ** self.settings.focal_gamma
        return -(self.weights[targets][:, None] * wanted * logarithms).sum(dim=1).mean()

    def _of_decisions(self, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing, gamma = self.settings.label_smoothing, self.settings.focal_gamma
        wanted = targets * (1 - smoothing) + smoothing / 2
        if not gamma:
            return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        yes = (-logits).sigmoid() ** gamma * F.logsigmoid(logits)
        no = logits.sigmoid() ** gamma * F.logsigmoid(-logits)
        return -(wanted * yes + (1 - wanted) * no)
