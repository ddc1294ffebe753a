"""Checkpoints of a run: the weights of the selected epoch, and the state needed to resume after a stop."""

import logging
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from newsreel.batches.datamodule import TextDataModule
from newsreel.batches.streams import StreamDataModule
from newsreel.core.errors import UserError, first_line
from newsreel.core.storage import replacing
from newsreel.models.optimization import CheckpointPolicy
from newsreel.models.trained_module import TrainedModule
from newsreel.runs.run_dir import BEST_CHECKPOINT, FILES_KEY, digests_of_files, read_checkpoint
from newsreel.training.callbacks.ema import ExponentialMovingAverage
from newsreel.training.callbacks.history import History
from newsreel.training.lightning_private import accumulates_gradients, num_logged_steps
from newsreel.training.monitor import Monitor

log = logging.getLogger(__name__)

LAST_CHECKPOINT = Path("checkpoints") / "last.ckpt"
PREVIOUS_CHECKPOINT = Path("checkpoints") / "last-1.ckpt"  # the previous last.ckpt
STATE_KEY = "newsreel"  # checkpoint key of the state that Lightning does not save
MAX_TIME_FRACTION = 0.02  # of the training time, for checkpoints within epochs


@dataclass(frozen=True)
class ResumeState:
    """The progress of a training at its last checkpoint."""

    checkpoint: Path
    corpus: str  # digest of the documents, and of their pseudo-labels
    epoch: int  # to resume in, counted from 0
    num_batches: int  # done in that epoch
    log_step: int  # the first one that has not been logged

    def __str__(self) -> str:
        done = f"{self.num_batches} batches of epoch {self.epoch + 1}" if self.num_batches else f"epoch {self.epoch}"
        return f"after {done}, from {self.checkpoint}"


def read_resume_state(run_dir: Path) -> ResumeState | None:
    """The resume state of a run directory, None if there are no checkpoints.

    Falls back to the previous checkpoint, with a warning, if the last one is corrupt. Raises UserError if both are.
    """
    problems = []
    for file in (run_dir / LAST_CHECKPOINT, run_dir / PREVIOUS_CHECKPOINT):
        if not file.exists():
            continue
        try:
            state = read_checkpoint(file)[STATE_KEY]
            progress = ResumeState(file, state["corpus"], state["epoch"], state["num_batches"], state["log_step"])
            if not all(isinstance(value, int) for value in (progress.epoch, progress.num_batches, progress.log_step)):
                raise TypeError("its progress is not in numbers")
        except Exception as error:  # truncated zip files, pickles and tensors raise different errors
            problems.append(f"{file} cannot be read: {type(error).__name__}: {error}".splitlines()[0])
            continue
        for message in problems:
            log.warning(f"note        {message}. The previous one, {file}, is used instead")
        return progress
    if problems:
        raise UserError(
            "\n".join([*problems, f"Remove {run_dir / 'checkpoints'} to restart this run from the beginning."])
        )
    return None


@contextmanager
def restoring(resume: ResumeState | None, history: History) -> Iterator[None]:
    """Context of `Trainer.fit`: an error before its first step, while the state is restored, is one of the checkpoint.

    Raises UserError.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if resume is None or history.is_started:
            raise
        raise UserError(
            f"{resume.checkpoint} does not fit this run: {type(error).__name__}: {first_line(error)}. Remove it to "
            "resume from the checkpoint before it, or remove all to start the run from the beginning."
        ) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, with digests of the files that they need, and keeps the previous `last.ckpt`."""

    def __init__(self) -> None:
        super().__init__()
        self.digests: dict[str, str] = {}  # of files that are written once, before the training

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.digests = self.digests or digests_of_files(path.parents[1])
        checkpoint[FILES_KEY] = self.digests
        with replacing(path) as partial:
            with partial.open("wb") as file, causes_of_failed_writes():
                torch.save(checkpoint, file)
            if path.name == LAST_CHECKPOINT.name and path.exists():
                path.replace(path.with_name(PREVIOUS_CHECKPOINT.name))


