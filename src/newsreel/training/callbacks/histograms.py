"""Histograms of weights and gradients in TensorBoard."""

from collections.abc import Mapping

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from newsreel.models.classifier import TextClassifier
from newsreel.training.loggers import RunTensorBoardLogger


class Histograms(Callback):
    """Logs the weights after each epoch, and the unclipped gradients of its last step, to TensorBoard.

    Both are logged at the step of the epoch's metrics: its last one, counted from 0.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if trainer.is_last_batch:
            gradients = {name: weights.grad for name, weights in self._trained(pl_module)}
            self._add(trainer, "gradients", gradients, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._add(trainer, "weights", dict(self._trained(pl_module)), trainer.global_step - 1)

    def _trained(self, pl_module: LightningModule) -> list[tuple[str, nn.Parameter]]:
        assert isinstance(pl_module, TextClassifier)
        return [(name, weights) for name, weights in pl_module.network.named_parameters() if weights.requires_grad]

    def _add(self, trainer: Trainer, tag: str, tensors: Mapping[str, Tensor | None], step: int) -> None:
        assert isinstance(trainer.logger, RunTensorBoardLogger)
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            values = tensor.detach().coalesce().values() if tensor.is_sparse else tensor.detach()
            values = values[values.isfinite()]  # a diverged training is reported by its loss
            if len(values):
                trainer.logger.writer.add_histogram(f"{tag}/{name}", values.cpu(), step)
