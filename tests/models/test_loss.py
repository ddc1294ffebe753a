"""What training minimises, against scikit-learn's log loss, torch's own options and the focal equation by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from newsreel.corpora.corpus import Task
from newsreel.models.functional import logits_to_probs, task_loss
from newsreel.models.loss import Loss, LossSettings

NUM_DOCUMENTS, NUM_LABELS = 40, 4


def settings(
    class_balance: float = 0.0, focal_gamma: float = 0.0, label_smoothing: float = 0.0, one_vs_rest: bool = False
) -> LossSettings:
    return LossSettings(
        class_balance=class_balance,
        focal_gamma=focal_gamma,
        label_smoothing=label_smoothing,
        one_vs_rest=one_vs_rest,
    )


def documents(task: Task) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, targets and the labels' counts."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(NUM_DOCUMENTS, 1 if task == "binary" else NUM_LABELS, generator=generator)
    if task == "multilabel":
        targets = (torch.rand(NUM_DOCUMENTS, NUM_LABELS, generator=generator) < 0.3).float()
        return logits, targets, targets.sum(dim=0).long()
    num_labels = 2 if task == "binary" else NUM_LABELS
    targets = torch.randint(0, num_labels, (NUM_DOCUMENTS,), generator=generator)
    return logits, targets, torch.bincount(targets, minlength=num_labels)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_without_options_it_is_the_log_loss(task: Task) -> None:
    logits, targets, counts = documents(task)
    loss = Loss(task, counts, NUM_DOCUMENTS, settings())
    assert torch.equal(loss(logits, targets), task_loss(logits, targets, task))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_balanced_classes_weigh_as_in_scikit_learn(task: Task) -> None:
    logits, targets, counts = documents(task)
    weights = compute_class_weight("balanced", classes=np.arange(len(counts)), y=targets.numpy())
    expected = log_loss(
        targets,
        logits_to_probs(logits.double(), task),
        labels=range(len(counts)),
        sample_weight=weights[targets],
    )  # divides by the sum of weights, which is the number of documents
    loss = Loss(task, counts, NUM_DOCUMENTS, settings(class_balance=1.0))
    assert loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_half_balance_takes_roots_of_the_counts_and_keeps_the_mean_weight() -> None:
    loss = Loss("multiclass", torch.tensor([1, 4]), 5, settings(class_balance=0.5))
    assert (loss.weights[0] / loss.weights[1]).item() == pytest.approx(2)
    assert (loss.weights[0] + 4 * loss.weights[1]).item() == pytest.approx(5)


def test_balanced_labels_weigh_positives_by_the_negatives_to_each() -> None:
    logits, targets, counts = documents("multilabel")
    expected = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=(NUM_DOCUMENTS - counts) / counts)
    loss = Loss("multilabel", counts, NUM_DOCUMENTS, settings(class_balance=1.0))
    assert torch.isclose(loss(logits, targets), expected)


def test_smoothed_classes_are_those_of_torch() -> None:
    logits, targets, counts = documents("multiclass")
    loss = Loss("multiclass", counts, NUM_DOCUMENTS, settings(label_smoothing=0.1))
    assert torch.isclose(loss(logits, targets), F.cross_entropy(logits, targets, label_smoothing=0.1))


def test_one_against_the_rest_adds_up_the_log_losses_of_every_class() -> None:
    logits, targets, counts = documents("multiclass")
    yes = logits.double().sigmoid().numpy()
    expected = sum(log_loss(targets == label, yes[:, label]) for label in range(NUM_LABELS))
    loss = Loss("multiclass", counts, NUM_DOCUMENTS, settings(one_vs_rest=True))
    assert loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_one_against_the_rest_smooths_and_balances() -> None:
    logits, targets, counts = documents("multiclass")
    loss = Loss("multiclass", counts, NUM_DOCUMENTS, settings(1.0, label_smoothing=0.1, one_vs_rest=True))
    wanted = torch.full_like(logits, 0.05)
    wanted[torch.arange(NUM_DOCUMENTS), targets] = 0.95
    terms = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(dim=1)
    balanced = NUM_DOCUMENTS / (NUM_LABELS * counts[targets])
    assert torch.isclose(loss(logits, targets), (balanced * terms).mean())


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_smoothed_decisions_move_half_the_share(task: Task) -> None:
    logits, targets, counts = documents(task)
    loss = Loss(task, counts, NUM_DOCUMENTS, settings(label_smoothing=0.1))
    wanted = torch.where(targets > 0, 0.95, 0.05).reshape(logits.shape)
    assert torch.isclose(loss(logits, targets), F.binary_cross_entropy_with_logits(logits, wanted))


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_the_focal_factor_is_that_of_the_equation(task: Task) -> None:
    logits, targets, counts = documents(task)
    scores = logits_to_probs(logits, task)
    terms = []
    for row, target in zip(scores.tolist(), targets.tolist(), strict=True):
        if task == "multilabel":
            rights = [p if yes else 1 - p for p, yes in zip(row, target, strict=True)]
        else:
            rights = [row[target]]
        terms += [-((1 - p) ** 2) * math.log(p) for p in rights]
    loss = Loss(task, counts, NUM_DOCUMENTS, settings(focal_gamma=2.0))
    assert loss(logits, targets).item() == pytest.approx(np.mean(terms), rel=1e-5)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_all_options_together_stay_finite_at_certain_logits(task: Task) -> None:
    logits, targets, counts = documents(task)
    logits = (1e4 * logits).requires_grad_()
    loss = Loss(task, counts, NUM_DOCUMENTS, settings(0.5, 2.0, 0.1))
    value = loss(logits, targets)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
