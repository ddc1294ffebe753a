"""The LightningModule: a network with its loss, metrics and optimizer.

Axes: B documents in a batch, N in a split, L labels of the corpus; logits are (B, 1) for a binary task, else (B, L).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MultilabelF1Score
from torchmetrics.utilities.distributed import gather_all_tensors

from newsreel.batches.batch import Batch, shard_size
from newsreel.corpora.corpus import Task
from newsreel.models.adversarial import AdditionalLosses
from newsreel.models.decisions import DecisionRule
from newsreel.models.functional import hard_targets, logits_to_probs, task_loss
from newsreel.models.loss import Loss
from newsreel.models.micro_batches import MicroBatchRunner
from newsreel.models.network import Network
from newsreel.models.optimization import TrainingSettings
from newsreel.models.trained_module import MeanLoss, TrainedModule

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


def batch_metric(task: Task, num_labels: int) -> Metric:
    """The training metric: accuracy, or micro-F1 for `multilabel`."""
    if task == "multilabel":
        return MultilabelF1Score(num_labels, average="micro", validate_args=False)
    return MulticlassAccuracy(num_labels, average="micro", validate_args=False)


class TextClassifier(TrainedModule):
    """Trains and evaluates any Network on any task."""

    network: Network
    runner: MicroBatchRunner
    training_settings: TrainingSettings

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
        self.runner = MicroBatchRunner(network)
        self.tables = [module for module in network.modules() if isinstance(module, nn.Embedding)]
        for table in self.tables:
            table.sparse = training.sparse_gradients
        self.loss = loss
        self.task: Task = loss.task
        has_more = training.perturbs or training.reads_unlabeled
        self.more_losses = AdditionalLosses(network, self.runner, loss, training) if has_more else None
        self.decisions = decisions
        self.measure = measure
        self.metric = metric
        self.training_settings = training
        self._unfrozen_later = [
            (depth, weights)
            for depth, group in enumerate(network.layer_groups())
            for weights in group
            if depth and training.unfreeze_epochs and weights.requires_grad
        ]
        self.train_loss = MeanLoss()
        self.train_metric = batch_metric(self.task, len(decisions.thresholds))
        self.eval_loss = MeanLoss()
        self.outputs = EvalBuffer()  # of the split evaluated last
        self.save_hyperparameters(hyperparameters, logger=False)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        return self.network.layer_groups()

    def on_train_start(self) -> None:
        self._freeze_layers()  # a training that resumes within an epoch does not start it

    def on_train_epoch_start(self) -> None:
        self._freeze_layers()

    def _freeze_layers(self) -> None:
        """Freeze the groups of layers that training.unfreeze_epochs does not train yet."""
        if self.training_settings.unfreeze_epochs:
            for depth, weights in self._unfrozen_later:
                weights.requires_grad_(self.current_epoch >= depth * self.training_settings.unfreeze_epochs)

    def on_train_end(self) -> None:
        for _, weights in self._unfrozen_later:
            weights.requires_grad_(True)

    def setup(self, stage: str) -> None:
        if self.trainer.world_size > 1 and self.trainer.strategy.root_device.type == "cuda":
            for table in self.tables:
                table.sparse = False  # NCCL reduces dense gradients only

    def forward(self, token_ids: Tensor, lengths: Tensor, counts: Tensor | None = None) -> Tensor:
        """(B, T), (B,) and, of bags, (B, T) counts → (B, num_outputs) logits."""
        if counts is None:
            return self.runner(token_ids, lengths)
        return self.network(token_ids, lengths, counts)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        more: dict[str, Tensor] = {}
        if self.more_losses is None:
            logits = self(batch.token_ids, batch.lengths, batch.counts)
        else:
            logits, more = self.more_losses(batch, self._shard_factor)
        size = self._shard_size(batch)  # 0 for a placeholder batch
        loss: Tensor = self.loss(logits, batch.targets, batch.weights)
        self._record(loss.detach(), logits.detach(), batch.targets, size)
        if self.is_logged:
            self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
            self.log_dict({f"train/{name}_loss": value.detach() for name, value in more.items()}, batch_size=1)
        total = self._shard_factor(batch) * loss
        for name, value in more.items():
            total = total + getattr(self.training_settings, name) * value
        return total

    def _shard_factor(self, batch: Batch) -> float:
        """This factor on the mean of the shard makes the mean over processes that of the batch."""
        return self._shard_size(batch) * self.trainer.world_size / batch.num_documents

    def _record(self, loss: Tensor, logits: Tensor, targets: Tensor, size: int) -> None:
        """Add the mean loss and the logits of `size` documents to those of the epoch, and log both if the step is."""
        self.last_loss = loss
        self.train_loss.update(loss, size)
        preds = self.decisions(logits_to_probs(logits.float(), self.task)).long()
        targets = hard_targets(targets, self.task)
        if size:
            self.train_metric.update(preds, targets)
        if self.is_logged:
            metric = batch_metric(self.task, len(self.decisions.thresholds)).to(self.device)
            self.log_dict(
                {"train/loss_step": loss, f"train/{self.metric}_step": metric(preds, targets)},
                prog_bar=True,
                on_step=True,
                on_epoch=False,
                batch_size=1,
            )

    def batch_size_of(self, batch: Batch) -> int:
        return batch.num_documents

    def epoch_metrics(self) -> tuple[Metric, ...]:
        return self.train_loss, self.train_metric

    def _shard_size(self, batch: Batch) -> int:
        """Number of documents of a batch in this process's shard."""
        return shard_size(batch.num_documents, self.global_rank, self.trainer.world_size)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        """Log the means of the epoch after its last batch."""
        if not self.trainer.is_last_batch:
            return
        values = {"train/loss_epoch": self.train_loss, f"train/{self.metric}_epoch": self.train_metric}
        self.log_dict(
            {name: metric.compute() for name, metric in values.items()}, on_step=False, on_epoch=True, batch_size=1
        )
        for metric in values.values():
            metric.reset()

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation()

    def on_test_epoch_start(self) -> None:
        self._start_evaluation()

    def _start_evaluation(self) -> None:
        self.outputs = EvalBuffer(self.global_rank, self.trainer.world_size)
        self.eval_loss.reset()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate(batch)

    def _evaluate(self, batch: Batch) -> None:
        logits = self(batch.token_ids, batch.lengths, batch.counts).float()
        self.outputs.append(logits_to_probs(logits, self.task), batch.targets, batch.num_documents)
        self.eval_loss.update(task_loss(logits, batch.targets, self.task), self._shard_size(batch))

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
        metrics = {"loss": float(self.eval_loss.compute()), **self.measure(scores, preds, targets)}
        self.log_dict({f"{stage}/{name}": value for name, value in metrics.items()}, batch_size=len(scores))
