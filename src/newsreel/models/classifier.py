"""The LightningModule: a network with its loss, metrics and optimizer.

Axes: B documents in a batch, N in a split, L labels of the corpus; logits are (B, 1) for a binary task, else (B, L).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import MulticlassAccuracy, MultilabelF1Score
from torchmetrics.utilities.distributed import gather_all_tensors

from newsreel.batches.batch import Batch, shard_size
from newsreel.corpora.corpus import Task
from newsreel.models.decisions import DecisionRule
from newsreel.models.functional import logits_to_probs, task_loss
from newsreel.models.loss import Loss
from newsreel.models.network import Network
from newsreel.models.optimization import TrainingSettings, schedule_factor

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
MOMENTS = {"sgd": {"momentum": 0.9}, "rmsprop": {"alpha": 0.9}}  # rmsprop as in Keras
FUSED = ("adam", "adamw", "sgd")  # update all parameters in one pass, on CPU too

Measure = Callable[[Tensor, Tensor, Tensor], dict[str, float]]  # (probabilities, predictions, targets) → metrics


class EvalBuffer:
    """Probabilities and targets of a split, in the loader's order.

    Stored in two tensors that grow by doubling: thousands of small tensors, allocated between the large ones of each
    batch, would fragment the memory.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        """Each of `world_size` processes evaluates one shard of every batch."""
        self.shard = (rank, world_size)
        self._batch_sizes: list[int] = []
        self._size = 0
        self._probabilities = torch.empty(0)
        self._targets = torch.empty(0)

    def append(self, probabilities: Tensor, targets: Tensor, num_documents: int) -> None:
        """Append (B, L) probabilities and (B,) class indices or (B, L) indicators of this process's shard of a batch.

        num_documents: of the whole batch.
        """
        num_rows = shard_size(num_documents, *self.shard)
        targets = targets > 0 if targets.ndim == 2 else targets
        self._probabilities = append_rows(self._probabilities, self._size, probabilities[:num_rows])
        self._targets = append_rows(self._targets, self._size, targets[:num_rows])
        self._size += num_rows
        self._batch_sizes.append(num_documents)

    def gather(self, device: torch.device) -> None:
        """Gather the rows of all processes, in the loader's order. device: where collectives run."""
        _, world_size = self.shard
        ranks = torch.cat([torch.arange(size) % world_size for size in self._batch_sizes])  # (N,) of each document
        gathered = []
        for local in self.tensors():
            merged = torch.empty((len(ranks), *local.shape[1:]), dtype=local.dtype)
            for rank, rows in enumerate(gather_all_tensors(local.to(device))):
                merged[ranks == rank] = rows.cpu()
            gathered.append(merged)
        self._probabilities, self._targets = gathered
        self._size = len(ranks)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """(N, L) probabilities, and (N,) or (N, L) targets."""
        return self._probabilities[: self._size], self._targets[: self._size]


def append_rows(buffer: Tensor, size: int, rows: Tensor) -> Tensor:
    """Write `rows` after the first `size` rows of a CPU buffer; returns it, or a larger copy if it was full."""
    needed = size + len(rows)
    if needed > len(buffer):
        larger = torch.empty((2 * needed, *rows.shape[1:]), dtype=rows.dtype)
        if size:
            larger[:size] = buffer[:size]
        buffer = larger
    buffer[size:needed] = rows
    return buffer


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """L2 norm of all gradients together, including sparse ones."""
    values = []
    for weights in parameters:
        if weights.grad is None:
            continue
        if weights.grad.is_sparse:
            weights.grad = weights.grad.coalesce()  # the optimizer would do it anyway
            values.append(weights.grad.values())
        else:
            values.append(weights.grad)
    return get_total_norm(values)


