"""The Hydra sweeper of `sweep=optuna`. Hydra requires this namespace; the search itself is newsreel.sweeps.search."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from newsreel.core.errors import UserError


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
        settings = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in self.settings.items()
        }
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        config = OmegaConf.masked_copy(self.config, [str(key) for key in self.config if key != "hydra"])
        search = Search(settings, parser.parse_overrides(arguments), config, Path(self.config.hydra.sweep.dir))
        self.validate_batch_is_legal([search.example()])
        search.run(self.launcher.launch)
