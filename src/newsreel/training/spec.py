"""The specification of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from newsreel.config.schema import Experiment


@dataclass(frozen=True)
class RunSpec:
    """What to train, where to write it, and the command line."""

    experiment: Experiment
    run_dir: Path
    choices: Mapping[str, str | None]  # of each config group
    overrides: Sequence[str]  # key=value, as typed
    started: float  # `time.perf_counter()` when the command started
    resumed: Sequence[Sequence[str]] = ()  # overrides of every resume that raised a limit
    hydra_overrides: Sequence[str] = ()  # hydra.run.dir=…, if typed

    @property
    def all_overrides(self) -> list[str]:
        """The overrides of the start and of every resume, without Hydra's own."""
        return [*self.overrides, *(override for more in self.resumed for override in more)]
