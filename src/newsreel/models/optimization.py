"""Training settings: optimizer, learning-rate schedule, gradient clipping and stopping."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

from newsreel.models.loss import LossSettings

Solver = Literal["auto", "newton", "minibatch"]
CheckpointPolicy = Literal["best", "last"]  # the epoch with the highest validation metric, or the last

ADAMS = ("adam", "adamw")  # optimizers with betas
DEFAULT_BETAS = (0.9, 0.999)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(LossSettings):
    """The section `training` of the config."""

    solver: Solver = "minibatch"  # older run directories lack it; read_experiment replaces auto
    l2_path: Annotated[Sequence[Annotated[float, Gt(0)]], Len(1, 100)] = (1.0,)  # older run directories lack it
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"]
    learning_rate: Annotated[float, Gt(0), Le(1_000)]
    weight_decay: Annotated[float, Ge(0)]
    betas: Annotated[Sequence[Annotated[float, Ge(0), Lt(1)]], Len(2, 2)] = (
        DEFAULT_BETAS  # older run directories lack it
    )
    initial_accumulator: Annotated[float, Ge(0)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup_fraction: Annotated[float, Ge(0), Lt(1)]
    gradient_clip: Annotated[float, Gt(0)] | None
    max_epochs: Annotated[int, Ge(1)]
    min_steps_per_epoch: Annotated[int, Ge(1)] = 1  # older run directories lack it
    patience: Annotated[int, Ge(1)] | None
    checkpoint: CheckpointPolicy
    ema: Annotated[float, Ge(0.9), Lt(1)] | None = None  # older run directories lack it

    @property
    def num_epochs(self) -> int:
        """The number of epochs without early stopping."""
        return min(self.max_epochs, len(self.l2_path)) if self.solver == "newton" else self.max_epochs

    @property
    def sparse_gradients(self) -> bool:
        """Whether embedding tables use sparse gradients, and a step changes only the rows that its batch looks up.

        Without weight decay, Adagrad never changes the others; for Adam see LazyAdam.
        """
        return self.optimizer in ("adagrad", "adam") and not self.weight_decay

    def passes_per_epoch(self, num_batches: int, batches_per_step: int) -> int:
        """Passes over the training documents that give an epoch at least `min_steps_per_epoch` optimizer steps.

        num_batches: of one pass. batches_per_step: whose gradients are accumulated.
        """
        return math.ceil(self.min_steps_per_epoch * batches_per_step / num_batches)


def schedule_factor(settings: TrainingSettings, step: int, num_steps: int) -> float:
    """Factor on the learning rate at `step` of `num_steps`: linear warm-up, then the schedule."""
    num_warmup_steps = round(settings.warmup_fraction * num_steps)
    if step < num_warmup_steps:
        return (step + 1) / (num_warmup_steps + 1)
    progress = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    if settings.schedule == "linear":
        return max(0.0, 1 - progress)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return 1.0
