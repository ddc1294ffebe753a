"""Resuming a stopped run in its run directory.

Imports lazily: libraries with thread pools must be imported after `limit_threads`.
"""

import logging
import math
from pathlib import Path
from typing import Any

from newsreel.core.dist import dist_env, limit_threads
from newsreel.core.errors import UserError
from newsreel.core.paths import working_directory
from newsreel.core.storage import remove_partial_files
from newsreel.runs.run_dir import (
    METRICS_FILE,
    PRETRAIN,
    TRAIN,
    check_format,
    read_config,
    read_metrics,
    read_script,
)
from newsreel.training.interrupts import resumable
from newsreel.training.launch import lock_on_rank_zero, run_or_spawn

log = logging.getLogger(__name__)

RAISABLE = ("training.max_epochs", "training.patience")
CHANGEABLE = (  # settings that metrics do not depend on, or only in the last digits
    "trainer.accelerator",
    "trainer.threads",
    "trainer.log_every_n_steps",
    "trainer.histograms",
    "trainer.checkpoint_every_s",
    "paths.corpora_dir",
    "paths.cache_dir",
)
TRUST = "+embedding.trust_pickle=true"
Settings = dict[str, Any]


def resume(
    run_dir: Path, composed: Settings, overrides: list[str], started: float, script: str = TRAIN
) -> dict[str, Any]:
    """Continue a run from its last checkpoint, test it and return the content of metrics.json.

    composed: the config of this command, of which only the keys in `overrides` are used. script: this command. A
    finished run is left unchanged unless training.max_epochs or training.patience is raised. Raises UserError.
    """
    run_dir = run_dir.resolve()
    check_format(run_dir)
    if (started_by := read_script(run_dir)) != script:
        raise UserError(f"{run_dir} was started by {started_by}: resume it with python {started_by} resume={run_dir}.")
    config = read_config(run_dir, "embedding", "training", "trainer", "paths")
    overrides = require_trust(overrides, config["embedding"], run_dir)
    previous = {key: config["training"][key.rpartition(".")[2]] for key in RAISABLE}
    changes = changed_settings(overrides, composed, config)
    limit_threads(config)

    from newsreel.config.pretraining import read_pretraining
    from newsreel.config.schema import read_experiment
    from newsreel.runs.trained_run import read_command
    from newsreel.training.checkpoints import read_resume_state
    from newsreel.training.pretrain import pretrain_run
    from newsreel.training.spec import RunSpec

    experiment = read_pretraining(config) if script == PRETRAIN else read_experiment(config)
    command = read_command(run_dir)
    if not Path(command.directory).is_dir():
        log.warning(
            f"note        {command.directory}, where this run was started, does not exist: relative paths start in the "
            "current directory"
        )
    with resumable(run_dir), lock_on_rank_zero(run_dir), working_directory(command.start):
        metrics = run_dir / METRICS_FILE
        if metrics.exists():
            results = read_metrics(run_dir)
            if reason := nothing_to_do(results.get("train/epochs", math.inf), previous, config["training"]):
                log.info(f"{run_dir} is finished: {reason}. Its metrics are in metrics.json and report.md.")
                return results
        if dist_env().is_rank_zero:
            remove_partial_files(run_dir)
        state = read_resume_state(run_dir)
        if metrics.exists() and state is None:
            raise UserError(f"{run_dir} cannot be resumed: it has no checkpoints/last.ckpt.")
        log.info(f"resumed     {state or 'from the beginning: it was stopped before its first checkpoint'}")
        resumed = [*command.resumed, *([changes] if changes else [])]
        typed = list(command.overrides)
        spec: RunSpec[Any] = RunSpec(
            experiment, run_dir, command.choices, typed, started, resumed, command.hydra_overrides, script
        )
        return pretrain_run(spec, state) if script == PRETRAIN else run_or_spawn(spec, state)


def require_trust(overrides: list[str], embedding: Settings, run_dir: Path) -> list[str]:
    """The overrides without TRUST. Raises UserError if the run opens a pickle and they do not have it."""
    if embedding.get("trust_pickle") and TRUST not in overrides:
        raise UserError(
            f"{run_dir} opens {embedding.get('path')}, a pickle, which runs any code that its author put into it. If "
            f"you trust the run and the file, add {TRUST}."
        )
    return [override for override in overrides if override != TRUST]


def changed_settings(overrides: list[str], composed: Settings, config: Settings) -> list[str]:
    """Apply the allowed overrides to the config of a resumed run; returns those that raise a limit.

    Raises one UserError that lists all other overrides.
    """
    problems, raised = [], []
    for override in overrides:
        key = override.partition("=")[0]
        if key == "resume":
            continue
        if key == "trainer":  # trainer=cpu
            changed = composed["trainer"]["devices"] not in (None, config["trainer"].get("devices"))
            key = "trainer.devices" if changed else "trainer.accelerator"
        section, _, name = key.rpartition(".")
        if key not in (*RAISABLE, *CHANGEABLE):
            problems.append(f"{key} cannot be changed when a run is resumed: its config.yaml applies. Leave it out")
            continue
        value, before = composed[section][name], config[section].get(name)
        if key in RAISABLE and as_number(value) < as_number(before):
            problems.append(f"{key} can be raised, not lowered: it is {value}, and the run has {format_limit(before)}")
        elif key in RAISABLE and value != before:
            raised.append(override)
        config[section][name] = value
    if problems:
        allowed = (
            f"With resume=, only {', '.join((*RAISABLE, *CHANGEABLE))} can be set. For a new run, leave out resume=."
        )
        raise UserError("\n".join([*problems, allowed]))
    return raised


def as_number(limit: Any) -> float:
    """A limit as a number; invalid values count as infinite, and the check of the config reports them."""
    return math.inf if not isinstance(limit, (int, float)) else limit


def format_limit(limit: Any) -> str:
    return "no limit" if limit is None else str(limit)


def nothing_to_do(num_epochs: float, previous: Settings, training: Settings) -> str:
    """Why a finished run has nothing to do; empty if the limit that ended it was raised."""
    if training.get("solver") == "newton" and num_epochs >= len(training["l2_path"]):
        return f"it was trained with all {num_epochs} penalties of training.l2_path"
    if num_epochs < previous["training.max_epochs"]:  # patience ended it
        if training["patience"] != previous["training.patience"]:
            return ""
        return (
            f"it stopped after epoch {num_epochs} because the validation metric had not improved for "
            f"{previous['training.patience']} epochs. To train longer, raise training.patience"
        )
    if training["max_epochs"] != previous["training.max_epochs"]:
        return ""
    return f"it trained for {num_epochs} epochs. To train longer, raise training.max_epochs"
