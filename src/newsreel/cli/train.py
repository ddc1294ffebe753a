"""`python train.py`: a new run, or a resumed one."""

import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from newsreel.core.dist import dist_env, limit_threads
from newsreel.core.errors import UserError
from newsreel.runs.run_dir import config_choices, holds_run
from newsreel.training.launch import lock_on_rank_zero, run_or_spawn
from newsreel.training.resume import resume


def train(config: DictConfig, started: float) -> dict[str, Any]:
    """Train and test what a config describes, or go on with the run that `resume` names; returns metrics.json.

    started: `time.perf_counter()` when the command began. Raises UserError.
    """
    hydra = HydraConfig.get()
    is_job = hydra.mode is RunMode.MULTIRUN
    if is_job and hydra.job.num:
        started = time.perf_counter()  # a sweep's later jobs find everything imported
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    overrides = list(hydra.overrides.task)
    if settings["resume"] is None:
        return train_new(settings, Path(hydra.runtime.output_dir), overrides, started)
    if is_job:
        raise UserError("resume goes on with one run, and -m starts many: leave one of them out.")
    return resume(Path(settings["resume"]).expanduser(), settings, overrides, started)


def train_new(settings: dict[str, Any], run_dir: Path, overrides: list[str], started: float) -> dict[str, Any]:
    """A run in a directory of its own. Raises UserError if the directory holds another."""
    limit_threads(settings)

    from newsreel.config.schema import read_experiment
    from newsreel.sweeps.pruning import pruning_callbacks
    from newsreel.training.spec import RunSpec

    hydra = HydraConfig.get()
    experiment = read_experiment(settings)
    if dist_env().is_rank_zero and holds_run(run_dir):
        raise UserError(f"{run_dir} holds another run, which would be lost: name another folder, or remove that one.")
    spec = RunSpec(experiment, run_dir, config_choices(hydra.runtime.choices), overrides, started)
    callbacks = pruning_callbacks(hydra) if hydra.mode is RunMode.MULTIRUN else []
    with lock_on_rank_zero(run_dir):
        return run_or_spawn(spec, callbacks=callbacks)
