"""The probabilities of several classifiers combined into one, and the weights with the lowest log loss.

Axes: M classifiers, N documents, L labels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax
from torch import Tensor

from newsreel.corpora.corpus import Task

MAX_INVERSE_TEMPERATURE = 100.0  # if a classifier makes no error, the best one is infinite
MAX_TEMPERATURE = 1e6  # of classifiers whose best weight is 0
MULTILABEL_EPS = float(np.finfo(np.float32).eps)  # probabilities count as this far from 0 and 1 at least
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Pool:
    """Combines the probabilities of M classifiers.

    `probabilities`: their weighted mean; temperatures are not used. `logits`: the probabilities of the weighted sum of
    logits that are divided by the temperature of their classifier (a logarithmic opinion pool, Genest and Zidek 1986,
    with the temperatures of Guo et al. 2017).
    """

    average: Literal["probabilities", "logits"]
    weights: Sequence[float]  # (M,), not negative, with the sum 1
    temperatures: Sequence[float]  # (M,), above 0

    @classmethod
    def equal(cls, num_members: int) -> "Pool":
        """The mean of probabilities."""
        return cls("probabilities", [1 / num_members] * num_members, [1.0] * num_members)

    @property
    def factors(self) -> list[float]:
        """(M,) factors of the members' logits."""
        if self.average == "probabilities":
            return list(self.weights)
        return [weight / temperature for weight, temperature in zip(self.weights, self.temperatures, strict=True)]

    def problem(self) -> str:
        """What is wrong with weights or temperatures; empty if nothing is."""
        if not all(math.isfinite(weight) and weight >= 0 for weight in self.weights):
            return "a weight is negative or no number"
        if abs(sum(self.weights) - 1) > 1e-6:
            return f"the sum of the weights is {sum(self.weights):.7g}, not 1"
        if not all(math.isfinite(temperature) and temperature > 0 for temperature in self.temperatures):
            return "a temperature is not a number above 0"
        return ""

    def __call__(self, probabilities: Sequence[Tensor], task: Task) -> Tensor:
        """(N, L) probabilities of each of M classifiers → (N, L), float32. One classifier's are returned unchanged."""
        if len(probabilities) == 1:
            return probabilities[0]
        if self.average == "probabilities":
            return weighted_mean(probabilities, self.weights)
        logits = np.stack([to_logits(scores.numpy(), task) for scores in probabilities])  # (M, N, L)
        combined = np.tensordot(self.factors, logits, axes=1)  # (N, L)
        scores = expit(combined) if task == "multilabel" else softmax(combined, axis=1)
        return torch.from_numpy(scores.astype(np.float32))


def weighted_mean(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The mean of M tensors of the same shape. weights: (M,), with a sum of 1, up to rounding."""
    stacked = torch.stack(list(values))
    if len(set(weights)) == 1:
        return stacked.mean(dim=0)  # the same bits as without weights
    factors = torch.tensor(weights, dtype=torch.float64)
    factors /= factors.sum()  # else a mean of ones may be above 1
    return torch.einsum("m,m...->...", factors, stacked.double()).to(stacked.dtype)


def to_logits(probabilities: np.ndarray, task: Task) -> np.ndarray:
    """(N, L) probabilities → (N, L) float64: log-odds for `multilabel`, otherwise logarithms of the probabilities."""
    probabilities = probabilities.astype(np.float64)
    if task == "multilabel":
        clipped = np.clip(probabilities, MULTILABEL_EPS, 1 - MULTILABEL_EPS)
        return np.log(clipped) - np.log1p(-clipped)  # type: ignore[no-any-return]
    return np.log(np.maximum(probabilities, TINY))  # type: ignore[no-any-return]


def fit_pool(probabilities: Sequence[np.ndarray], targets: np.ndarray, task: Task) -> Pool:
    """The pool of logits with the lowest mean log loss on validation documents.

    Only the factors weight / temperature matter for the combined probabilities. They are the solution of a convex
    problem: logistic regression on the logits without intercept, with factors of at least 0. A classifier's temperature
    is the one that gives itself the lowest log loss, times a number that is the same for all classifiers, so that the
    weights have the sum 1: they compare classifiers whose probabilities are equally calibrated.

    probabilities: (N, L) of each of M classifiers. targets: (N,) class indices, or (N, L) indicators.
    """
    logits = np.stack([to_logits(scores, task) for scores in probabilities])  # (M, N, L)
    if task != "multilabel":
        targets = np.eye(logits.shape[2])[targets]
    targets = targets.astype(np.float64)  # (N, L)
    num_members = len(logits)
    limit = np.array([MAX_INVERSE_TEMPERATURE])
    own = np.array([lowest_loss(member[None], targets, task, np.ones(1), limit)[0] for member in logits])
    own = np.maximum(own, 1 / MAX_TEMPERATURE)  # (M,) 1 / temperature
    start = np.full(num_members, 1 / num_members)
    shares = lowest_loss(logits * own[:, None, None], targets, task, start, MAX_INVERSE_TEMPERATURE / own)
    total = shares.sum()
    if total <= 0:  # no classifier is better than the guess that all labels are equally probable
        return Pool("logits", [1 / num_members] * num_members, [MAX_TEMPERATURE] * num_members)
    return Pool("logits", (shares / total).tolist(), (1 / (own * total)).tolist())


def lowest_loss(logits: np.ndarray, targets: np.ndarray, task: Task, start: np.ndarray, most: np.ndarray) -> np.ndarray:
    """(M,) factors, at least 0, of (M, N, L) logits whose sum has the lowest mean log loss. targets: (N, L) indicators.

    start: (M,) factors to start from. most: (M,) upper limits.
    """

    def loss_and_gradient(factors: np.ndarray) -> tuple[float, np.ndarray]:
        combined = np.tensordot(factors, logits, axes=1)  # (N, L)
        if task == "multilabel":
            losses, predicted = np.logaddexp(0, combined) - targets * combined, expit(combined)
            num_decisions = targets.size
        else:
            losses = logsumexp(combined, axis=1) - (targets * combined).sum(axis=1)
            predicted, num_decisions = softmax(combined, axis=1), len(targets)
        gradient = np.tensordot(logits, predicted - targets, axes=2) / num_decisions
        return float(losses.sum() / num_decisions), gradient

    bounds = [(0, limit) for limit in most]
    options = {"maxiter": 1_000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(found.x)
