"""Records of runs, whatever their status: settings and results, read from their run directories without torch."""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from newsreel.core.errors import UserError, explain
from newsreel.core.json_files import read_json
from newsreel.runs.run_dir import (
    BEST_CHECKPOINT,
    COMMAND_FILE,
    CONFIG_FILE,
    ENSEMBLE_FILE,
    FAILED_FILE,
    FIT_TIME,
    LABELS_FILE,
    PRUNED_FILE,
    SOURCES_TIME,
    TRAINED_WITH,
    Ending,
    read_config,
    read_metrics,
)

MARKER_FILES = (CONFIG_FILE, COMMAND_FILE, FAILED_FILE, PRUNED_FILE)  # a directory with any of them is a run directory
IGNORED_SECTIONS = ("seed", "paths", "published", "logger")  # do not affect metrics, or are averaged over
SWEEPING = ("sweep", "budget_minutes")  # what makes a command line a sweep: a config group with groups in it, and a key
OWN_CORPORA = {"files": "data.train", "hub": "data.name"}  # choices of data → the setting that says which corpus it is
PERPLEXITY = "perplexity"  # the metric of language models, for which lower is better
T = TypeVar("T")
Status = Literal["finished", "failed", "pruned", "unfinished"]


@dataclass(frozen=True)
class Run:
    """The record of a run, finished or not."""

    run_dir: Path
    status: Status
    message: str  # why there are no results; empty for a finished run
    choices: dict[str, str]  # of each config group; empty if unknown
    settings: dict[str, Any]  # section.key: value; only those of the command line if the run failed before it started;
    # also the `data.fingerprint` of the documents, if there are results
    named: list[str]  # keys given on the command line
    seed: object
    metric: str  # monitored in training
    results: dict[str, float]  # content of metrics.json without the environment; `time/fit_s` with `time/sources_s`
    environment: dict[str, Any]
    overrides: Sequence[str] = ()  # of the command line, as typed; empty for an ensemble

    def value(self, column: str) -> Any:
        """The choice or setting of this name, None if it is unknown."""
        return self.choices.get(column) if "." not in column else self.settings.get(column)

    @property
    def corpus(self) -> str:
        """Its name; of the user's own, which share one, with the end of the path or the name on the Hub.

        A language model has the text of the corpus instead, so that it is not compared with classifiers.
        """
        name = self.choices.get("data") or str(self.settings.get("data._target_", "unknown")).rpartition(".")[2]
        if name in OWN_CORPORA:
            source = self.settings.get(OWN_CORPORA[name]) or "unknown"
            paths = [source] if isinstance(source, str) else [str(path) for path in source]
            name = f"{name} ({', '.join('/'.join(Path(path).parts[-2:]) for path in paths)})"
        return f"text of {name}" if self.metric == PERPLEXITY else name

    @property
    def ranking(self) -> float | None:
        """The validation metric, negative where lower is better; None if it is unknown."""
        value = self.results.get(f"val/{self.metric}")
        return -value if value is not None and self.metric == PERPLEXITY else value

    @property
    def identity(self) -> str:
        """Equal for runs that differ only in their seed: with the same settings, on the same documents."""
        return json.dumps([self.choices, self.settings], sort_keys=True, default=str)


def find_runs(directories: Sequence[Path]) -> list[Run]:
    """All runs in or below these directories, sorted by name. Raises UserError if a directory does not exist."""
    for directory in directories:
        if not directory.is_dir():
            raise UserError(
                f"{directory} is not a directory: name run directories, sweeps or directories that contain them, such "
                "as outputs"
            )
    run_dirs = {path.resolve(): path for directory in directories for path in find_run_dirs(directory)}
    return [read_run(path) for path in run_dirs.values()]


def find_run_dirs(directory: Path) -> Iterator[Path]:
    names = os.listdir(directory)
    if ENSEMBLE_FILE in names:  # its members may be inside
        yield directory
    if any(marker in names for marker in MARKER_FILES):
        yield directory
        return
    for name in sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)):
        if not name.startswith(".") and (directory / name).is_dir():
            yield from find_run_dirs(directory / name)


def read_run(run_dir: Path) -> Run:
    """Read the record of a run; one whose files are invalid counts as failed."""
    try:
        return read_valid_run(run_dir)
    except UserError as error:
        return Run(run_dir, "failed", str(error), {}, {}, [], None, "accuracy", {}, {})


