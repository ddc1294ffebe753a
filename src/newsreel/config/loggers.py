"""The section `logger` of the config. `training/loggers.py` has the loggers themselves."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from newsreel.core.errors import UserError


class LoggerSettings(ABC):
    """What the user chooses of a logger."""

    package: ClassVar[str | None] = None  # that it needs beside newsreel's own; also the name of the extra

    @abstractmethod
    def view_hint(self, folder: Path) -> str:
        """A file, or the command, with which to look at what it keeps of the run in a folder; empty for nothing."""

    def check(self) -> None:
        """Raises UserError if its package is not installed."""
        if self.package is not None and find_spec(self.package) is None:
            raise UserError(
                f"logger={self.package} needs a Python package that is not installed: in the project's folder, "
                f"pip install --editable '.[{self.package}]', or choose logger=tensorboard or logger=csv."
            )


@dataclass(frozen=True, kw_only=True)
class TensorBoard(LoggerSettings):
    def view_hint(self, folder: Path) -> str:
        return f"tensorboard --logdir {folder}"


@dataclass(frozen=True, kw_only=True)
class CSV(LoggerSettings):
    def view_hint(self, folder: Path) -> str:
        return str(folder / "metrics.csv")


@dataclass(frozen=True, kw_only=True)
class WandB(LoggerSettings):
    package: ClassVar[str] = "wandb"

    mode: Literal["offline", "online"]
    project: str
    entity: str | None

    def view_hint(self, folder: Path) -> str:
        return f"wandb sync {folder}/wandb/offline-run-*" if self.mode == "offline" else "https://wandb.ai"


@dataclass(frozen=True, kw_only=True)
class MLflow(LoggerSettings):
    package: ClassVar[str] = "mlflow"

    tracking_uri: str
    experiment_name: str

    def view_hint(self, folder: Path) -> str:
        return (
            f"mlflow ui --backend-store-uri {self.tracking_uri}"
            if "sqlite:" in self.tracking_uri
            else self.tracking_uri
        )


@dataclass(frozen=True, kw_only=True)
class NoLogger(LoggerSettings):
    def view_hint(self, folder: Path) -> str:
        return ""
