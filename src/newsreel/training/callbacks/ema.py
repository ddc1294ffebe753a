"""An exponential moving average of the weights, which is validated and kept in place of the raw weights.

Axes: V rows of an embedding table, E its dimension, R rows that a step changes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from newsreel.models.classifier import TextClassifier

WARMUP = 10  # the decay of step t is at most (1 + t) / (WARMUP + t)


class ExponentialMovingAverage(Callback):
    """Averages the weights after every optimizer step: average ← d · average + (1 - d) · weights.

    The decay d of step t, from 1, is the smaller of `decay` and (1 + t) / (10 + t), as in TensorFlow's
    ExponentialMovingAverage: the average does not remember the random initial weights for 1 / (1 - decay) steps.

    Weights with a sparse gradient cost only the rows that a step changes. The other rows keep their values, and their
    average is computed later: after steps s + 1 … t without a change, it is p · average + (1 - p) · weights, where p is
    the product of the decays of these steps. It is brought up to date before a step changes the row, and before it is
    used.

    Rows that are normalised after each step (`TableEmbedding.keep_normalized`) also change without a gradient, by
    factors near 1; their average follows when it is brought up to date.

    Validation and the best checkpoint have the averages, and training and the last checkpoint the raw weights; the
    averages are in the state of this callback. All processes compute the same averages. Buffers are not averaged:
    statistics of the training documents never change, and decision rules are fitted to the averages.

    Lightning's WeightAveraging averages every row in every step, exchanges buffers too, which would lose fitted
    thresholds, and is not called for checkpoints without the state of the training, such as best.ckpt.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.num_steps = 0
        self.averages: dict[str, Tensor] = {}  # by the name of the weights
        self.row_steps: dict[str, Tensor] = {}  # (V,) int64, the step up to which each row of a table is averaged
        self.dense_step = 0  # the step up to which all other weights are averaged

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with the weights themselves, or with the restored averages on the device of the weights."""
        for name, weights in trained_weights(pl_module).items():
            restored = self.averages.get(name, weights.detach())
            self.averages[name] = restored.to(weights.device, copy=True)
            if name in sparse_tables(pl_module):
                steps = self.row_steps.get(name, torch.full((len(weights),), self.dense_step))
                self.row_steps[name] = steps.to(weights.device)

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Bring the averages of what this step changes up to date with the steps before it."""
        weights = trained_weights(pl_module)
        self._average_dense(weights)
        for name in self.row_steps:
            gradient = weights[name].grad
            if gradient is None:
                continue
            if gradient.is_sparse:
                gradient = weights[name].grad = gradient.coalesce()  # the optimizer would do it anyway
                self._average_rows(name, weights[name], gradient.indices()[0])
            else:
                self._average_rows(name, weights[name], torch.arange(len(gradient), device=gradient.device))
        self.num_steps += 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._exchange(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._exchange(pl_module)

    @contextmanager
    def applied(self, classifier: LightningModule) -> Iterator[None]:
        """Context in which the classifier has the averages as its weights."""
        self._exchange(classifier)
        try:
            yield
        finally:
            self._exchange(classifier)

    @torch.no_grad()
    def _exchange(self, classifier: LightningModule) -> None:
        """Exchange weights and averages; the latter are brought up to date first."""
        weights = trained_weights(classifier)
        self._average_dense(weights)
        for name, steps in self.row_steps.items():
            self._average_rows(name, weights[name], (steps < self.num_steps).nonzero()[:, 0])
        for name, values in weights.items():
            average = self.averages[name].clone()
            self.averages[name].copy_(values)
            values.copy_(average)

    def _average_dense(self, weights: dict[str, nn.Parameter]) -> None:
        if self.dense_step == self.num_steps:
            return
        names = [name for name in weights if name not in self.row_steps]
        averages, values = [self.averages[name] for name in names], [weights[name].detach() for name in names]
        kept = math.exp(self._log_decay(self.num_steps) - self._log_decay(self.dense_step))
        torch._foreach_lerp_(averages, values, 1 - kept)
        self.dense_step = self.num_steps

    def _average_rows(self, name: str, weights: Tensor, rows: Tensor) -> None:
        """weights: (V, E). rows: (R,)."""
        average, steps = self.averages[name], self.row_steps[name]
        log_kept = self._log_decay(self.num_steps) - self._log_decays(steps[rows])  # (R,)
        change = weights.index_select(0, rows).sub_(average.index_select(0, rows))  # (R, E)
        average.index_add_(0, rows, change.mul_(-torch.expm1(log_kept)[:, None].to(change.dtype)))
        steps[rows] = self.num_steps

    def _log_decay(self, step: int) -> float:
        return float(self._log_decays(torch.tensor(step)))

    def _log_decays(self, steps: Tensor) -> Tensor:
        """The logarithm of the product of the decays of steps 1 … t, float64, for each t of `steps`."""
        warmup = math.ceil((WARMUP * self.decay - 1) / (1 - self.decay)) - 1  # the last step with a lower decay
        steps = steps.double()
        late = (steps - warmup).clamp(min=0)
        # (1 + 1) … (1 + t) / (11 … (10 + t)) = 2 · 3 … 10 / ((2 + t) (3 + t) … (10 + t))
        factors = torch.arange(2, WARMUP + 1, dtype=torch.float64, device=steps.device)
        early = (factors / (factors + steps.clamp(max=warmup)[..., None])).log().sum(dim=-1)
        return early + late * math.log(self.decay)

    def state_dict(self) -> dict[str, Any]:
        return {
            "num_steps": self.num_steps,
            "dense_step": self.dense_step,
            "averages": self.averages,
            "row_steps": self.row_steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.num_steps, self.dense_step = state_dict["num_steps"], state_dict["dense_step"]
        self.averages, self.row_steps = dict(state_dict["averages"]), dict(state_dict["row_steps"])


def trained_weights(classifier: LightningModule) -> dict[str, nn.Parameter]:
    """The trainable weights of the network, by name."""
    assert isinstance(classifier, TextClassifier)
    return {name: weights for name, weights in classifier.network.named_parameters() if weights.requires_grad}


def sparse_tables(classifier: LightningModule) -> set[str]:
    """The names of the weights that get sparse gradients."""
    assert isinstance(classifier, TextClassifier)
    sparse = {table.weight for table in classifier.tables if table.sparse}
    return {name for name, weights in classifier.network.named_parameters() if weights in sparse}
