"""The LightningModule of linear bags of words that are trained to the optimum: an epoch is one L2 penalty of a path.

Axes: N training documents, V words, L labels, K outputs that are trained together.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from newsreel.batches.bags import BagSplit
from newsreel.models.classifier import TextClassifier
from newsreel.models.convex import BinaryLoss, ConvexLoss, ConvexProblem, Features, SoftmaxLoss, minimize
from newsreel.models.loss import Loss


class PathOptimizer(torch.optim.Optimizer):
    """An optimizer whose step is the given closure, so that Lightning counts and times steps."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return None if closure is None else closure()


class NewtonClassifier(TextClassifier):
    """Trains a network that is linear in one-hot words with `training.solver=newton`.

    Epoch e ends at the optimum for the L2 penalty `l2_path[e]`. Each solution starts from the network's weights, those
    of the penalty before or of a checkpoint, so that a resumed training has the same numbers. Every process solves the
    whole problem.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False
        weights, bias = self.network.word_layer()
        with torch.no_grad():
            weights.zero_()
            if self.task != "multilabel":
                bias.zero_()  # else they are those of the labels' frequencies
        self._features: Features | None = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return PathOptimizer(self.network.parameters(), {})

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """There are no gradients to log."""

    def training_step(self, batch: BagSplit, batch_index: int) -> None:  # type: ignore[override]
        l2 = float(self.training_settings.l2_path[self.current_epoch])
        optimizer: Any = self.optimizers()
        optimizer.step(closure=lambda: self._solve(batch, l2))
        logits = self._logits(batch)
        loss = self.loss(logits, batch.targets, batch.weights)
        self._record(loss, logits, batch.targets, batch.num_documents)
        self.log("train/l2", l2, on_step=False, on_epoch=True, batch_size=batch.num_documents)

    def on_fit_end(self) -> None:
        self._features = None

    def _features_of(self, batch: BagSplit) -> Features:
        """Computed at the first step, and kept."""
        if self._features is None:
            self._features = self.network.features(batch.counts)
        return self._features

    @torch.no_grad()
    def _logits(self, batch: BagSplit) -> Tensor:
        """(N, num_outputs) of the training documents."""
        weights, bias = self.network.word_layer()
        logits = self._features_of(batch).logits(weights.cpu().numpy())
        return torch.from_numpy(logits).to(self.device) + bias

    @torch.no_grad()
    def _solve(self, batch: BagSplit, l2: float) -> None:
        """Set the network's weights to the optimum for a penalty."""
        word_weights, bias = self.network.word_layer()
        features = self._features_of(batch)
        document_weights = None if batch.weights is None else batch.weights.cpu()
        for part in parts_of(features, self.loss, batch.targets.cpu(), document_weights):
            problem = ConvexProblem(part.features, part.loss, l2)
            start = problem.parameters(word_weights[:, part.outputs].cpu().numpy(), bias[part.outputs].cpu().numpy())
            weights, biases = problem.weights_and_bias(minimize(problem, start))
            word_weights[:, part.outputs] = torch.from_numpy(weights).to(word_weights.device)
            bias[part.outputs] = torch.from_numpy(biases).to(bias.device)


@dataclass(frozen=True)
class Part:
    """Outputs that are trained together, with their part of the features."""

    outputs: slice
    features: Features
    loss: ConvexLoss


def parts_of(features: Features, loss: Loss, targets: Tensor, document_weights: Tensor | None = None) -> Iterator[Part]:
    """The independent convex problems that make up the training: the sums over documents that `loss` is the mean of.

    targets: (N,) class indices, or (N, L) indicators or probabilities. document_weights: (N,); None: all 1.
    """
    settings = loss.settings
    weights, probs = (part.cpu().numpy() for part in loss.weigh(targets.to(loss.weights.device)))
    if document_weights is not None:
        weights = weights * document_weights.numpy()[:, None]  # (N, 1), or (N, L) for `multilabel`
    if loss.task == "multiclass" and not settings.one_vs_rest:
        smoothed = smooth(probs, settings.label_smoothing, probs.shape[1])
        yield Part(slice(0, probs.shape[1]), features, SoftmaxLoss(smoothed, weights))
        return
    if loss.task == "binary":
        probs = probs[:, 1:]
    for output in range(probs.shape[1]):
        column = slice(output, output + 1)
        smoothed = smooth(probs[:, column], settings.label_smoothing, 2)
        own_weights = weights[:, column] if loss.task == "multilabel" else weights
        yield Part(column, features.of_output(output), BinaryLoss(smoothed, own_weights))


def smooth(targets: np.ndarray, smoothing: float, num_classes: int) -> np.ndarray:
    """Targets between 0 and 1 with label smoothing, as in Loss."""
    return targets * np.float32(1 - smoothing) + np.float32(smoothing / num_classes)
