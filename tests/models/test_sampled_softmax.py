"""The sampled softmax, against the full one by autograd, and by enumerating all samples."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from newsreel.models.sampled_softmax import (
    LossGradients,
    Proposal,
    WordSample,
    full_loss,
    inclusion_probabilities,
    log_probabilities_of,
    sampled_loss,
)

SIZES = (7, 11, 5)  # N, V, H


def problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, weights, bias and targets."""
    torch.manual_seed(1)
    num_tokens, num_words, hidden_size = SIZES
    values = (num_tokens, hidden_size), (num_words, hidden_size), (num_words,)
    states, weights, bias = (torch.randn(shape, dtype=torch.float64) for shape in values)
    return states, weights, bias, torch.tensor([3, 0, 10, 3, 3, 7, 1])


def by_autograd(states: Tensor, weights: Tensor, bias: Tensor, targets: Tensor) -> LossGradients:
    inputs = [each.clone().requires_grad_() for each in (states, weights, bias)]
    loss = F.cross_entropy(inputs[0] @ inputs[1].T + inputs[2], targets, reduction="sum")
    return LossGradients(loss.detach(), *torch.autograd.grad(loss, inputs))


def assert_same(result: LossGradients, expected: LossGradients) -> None:
    for value, target in zip(result, expected, strict=True):
        torch.testing.assert_close(value, target)


def sample_of(is_sampled: np.ndarray, probabilities: np.ndarray) -> WordSample:
    """A sample whose candidates are all words."""
    sampled = np.flatnonzero(is_sampled)
    position = np.full(len(is_sampled), -1)
    position[sampled] = np.arange(len(sampled))
    return WordSample(
        torch.arange(len(is_sampled)),
        torch.from_numpy(sampled),
        torch.from_numpy(np.log(probabilities)),
        torch.from_numpy(position),
    )


def test_the_full_loss_and_its_gradients_are_those_of_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = by_autograd(*problem())
    assert_same(full_loss(*problem()), expected)
    monkeypatch.setattr("newsreel.models.sampled_softmax.CHUNK", 25)  # two tokens at a time
    assert_same(full_loss(*problem()), expected)
    torch.testing.assert_close(-log_probabilities_of(*problem()).sum(), expected.loss)


def test_gradients_are_those_of_the_loss_over_the_candidates() -> None:
    states, weights, bias, targets = problem()
    probabilities = np.linspace(0.1, 0.9, SIZES[1])
    is_sampled = np.isin(np.arange(SIZES[1]), [1, 3, 6])
    result = sampled_loss(states, weights, bias, targets, sample_of(is_sampled, probabilities))
    inputs = [each.clone().requires_grad_() for each in (states, weights, bias)]
    logits = inputs[0] @ inputs[1].T + inputs[2] - torch.from_numpy(probabilities).log()
    loss = torch.tensor(0.0, dtype=torch.float64)
    for token, target in enumerate(targets.tolist()):
        candidates = [target, *(word for word in (1, 3, 6) if word != target)]  # the target counts once
        loss = loss + torch.logsumexp(logits[token, candidates], 0) - logits[token, target]
    assert_same(result, LossGradients(loss.detach(), *torch.autograd.grad(loss, inputs)))


def test_the_gradient_is_right_in_expectation() -> None:
    """If targets follow the model's own softmax, its full gradient is 0 on average; so is that over all samples."""
    states, weights, bias, _ = problem()
    states, weights, bias = states[:1], weights[:6], bias[:6]
    model = torch.softmax(states @ weights.T + bias, dim=1)[0]  # (V,)
    probabilities = np.array([1.0, 0.7, 0.3, 0.5, 0.05, 0.4])
    expected = [torch.zeros_like(each) for each in (states, weights, bias)]
    largest = 0.0
    for choice in product([False, True], repeat=5):
        is_sampled = np.array([True, *choice])
        chance = float(np.prod(np.where(is_sampled, probabilities, 1 - probabilities)))
        for target in range(6):
            sample = sample_of(is_sampled, probabilities)
            result = sampled_loss(states, weights, bias, torch.tensor([target]), sample)
            for total, gradient in zip(expected, result[1:], strict=True):
                total += chance * model[target] * gradient
                largest = max(largest, float(gradient.abs().max()))
    assert largest > 0.1
    assert all(float(total.abs().max()) < 1e-12 for total in expected)


def test_words_are_drawn_with_their_probabilities() -> None:
    counts = np.array([0, 1000, 100, 10, 10, 1, 1, 0])
    proposal = Proposal.of(counts, power=0.5, num_samples=3)
    assert proposal.probabilities.sum() == pytest.approx(3)
    assert proposal.probabilities[1] == 1
    assert proposal.probabilities[3] / proposal.probabilities[5] == pytest.approx(10**0.5)
    assert proposal.probabilities[0] == proposal.probabilities[7] > 0
    random = np.random.default_rng(1)
    drawn = np.zeros(8)
    for _ in range(2_000):
        sample = proposal.draw(np.array([[4, 6]]), random)
        assert sample.rows is not None
        drawn[sample.rows[sample.sampled].numpy()] += 1
        assert {4, 6} <= set(sample.rows.tolist())
        assert sample.position[sample.sampled].tolist() == list(range(len(sample.sampled)))
    np.testing.assert_allclose(drawn / 2_000, proposal.probabilities, atol=0.04)


@pytest.mark.parametrize(
    ("weights", "num_samples", "expected"),
    [
        ([4, 1, 1, 2], 2, [1, 0.25, 0.25, 0.5]),
        ([8, 1, 1, 2], 2, [1, 0.25, 0.25, 0.5]),  # c · 8 is above 1: the others share what is left
        ([1, 1], 5, [1, 1]),
        ([3, 1], 1, [0.75, 0.25]),
    ],
)
def test_probabilities_sum_to_the_number_of_samples(
    weights: list[float], num_samples: int, expected: list[float]
) -> None:
    np.testing.assert_allclose(inclusion_probabilities(np.array(weights, dtype=float), num_samples), expected)
