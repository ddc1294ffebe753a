"""The base class of the LightningModules: optimizer, gradients, and what the callbacks of a training need."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric

from newsreel.embeddings.embedding import TableEmbedding
from newsreel.models.lazy_adam import LazyAdam
from newsreel.models.micro_batches import PartRunner
from newsreel.models.optimization import ADAMS, LanguageModelTraining, TrainingSettings, schedule_factor

OPTIMIZERS: dict[str, Any] = {
    "adam": LazyAdam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
MOMENTS = {"sgd": {"momentum": 0.9}, "rmsprop": {"alpha": 0.9}}  # rmsprop as in Keras
FUSED = ("adam", "adamw", "sgd")  # update all parameters in one pass, on CPU too


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


class TrainedModule(LightningModule):
    """Base class of LightningModules that a run trains."""

    unit: ClassVar[str] = "documents"  # that `batch_size_of` counts

    network: nn.Module  # with the weights
    runner: PartRunner
    tables: list[nn.Embedding]  # of the network
    training_settings: TrainingSettings | LanguageModelTraining
    metric: str  # `val/<metric>` decides early stopping and the best checkpoint

    def __init__(self) -> None:
        super().__init__()
        self.last_loss = torch.tensor(0.0)  # of this process's shard of the last batch

    @abstractmethod
    def batch_size_of(self, batch: Any) -> int:
        """The size of a batch, over all processes, in `unit`."""

    @abstractmethod
    def epoch_metrics(self) -> tuple[Metric, ...]:
        """The metrics that accumulate over an epoch of training."""

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters of the network."""
        return sum(weights.numel() for weights in self.network.parameters() if weights.requires_grad)

    @property
    def is_logged(self) -> bool:
        """Whether loggers get the values of this step."""
        return (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined, no-any-return]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the gradient norm, before clipping."""
        if self.is_logged:
            self.log("train/gradient_norm", gradient_norm(self.network.parameters()))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if gradient_clip_val is not None:
            clip_gradients(self.network.parameters(), gradient_clip_val)

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
            if isinstance(module, TableEmbedding) and module.std is not None:
                optimizer.register_step_post_hook(lambda *_, embedding=module: embedding.normalize())
        num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, lambda step: schedule_factor(settings, step, num_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters of the network; Adam has tables of which a step changes few rows in groups of their own."""
        settings = self.training_settings
        is_lazy = settings.optimizer == "adam" and settings.sparse_gradients
        tables = {table.weight for table in self.tables} if is_lazy else set()
        groups: list[dict[str, Any]] = []
        for depth, layer in enumerate(self.layer_groups() if settings.layer_decay < 1 else [self.network.parameters()]):
            weights = list(layer)
            rate = {"lr": settings.learning_rate * settings.layer_decay**depth}
            groups.append({"params": [each for each in weights if each not in tables], **rate})
            groups.append({"params": [each for each in weights if each in tables], "lazy": True, **rate})
        return [group for group in groups if group["params"]]

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The parameters in groups from the output down."""
        return [list(self.network.parameters())]
