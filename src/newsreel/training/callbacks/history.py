"""Records and prints the metrics of every epoch."""

import logging
import math
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from newsreel.core.errors import UserError
from newsreel.models.optimization import CheckpointPolicy
from newsreel.models.trained_module import TrainedModule
from newsreel.training.monitor import Monitor

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 30.0


class History(Callback):
    """Records the metrics of each epoch and logs a line; without a progress bar, also within long epochs."""

    def __init__(self, monitor: Monitor, checkpoint: CheckpointPolicy, lines_within_epochs: bool) -> None:
        self.monitor = monitor
        self.checkpoint_policy = checkpoint
        self.lines_within_epochs = lines_within_epochs
        self.epochs: list[dict[str, float]] = []
        self.first_step = 0.0  # time.perf_counter() after the first optimizer step of this process; 0: there was none
        self.seconds_before = 0.0  # fitting time before this process resumed the run
        self.is_started = False  # whether training has begun in this process
        self._fit_started = 0.0
        self._epoch_seconds_before = 0.0
        self._training_seconds = 0.0
        self._num_units = 0
        self._epoch_started = self._line_at = 0.0
        self._epoch_units = 0

    @property
    def units_per_second(self) -> float:
        """Training speed over all epochs, without validation."""
        return self._num_units / self._training_seconds if self._training_seconds else 0.0

    @property
    def best_epoch(self) -> dict[str, float]:
        """The metrics of the checkpoint's epoch: the last, or the first with the highest validation metric."""
        if self.checkpoint_policy == "last":
            return self.epochs[-1]
        return max(self.epochs, key=lambda epoch: self.monitor.score(epoch))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fit_started = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.is_started = True
        self._line_at = time.perf_counter()
        self._epoch_started = (
            self._line_at - self._epoch_seconds_before
        )  # there is no on_train_epoch_start for a resumed epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_started = self._line_at = time.perf_counter()
        self._epoch_units = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.first_step = self.first_step or now
        assert isinstance(pl_module, TrainedModule)
        self._epoch_units += pl_module.batch_size_of(batch)
        if self.lines_within_epochs and now - self._line_at > LINE_EVERY_SECONDS:
            self._line_at = now
            fraction = (batch_idx + 1) / float(trainer.num_training_batches)
            loss = float(pl_module.last_loss)
            speed = self._epoch_units / (now - self._epoch_started)
            speed_text = f"{speed:,.0f} {pl_module.unit}/s"
            self._log_line(f"  epoch {trainer.current_epoch + 1}: {fraction:4.0%}  loss {loss:.4f}  {speed_text}")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training_seconds += time.perf_counter() - self._epoch_started
        self._num_units += self._epoch_units

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not math.isfinite(metrics["train/loss_epoch"]):
            raise UserError(
                f"The training loss was {metrics['train/loss_epoch']} in epoch {trainer.current_epoch + 1}: training "
                f"diverged. Lower training.learning_rate ({trainer.optimizers[0].defaults['lr']:g}), or set "
                "training.gradient_clip."
            )
        metric = self.monitor.metric
        train_metric = {name: metrics[f"{name}_epoch"] for name in [f"train/{metric}"] if f"{name}_epoch" in metrics}
        validation = {name: value for name, value in metrics.items() if name.startswith("val/")}
        seconds = time.perf_counter() - self._epoch_started
        self.epochs.append(
            {
                "epoch": trainer.current_epoch + 1,
                "train/loss": metrics["train/loss_epoch"],
                **train_metric,
                **({"train/l2": metrics["train/l2"]} if "train/l2" in metrics else {}),
                **validation,
                "time/epoch_s": seconds,
            }
        )
        assert isinstance(pl_module, TrainedModule)
        shown = "".join(f"  {metric} {value:.4f}" for value in train_metric.values())
        self._log_line(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            f"  train loss {metrics['train/loss_epoch']:.4f}{shown}"
            f"  validation loss {metrics['val/loss']:.4f}  {metric} {metrics[f'val/{metric}']:.4f}"
            f"  {self._epoch_units / max(1e-9, seconds):,.0f} {pl_module.unit}/s  {seconds:.1f} s",
        )

    def state_dict(self) -> dict[str, Any]:
        now = time.perf_counter()
        return {
            "epochs": self.epochs,
            "fit_seconds": self.seconds_before + now - self._fit_started,
            "epoch_seconds": now - self._epoch_started,
            "epoch_documents": self._epoch_units,
            "training_seconds": self._training_seconds,
            "num_documents": self._num_units,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]
        self.seconds_before = state_dict["fit_seconds"]
        self._epoch_seconds_before = state_dict["epoch_seconds"]
        self._epoch_units = state_dict["epoch_documents"]
        self._training_seconds = state_dict["training_seconds"]
        self._num_units = state_dict["num_documents"]

    def _log_line(self, line: str) -> None:
        with tqdm.external_write_mode():  # keeps the line apart from a progress bar
            log.info(line)
