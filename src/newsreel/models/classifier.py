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
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MultilabelF1Score
from torchmetrics.utilities.distributed import gather_all_tensors

from newsreel.batches.batch import Batch, shard_size
from newsreel.corpora.corpus import Task
from newsreel.embeddings.embedding import TableEmbedding
from newsreel.models.decisions import DecisionRule
from newsreel.models.functional import logits_to_probs, task_loss
from newsreel.models.lazy_adam import LazyAdam
from newsreel.models.loss import Loss
from newsreel.models.micro_batches import MicroBatchRunner
from newsreel.models.network import Network
from newsreel.models.optimization import ADAMS, TrainingSettings, schedule_factor

OPTIMIZERS: dict[str, Any] = {
    "adam": LazyAdam,
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


class MeanLoss(Metric):
    """The mean of batch losses, each weighted by its number of documents, over all processes.

    torchmetrics' MeanMetric either hides the NaN of a diverged training or ignores the weights (1.9).
    """

    total: Tensor
    num_documents: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("num_documents", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, num_documents: int) -> None:
        if num_documents:
            self.total += loss * num_documents
            self.num_documents += num_documents

    def compute(self) -> Tensor:
        return self.total / self.num_documents


def batch_metric(task: Task, num_labels: int) -> Metric:
    """The training metric: accuracy, or micro-F1 for `multilabel`."""
    if task == "multilabel":
        return MultilabelF1Score(num_labels, average="micro", validate_args=False)
    return MulticlassAccuracy(num_labels, average="micro", validate_args=False)


def gradient_values(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """The gradients of parameters that have one; of sparse ones, which are coalesced, the values."""
    values = []
    for weights in parameters:
        if weights.grad is None:
            continue
        if weights.grad.is_sparse:
            weights.grad = weights.grad.coalesce()  # the optimizer would do it anyway
        values.append(weights.grad.values() if weights.grad.is_sparse else weights.grad)
    return values


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """L2 norm of all gradients together, including sparse ones."""
    return get_total_norm(gradient_values(parameters))


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Scale all gradients together to an L2 norm of at most `max_norm`, as `clip_grad_norm_`, which takes no sparse
    ones.
    """
    values = gradient_values(parameters)
    factor = (max_norm / (get_total_norm(values) + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(values, factor)


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
        self.runner = MicroBatchRunner(network)
        self.tables = [module for module in network.modules() if isinstance(module, nn.Embedding)]
        for table in self.tables:
            table.sparse = training.sparse_gradients
        self.loss = loss
        self.task: Task = loss.task
        self.decisions = decisions
        self.measure = measure
        self.metric = metric
        self.training_settings = training
        self.train_loss = MeanLoss()
        self.train_metric = batch_metric(self.task, len(decisions.thresholds))
        self.eval_loss = MeanLoss()
        self.last_loss = torch.tensor(0.0)  # of this process's shard of the last batch
        self.outputs = EvalBuffer()  # of the split evaluated last
        self.save_hyperparameters(hyperparameters, logger=False)

    def setup(self, stage: str) -> None:
        if self.trainer.world_size > 1 and self.trainer.strategy.root_device.type == "cuda":
            for table in self.tables:
                table.sparse = False  # NCCL reduces dense gradients only

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters of the network."""
        return sum(weights.numel() for weights in self.network.parameters() if weights.requires_grad)

    def forward(self, token_ids: Tensor, lengths: Tensor, counts: Tensor | None = None) -> Tensor:
        """(B, T), (B,) and, of bags, (B, T) counts → (B, num_outputs) logits."""
        if counts is None:
            return self.runner(token_ids, lengths)
        return self.network(token_ids, lengths, counts)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        logits = self(batch.token_ids, batch.lengths, batch.counts)
        size = self._shard_size(batch)  # 0 for a placeholder batch
        loss: Tensor = self.loss(logits, batch.targets)
        self._record(loss.detach(), logits.detach(), batch.targets, size)
        if self._is_logged:
            self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        # This factor on the mean of the shard makes the mean over processes that of the batch
        return size * self.trainer.world_size / batch.num_documents * loss

    def _record(self, loss: Tensor, logits: Tensor, targets: Tensor, size: int) -> None:
        """Add the mean loss and the logits of `size` documents to those of the epoch, and log both if the step is."""
        self.last_loss = loss
        self.train_loss.update(loss, size)
        preds, targets = self.decisions(logits_to_probs(logits.float(), self.task)).long(), targets.long()
        if size:
            self.train_metric.update(preds, targets)
        if self._is_logged:
            metric = batch_metric(self.task, len(self.decisions.thresholds)).to(self.device)
            self.log_dict(
                {"train/loss_step": loss, f"train/{self.metric}_step": metric(preds, targets)},
                prog_bar=True,
                on_step=True,
                on_epoch=False,
                batch_size=1,
            )

    def _shard_size(self, batch: Batch) -> int:
        """Number of documents of a batch in this process's shard."""
        return shard_size(batch.num_documents, self.global_rank, self.trainer.world_size)

    @property
    def _is_logged(self) -> bool:
        """Whether loggers get the values of this step."""
        return (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined, no-any-return]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the gradient norm, before clipping."""
        if self._is_logged:
            self.log("train/gradient_norm", gradient_norm(self.network.parameters()))

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

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if gradient_clip_val is not None:
            clip_gradients(self.network.parameters(), gradient_clip_val)

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

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.training_settings
        options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        if settings.optimizer in FUSED and self.trainer.precision == "32-true":
            options["fused"] = True  # with mixed precision, Lightning cannot clip gradients that a fused step unscales
        options |= MOMENTS.get(settings.optimizer, {})
        if settings.optimizer in ADAMS:
            options["betas"] = tuple(settings.betas)
        if settings.optimizer == "adagrad":
            options["initial_accumulator_value"] = settings.initial_accumulator
        optimizer = OPTIMIZERS[settings.optimizer](self._parameter_groups(), **options)
        for module in self.network.modules():
            if isinstance(module, TableEmbedding) and module.max_norm is not None:
                optimizer.register_step_post_hook(lambda *_, embedding=module: embedding.limit_norms())
        num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, lambda step: schedule_factor(settings, step, num_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters; Adam has the tables of which a step changes few rows in a group of their own."""
        parameters = list(self.network.parameters())
        settings = self.training_settings
        if settings.optimizer != "adam" or not settings.sparse_gradients:
            return [{"params": parameters}]
        tables = {table.weight for table in self.tables}
        groups: list[dict[str, Any]] = [
            {"params": [weights for weights in parameters if weights not in tables]},
            {"params": [weights for weights in parameters if weights in tables], "lazy": True},
        ]
        return [group for group in groups if group["params"]]
