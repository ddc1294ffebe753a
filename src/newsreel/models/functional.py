"""Loss and probabilities of a network's logits, by task.

Axes: B documents, L labels; logits are (B, 1) for a binary task, else (B, L).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Task


def num_outputs(task: Task, num_labels: int) -> int:
    """Number of logits of a network: 1 for a binary task, otherwise one per label."""
    return 1 if task == "binary" else num_labels


def task_loss(logits: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Mean log loss of a batch: categorical for `multiclass`, else binary, averaged over documents and labels."""
    if task == "multiclass":
        return F.cross_entropy(logits, targets)
    if task == "multilabel":
        return F.binary_cross_entropy_with_logits(logits, targets)
    return F.binary_cross_entropy_with_logits(logits[:, 0], targets.to(logits.dtype))


def hard_targets(targets: Tensor, task: Task) -> Tensor:
    """(B,) class indices, or (B, L) indicators or probabilities → (B,) or, for `multilabel`, (B, L) int64."""
    if task == "multilabel":
        return (targets > 0.5).long()
    return targets.argmax(dim=1) if targets.ndim == 2 else targets


def require_finite(probabilities: Tensor) -> None:
    """Raise UserError if a probability is no number."""
    if not probabilities.isfinite().all():
        num_documents = int((~probabilities.isfinite().all(dim=1)).sum())
        raise UserError(
            f"The network gives no probabilities for {num_documents:,} of {len(probabilities):,} documents, but NaN: "
            "its weights are too large, since training diverged. Train again with a lower training.learning_rate or "
            "training.gradient_clip."
        )


def logits_to_probs(logits: Tensor, task: Task) -> Tensor:
    """(B, num_outputs) logits → (B, L) probabilities; the logit of a binary task is that of its second label."""
    if task == "multiclass":
        return logits.softmax(dim=1)
    if task == "multilabel":
        return logits.sigmoid()
    return torch.cat([(-logits).sigmoid(), logits.sigmoid()], dim=1)