class TextClassifier(LightningModule):
    """Trains and evaluates any Network on any task."""

    def __init__(
        self,
        network: Network,
        loss: Loss,
        decisions: DecisionRule,
        measure: Measure,
        metric: str,
        training: TrainingSettings,
        hyperparameters: dict[str, Any],
    ) -> None:
        """metric: the metric of `measure` that training monitors. hyperparameters: plain values, for checkpoints."""
        super().__init__()
        self.network = network
        for module in network.modules():
            if isinstance(module, nn.Embedding):
                module.sparse = training.sparse_gradients
        self.loss = loss
        self.task: Task = loss.task
        self.decisions = decisions
        self.measure = measure
        self.metric = metric
        self.training_settings = training
        num_labels = len(decisions.thresholds)
        self.train_metric = (
            MultilabelF1Score(num_labels, average="micro")
            if self.task == "multilabel"
            else MulticlassAccuracy(num_labels, average="micro")
        )
        self.outputs = EvalBuffer()  # of the split evaluated last
        self.save_hyperparameters(hyperparameters, logger=False)

    def setup(self, stage: str) -> None:
        if self.trainer.world_size > 1 and self.trainer.strategy.root_device.type == "cuda":
            for module in self.network.modules():
                if isinstance(module, nn.Embedding):
                    module.sparse = False  # NCCL reduces dense gradients only

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters of the network."""
        return sum(weights.numel() for weights in self.network.parameters() if weights.requires_grad)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, T), (B,) → (B, num_outputs) logits."""
        return self.network(token_ids, lengths)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        logits = self(batch.token_ids, batch.lengths)
        weight = self._ddp_loss_scale(batch)
        loss: Tensor = self.loss(logits, batch.targets)
        if weight:  # 0 for a placeholder batch
            preds = self.decisions(logits_to_probs(logits.detach().float(), self.task))
            self.train_metric(preds.long(), batch.targets.long())
        size = batch.num_documents
        self.log("train/loss_step", loss, on_step=True, on_epoch=False, prog_bar=True, batch_size=size)
        self.log("train/loss_epoch", weight * loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        self.log(f"train/{self.metric}", self.train_metric, on_step=True, on_epoch=True, prog_bar=True, batch_size=size)
        learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train/learning_rate", learning_rate, batch_size=size)
        return weight * loss

    def _ddp_loss_scale(self, batch: Batch) -> float:
        """Factor on the mean loss of this process's shard that makes the mean over processes that of the batch."""
        size = self.trainer.world_size
        return shard_size(batch.num_documents, self.global_rank, size) * size / batch.num_documents

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the gradient norm, before clipping, on the steps that are logged."""
        if (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train/gradient_norm", gradient_norm(self.network.parameters()))

    def on_validation_epoch_start(self) -> None:
        self.outputs = EvalBuffer(self.global_rank, self.trainer.world_size)

    def on_test_epoch_start(self) -> None:
        self.outputs = EvalBuffer(self.global_rank, self.trainer.world_size)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, stage: str) -> None:
        logits = self(batch.token_ids, batch.lengths).float()
        size = batch.num_documents
        self.outputs.append(logits_to_probs(logits, self.task), batch.targets, size)
        loss = self._ddp_loss_scale(batch) * task_loss(logits, batch.targets, self.task)
        self.log(f"{stage}/loss", loss, batch_size=size, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        scores, targets = self._all_outputs()
        self.decisions.fit(scores.to(self.device), targets.to(self.device))
        self._log_metrics("val", scores, targets)

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test", *self._all_outputs())

    def _all_outputs(self) -> tuple[Tensor, Tensor]:
        if self.trainer.world_size > 1:
            self.outputs.gather(self.device)
        return self.outputs.tensors()

    def _log_metrics(self, stage: str, scores: Tensor, targets: Tensor) -> None:
        """Log the metrics of a split; every process has all outputs."""
        preds = self.decisions(scores.to(self.device)).cpu()
        metrics = self.measure(scores, preds, targets)
        self.log_dict({f"{stage}/{name}": value for name, value in metrics.items()}, batch_size=len(scores))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.training_settings
        options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        if settings.optimizer in FUSED and self.trainer.precision == "32-true":
            options["fused"] = True  # with mixed precision, Lightning cannot clip gradients that a fused step unscales
        options |= MOMENTS.get(settings.optimizer, {})
        if settings.optimizer == "adagrad":
            options["initial_accumulator_value"] = settings.initial_accumulator
        optimizer = OPTIMIZERS[settings.optimizer](self.network.parameters(), **options)
        num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, lambda step: schedule_factor(settings, step, num_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
