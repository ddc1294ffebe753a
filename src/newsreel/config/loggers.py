"""The section `logger` of the config. The loggers themselves are in `training/loggers.py`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from newsreel.core.errors import UserError


class LoggerSettings(ABC):
    """Base class of the settings of a logger."""

    package: ClassVar[str | None] = None  # an optional package that it needs, and the name of the extra

    @abstractmethod
    def view_hint(self, folder: Path) -> str:
        """The file or command to view the logs of the run in a directory; empty if there are no logs."""

    def check(self) -> None:
        """Raise UserError if the package is not installed."""
        if self.package is not None and find_spec(self.package) is None:
            raise UserError(
                f"logger={self.package} needs a Python package that is not installed: run pip install --editable "
                f"'.[{self.package}]' in the project's folder, or choose logger=tensorboard or logger=csv."
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
