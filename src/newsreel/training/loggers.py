"""The Lightning loggers of a run; their settings are in config/loggers.py."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger, Logger
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from newsreel.config import loggers as config
from newsreel.config.loggers import CSV, LoggerSettings, MLflow, TensorBoard, WandB
from newsreel.core.storage import write_atomically
from newsreel.runs.run_dir import config_text

Metrics = dict[str, float]


class RunLogger(Logger):
    """A Lightning logger with hooks for the start and the end of a run."""

    def start(self, config: dict[str, Any], choices: Mapping[str, str | None]) -> None:
        """Called when a run with this config and these choices starts or is resumed."""

    def finish(self, settings: dict[str, Any], metrics: Metrics, step: int) -> None:
        """Called when a run ends. settings: those that distinguish it from other runs; step: number of steps."""


class NoLogger(RunLogger, DummyLogger):
    """Logs nothing."""

    def __init__(self, run_dir: Path, first_step: int) -> None:
        super().__init__()


class RunTensorBoardLogger(RunLogger, TensorBoardLogger):
    """TensorBoard events in `<run directory>/tensorboard`, with the config as text.

    A resumed run writes another event file with `purge_step=first_step`: TensorBoard then discards earlier events from
    that step on, so that none is shown twice.
    """

    def __init__(self, run_dir: Path, first_step: int) -> None:
        super().__init__(run_dir, name="tensorboard", version="", purge_step=first_step)
        self.first_step = first_step

    @property
    def writer(self) -> SummaryWriter:
        writer: SummaryWriter = self.experiment
        return writer

    @rank_zero_only
    def start(self, config: dict[str, Any], choices: Mapping[str, str | None]) -> None:
        lines = [f"    {line}" for line in config_text(config).splitlines()]
        self.writer.add_text("config", "\n".join(lines), self.first_step)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log `epoch` with the metrics of training steps only, as `train/epoch`."""
        epoch = {"train/epoch": metrics["epoch"]} if "train/loss_step" in metrics else {}
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"} | epoch, step)

    @rank_zero_only
    def finish(self, settings: dict[str, Any], metrics: Metrics, step: int) -> None:
        """Add the run to HPARAMS: its settings, and the final metrics as scalars.

        torch's experiment summary is omitted: TensorBoard would use that of the first run for the columns of all runs.
        Without it, TensorBoard derives the columns from the runs, and shows those that differ first.
        """
        self.log_metrics(metrics, step)
        _, begin, end = hparams(settings, metrics)  # type: ignore[no-untyped-call]
        for summary in (begin, end):
            self.writer._get_file_writer().add_summary(summary, step)  # type: ignore[no-untyped-call]
        self.writer.close()

    def save(self) -> None:
        """Flush the events. Unlike TensorBoardLogger, do not write hparams.yaml: config.yaml has the settings."""
        self.writer.flush()

    def finalize(self, status: str) -> None:
        """Keep the event file open between fitting and testing, so that a run has one; `finish` closes it."""
        self.save()


class RunCSVLogger(RunLogger):
    """`metrics.csv`: one row per logging event, with the step and the metrics.

    Unlike Lightning's CSVLogger, a resumed run keeps the rows before `first_step`, and a killed process loses at most
    the last line.
    """

    def __init__(self, run_dir: Path, first_step: int) -> None:
        super().__init__()
        self.file = run_dir / "metrics.csv"
        self.first_step = first_step
        self.columns = ["step", "epoch"]

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def start(self, config: dict[str, Any], choices: Mapping[str, str | None]) -> None:
        rows = [row for row in self._rows() if int(row["step"]) < self.first_step]
        self.columns += [name for name in (rows[0] if rows else {}) if name not in self.columns]
        write_atomically(self.file, self._lines([dict(zip(self.columns, self.columns, strict=True)), *rows]))

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        new = [name for name in metrics if name not in self.columns]
        if new:
            rows = self._rows()
            self.columns += new
            write_atomically(self.file, self._lines([dict(zip(self.columns, self.columns, strict=True)), *rows]))
        with self.file.open("a", encoding="utf-8", newline="") as file:
            file.write(self._lines([{"step": step, **metrics}]))

    def log_hyperparams(self, *arguments: Any, **named: Any) -> None:
        """Does nothing: config.yaml has the settings."""

    def _rows(self) -> list[dict[str, str]]:
        """The rows of the file without an incomplete last line."""
        if not self.file.exists():
            return []
        complete, _, _ = self.file.read_text(encoding="utf-8").rpartition("\n")
        return list(csv.DictReader(io.StringIO(complete)))

    def _lines(self, rows: list[dict[str, Any]]) -> str:
        lines = io.StringIO()
        csv.DictWriter(lines, self.columns, lineterminator="\n").writerows(rows)
        return lines.getvalue()


