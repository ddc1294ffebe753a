"""The loss that training minimises.

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
    """The loss settings of the section `training`; if all are 0 or false, the loss is `task_loss`, the log loss."""

    class_balance: Annotated[float, Ge(0), Le(1)]
    focal_gamma: Annotated[float, Ge(0), Le(100)]
    label_smoothing: Annotated[float, Ge(0), Lt(1)]
    one_vs_rest: bool


class Loss(nn.Module):
    """Mean loss of a batch: log loss with optional class weights, focal factors and label smoothing.

    Targets that are probabilities (pseudo-labels) have the expected loss of labels drawn from them.

    class_balance β: class weights proportional to (training documents of the class)^-β, 1 on average over documents;
    β = 1 is scikit-learn's `class_weight="balanced"`. For `multilabel`, the positives of a label have the weight
    (negatives / positives)^β, and its negatives 1.
    focal_gamma γ: multiplies each term by (1 - p)^γ, with p the probability of the true class (Lin et al. 2017, eq. 4).
    label_smoothing ε: targets become 1 - ε + ε/K and ε/K over K classes (Szegedy et al. 2016, eq. 7 on); K is 2 where
    each label is a binary decision.
    one_vs_rest: for `multiclass`, a binary decision per class instead of one softmax; the loss of a document is the
    sum over classes (Rifkin and Klautau 2004). `multilabel` losses are always of this kind.
    """

    def __init__(self, task: Task, counts: Tensor, num_documents: float, settings: LossSettings) -> None:
        """counts: (L,) number of training documents with each label, out of `num_documents`, or their weights."""
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

    def forward(self, logits: Tensor, targets: Tensor, document_weights: Tensor | None = None) -> Tensor:
        """(B, num_outputs) logits, (B,) class indices or (B, L) indicators or probabilities → scalar.

        document_weights: (B,); the result is Σ weight · loss / B. None: the mean.
        """
        settings, is_soft = self.settings, self.task != "multilabel" and targets.ndim == 2
        one_vs_rest = self.task == "multiclass" and settings.one_vs_rest
        options = settings.class_balance or settings.focal_gamma or settings.label_smoothing or one_vs_rest
        if not (options or is_soft or document_weights is not None):
            return task_loss(logits, targets, self.task)
        weights, targets = self.weigh(targets)
        if self.task == "multilabel":
            losses = weights * self._binary_losses(logits, targets)  # (B, L)
        elif self.task == "binary":
            losses = weights * self._binary_losses(logits, targets[:, 1:])  # (B, 1)
        elif one_vs_rest:
            losses = weights * self._binary_losses(logits, targets).sum(dim=1, keepdim=True)  # (B, 1)
        else:
            losses = self._multiclass_losses(logits, weights, targets)  # (B, 1)
        return (losses if document_weights is None else document_weights[:, None] * losses).mean()

    def weigh(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Class weights as weights of documents: (B,) or (B, L) targets → (B, 1) weights, or (B, L) for `multilabel`,
        and (B, L) targets.

        The loss of probabilities q is the expected one of labels drawn from q, Σ_l q_l w_l loss_l. Log losses are
        linear in the target, so it is Σ_l q_l w_l times the loss of the target q w / Σ_l q_l w_l.
        """
        if targets.ndim == 1:
            targets = F.one_hot(targets, len(self.weights)).to(self.weights.dtype)
        weighted = targets * self.weights  # (B, L)
        sums = weighted + (1 - targets) if self.task == "multilabel" else weighted.sum(dim=1, keepdim=True)
        return sums, weighted / sums

    def of_priors(self, counts: Tensor, num_documents: float) -> float:
        """The loss if the probabilities of every document are the frequencies of the labels, whatever its words.

        The frequencies are weighted and smoothed as the targets are, which minimises the log loss. Without options, it
        is the entropy of the labels, for `multilabel` their mean entropy.
        counts: (L,) number of the documents with each label, out of `num_documents`, or their weights.
        """
        smoothing = self.settings.label_smoothing
        positive = counts.double() / num_documents  # (L,)
        weighted = self.weights.double() * positive
        if self.task == "multilabel":
            negative = 1 - positive
            probs = weighted / (weighted + negative) * (1 - smoothing) + smoothing / 2
            logits = probs.clamp(1e-9, 1 - 1e-9).logit()
            losses = [self._binary_losses(logits, torch.full_like(logits, target)) for target in (1.0, 0.0)]
            return float((weighted * losses[0] + negative * losses[1]).mean())
        is_binary = self.task == "binary" or self.settings.one_vs_rest
        probs = weighted / weighted.sum() * (1 - smoothing) + smoothing / (2 if is_binary else len(counts))
        probs = probs.clamp(1e-9, 1 - 1e-9)
        logits = probs.log() if not is_binary else probs.logit() if self.task == "multiclass" else probs[1:].logit()
        losses = [self(logits[None], torch.tensor([label])) for label in range(len(counts))]
        return float(positive @ torch.stack(losses).double())

    def _multiclass_losses(self, logits: Tensor, weights: Tensor, targets: Tensor) -> Tensor:
        log_probs = logits.log_softmax(dim=1)  # (B, L)
        smoothing = self.settings.label_smoothing
        smoothed = targets * (1 - smoothing) + smoothing / logits.shape[1]
        if self.settings.focal_gamma:
            log_probs = log_probs * (1 - log_probs.exp()) ** self.settings.focal_gamma
        return -(weights * smoothed * log_probs).sum(dim=1, keepdim=True)

    def _binary_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing, gamma = self.settings.label_smoothing, self.settings.focal_gamma
        smoothed = targets * (1 - smoothing) + smoothing / 2
        if not gamma:
            return F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
        positive = (-logits).sigmoid() ** gamma * F.logsigmoid(logits)
        negative = logits.sigmoid() ** gamma * F.logsigmoid(-logits)
        return -(smoothed * positive + (1 - smoothed) * negative)
