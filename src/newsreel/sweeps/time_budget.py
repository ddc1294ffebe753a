"""Times a job of sweep=baselines while it trains, and stops it if it does not fit into the budget or is hopeless."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from newsreel.batches.datamodule import TextDataModule
from newsreel.core.errors import TrialPruned
from newsreel.core.json_files import read_json
from newsreel.core.storage import write_atomically
from newsreel.models.classifier import TextClassifier
from newsreel.sweeps.ladder import describe_seconds

TRIAL_SECONDS = 3.0  # of training, after the first batch, before its speed is judged
CLOSING_SECONDS = 2.0  # after the test: figures, report
FORWARD_COST = 1 / 3  # time of a document in validation and test relative to training
TOUCH_SECONDS = 1.0  # between signs of life, from which a killed ladder knows how long it has run
NUM_DEVIATIONS = 2.0  # standard deviations of a difference that is more than chance


@dataclass(frozen=True)
class Limits:
    """What bounds a job; written by the sweeper before the job starts."""

    deadline: float | None  # time.time() when the job has to be done; None: it may take as long as it needs
    tolerance: float  # seconds beyond the deadline for a job that fitted when it was judged first
    budget: float  # seconds of the whole command
    rivals: list[int] = field(default_factory=list)  # numbers of the finished jobs that it is compared with
    warmup_epochs: int = 0


@dataclass
class Progress:
    """The validation metric of a job after each epoch."""

    max_epochs: int
    values: list[float] = field(default_factory=list)
    seconds: float | None = None  # estimated for the whole job; None: it was not judged
    is_too_long: bool = False  # whether it was stopped because these did not fit

    def best_at(self, fraction: float) -> float:
        """The best value within a fraction of the epochs, at least in the first one."""
        return max(self.values[: max(1, math.ceil(fraction * self.max_epochs - 1e-9))])


def limits_file(sweep_dir: Path, number: int) -> Path:
    return sweep_dir / ".ladder" / f"{number}.limits.json"


def progress_file(sweep_dir: Path, number: int) -> Path:
    return sweep_dir / ".ladder" / f"{number}.progress.json"


def write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(asdict(content), indent=1))


def read_progress(sweep_dir: Path, number: int) -> Progress | None:
    """None if the job has not trained. Raises UserError if the file is damaged."""
    try:
        return read_json(progress_file(sweep_dir, number), Progress)
    except FileNotFoundError:
        return None


class TimeBudget(Callback):
    """Stops a training with TrialPruned that will not be done by its deadline, or whose rivals are far ahead.

    Time: after TRIAL_SECONDS, the documents left, at the speed so far, must fit before the deadline; from then on,
    before the deadline and its tolerance. All epochs count, although training.patience may end it earlier.

    Metric: after each epoch but the first `warmup_epochs` and the last, the best validation metric so far is compared
    with that of each rival within the same fraction of its epochs. It is hopeless if the difference is larger than two
    standard deviations of a difference between two binomial proportions of the validation documents. (Of micro-F1, that
    is an approximation.) This is a race (Maron and Moore 1994) in the order of the ladder, not between all at once.
    """

    def __init__(self, sweep_dir: Path, number: int, clock: Callable[[], float] = time.time) -> None:
        self.limits = read_json(limits_file(sweep_dir, number), Limits)
        self.rivals = [progress for rival in self.limits.rivals if (progress := read_progress(sweep_dir, rival))]
        self.file = progress_file(sweep_dir, number)
        self.clock = clock
        self.created = self.touched = clock()
        self.progress = Progress(0)
        self.num_documents = 0  # trained on, without the first batch
        self.seconds = 0.0  # that they took, without validation
        self.since: float | None = None  # when the stopwatch was started; None: it stands

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.progress.max_epochs = trainer.max_epochs or 0
        write_json(self.file, self.progress)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = self.clock()
        if self.since is not None:
            self.seconds += now - self.since
            self.num_documents += batch.num_documents
        self.since = now
        if now - self.touched > TOUCH_SECONDS:
            self.file.touch()
            self.touched = now
        if self.limits.deadline is not None and self.seconds >= TRIAL_SECONDS:
            self.judge(now, documents_left(trainer, batch_idx + 1))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch:
            self.since = self.clock()

    def judge(self, now: float, documents: float) -> None:
        """Raise TrialPruned if the documents that are left do not fit.

        documents: as many as training ones that take as long.
        """
        assert self.limits.deadline is not None
        needed = self.seconds / self.num_documents * documents + CLOSING_SECONDS
        overrun = now + needed - self.limits.deadline
        is_first = self.progress.seconds is None
        if is_first:
            self.progress.seconds = now - self.created + needed
        if overrun > (0 if is_first else self.limits.tolerance):
            self.progress.seconds = now - self.created + needed
            self.progress.is_too_long = True
            write_json(self.file, self.progress)
            left = max(0.0, self.limits.deadline - now)
            raise TrialPruned(too_long(needed, left, self.limits.budget + overrun, " more"))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TextClassifier)
        self.progress.values.append(float(trainer.callback_metrics[f"val/{pl_module.metric}"]))
        write_json(self.file, self.progress)
        num_documents = len(datamodule(trainer).corpus.splits["validation"].rows)
        if reason := self.hopeless(pl_module.metric, num_documents):
            raise TrialPruned(reason)

    def hopeless(self, metric: str, num_documents: int) -> str:
        """Why to stop after this epoch; empty if there is no reason."""
        epoch, max_epochs = len(self.progress.values), self.progress.max_epochs
        if not self.limits.warmup_epochs < epoch < max_epochs:
            return ""
        own = max(self.progress.values)
        best = max((rival.best_at(epoch / max_epochs) for rival in self.rivals if rival.values), default=own)
        if best - own <= chance_margin(own, best, num_documents):
            return ""
        return (
            f"stopped after epoch {epoch} of {max_epochs} with a validation {metric} of {own:.4f}, where another "
            f"network had {best:.4f}: more than chance"
        )


def datamodule(trainer: Trainer) -> TextDataModule:
    module = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(module, TextDataModule)
    return module


def documents_left(trainer: Trainer, num_batches: int) -> float:
    """Documents that are left to train on, validate and test, as training documents that take as long.

    num_batches: that are done of this epoch.
    """
    data = datamodule(trainer)
    sizes = {split: len(rows.rows) for split, rows in data.corpus.splits.items()}
    max_epochs = trainer.max_epochs or 0
    epochs = max_epochs - trainer.current_epoch - num_batches / float(trainer.num_training_batches)
    validations = max_epochs - trainer.current_epoch
    return epochs * sizes["train"] * data.passes + FORWARD_COST * (validations * sizes["validation"] + sizes["test"])


def chance_margin(one: float, other: float, num_documents: int) -> float:
    """The difference of two proportions of `num_documents` each that chance explains."""
    return NUM_DEVIATIONS * math.sqrt(max(0.0, one * (1 - one) + other * (1 - other)) / num_documents)


def too_long(needed: float, left: float, enough: float, more: str = "") -> str:
    """A reason with its remedy. needed, left, enough: seconds; the last for the whole command."""
    return (
        f"about {describe_seconds(needed)}{more}, {describe_seconds(left)} left: raise budget_minutes to "
        f"{minutes(enough)}"
    )


def minutes(seconds: float) -> int:
    """A budget of at least as many seconds, in whole minutes, with a twentieth for differences in speed."""
    return max(1, math.ceil(seconds * 1.05 / 60))
