"""The Hydra sweeper of `sweep=optuna`. Hydra requires this namespace; the search itself is newsreel.sweeps.search."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from newsreel.core.dist import limit_threads
from newsreel.core.errors import UserError
from newsreel.sweeps.jobs import own_settings, settings_of_job, sweeper_settings


class OptunaSweeper(Sweeper):
    """Launches trials with settings chosen by Optuna; configured by configs/hydra/sweeper/optuna.yaml."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        try:
            from newsreel.sweeps.search import Search
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            install = f"{Path(sys.executable).name} -m pip install optuna"
            raise UserError(f"sweep=optuna needs a package that is not installed: {install}") from error
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides, search_dir = parser.parse_overrides(arguments), Path(self.config.hydra.sweep.dir)
        search = Search(sweeper_settings(self.settings), overrides, own_settings(self.config), search_dir)
        self.validate_batch_is_legal(search.examples()[:1])
        search.require_possible(self.check)
        search.run(self.launcher.launch)

    def check(self, overrides: Sequence[str]) -> None:
        """Raise UserError if a trial's settings cannot work. What depends on the machine that trains it is left out."""
        from newsreel.config.schema import read_experiment

        assert self.config is not None
        assert self.hydra_context is not None
        settings = settings_of_job(self.hydra_context, self.config, overrides)
        limit_threads(settings)
        read_experiment(settings, is_trained=False)
