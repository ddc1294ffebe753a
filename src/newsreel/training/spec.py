"""The specification of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from typing_extensions import TypeVar

from newsreel.config.pretraining import Pretraining
from newsreel.config.schema import Experiment
from newsreel.runs.run_dir import TRAIN

Kind = TypeVar("Kind", bound=Experiment | Pretraining, default=Experiment)


@dataclass(frozen=True)
class RunSpec(Generic[Kind]):
    """What to train, where to write it, and the command line."""

    experiment: Kind
    run_dir: Path
    choices: Mapping[str, str | None]  # of each config group
    overrides: Sequence[str]  # key=value, as typed
    started: float  # `time.perf_counter()` when the command started
    resumed: Sequence[Sequence[str]] = ()  # overrides of every resume that raised a limit
    hydra_overrides: Sequence[str] = ()  # hydra.run.dir=…, if typed
    script: str = TRAIN  # that was called

    @property
    def all_overrides(self) -> list[str]:
        """The overrides of the start and of every resume, without Hydra's own."""
        return [*self.overrides, *(override for more in self.resumed for override in more)]
