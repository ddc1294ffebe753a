"""The softmax over a large vocabulary, and its estimate from a sample of words.

Axes: N predicted tokens, V words, C candidates (the rows of the output table that a step needs), K sampled words, H
hidden size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ALIGNMENT = 16  # logits in a vector register; softmax takes twice the time for rows that start anywhere
CHUNK = 2**22  # logits in memory at a time


class WordSample(NamedTuple):
    """Words that all tokens of a step have as negatives, and the output rows of the step."""

    rows: Tensor | None  # (C,) ascending rows of the output table; None: all of them
    sampled: Tensor  # (K,) indices into `rows`
    log_expected: Tensor  # (C,) logarithm of the probability that a row is in the sample
    position: Tensor  # (C,) index into `sampled` of each row, -1 for rows that are not sampled


@dataclass(frozen=True)
class Proposal:
    """Draws each word independently with a probability of its own.

    The probability of word w is min(1, c · count_w^power), with c such that K words are expected. Frequent words are in
    every sample. Independent draws make the estimate exact in the sense of `sampled_loss`; a fixed number of distinct
    words, as in TensorFlow, would make the probabilities approximate.
    """

    probabilities: np.ndarray  # (V,) float64, above 0
    log_probabilities: Tensor  # (V,) float32

    @classmethod
    def of(cls, counts: np.ndarray, power: float, num_samples: int) -> "Proposal":
        """counts: (V,) of each word; those that never occur count half. num_samples: the expected number K."""
        weights = np.maximum(counts, 0.5).astype(np.float64) ** power
        probabilities = inclusion_probabilities(weights, num_samples)
        return cls(probabilities, torch.from_numpy(np.log(probabilities).astype(np.float32)))

    def draw(self, targets: np.ndarray, random: np.random.Generator) -> WordSample:
        """A sample for these targets, of any shape."""
        is_sampled = random.random(len(self.probabilities)) < self.probabilities
        is_row = is_sampled.copy()
        is_row[targets.reshape(-1)] = True
        rows = np.flatnonzero(is_row)
        sampled = np.flatnonzero(is_sampled[rows])
        position = np.full(len(rows), -1, dtype=np.int64)
        position[sampled] = np.arange(len(sampled))
        rows_tensor = torch.from_numpy(rows)
        return WordSample(
            rows_tensor, torch.from_numpy(sampled), self.log_probabilities[rows_tensor], torch.from_numpy(position)
        )


def inclusion_probabilities(weights: np.ndarray, num_samples: int) -> np.ndarray:
    """min(1, c · weights) with a sum of `num_samples`; all 1 if there are not that many words."""
    if num_samples >= len(weights):
        return np.ones(len(weights))
    descending = np.sort(weights)[::-1]
    rest = np.cumsum(descending[::-1])[::-1]  # sum of each weight and all smaller ones
    # With the n largest at 1, c = (K - n) / rest[n]; the first n with c · weight_n below 1 is the solution
    candidates = np.arange(num_samples)
    scales = (num_samples - candidates) / rest[:num_samples]
    first = int(np.argmax(scales * descending[:num_samples] < 1))
    return np.asarray(np.minimum(1.0, scales[first] * weights))


class LossGradients(NamedTuple):
    """The sum of the losses of some tokens, and its gradients."""

    loss: Tensor  # ()
    states: Tensor  # (N, H)
    weights: Tensor  # (C, H)
    bias: Tensor  # (C,)


def sampled_loss(states: Tensor, weights: Tensor, bias: Tensor, targets: Tensor, sample: WordSample) -> LossGradients:
    """The summed sampled softmax loss of some tokens with its gradients, computed at once.

    states: (N, H). weights, bias: (C, H) and (C,) of the candidates. targets: (N,) indices of candidates.

    The candidates of a token are its target and the sampled words; a sampled word that is the target is not counted
    twice. From the logit of each word w, the logarithm of the probability π_w that it is sampled is subtracted (Jean et
    al. 2015, section 3.2; TensorFlow's `sampled_softmax_loss`): if words are sampled independently and P is the softmax
    of all logits, then P(w | candidates) ∝ P(w) / π_w, so that minimising the loss makes P the distribution of the
    targets, whatever the size of the sample. If all π are 1, it is the loss of the full softmax.
    """
    corrected = bias - sample.log_expected  # (C,)
    num_samples = len(sample.sampled)
    sampled_weights = weights.index_select(0, sample.sampled)  # (K, H)
    target_weights = weights.index_select(0, targets)  # (N, H)
    width = -(-(num_samples + 1) // ALIGNMENT) * ALIGNMENT
    logits = states.new_full((len(states), width), -torch.inf)  # sampled words, the target in column K, and padding
    torch.addmm(corrected[sample.sampled], states, sampled_weights.T, out=logits[:, :num_samples])
    torch.add((states * target_weights).sum(dim=1), corrected[targets], out=logits[:, num_samples])
    hits = sample.position[targets]  # (N,) column of the target among the sampled words, or -1
    hit_rows = (hits >= 0).nonzero()[:, 0]
    logits[hit_rows, hits[hit_rows]] = -torch.inf
    probabilities = torch.softmax(logits, dim=1)
    loss = -probabilities[:, num_samples].clamp(min=torch.finfo(logits.dtype).tiny).log().sum()
    negatives = probabilities[:, :num_samples]  # (N, K)
    error = probabilities[:, num_samples] - 1  # (N,)
    weight_gradient, bias_gradient = torch.zeros_like(weights), torch.zeros_like(bias)
    weight_gradient.index_copy_(0, sample.sampled, negatives.T @ states)
    bias_gradient.index_copy_(0, sample.sampled, negatives.sum(dim=0))
    weight_gradient.index_add_(0, targets, error[:, None] * states)
    bias_gradient.index_add_(0, targets, error)
    state_gradient = torch.addmm(error[:, None] * target_weights, negatives, sampled_weights)
    return LossGradients(loss, state_gradient, weight_gradient, bias_gradient)


def full_loss(states: Tensor, weights: Tensor, bias: Tensor, targets: Tensor) -> LossGradients:
    """The summed log loss of the full softmax with its gradients, over chunks of tokens.

    states: (N, H). weights, bias: (V, H) and (V,). targets: (N,) words.
    """
    loss = states.new_zeros(())
    state_gradient, weight_gradient, bias_gradient = map(torch.zeros_like, (states, weights, bias))
    for chunk in chunks(len(states), len(weights)):
        log_probabilities = F.log_softmax(torch.addmm(bias, states[chunk], weights.T), dim=1)  # (n, V)
        rows = torch.arange(len(log_probabilities), device=states.device)
        loss -= log_probabilities[rows, targets[chunk]].sum()
        errors = log_probabilities.exp_()
        errors[rows, targets[chunk]] -= 1
        state_gradient[chunk] = errors @ weights
        weight_gradient.addmm_(errors.T, states[chunk])
        bias_gradient += errors.sum(dim=0)
    return LossGradients(loss, state_gradient, weight_gradient, bias_gradient)


def log_probabilities_of(states: Tensor, weights: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """(N,) logarithms of the probabilities of the targets with the full softmax. Arguments as in `full_loss`."""
    values = [
        -F.cross_entropy(torch.addmm(bias, states[chunk], weights.T), targets[chunk], reduction="none")
        for chunk in chunks(len(states), len(weights))
    ]
    return torch.cat(values) if values else states.new_empty(0)


def chunks(num_tokens: int, num_words: int) -> list[slice]:
    size = max(1, CHUNK // num_words)
    return [slice(start, start + size) for start in range(0, num_tokens, size)]
