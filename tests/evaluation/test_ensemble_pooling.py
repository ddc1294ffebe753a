"""Combined probabilities, against numbers by hand, and fitted weights against all weights of a grid.

Axes: N documents, L labels, M classifiers.
"""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.special import expit, logit, softmax
from sklearn.metrics import log_loss

from newsreel.corpora.corpus import Task
from newsreel.evaluation.pooling import Pool, fit_pool

TASKS: list[Task] = ["binary", "multiclass", "multilabel"]
GRID = np.linspace(0, 3, 31)  # of factors weight / temperature


def noisy_classifiers(task: Task, noises: list[float], num_documents: int = 150) -> tuple[list[np.ndarray], np.ndarray]:
    """(N, L) probabilities of classifiers that see the targets through noise of these sizes, and the targets."""
    random = np.random.default_rng(3)
    num_labels = {"binary": 2, "multiclass": 4, "multilabel": 3}[task]
    if task == "multilabel":
        targets = random.random((num_documents, num_labels)) < 0.4
        evidence = np.where(targets, 1.0, -1.0)
    else:
        targets = random.integers(num_labels, size=num_documents)
        evidence = np.eye(num_labels)[targets]
    logits = [3 * (evidence + noise * random.normal(size=evidence.shape)) for noise in noises]
    scores = [expit(each) if task == "multilabel" else softmax(each, axis=1) for each in logits]
    return [each.astype(np.float32) for each in scores], targets


def loss_of(factors: tuple[float, ...], probabilities: list[np.ndarray], targets: np.ndarray, task: Task) -> float:
    """The mean log loss of probabilities that are combined with other formulas."""
    scores = [each.astype(np.float64) for each in probabilities]
    if task == "multilabel":
        combined = sum(factor * logit(each) for factor, each in zip(factors, scores, strict=True))
        return float(np.logaddexp(0, np.where(targets, -combined, combined)).mean())
    products = np.prod([each**factor for factor, each in zip(factors, scores, strict=True)], axis=0)
    return float(-np.log((products / products.sum(axis=1, keepdims=True))[np.arange(len(targets)), targets]).mean())


@pytest.mark.parametrize("task", TASKS)
def test_fitted_weights_are_the_best_of_a_grid(task: Task) -> None:
    probabilities, targets = noisy_classifiers(task, [0.9, 1.4])
    pool = fit_pool(probabilities, targets, task)
    losses = {factors: loss_of(factors, probabilities, targets, task) for factors in product(GRID, GRID)}
    first = probabilities[0].astype(np.float64)
    columns = (
        [(targets[:, label], first[:, label]) for label in range(3)] if task == "multilabel" else [(targets, first)]
    )
    assert losses[1.0, 0.0] == pytest.approx(np.mean([log_loss(*column) for column in columns]))
    best = min(losses, key=lambda factors: losses[factors])
    fitted = loss_of(tuple(pool.factors), probabilities, targets, task)
    assert losses[best] - 5e-3 < fitted <= losses[best]
    assert pool.factors == pytest.approx(best, abs=GRID[1] - GRID[0])
    assert pool.factors[0] > pool.factors[1] > 0  # the classifier with less noise counts more
    assert min(pool.weights) > 0
    assert sum(pool.weights) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_temperatures_have_the_ratio_of_those_that_calibrate_each_classifier_alone(task: Task) -> None:
    probabilities, targets = noisy_classifiers(task, [0.6, 1.8])
    inverses = np.geomspace(0.02, 4, 300)
    alone = [
        1 / min(inverses, key=lambda inverse: loss_of((inverse,), [each], targets, task)) for each in probabilities
    ]
    pool = fit_pool(probabilities, targets, task)
    assert pool.temperatures[1] / pool.temperatures[0] == pytest.approx(alone[1] / alone[0], rel=0.05)
    assert not pool.problem()


@pytest.mark.parametrize("task", TASKS)
def test_what_says_the_opposite_has_no_weight(task: Task) -> None:
    (good, other), targets = noisy_classifiers(task, [0.9, 0.9])
    opposite = 1 - other if task != "multiclass" else (1 - other) / 3
    pool = fit_pool([good, opposite], targets, task)
    assert pool.weights == pytest.approx([1, 0])
    both = fit_pool([opposite, opposite], targets, task)
    assert both.weights == [0.5, 0.5]
    scores = both([torch.from_numpy(opposite)] * 2, task)
    assert torch.allclose(scores, torch.full_like(scores, 1 / 2 if task == "multilabel" else 1 / scores.shape[1]))


def test_a_classifier_without_errors_has_finite_weights() -> None:
    targets = np.array([0, 1, 1, 0])
    certain = np.eye(2, dtype=np.float32)[targets]
    for right in (certain, 0.49 + 0.02 * certain):
        pool = fit_pool([right, np.full((4, 2), 0.5, dtype=np.float32)], targets, "binary")
        assert not pool.problem()
        assert 0 < pool.factors[0] <= 100 * (1 + 1e-9)
        assert pool([torch.from_numpy(right)] * 2, "binary").isfinite().all()


def test_weights_that_are_rounded_give_probabilities() -> None:
    pool = Pool("probabilities", [0.3333333, 0.3333333, 0.3333335], [1.0] * 3)
    assert pool.problem() == ""
    assert pool([torch.ones(2, 4)] * 3, "multilabel").tolist() == [[1.0] * 4] * 2


def test_logits_and_probabilities_are_combined_as_by_hand() -> None:
    one, other = torch.tensor([[0.2, 0.8]]), torch.tensor([[0.5, 0.5]])
    # log-odds ln 4 and 0; 0.75 / 2 · ln 4 = ln 4^0.375
    odds = 4**0.375
    pool = Pool("logits", [0.75, 0.25], [2.0, 1.0])
    assert pool([one, other], "binary")[0, 1].item() == pytest.approx(odds / (1 + odds))
    assert pool([one, other], "multilabel")[0].tolist() == pytest.approx([1 / (1 + odds), odds / (1 + odds)])
    mean = Pool("probabilities", [0.75, 0.25], [1.0, 1.0])
    assert mean([one, other], "binary")[0].tolist() == pytest.approx([0.275, 0.725])
    assert torch.equal(Pool.equal(2)([one, other], "binary"), (one + other) / 2)
    assert pool([one], "binary") is one
