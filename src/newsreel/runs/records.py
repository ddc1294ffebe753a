"""TODO."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser

from newsreel.core.errors import UserError
from newsreel.runs.run_dir import (
    COMMAND_FILE,
    CONFIG_FILE,
    FAILED_FILE,
    LABELS_FILE,
    METRICS_FILE,
    PRUNED_FILE,
    read_config,
    read_json,
)

MARKS = (CONFIG_FILE, COMMAND_FILE, FAILED_FILE, PRUNED_FILE)  # one of them makes a folder that of a run
NOT_DECISIVE = ("seed", "paths", "published", "logger")  # leave the figures as they are, or are averaged over
Status = Literal["finished", "failed", "pruned", "unfinished"]


@dataclass(frozen=True)
class Run:
    """A run folder, whatever became of the run."""

    folder: Path
    status: Status
    message: str  # of a run without results
    choices: dict[str, str]  # of each group of the config; empty if it is not known
    settings: dict[str, Any]  # section.key: value; only those of its command line if it failed before it began
    named: list[str]  # the keys that stood on its command line
    seed: object
    metric: str  # what it followed while training
    results: dict[str, float]  # what metrics.json holds, without
    environment: dict[str, Any]

    def value(self, column: str) -> Any:
        """What a column of the comparison says of this run, None if that is not known."""
        return self.choices.get(column) if "." not in column else self.settings.get(column)

    @property
    def corpus(self) -> str:
        return self.choices.get("data") or str(self.settings.get("data._target_", "unknown")).rpartition(".")[2]

    @property
    def identity(self) -> str:
        """The same for runs that differ in nothing but their seed."""
        return json.dumps([self.choices, self.settings], sort_keys=True, default=str)


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs at or below the folders, in the order of their names. Raises UserError for one that is not there."""
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: name run folders, sweeps or folders of them, such as outputs")
    found = {path.resolve(): path for folder in folders for path in run_folders(folder)}
    return [read_run(path) for path in found.values()]


def run_folders(folder: Path) -> Iterator[Path]:
    names = os.listdir(folder)
    if any(mark in names for mark in MARKS):
        yield folder
        return
    for name in sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)):
        if not name.startswith(".") and (folder / name).is_dir():
            yield from run_folders(folder / name)


def read_run(folder: Path) -> Run:
    """What is known of a run. Raises UserError for a file that is not as a run has written it."""
    results = read_json(folder / METRICS_FILE)
    failure, pruning = read_json(folder / FAILED_FILE), read_json(folder / PRUNED_FILE)
    command = read_json(folder / COMMAND_FILE) or failure or pruning
    labels = read_json(folder / LABELS_FILE)
    asked = parse(command.get("overrides", []))
    config = flat(read_config(folder)) if (folder / CONFIG_FILE).exists() else asked
    choices = {
        name: choice
        for name, choice in command.get("choices", {}).items()
        if choice is not None and name not in NOT_DECISIVE
    }
    status: Status = (
        "finished" if results else "failed" if failure else "pruned" if pruning else "unfinished"
    )  # fmt: skip
    messages = {"failed": failure.get("message"), "pruned": pruning.get("message"), "unfinished": "has no results yet"}
    return Run(
        folder,
        status,
        messages.get(status) or "",
        choices,
        {key: value for key, value in config.items() if key.partition(".")[0] not in NOT_DECISIVE},
        [key for key in asked if key.partition(".")[0] not in NOT_DECISIVE and "." in key],
        config.get("seed"),
        labels.get("metric") or ("accuracy" if "val/accuracy" in results else "f1_micro"),
        {name: value for name, value in results.items() if name != "environment"},
        results.get("environment", {}),
    )


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a config as section.key: value."""
    sections = {name: value if isinstance(value, dict) else {"": value} for name, value in config.items()}
    return {
        f"{name}.{key}".removesuffix("."): value for name, section in sections.items() for key, value in section.items()
    }


def parse(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of a command line."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {str(override.key_or_group): override.value() for override in parsed if not override.is_delete()}
