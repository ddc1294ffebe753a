"""The LightningModule: a network with its loss, metrics and optimiser.

Axes: B documents in a batch, L labels of the corpus; logits are (B, 1) for a binary task, else (B, L).
"""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MetricCollection

from newsreel.batches.batch import Batch
from newsreel.corpora.corpus import Task
from newsreel.models.network import Network
from newsreel.models.optimization import TrainingSettings, schedule_factor
from newsreel.models.outputs import decisions, loss_of, probabilities

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
MOMENTS = {"sgd": {"momentum": 0.9}, "rmsprop": {"alpha": 0.9}}  # the latter as Keras has it
FUSED = ("adam", "adamw", "sgd")  # update all parameters in one pass, on CPU too


class TextClassifier(LightningModule):
    """Trains and evaluates any Network on any task."""

    def __init__(
        self,
        network: Network,
        task: Task,
        metrics: MetricCollection,
        metric: str,
        training: TrainingSettings,
        hyperparameters: dict[str, Any],
    ) -> None:
        """metric: the one of `metrics` to follow while training. hyperparameters: plain values, for checkpoints."""
        super().__init__()
        self.network = network
        for module in network.modules():
            if isinstance(module, nn.Embedding):
                module.sparse = training.sparse_gradients
        self.task: Task = task
        self.metric = metric
        self.training_settings = training
        self.train_metric = metrics[metric].clone()
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")
        self.test_probabilities: list[Tensor] = []  # (B, L) of each test batch, in the loader's order
        self.save_hyperparameters(hyperparameters, logger=False)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, T), (B,) → (B, num_outputs) logits."""
        return self.network(token_ids, lengths)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        logits = self(batch.token_ids, batch.lengths)
        loss = loss_of(logits, batch.targets, self.task)
        predictions = decisions(probabilities(logits.detach(), self.task), self.task)
        self.train_metric(predictions, batch.targets.long())
        size = len(batch.lengths)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=size)
        self.log(f"train/{self.metric}", self.train_metric, on_step=True, on_epoch=True, prog_bar=True, batch_size=size)
        learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train/learning_rate", learning_rate, batch_size=size)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self.test_probabilities.append(self._evaluate(batch, "test").cpu())

    def _evaluate(self, batch: Batch, stage: str) -> Tensor:
        logits = self(batch.token_ids, batch.lengths)
        scores = probabilities(logits.float(), self.task)  # (B, L)
        size = len(batch.lengths)
        self.log(f"{stage}/loss", loss_of(logits, batch.targets, self.task), batch_size=size)
        metrics = self.val_metrics if stage == "val" else self.test_metrics
        metrics.update(decisions(scores, self.task), batch.targets.long())
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=size)
        return scores

    def on_test_epoch_start(self) -> None:
        self.test_probabilities.clear()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.training_settings
        options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        if settings.optimizer in FUSED and self.trainer.precision == "32-true":
            options["fused"] = True  # with mixed precision, Lightning cannot clip what a fused step unscales
        options |= MOMENTS.get(settings.optimizer, {})
        optimizer = OPTIMIZERS[settings.optimizer](self.network.parameters(), **options)
        num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, lambda step: schedule_factor(settings, step, num_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