def read_valid_run(run_dir: Path) -> Run:
    """Read the record of a run. Raises UserError if a file is invalid."""
    results = read_metrics(run_dir)
    if SOURCES_TIME in results and FIT_TIME in results:
        results[FIT_TIME] += results[SOURCES_TIME]
    if (run_dir / ENSEMBLE_FILE).exists():
        return read_ensemble(run_dir, results)
    failure, pruning = (read_optional(run_dir / name, Ending) for name in (FAILED_FILE, PRUNED_FILE))
    command = read_optional(run_dir / COMMAND_FILE, Ending) or failure or pruning or Ending()
    labels = read_optional(run_dir / LABELS_FILE, MonitoredMetric)
    named = parse(command.overrides)
    config = flat(read_config(run_dir)) if (run_dir / CONFIG_FILE).exists() else named
    choices = {
        name: choice for name, choice in command.choices.items() if choice is not None and name not in IGNORED_SECTIONS
    }
    status: Status = (
        "finished" if results else "failed" if failure else "pruned" if pruning else "unfinished"
    )  # fmt: skip
    ending = failure or pruning
    message = "" if results else ending.message if ending else "has no results yet"
    return Run(
        run_dir,
        status,
        message,
        choices,
        {key: value for key, value in config.items() if key.partition(".")[0] not in IGNORED_SECTIONS}
        | fingerprint_of(results),
        [key for key in named if key.partition(".")[0] not in IGNORED_SECTIONS and "." in key],
        config.get("seed"),
        labels.metric if labels else metric_of(results),
        {name: value for name, value in results.items() if name != "environment"},
        results.get("environment", {}),
        training_overrides(command.overrides),
    )


def metric_of(results: dict[str, Any]) -> str:
    """The monitored metric of a run without labels.json, by what it has measured."""
    return next((name for name in ("accuracy", PERPLEXITY) if f"val/{name}" in results), "f1_micro")


def lacks_epochs(results: Mapping[str, Any], metric: str) -> bool:
    """Whether a training by mini-batches might have gone on.

    That is, an epoch of the last quarter was kept, and is better on validation documents than on training documents.
    """
    is_late = results["train/kept_epoch"] > 0.75 * results["train/epochs"]
    return bool(is_late and results.get(f"train/{metric}", math.inf) < results[f"val/{metric}"] < 1)


def fingerprint_of(results: dict[str, Any]) -> dict[str, str]:
    """The beginning of the corpus's fingerprint, as a setting: the same files may have had other documents."""
    fingerprint = results.get("environment", {}).get("corpus_fingerprint")
    return {} if fingerprint is None else {"data.fingerprint": str(fingerprint)[:8]}


def bytes_to_predict(run_dir: Path) -> int:
    """Size on disk of what predicts: weights, tokenizer and labels; for an ensemble, those of its members."""
    if (run_dir / ENSEMBLE_FILE).exists():
        return sum(bytes_to_predict(run_dir / member.run) for member in members_of(run_dir))
    files = (run_dir / name for name in (BEST_CHECKPOINT, *TRAINED_WITH))
    return sum(file.stat().st_size for file in files if file.exists())


def members_of(directory: Path) -> "list[RunOfEnsemble]":
    """What ensemble.json says about the members. Raises UserError if one is an ensemble itself."""
    members = read_json(directory / ENSEMBLE_FILE, MembersOfEnsemble).members
    for member in members:
        if (directory / member.run / ENSEMBLE_FILE).exists():
            raise UserError(f"{directory / ENSEMBLE_FILE}: the member {member.run} is an ensemble, and must be a run.")
    return members


def read_ensemble(directory: Path, results: dict[str, Any]) -> Run:
    """Read the record of a saved ensemble, whose settings are its members and their weights."""
    stated = members_of(directory)
    labels = read_optional(directory / LABELS_FILE, MonitoredMetric)
    environment = results.pop("environment", {})
    results.pop("runs", None)
    members = [read_run(directory / each.run) for each in stated]
    models = ", ".join(member.choices.get("model", "unknown") for member in members)
    return Run(
        directory,
        "finished" if results else "unfinished",
        "" if results else "has no metrics.json",
        {"model": f"ensemble of {models}", **({"data": members[0].corpus} if members else {})},
        {
            "ensemble.weights": [round(each.weight, 4) for each in stated],
            "ensemble.runs": [each.run for each in stated],
        },
        ["ensemble.weights"],
        ", ".join(dict.fromkeys(str(member.seed) for member in members)),
        labels.metric if labels else "accuracy",
        results,
        environment,
    )


@dataclass(frozen=True)
class RunOfEnsemble:
    """What ensemble.json says about a member."""

    run: str
    weight: float


@dataclass(frozen=True)
class MembersOfEnsemble:
    """What ensemble.json says about the members."""

    members: list[RunOfEnsemble]


@dataclass(frozen=True)
class MonitoredMetric:
    """What labels.json says about the metric."""

    metric: str


def read_optional(file: Path, kind: type[T]) -> T | None:
    """The content of a JSON file, None if it does not exist. Raises UserError if it is invalid."""
    try:
        return read_json(file, kind)
    except FileNotFoundError:
        return None


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a config to section.key: value."""
    sections = {name: value if isinstance(value, dict) else {"": value} for name, value in config.items()}
    return {
        f"{name}.{key}".removesuffix("."): value for name, section in sections.items() for key, value in section.items()
    }


def training_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides of a training, without those that make its command line a sweep: sweep=…, sweep/ladder=…."""
    return [each for each in overrides if re.split("[=/@]", each.lstrip("+~"), maxsplit=1)[0] not in SWEEPING]


def parse(overrides: Sequence[str]) -> dict[str, Any]:
    """Parse the overrides of a command line to key: value. Raises UserError."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UserError(f"the overrides of a run cannot be read: {explain(error)}") from error
    return {str(override.key_or_group): override.value() for override in parsed if not override.is_delete()}
