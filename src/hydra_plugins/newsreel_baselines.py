"""The Hydra sweeper of `sweep=baselines`. Hydra requires this namespace; the ladder is newsreel.sweeps.baselines."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from newsreel.sweeps.jobs import own_settings, settings_of_job, sweeper_settings


class BaselinesSweeper(Sweeper):
    """Launches the trainings of a ladder within a budget; configured by configs/hydra/sweeper/baselines.yaml."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.started = time.time()
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from newsreel.core.dist import limit_threads

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        own = own_settings(self.config)
        limit_threads(own)

        from newsreel.sweeps.baselines import Baselines

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        ladder = Baselines(
            sweeper_settings(self.settings),
            own,
            parser.parse_overrides(arguments),
            Path(self.config.hydra.sweep.dir),
            self.compose,
            self.combine,
            self.started,
        )
        ladder.run(self.launcher.launch)

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The resolved config of a job."""
        assert self.hydra_context is not None
        assert self.config is not None
        return settings_of_job(self.hydra_context, self.config, overrides)

    def combine(self, run_dirs: Sequence[Path], directory: Path) -> None:
        """Make and test an ensemble of runs with fitted weights, like `evaluate.py run=[…] weights=fit save=…`."""
        from newsreel.inference.evaluate import evaluate

        assert self.config is not None
        settings = {
            "run": [str(run_dir) for run_dir in run_dirs],
            "weights": "fit",
            "split": "test",
            "output": str(directory / "evaluation"),
            "save": str(directory),
            "data": {},
            "trainer": {"accelerator": None, "threads": None},
            "paths": {"corpora_dir": None, "cache_dir": None, "output_dir": str(directory)},
        }
        evaluate(settings, directory / "evaluation")
