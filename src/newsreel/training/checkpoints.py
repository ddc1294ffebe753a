"""What a run keeps of its training: one epoch's weights, and all that is needed to go on after being stopped."""

import logging
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from newsreel.batches.datamodule import TextDataModule
from newsreel.core.errors import UserError
from newsreel.core.storage import replacing
from newsreel.models.classifier import TextClassifier
from newsreel.models.optimization import CheckpointPolicy
from newsreel.runs.run_dir import BEST_CHECKPOINT
from newsreel.training.lightning_private import accumulates_gradients, add_epoch_sums, epoch_sums, num_logged_steps

log = logging.getLogger(__name__)

LAST_CHECKPOINT = Path("checkpoints") / "last.ckpt"
PREVIOUS_CHECKPOINT = Path("checkpoints") / "last-1.ckpt"  # the one before it
STATE_KEY = "newsreel"  # the key of a checkpoint under which stands what Lightning does not keep
MAX_SHARE = 0.02  # of the time that checkpoints within epochs may take


@dataclass(frozen=True)
class ResumeState:
    """How far a training had come when its last checkpoint was written."""

    checkpoint: Path
    corpus: str  # fingerprint of the documents
    epoch: int  # counted from 0, the one to go on with
    num_batches: int  # of that epoch, done
    log_step: int  # the first that TensorBoard has not been told of

    def __str__(self) -> str:
        done = f"{self.num_batches} batches of epoch {self.epoch + 1}" if self.num_batches else f"epoch {self.epoch}"
        return f"after {done}, from {self.checkpoint}"


def read_resume_state(folder: Path) -> ResumeState | None:
    """What the checkpoints of a run folder say; None if there are none.

    A last checkpoint that cannot be read gives way to the one before it, and the log says so. Raises UserError if
    neither can be read.
    """
    broken = []
    for file in (folder / LAST_CHECKPOINT, folder / PREVIOUS_CHECKPOINT):
        if not file.exists():
            continue
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)[STATE_KEY]
            progress = ResumeState(file, state["corpus"], state["epoch"], state["num_batches"], state["log_step"])
        except Exception as error:  # torn zip files, pickles and tensors each have their own
            broken.append(f"{file} cannot be read: {type(error).__name__}: {error}".splitlines()[0])
            continue
        for message in broken:
            log.warning(f"note        {message}. The one before it, {file}, is taken instead")
        return progress
    if broken:
        raise UserError("\n".join([*broken, f"Remove {folder / 'checkpoints'} to start this run from its beginning."]))
    return None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints so that each is whole or absent; `last.ckpt` leaves the one before it as `last-1.ckpt`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            with partial.open("wb") as file:  # a full disk then is an OSError that names it
                torch.save(checkpoint, file)
            if path.name == LAST_CHECKPOINT.name and path.exists():
                path.replace(path.with_name(PREVIOUS_CHECKPOINT.name))


class RunCheckpoints(Checkpoint):
    """Writes `best.ckpt` and `last.ckpt` of a run folder, and takes up from the latter what Lightning leaves out.

    Lightning restores weights, optimiser, schedule and the loops' counts. Beside them a training that goes on with the
    very numbers needs the states of all random generators, its place in the epoch's order of batches, the epoch's
    sums of what is logged, and the figure of the best epoch so far.

    `best.ckpt` (weights alone) is written before `last.ckpt`: killed between the two, a training does the end of its
    epoch again and writes the same. The last batch of an epoch is followed by validation and then a checkpoint, and
    has none of its own.
    """

    def __init__(
        self, folder: Path, metric: str, checkpoint: CheckpointPolicy, every_seconds: float | None, corpus: str
    ) -> None:
        """metric: the highest decides which epoch is the best. corpus: fingerprint of the documents."""
        self.best_file = folder / BEST_CHECKPOINT
        self.last_file = folder / LAST_CHECKPOINT
        self.monitor = f"val/{metric}"
        self.checkpoint_policy = checkpoint
        self.every_seconds = every_seconds
        self.corpus = corpus
        self.best = -math.inf
        self._unfinished: dict[str, Any] | None = None  # own state of a checkpoint within an epoch, to be put back
        self._saved_at = 0.0  # seconds of the monotonic clock
        self._took = 0.0  # seconds of the last checkpoint

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at = time.monotonic()
        follow_schedule(trainer)
        if self._unfinished is not None:
            set_random_states(self._unfinished["random"][trainer.global_rank])
            assert isinstance(pl_module, TextClassifier)
            metric = pl_module.train_metric
            for name, value in self._unfinished["train_metric"].items():
                setattr(metric, name, value.to(pl_module.device))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._unfinished is not None:
            add_epoch_sums(trainer, self._unfinished["sums"])
            self._unfinished = None
        if self._is_due(trainer):
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        figure = float(trainer.callback_metrics[self.monitor])
        if figure > self.best or self.checkpoint_policy == "last":
            self.best = max(self.best, figure)
            trainer.save_checkpoint(self.best_file, weights_only=True)
        self._save_last(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        accumulates = accumulates_gradients(trainer)
        if trainer.is_last_batch or accumulates or trainer.world_size > 1:  # the sums are those of one process
            return False
        if trainer.received_sigterm:  # Lightning stops after this batch
            return True
        if self.every_seconds is None:
            return False
        wait = max(self.every_seconds, self._took / MAX_SHARE) if self.every_seconds else 0.0
        return time.monotonic() - self._saved_at >= wait

    def _save_last(self, trainer: Trainer) -> None:
        begun = time.monotonic()
        trainer.save_checkpoint(self.last_file, weights_only=False)
        self._saved_at = time.monotonic()
        self._took = self._saved_at - begun

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        assert isinstance(pl_module, TextClassifier)
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
                "sums": epoch_sums(trainer),
                "train_metric": dict(pl_module.train_metric.metric_state),
            }
        checkpoint[STATE_KEY] = state

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        state = checkpoint[STATE_KEY]
        self.best = state["best"]
        assert isinstance(trainer.datamodule, TextDataModule)  # type: ignore[attr-defined]
        trainer.datamodule.resume_at(state["epoch"], state["num_batches"])  # type: ignore[attr-defined]
        if state["num_batches"]:
            self._unfinished = state  # for the first batch: what comes before it draws random numbers too
        else:
            set_random_states(state["random"][trainer.global_rank])  # an epoch's loader begins by drawing one
        for stopping in trainer.early_stopping_callbacks:
            stopped = checkpoint["callbacks"].get(stopping.state_key)
            if stopped is not None:
                stopped["patience"] = stopping.patience  # it may have been raised
                trainer.should_stop = stopped["wait_count"] >= stopping.patience
                if trainer.should_stop:
                    log.warning(
                        f"note        {stopped['wait_count']} epochs without a better {self.monitor} have ended this "
                        "training already: to train longer, raise training.patience"
                    )


def follow_schedule(trainer: Trainer) -> None:
    """Set the learning rates that the schedule has for this step, if it became another with training.max_epochs."""
    for config in trainer.lr_scheduler_configs:
        schedule = config.scheduler
        assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
        for group, base, factor in zip(
            schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(schedule.last_epoch)


def all_random_states(trainer: Trainer) -> list[dict[str, Any]]:
    """Of each process that trains: their dropout differs."""
    states: list[Any] = [None] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(states, random_states())
    else:
        states = [random_states()]
    return states


def random_states() -> dict[str, Any]:
    """The states of all random generators, as values that a checkpoint of plain weights can hold."""
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
