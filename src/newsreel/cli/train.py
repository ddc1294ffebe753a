"""`python train.py`: starts a new run or resumes one."""

import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from newsreel.cli.app import as_typed
from newsreel.cli.early import check_documents
from newsreel.core.dist import dist_env, limit_threads
from newsreel.core.errors import UserError
from newsreel.core.paths import user_path
from newsreel.runs.run_dir import config_choices, holds_run
from newsreel.training.interrupts import resumable
from newsreel.training.launch import lock_on_rank_zero, run_or_spawn
from newsreel.training.resume import resume


def train(config: DictConfig, started: float) -> dict[str, Any]:
    """Train and test a new run, or resume the one that `resume` names; returns the content of metrics.json.

    started: `time.perf_counter()` when the command started. Raises UserError.
    """
    hydra = HydraConfig.get()
    if hydra.mode is RunMode.MULTIRUN and hydra.job.num:
        started = time.perf_counter()  # the first job of a sweep counts the imports
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    overrides = list(hydra.overrides.task)
    if settings["resume"] is None:
        return train_new(settings, Path(hydra.runtime.output_dir), overrides, started)
    return resume(user_path(settings["resume"], "resume"), settings, overrides, started)


def train_new(settings: dict[str, Any], run_dir: Path, overrides: list[str], started: float) -> dict[str, Any]:
    """Start a new run. Raises UserError if the directory contains another one."""
    limit_threads(settings)
    check_documents(settings)

    from newsreel.config.schema import read_experiment
    from newsreel.runs.records import training_overrides
    from newsreel.sweeps.pruning import pruning_callbacks
    from newsreel.training.spec import RunSpec

    hydra = HydraConfig.get()
    experiment = read_experiment(settings)
    choices = config_choices(hydra.runtime.choices)
    typed, run_dir_typed = training_overrides(overrides), typed_run_dir(hydra)
    spec = RunSpec(experiment, run_dir, choices, typed, started, hydra_overrides=run_dir_typed)
    callbacks = pruning_callbacks(hydra) if hydra.mode is RunMode.MULTIRUN else []
    with resumable(run_dir), lock_on_rank_zero(run_dir):
        require_free_run_dir(run_dir)
        return run_or_spawn(spec, callbacks=callbacks)


def require_free_run_dir(run_dir: Path) -> None:
    """Raise UserError if a directory contains a run, perhaps one of a process that had its lock until now."""
    if dist_env().is_rank_zero and holds_run(run_dir):
        raise UserError(f"{run_dir} contains another run, which would be lost: name another directory, or remove it.")


def typed_run_dir(hydra: Any) -> list[str]:
    """The override hydra.run.dir=… if it is on the command line of a single run."""
    if hydra.mode is not RunMode.RUN:
        return []
    return [override for override in as_typed(hydra.overrides.hydra) if override.startswith("hydra.run.dir=")]