@contextmanager
def causes_of_failed_writes() -> Iterator[None]:
    """Context of torch.save that raises the cause of its RuntimeErrors: a full disk, or a signal in the middle."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, (OSError, KeyboardInterrupt, SystemExit)):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise


class RunCheckpoints(Checkpoint):
    """Writes `best.ckpt` and `last.ckpt`, and restores from the latter the state that Lightning does not.

    Lightning restores weights, optimizer, schedule and the counters of the loops. To continue with identical numbers,
    a training also needs the states of all random generators, its position in the epoch's order of batches, the
    epoch's sums of logged values, and the best metric so far.

    `best.ckpt` (weights only) is written before `last.ckpt`: a training killed between the two repeats the end of its
    epoch and writes the same `best.ckpt` again. There is no checkpoint within an epoch after its last batch, since
    validation and the checkpoint of the epoch follow.
    """

    def __init__(
        self,
        run_dir: Path,
        monitor: Monitor,
        checkpoint: CheckpointPolicy,
        every_seconds: float | None,
        corpus: str,
        average: ExponentialMovingAverage | None = None,
    ) -> None:
        """monitor: selects the best epoch. every_seconds: interval of checkpoints within epochs, in s; None:
        none. corpus: digest of the documents and their pseudo-labels. average: of the weights, for `best.ckpt`; None:
        the weights.
        """
        self.best_file = run_dir / BEST_CHECKPOINT
        self.last_file = run_dir / LAST_CHECKPOINT
        self.monitor = monitor
        self.checkpoint_policy = checkpoint
        self.every_seconds = every_seconds
        self.corpus = corpus
        self.average = average
        self.best = -math.inf
        self._mid_epoch_state: dict[str, Any] | None = None  # of a checkpoint within an epoch, to be restored
        self._saved_at = 0.0  # seconds of the monotonic clock
        self._duration_s = 0.0  # of the last checkpoint

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at = time.monotonic()
        update_learning_rates(trainer)
        if self._mid_epoch_state is not None:
            set_random_states(self._mid_epoch_state["random"][trainer.global_rank])
            assert isinstance(pl_module, TrainedModule)
            for metric, state in zip(pl_module.epoch_metrics(), self._mid_epoch_state["epoch_metrics"], strict=True):
                for name, value in state.items():
                    setattr(metric, name, value.to(pl_module.device))
            self._mid_epoch_state = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._is_due(trainer):
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        score = self.monitor.score(trainer.callback_metrics)  # type: ignore[arg-type]
        if score > self.best or self.checkpoint_policy == "last":
            self.best = max(self.best, score)
            with nullcontext() if self.average is None else self.average.applied(pl_module):
                trainer.save_checkpoint(self.best_file, weights_only=True)
        self._save_last(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        accumulates = accumulates_gradients(trainer)
        if trainer.is_last_batch or accumulates or trainer.world_size > 1:  # epoch sums are per process
            return False
        if trainer.received_sigterm:  # Lightning stops after this batch
            return True
        if self.every_seconds is None:
            return False
        wait = max(self.every_seconds, self._duration_s / MAX_TIME_FRACTION) if self.every_seconds else 0.0
        return time.monotonic() - self._saved_at >= wait

    def _save_last(self, trainer: Trainer) -> None:
        started = time.monotonic()
        trainer.save_checkpoint(self.last_file, weights_only=False)
        self._saved_at = time.monotonic()
        self._duration_s = self._saved_at - started

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        assert isinstance(pl_module, TrainedModule)
        loop = trainer.fit_loop
        epochs = loop.epoch_progress.current
        assert hasattr(epochs, "processed")
        state: dict[str, Any] = {"corpus": self.corpus, "best": self.best, "random": all_random_states(trainer)}
        if epochs.processed == epochs.ready:
            state |= {"epoch": epochs.processed, "num_batches": 0, "log_step": num_logged_steps(trainer)}
        else:
            state |= {
                "epoch": epochs.processed,
                "num_batches": loop.epoch_loop.batch_progress.current.ready,
                "log_step": num_logged_steps(trainer) + 1,
                "epoch_metrics": [dict(metric.metric_state) for metric in pl_module.epoch_metrics()],
            }
        checkpoint[STATE_KEY] = state

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        state = checkpoint[STATE_KEY]
        self.best = state["best"]
        assert isinstance(trainer.datamodule, (TextDataModule, StreamDataModule))  # type: ignore[attr-defined]
        trainer.datamodule.resume_at(state["epoch"], state["num_batches"])  # type: ignore[attr-defined]
        if state["num_batches"]:
            self._mid_epoch_state = (
                state  # restored at the first batch, since the setup before it draws random numbers too
            )
        else:
            set_random_states(state["random"][trainer.global_rank])  # the loader draws from them when an epoch starts
        for stopping in trainer.early_stopping_callbacks:
            stopped = checkpoint["callbacks"].get(stopping.state_key)
            if stopped is not None:
                stopped["patience"] = stopping.patience  # it may have been raised
                trainer.should_stop = stopped["wait_count"] >= stopping.patience
                if trainer.should_stop:
                    log.warning(
                        f"note        this training has already stopped after {stopped['wait_count']} epochs without a "
                        f"better {self.monitor.key}: to train longer, raise training.patience"
                    )


def update_learning_rates(trainer: Trainer) -> None:
    """Recompute the learning rates for this step, since a change of training.max_epochs changes the schedule."""
    for config in trainer.lr_scheduler_configs:
        schedule = config.scheduler
        assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
        for group, base, factor in zip(
            schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(schedule.last_epoch)


def all_random_states(trainer: Trainer) -> list[dict[str, Any]]:
    """The random states of all processes, whose dropout masks differ."""
    states: list[Any] = [None] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(states, random_states())
    else:
        states = [random_states()]
    return states


def random_states() -> dict[str, Any]:
    """The states of all random generators, as values that `torch.load` accepts with weights_only=True."""
    _, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],  # of the process's own GPU
    }


def set_random_states(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    keys, *rest = states["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and states["cuda"]:
        torch.cuda.set_rng_state(states["cuda"][0])