class RunWandbLogger(RunLogger, WandbLogger):
    """A run of Weights & Biases, with local files in `<run directory>/wandb`.

    A resumed run keeps its id. Steps logged after the last checkpoint appear twice, since W&B cannot delete them.
    """

    def __init__(self, run_dir: Path, first_step: int, mode: str, project: str, entity: str | None) -> None:
        super().__init__(
            name=f"{run_dir.parent.name}/{run_dir.name}",
            save_dir=run_dir,
            id=read_id(run_dir),
            project=project,
            entity=entity,
            mode=mode,
            reinit="create_new",  # otherwise a job of a sweep would continue the run of a failed one
        )
        self.run_dir = run_dir

    @rank_zero_only
    def start(self, config: dict[str, Any], choices: Mapping[str, str | None]) -> None:
        self.log_hyperparams({"choices": choices, **config})
        write_id(self.run_dir, self.version)

    @rank_zero_only
    def finish(self, settings: dict[str, Any], metrics: Metrics, step: int) -> None:
        self.log_metrics(metrics, step)
        self.experiment.finish()


class RunMLflowLogger(RunLogger, MLFlowLogger):
    """A run in MLflow's database or on its server; a resumed run keeps its id."""

    def __init__(self, run_dir: Path, first_step: int, tracking_uri: str, experiment_name: str) -> None:
        if tracking_uri.startswith("sqlite:///"):
            Path(tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self.known_id = read_id(run_dir)
        super().__init__(
            experiment_name=experiment_name,
            run_name=f"{run_dir.parent.name}/{run_dir.name}",
            tracking_uri=tracking_uri,
            run_id=self.known_id,
        )
        self.run_dir = run_dir

    @rank_zero_only
    def start(self, config: dict[str, Any], choices: Mapping[str, str | None]) -> None:
        if self.known_id is None:  # MLflow does not accept changed values, such as of training.max_epochs
            self.log_hyperparams({"choices": choices, **config})
            write_id(self.run_dir, self.version)

    @rank_zero_only
    def finish(self, settings: dict[str, Any], metrics: Metrics, step: int) -> None:
        self.log_metrics(metrics, step)
        self.finalize("success")


ID_FILE = "logger_id"  # in the run directory: the id of the run at a tracking service


def read_id(run_dir: Path) -> str | None:
    file = run_dir / ID_FILE
    return file.read_text(encoding="utf-8").strip() if file.exists() else None


def write_id(run_dir: Path, run: str | None) -> None:
    write_atomically(run_dir / ID_FILE, f"{run}\n")


LOGGERS: dict[type[LoggerSettings], Any] = {
    TensorBoard: RunTensorBoardLogger,
    CSV: RunCSVLogger,
    WandB: RunWandbLogger,
    MLflow: RunMLflowLogger,
    config.NoLogger: NoLogger,
}


def build_logger(settings: LoggerSettings, run_dir: Path, first_step: int) -> RunLogger:
    """The logger of a run. first_step: the first optimizer step that has not been logged yet."""
    logger: RunLogger = LOGGERS[type(settings)](run_dir, first_step, **vars(settings))
    return logger
