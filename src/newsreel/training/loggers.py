"""The Lightning loggers of a run; config/loggers.py has their settings."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger, Logger
from omegaconf import OmegaConf
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from newsreel.config import loggers as config
from newsreel.config.loggers import CSV, LoggerSettings, MLflow, TensorBoard, WandB
from newsreel.core.storage import write_atomically

Figures = dict[str, float]


class RunLogger(Logger):
    """A Lightning logger that is told of a run's beginning and end, too."""

    def start(self, config: dict[str, Any], choices: dict[str, str]) -> None:
        """A run with this config, of these choices, begins or goes on."""

    def finish(self, settings: dict[str, Any], figures: Figures, step: int) -> None:
        """A run has ended with these figures after so many steps. settings: by which to tell it from others."""


class NoLogger(RunLogger, DummyLogger):
    """Keeps nothing."""

    def __init__(self, run_dir: Path, first_step: int) -> None:
        super().__init__()


class RunTensorBoardLogger(RunLogger, TensorBoardLogger):
    """TensorBoard events in `<run folder>/tensorboard`, with the config as text from the start.

    A run that goes on writes a file beside the one that is there, beginning with `first_step`: TensorBoard then drops
    that step and the later ones from what it read before, so that none is shown twice.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        super().__init__(folder, name="tensorboard", version="", purge_step=first_step)
        self.first_step = first_step

    @property
    def writer(self) -> SummaryWriter:
        writer: SummaryWriter = self.experiment
        return writer

    @rank_zero_only
    def start(self, config: dict[str, Any], choices: dict[str, str]) -> None:
        yaml = OmegaConf.to_yaml(OmegaConf.create(config))
        self.writer.add_text("config", "\n".join(f"    {line}" for line in yaml.splitlines()), self.first_step)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Lightning's `epoch` stands with the figures of training steps, and not twice more where an epoch ends."""
        epoch = {"train/epoch": metrics["epoch"]} if "train/loss_step" in metrics else {}
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"} | epoch, step)

    @rank_zero_only
    def finish(self, settings: dict[str, Any], figures: Figures, step: int) -> None:
        """The run's entry in HPARAMS: its settings, and the figures as scalars.

        Without torch's description of the columns: where TensorBoard finds one it takes the first run's for all runs,
        and else makes them of what the runs have, with those in which they differ first and chosen.
        """
        self.log_metrics(figures, step)
        _, begin, end = hparams(settings, figures)  # type: ignore[no-untyped-call]
        for summary in (begin, end):
            self.writer._get_file_writer().add_summary(summary, step)  # type: ignore[no-untyped-call]
        self.writer.close()

    def save(self) -> None:
        """Flush the events; the config has its place in config.yaml, not in a file beside them."""
        self.writer.flush()

    def finalize(self, status: str) -> None:
        """Keep the event file open between fitting and testing, so that a run has one; `finish` ends it."""
        self.save()


class RunCSVLogger(RunLogger):
    """`metrics.csv`: a row each time that figures were logged, with the step and the figures of that time.

    Lightning's CSVLogger begins a new file where a run goes on, and may lose one while it adds a column. Here what
    came before `first_step` stays, and the file is whole whenever the process is killed, but for its last line.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        super().__init__()
        self.file = folder / "metrics.csv"
        self.first_step = first_step
        self.columns = ["step", "epoch"]

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def start(self, config: dict[str, Any], choices: dict[str, str]) -> None:
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
        """They are in config.yaml."""

    def _rows(self) -> list[dict[str, str]]:
        """What the file holds; a last line that a kill has cut off is left out."""
        if not self.file.exists():
            return []
        whole, _, _ = self.file.read_text(encoding="utf-8").rpartition("\n")
        return list(csv.DictReader(io.StringIO(whole)))

    def _lines(self, rows: list[dict[str, Any]]) -> str:
        lines = io.StringIO()
        csv.DictWriter(lines, self.columns, lineterminator="\n").writerows(rows)
        return lines.getvalue()


class RunWandbLogger(RunLogger, WandbLogger):
    """A run of Weights & Biases, whose local files are in `<run folder>/wandb`.

    A run that goes on keeps its id, and what was logged after its last checkpoint is there twice: there is no taking
    back.
    """

    def __init__(self, folder: Path, first_step: int, mode: str, project: str, entity: str | None) -> None:
        super().__init__(
            name=f"{folder.parent.name}/{folder.name}",
            save_dir=folder,
            id=kept_id(folder),
            project=project,
            entity=entity,
            mode=mode,
            reinit="create_new",  # else a job of a sweep would go on in the run of one that failed before it
        )
        self.folder = folder

    @rank_zero_only
    def start(self, config: dict[str, Any], choices: dict[str, str]) -> None:
        self.log_hyperparams({"choices": choices, **config})
        keep_id(self.folder, self.version)

    @rank_zero_only
    def finish(self, settings: dict[str, Any], figures: Figures, step: int) -> None:
        self.log_metrics(figures, step)
        self.experiment.finish()


class RunMLflowLogger(RunLogger, MLFlowLogger):
    """A run in MLflow's database or on its server; one that goes on keeps its id."""

    def __init__(self, folder: Path, first_step: int, tracking_uri: str, experiment_name: str) -> None:
        if tracking_uri.startswith("sqlite:///"):
            Path(tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self.known = kept_id(folder)
        super().__init__(
            experiment_name=experiment_name,
            run_name=f"{folder.parent.name}/{folder.name}",
            tracking_uri=tracking_uri,
            run_id=self.known,
        )
        self.folder = folder

    @rank_zero_only
    def start(self, config: dict[str, Any], choices: dict[str, str]) -> None:
        if self.known is None:  # MLflow refuses another value of what it knows, such as training.max_epochs
            self.log_hyperparams({"choices": choices, **config})
            keep_id(self.folder, self.version)

    @rank_zero_only
    def finish(self, settings: dict[str, Any], figures: Figures, step: int) -> None:
        self.log_metrics(figures, step)
        self.finalize("success")


ID_FILE = "logger_id"  # of a run at a service, in its folder


def kept_id(folder: Path) -> str | None:
    file = folder / ID_FILE
    return file.read_text(encoding="utf-8").strip() if file.exists() else None


def keep_id(folder: Path, run: str | None) -> None:
    write_atomically(folder / ID_FILE, f"{run}\n")


LOGGERS: dict[type[LoggerSettings], Any] = {
    TensorBoard: RunTensorBoardLogger,
    CSV: RunCSVLogger,
    WandB: RunWandbLogger,
    MLflow: RunMLflowLogger,
    config.NoLogger: NoLogger,
}


def build_logger(settings: LoggerSettings, run_dir: Path, first_step: int) -> RunLogger:
    """The logger of the run in `run_dir`. first_step: the first step of the optimizer that it has not logged yet."""
    logger: RunLogger = LOGGERS[type(settings)](run_dir, first_step, **vars(settings))
    return logger
