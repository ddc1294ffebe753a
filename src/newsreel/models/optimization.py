"""How networks are trained: optimiser, learning-rate schedule, clipping and when to stop."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from newsreel.models.loss import LossSettings

CheckpointPolicy = Literal["best", "last"]  # of the epochs, by the validation metric or by time


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(LossSettings):
    """The section `training` of the config."""

    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"]
    learning_rate: Annotated[float, Gt(0), Le(1_000)]
    weight_decay: Annotated[float, Ge(0)]
    initial_accumulator: Annotated[float, Ge(0)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup_fraction: Annotated[float, Ge(0), Lt(1)]
    gradient_clip: Annotated[float, Gt(0)] | None
    max_epochs: Annotated[int, Ge(1)]
    patience: Annotated[int, Ge(1)] | None
    checkpoint: CheckpointPolicy

    @property
    def sparse_gradients(self) -> bool:
        """Whether an embedding table's gradient can be kept for the rows of a batch's words alone.

        Adagrad leaves a row without a gradient as it is, so that this changes the cost of a step and not its result.
        """
        return self.optimizer == "adagrad" and not self.weight_decay and self.gradient_clip is None


def schedule_factor(settings: TrainingSettings, step: int, num_steps: int) -> float:
    """What the learning rate is multiplied by at `step` of `num_steps`: linear warm-up, then the schedule."""
    num_warmup_steps = round(settings.warmup_fraction * num_steps)
    if step < num_warmup_steps:
        return (step + 1) / (num_warmup_steps + 1)
    progress = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    if settings.schedule == "linear":
        return max(0.0, 1 - progress)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return 1.0
