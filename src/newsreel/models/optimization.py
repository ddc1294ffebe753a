"""Training settings: optimizer, learning-rate schedule, gradient clipping and stopping."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

from newsreel.models.adversarial import AdversarialSettings
from newsreel.models.loss import LossSettings

Solver = Literal["auto", "newton", "minibatch"]
CheckpointPolicy = Literal["best", "last"]  # the epoch with the highest validation metric, or the last

ADAMS = ("adam", "adamw")  # optimizers with betas
DEFAULT_BETAS = (0.9, 0.999)
SCALED_LABELS = 10  # with more labels than these, scale_min_steps asks for proportionally more steps


@dataclass(frozen=True, kw_only=True)
class EpochSettings:
    """Learning rates, clipping and stopping of any training in epochs."""

    learning_rate: Annotated[float, Gt(0), Le(1_000)]
    betas: Annotated[Sequence[Annotated[float, Ge(0), Lt(1)]], Len(2, 2)] = (
        DEFAULT_BETAS  # older run directories lack it
    )
    schedule: Literal["constant", "linear", "cosine"]
    warmup_fraction: Annotated[float, Ge(0), Lt(1)]
    gradient_clip: Annotated[float, Gt(0)] | None
    max_epochs: Annotated[int, Ge(1)]
    patience: Annotated[int, Ge(1)] | None
    checkpoint: CheckpointPolicy

    @property
    def num_epochs(self) -> int:
        """The number of epochs without early stopping."""
        return self.max_epochs


@dataclass(frozen=True, kw_only=True)
class LanguageModelTraining(EpochSettings):
    """The section `training` of the config of a language model.

    num_samples: expected number of words that the softmax is estimated from; None: the full softmax.
    sampling_power: of the words' counts, in their probability of being sampled.
    """

    optimizer: ClassVar[str] = "adam"
    weight_decay: ClassVar[float] = 0.0
    initial_accumulator: ClassVar[float] = 0.0
    solver: ClassVar[str] = "minibatch"
    ema: ClassVar[float | None] = None
    layer_decay: ClassVar[float] = 1.0
    sparse_gradients: ClassVar[bool] = True

    num_samples: Annotated[int, Ge(1)] | None
    sampling_power: Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(LossSettings, AdversarialSettings, EpochSettings):
    """The section `training` of the config.

    layer_decay: factor on the learning rate of each group of layers below the output (Howard and Ruder 2018, section
    3.2, with 1 / 2.6). unfreeze_epochs: the epochs after which the next group below trains too (section 3.3); 0: all
    train from the start. The groups are those of `Network.layer_groups`.
    """

    solver: Solver = "minibatch"  # older run directories lack it; read_experiment replaces auto
    l2_path: Annotated[Sequence[Annotated[float, Gt(0)]], Len(1, 100)] = (1.0,)  # older run directories lack it
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"]
    weight_decay: Annotated[float, Ge(0)]
    initial_accumulator: Annotated[float, Ge(0)]
    min_steps_per_epoch: Annotated[int, Ge(1)] = 1  # older run directories lack it
    scale_min_steps: bool = False  # older run directories lack it
    ema: Annotated[float, Ge(0.9), Lt(1)] | None = None  # older run directories lack it
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0  # older run directories lack it
    unfreeze_epochs: Annotated[int, Ge(0)] = 0  # older run directories lack it

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

    def passes_per_epoch(self, num_batches: int, batches_per_step: int, num_labels: int) -> int:
        """Passes over the training documents that give an epoch its least number of optimizer steps.

        num_batches: of one pass. batches_per_step: whose gradients are accumulated.
        """
        least = least_steps(self.min_steps_per_epoch, self.scale_min_steps, num_labels)
        return math.ceil(least * batches_per_step / num_batches)


def least_steps(min_steps_per_epoch: float, scale_min_steps: bool, num_labels: int) -> float:
    """Optimizer steps that an epoch has at least."""
    return min_steps_per_epoch * (max(1.0, num_labels / SCALED_LABELS) if scale_min_steps else 1.0)


def schedule_factor(settings: EpochSettings, step: int, num_steps: int) -> float:
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
