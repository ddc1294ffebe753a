"""Time of training, with that of the runs that a run has learned from."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from newsreel.core.errors import UserError, first_line
from newsreel.core.paths import user_path
from newsreel.runs.records import members_of
from newsreel.runs.run_dir import (
    COMMAND_FILE,
    CONFIG_FILE,
    ENSEMBLE_FILE,
    FIT_TIME,
    SOURCES_TIME,
    read_config,
    read_metrics,
)
from newsreel.runs.trained_run import read_command

log = logging.getLogger(__name__)


def source_dirs(config: dict[str, Any], directory: Path) -> list[Path]:
    """The runs and ensembles that a training learns from: the teachers in data.pseudo_labels, and `pretrained`.

    directory: what relative paths in the config are relative to.
    """
    teachers = config.get("data", {}).get("pseudo_labels") or []
    named = {"data.pseudo_labels": [teachers] if isinstance(teachers, str) else teachers}
    named["pretrained"] = [config["pretrained"]] if config.get("pretrained") else []
    return [(directory / user_path(path, key)).resolve() for key, paths in named.items() for path in paths]


def seconds_of_sources(config: dict[str, Any]) -> dict[str, float]:
    """The metric of the seconds that all took to train that a training learns from; empty if it learns from no run."""
    sources = source_dirs(config, Path.cwd())
    seconds = total_fit_seconds(sources) if sources else None
    return {} if seconds is None else {SOURCES_TIME: round(seconds, 3)}


def total_fit_seconds(run_dirs: Iterable[Path]) -> float | None:
    """The sum of `fit_seconds`; None, with a warning, if a run directory cannot be read: no results are worth less."""
    try:
        return sum(fit_seconds(run_dirs).values())
    except UserError as error:
        log.warning(f"{SOURCES_TIME} is left out of the results: {first_line(error)}")
        return None


def fit_seconds(run_dirs: Iterable[Path]) -> dict[Path, float]:
    """Seconds of training of runs and of all that they have learned from, each run once.

    Members stand for an ensemble. Of a run that is not there any more, what learned from it knows the seconds.
    """
    seconds: dict[Path, float] = {}
    waiting = [run_dir.resolve() for run_dir in run_dirs]
    while waiting:
        run_dir = waiting.pop()
        if run_dir in seconds:
            continue
        if (run_dir / ENSEMBLE_FILE).is_file():
            waiting += [(run_dir / member.run).resolve() for member in members_of(run_dir)]
            continue
        metrics = read_metrics(run_dir)
        seconds[run_dir] = metrics.get(FIT_TIME, 0.0)
        if not (run_dir / CONFIG_FILE).is_file():
            continue
        start = read_command(run_dir).start if (run_dir / COMMAND_FILE).is_file() else Path("/")
        sources = source_dirs(read_config(run_dir), start)
        if all(source.is_dir() for source in sources):
            waiting += sources
        else:
            seconds[run_dir] += metrics.get(SOURCES_TIME, 0.0)
    return seconds
