"""A run as it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from newsreel.config.schema import Experiment


@dataclass(frozen=True)
class RunSpec:
    """What to train, where to write it and how it was asked for."""

    experiment: Experiment
    run_dir: Path
    choices: dict[str, str]  # of each group of the config
    overrides: Sequence[str]  # key=value, as typed
    started: float  # `time.perf_counter()` when the command began
    resumed: Sequence[Sequence[str]] = ()  # for every resume that raised a limit, what was typed

    @property
    def all_overrides(self) -> list[str]:
        """What was typed when the run began and every time that it was resumed."""
        return [*self.overrides, *(override for more in self.resumed for override in more)]
