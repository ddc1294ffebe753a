"""What training minimises, against scikit-learn's log loss, torch's own options and the focal equation by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from newsreel.corpora.corpus import Task
from newsreel.models.functional import logits_to_probs, task_loss
from newsreel.models.loss import Loss, LossSettings

N, NUM_LABELS = 40, 4
every_task = pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])


def make_loss(task: Task, counts: torch.Tensor, num_documents: int = N, **changes: Any) -> Loss:
    settings = {"class_balance": 0.0, "focal_gamma": 0.0, "label_smoothing": 0.0, "one_vs_rest": False, **changes}
    return Loss(task, counts, num_documents, LossSettings(**settings))


def documents(task: Task) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, targets and the labels' counts."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(N, 1 if task == "binary" else NUM_LABELS, generator=generator)
    if task == "multilabel":
        targets = (torch.rand(N, NUM_LABELS, generator=generator) < 0.3).float()
        return logits, targets, targets.sum(dim=0).long()
    num_labels = 2 if task == "binary" else NUM_LABELS
    targets = torch.randint(0, num_labels, (N,), generator=generator)
    return logits, targets, torch.bincount(targets, minlength=num_labels)


@every_task
def test_without_options_it_is_the_log_loss(task: Task) -> None:
    logits, targets, counts = documents(task)
    assert torch.equal(make_loss(task, counts)(logits, targets), task_loss(logits, targets, task))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_balanced_classes_weigh_as_in_scikit_learn(task: Task) -> None:
    logits, targets, counts = documents(task)
    weights = compute_class_weight("balanced", classes=np.arange(len(counts)), y=targets.numpy())
    scores = logits_to_probs(logits.double(), task)
    # divides by the sum of weights, which is the number of documents
    expected = log_loss(targets, scores, labels=range(len(counts)), sample_weight=weights[targets])
    loss = make_loss(task, counts, class_balance=1.0)
    assert loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_half_balance_takes_roots_of_the_counts_and_keeps_the_mean_weight() -> None:
    loss = make_loss("multiclass", torch.tensor([1, 4]), 5, class_balance=0.5)
    assert (loss.weights[0] / loss.weights[1]).item() == pytest.approx(2)
    assert (loss.weights[0] + 4 * loss.weights[1]).item() == pytest.approx(5)


def test_balanced_labels_weigh_positives_by_the_negatives_to_each() -> None:
    logits, targets, counts = documents("multilabel")
    expected = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=(N - counts) / counts)
    assert torch.isclose(make_loss("multilabel", counts, class_balance=1.0)(logits, targets), expected)


def test_smoothed_classes_are_those_of_torch() -> None:
    logits, targets, counts = documents("multiclass")
    expected = F.cross_entropy(logits, targets, label_smoothing=0.1)
    assert torch.isclose(make_loss("multiclass", counts, label_smoothing=0.1)(logits, targets), expected)


def test_one_against_the_rest_adds_up_the_log_losses_of_every_class() -> None:
    logits, targets, counts = documents("multiclass")
    yes = logits.double().sigmoid().numpy()
    expected = sum(log_loss(targets == label, yes[:, label]) for label in range(NUM_LABELS))
    assert make_loss("multiclass", counts, one_vs_rest=True)(logits, targets).item() == pytest.approx(expected, 1e-5)


def test_one_against_the_rest_smooths_and_balances() -> None:
    logits, targets, counts = documents("multiclass")
    loss = make_loss("multiclass", counts, class_balance=1.0, label_smoothing=0.1, one_vs_rest=True)
    smoothed = torch.full_like(logits, 0.05)
    smoothed[torch.arange(N), targets] = 0.95
    terms = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").sum(dim=1)
    assert torch.isclose(loss(logits, targets), (N / (NUM_LABELS * counts[targets]) * terms).mean())


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_smoothed_decisions_move_half_the_share(task: Task) -> None:
    logits, targets, counts = documents(task)
    smoothed = torch.where(targets > 0, 0.95, 0.05).reshape(logits.shape)
    loss = make_loss(task, counts, label_smoothing=0.1)
    assert torch.isclose(loss(logits, targets), F.binary_cross_entropy_with_logits(logits, smoothed))


@every_task
def test_the_focal_factor_is_that_of_the_equation(task: Task) -> None:
    logits, targets, counts = documents(task)
    terms = []
    for row, target in zip(logits_to_probs(logits, task).tolist(), targets.tolist(), strict=True):
        if task == "multilabel":
            rights = [p if yes else 1 - p for p, yes in zip(row, target, strict=True)]
        else:
            rights = [row[target]]
        terms += [-((1 - p) ** 2) * math.log(p) for p in rights]
    loss = make_loss(task, counts, focal_gamma=2.0)
    assert loss(logits, targets).item() == pytest.approx(np.mean(terms), rel=1e-5)


@every_task
def test_all_options_together_stay_finite_at_certain_logits(task: Task) -> None:
    logits, targets, counts = documents(task)
    logits = (1e4 * logits).requires_grad_()
    value = make_loss(task, counts, class_balance=0.5, focal_gamma=2.0, label_smoothing=0.1)(logits, targets)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    "options",
    [{}, {"class_balance": 1.0}, {"label_smoothing": 0.1}, {"class_balance": 0.5, "label_smoothing": 0.2}],
)
@pytest.mark.parametrize("one_vs_rest", [False, True])
@every_task
def test_no_constant_logits_have_a_lower_loss_than_the_priors(
    task: Task, one_vs_rest: bool, options: dict[str, float]
) -> None:
    _, targets, counts = documents(task)
    loss = make_loss(task, counts, one_vs_rest=one_vs_rest, **options)
    logits = torch.zeros(1, 1 if task == "binary" else NUM_LABELS, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def step() -> float:
        optimizer.zero_grad()
        value = loss(logits.expand(N, -1), targets)
        value.backward()
        return value.item()

    optimizer.step(step)
    assert loss.of_priors(counts, N) == pytest.approx(step(), rel=1e-4)


EVERY_OPTION = [
    {},
    {"class_balance": 1.0},
    {"label_smoothing": 0.1},
    {"focal_gamma": 2.0},
    {"class_balance": 0.5, "label_smoothing": 0.2, "focal_gamma": 1.0},
]


def soft_targets(task: Task) -> torch.Tensor:
    """(N, L) probabilities."""
    values = torch.rand(N, 2 if task == "binary" else NUM_LABELS, generator=torch.Generator().manual_seed(1))
    return values if task == "multilabel" else values / values.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("options", EVERY_OPTION)
@pytest.mark.parametrize("one_vs_rest", [False, True])
@every_task
def test_the_loss_of_probabilities_is_the_expected_one_of_their_labels(
    task: Task, one_vs_rest: bool, options: dict[str, float]
) -> None:
    logits, _, counts = documents(task)
    loss = make_loss(task, counts, one_vs_rest=one_vs_rest, **options)
    probabilities = soft_targets(task)
    expected = torch.tensor(0.0)
    for row, probs in zip(logits, probabilities, strict=True):
        if task == "multilabel":  # the labels are independent: the mean over each of them, certain or not
            certain = [loss(row[None], torch.full((1, NUM_LABELS), value)) for value in (0.0, 1.0)]
            single = [
                [Loss(task, counts[[k]], N, loss.settings)(row[None, [k]], torch.tensor([[v]])) for v in (0.0, 1.0)]
                for k in range(NUM_LABELS)
            ]
            assert sum(pair[1] for pair in single) / NUM_LABELS == pytest.approx(certain[1].item(), rel=1e-5)
            terms = [(1 - p) * no + p * yes for p, (no, yes) in zip(probs, single, strict=True)]
            expected = expected + sum(terms) / NUM_LABELS
        else:
            expected = expected + sum(p * loss(row[None], torch.tensor([label])) for label, p in enumerate(probs))
    assert loss(logits, probabilities).item() == pytest.approx(expected.item() / N, rel=1e-5)


@pytest.mark.parametrize("options", EVERY_OPTION)
@pytest.mark.parametrize("is_soft", [False, True])
@every_task
def test_weights_multiply_the_losses_of_documents_and_not_their_number(
    task: Task, is_soft: bool, options: dict[str, float]
) -> None:
    logits, targets, counts = documents(task)
    targets = soft_targets(task) if is_soft else targets
    loss = make_loss(task, counts, **options)
    weights = torch.rand(N, generator=torch.Generator().manual_seed(2))
    single = torch.stack([loss(logits[[row]], targets[[row]]) for row in range(N)])
    assert loss(logits, targets, weights).item() == pytest.approx((weights * single).sum().item() / N, rel=1e-5)
    assert loss(logits, targets, torch.ones(N)).item() == pytest.approx(loss(logits, targets).item(), rel=1e-6)
