"""Going on with a run that was stopped, in its own folder.

Imports little: libraries with threads of their own come only after `limit_threads`.
"""

import contextlib
import json
import logging
import math
from pathlib import Path
from typing import Any

from newsreel.core.dist import dist_env, limit_threads
from newsreel.core.errors import UserError
from newsreel.core.storage import remove_partial_files
from newsreel.runs.run_dir import COMMAND_FILE, METRICS_FILE, check_format, read_config
from newsreel.training.launch import lock_on_rank_zero, run_or_spawn

log = logging.getLogger(__name__)

RAISABLE = ("training.max_epochs", "training.patience")
CHANGEABLE = (  # what no figure of a run depends on, or only in the last digits
    "trainer.accelerator",
    "trainer.threads",
    "trainer.log_every_n_steps",
    "trainer.histograms",
    "trainer.checkpoint_every_s",
    "paths.corpora_dir",
    "paths.cache_dir",
)
Settings = dict[str, Any]


def resume(folder: Path, composed: Settings, overrides: list[str], started: float) -> dict[str, Any]:
    """Train and test on from the last checkpoint of a run folder; returns what its metrics.json then holds.

    composed: the config of this command, of which only what `overrides` name is taken. A finished run is left as it
    is, unless training.max_epochs or training.patience is raised. Raises UserError.
    """
    folder = folder.resolve()
    check_format(folder)
    config = read_config(folder, "training", "trainer", "paths")
    kept = {key: config["training"][key.rpartition(".")[2]] for key in RAISABLE}
    changes = changed_settings(overrides, composed, config)
    limit_threads(config)

    from newsreel.config.schema import read_experiment
    from newsreel.runs.trained_run import Command, read_fields
    from newsreel.training.checkpoints import read_resume_state
    from newsreel.training.spec import RunSpec

    experiment = read_experiment(config)
    command = Command(**read_fields(folder / COMMAND_FILE, Command))
    if not Path(command.directory).is_dir():
        log.warning(
            f"note        {command.directory}, where this run began, is not here: its relative paths start here"
        )
    first = dist_env().is_rank_zero
    with lock_on_rank_zero(folder), contextlib.chdir(command.start):
        metrics = folder / METRICS_FILE
        if metrics.exists():
            results: dict[str, Any] = json.loads(metrics.read_text(encoding="utf-8"))
            if reason := nothing_to_do(results["train/epochs"], kept, config["training"]):
                log.info(f"{folder} is finished: {reason}. Its figures are in metrics.json and report.md.")
                return results
        if first:
            remove_partial_files(folder)
        progress = read_resume_state(folder)
        if metrics.exists() and progress is None:
            raise UserError(f"{folder} has no checkpoint to go on from: checkpoints/last.ckpt is not there.")
        if first:
            metrics.unlink(missing_ok=True)  # its presence says that a run is finished
        log.info(f"resumed     {progress or 'from the beginning: it was stopped before its first checkpoint'}")
        resumed = [*command.resumed, *([changes] if changes else [])]
        spec = RunSpec(experiment, folder, command.choices, list(command.overrides), started, resumed)
        return run_or_spawn(spec, progress)


def changed_settings(overrides: list[str], composed: Settings, config: Settings) -> list[str]:
    """Take over into a run's config what may change when it goes on; returns the overrides that raise something.

    Raises one UserError that lists every other override.
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
            problems.append(f"{key} cannot change in a run that goes on: its config.yaml counts. Leave it out")
            continue
        value, before = composed[section][name], config[section].get(name)
        if key in RAISABLE and number(value) < number(before):
            problems.append(f"{key} can be raised, not lowered: it is {value}, and the run has {shown(before)}")
        elif key in RAISABLE and value != before:
            raised.append(override)
        config[section][name] = value
    if problems:
        allowed = (
            f"Beside resume= there can be {', '.join((*RAISABLE, *CHANGEABLE))}; for another run leave resume= out."
        )
        raise UserError("\n".join([*problems, allowed]))
    return raised


def number(limit: Any) -> float:
    """A limit as a number; what is none of them is told by the check of the whole config."""
    return math.inf if not isinstance(limit, (int, float)) else limit


def shown(limit: Any) -> str:
    return "no limit" if limit is None else str(limit)


def nothing_to_do(num_epochs: int, kept: Settings, training: Settings) -> str:
    """Why a finished run of so many epochs has no more to do; empty if a limit that ended it was raised."""
    if num_epochs < kept["training.max_epochs"]:  # patience ended it
        if training["patience"] != kept["training.patience"]:
            return ""
        return (
            f"it stopped after epoch {num_epochs} because the validation metric had not improved for "
            f"{kept['training.patience']} epochs. To train longer, raise training.patience"
        )
    if training["max_epochs"] != kept["training.max_epochs"]:
        return ""
    return f"it trained for {num_epochs} epochs. To train longer, raise training.max_epochs"
