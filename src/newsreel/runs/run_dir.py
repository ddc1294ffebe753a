"""The files of a run directory: their names, and functions that read them.

Imports torch lazily: libraries with thread pools must be imported after `limit_threads`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf._utils import get_omega_conf_dumper, get_yaml_loader

from newsreel.core.errors import UserError, first_line
from newsreel.core.json_files import read_json
from newsreel.core.storage import check_zip, file_digest, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

RUN_FORMAT = 2  # of the files below; raise it when an older version could not read them, or misread them
TRAIN, PRETRAIN = "train.py", "pretrain.py"  # the scripts that write run directories
FAILED_FILE = "failed.json"
PRUNED_FILE = "pruned.json"

CONFIG_FILE = "config.yaml"
LABELS_FILE = "labels.json"
COMMAND_FILE = "command.json"
METRICS_FILE = "metrics.json"
FIT_TIME, SOURCES_TIME = "time/fit_s", "time/sources_s"  # metrics: of the training, and of the runs it learned from
ENSEMBLE_FILE = "ensemble.json"  # of the directory of an ensemble, which has no config.yaml
BEST_CHECKPOINT = Path("checkpoints") / "best.ckpt"
INITIAL_FILES = ("run.log", CONFIG_FILE, COMMAND_FILE)  # written before the documents are read
TRAINED_WITH = (LABELS_FILE, "tokenizer.json", "ngrams.npz")  # files that weights cannot be used without
FILES_KEY = "newsreel_files"  # checkpoint key of their digests; checkpoints of newsreel 0.2 and before have none
MAX_CONFIG_BYTES, MAX_CONFIG_DEPTH = 2**18, 20
TABLE_KEY_SUFFIX = "embedding.table.weight"  # of the parameter name of an embedding table in a checkpoint


def holds_run(run_dir: Path) -> bool:
    """Whether a directory contains a run that got further than the checks of its settings."""
    return (run_dir / CONFIG_FILE).exists() and any(path.name not in INITIAL_FILES for path in run_dir.iterdir())


Metrics = dict[str, int | float | dict[str, Any]]  # the content of metrics.json


@dataclass(frozen=True)
class Ending:
    """The content of failed.json and pruned.json: why a job of a sweep has no results, and its command."""

    message: str = ""
    choices: dict[str, str | None] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """The format number in command.json."""

    format: int = 1  # newsreel 0.1 wrote none


def read_metrics(run_dir: Path) -> dict[str, Any]:
    """The content of metrics.json, {} if it does not exist. Raises UserError if it is invalid."""
    try:
        metrics = read_json(run_dir / METRICS_FILE, Metrics)
    except FileNotFoundError:
        return {}
    environment = metrics.setdefault("environment", {})
    if not isinstance(environment, dict) or any(
        isinstance(value, dict) for name, value in metrics.items() if name not in ("environment", "runs")
    ):
        raise UserError(f"{run_dir / METRICS_FILE} is not as a run has written it: a metric is not a number.")
    return metrics


@dataclass(frozen=True)
class Script:
    """The script in command.json."""

    script: str = TRAIN  # run directories of older versions lack it


def read_script(run_dir: Path) -> str:
    """The script that a run was started by, TRAIN if it is unknown."""
    try:
        return read_json(run_dir / COMMAND_FILE, Script).script
    except (FileNotFoundError, UserError):
        return TRAIN


def check_format(run_dir: Path) -> None:
    """Refuse a run directory that another version has to open. Raises UserError.

    newsreel 0.1 wrote no format number. A missing command.json is left to what reads it.
    """
    file = run_dir / COMMAND_FILE
    if not file.exists():
        return
    run_format = read_json(file, Format).format
    if run_format == RUN_FORMAT:
        return
    remedy = "use newsreel 0.1.0" if run_format < RUN_FORMAT else "use the newer newsreel that wrote it"
    raise UserError(
        f"{run_dir} has run format {run_format}, and this version of newsreel opens format {RUN_FORMAT}: {remedy}."
    )


def read_config(run_dir: Path, *sections: str) -> dict[str, Any]:
    """The config of a run, which must have these sections; values are not checked. Raises UserError."""
    file = run_dir / CONFIG_FILE
    try:
        config: dict[str, Any] = yaml.load(read_bounded_yaml(file), ConfigLoader)
        for name in sections:
            if not isinstance(config[name], dict):
                raise TypeError(f"{name} is not a section")
        config.items()  # raises unless it is a mapping
    except Exception as error:  # invalid YAML or structure
        raise UserError(f"{file} is not a valid config of a run: {type(error).__name__}: {error}") from error
    return config


def write_config(run_dir: Path, config: dict[str, Any]) -> None:
    """Write the config of a run."""
    write_atomically(run_dir / CONFIG_FILE, config_text(config))


def config_text(config: dict[str, Any]) -> str:
    """A config as YAML, with quotes where OmegaConf sets them."""
    return str(yaml.dump(config, Dumper=ConfigDumper, allow_unicode=True, sort_keys=False))


class ConfigDumper(yaml.CSafeDumper):  # type: ignore[misc]
    """OmegaConf's writing of values, with the emitter in C."""


ConfigDumper.add_representer(str, get_omega_conf_dumper().str_representer)


class ConfigLoader(yaml.CSafeLoader, get_yaml_loader()):  # type: ignore[misc]
    """OmegaConf's reading of values and repeated keys, with the parser in C."""


def read_bounded_yaml(file: Path) -> bytes:
    """The text of a YAML file. Raises ValueError if it could grow when it is read: it is large, or has aliases."""
    with file.open("rb") as content:
        text = content.read(MAX_CONFIG_BYTES + 1)
    if len(text) > MAX_CONFIG_BYTES:
        raise ValueError(f"it has more than {MAX_CONFIG_BYTES:,} bytes")
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has an alias (*name), which no run writes")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_CONFIG_DEPTH:
            raise ValueError(f"it is nested more than {MAX_CONFIG_DEPTH} levels deep")
    return text


def read_weights(run_dir: Path) -> "dict[str, Tensor]":
    """The state dict of a run's best checkpoint, on the CPU. Raises UserError."""
    return read_best_checkpoint(run_dir)["state_dict"]  # type: ignore[no-any-return]


def read_best_checkpoint(run_dir: Path) -> dict[str, Any]:
    """The content of a run's best checkpoint, as `read_checkpoint` has it. Raises UserError."""
    checkpoint = run_dir / BEST_CHECKPOINT
    try:
        return read_checkpoint(checkpoint)
    except FileNotFoundError as error:
        raise UserError(f"{checkpoint} does not exist: the run was stopped during its first epoch.") from error
    except ValueError as error:
        raise UserError(f"{checkpoint} {error}. Restore it from a copy, or train the run again.") from error


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU; it runs no code of the file.

    Raises FileNotFoundError, and ValueError with a clause for a file that is damaged, that has no finite weights, or
    that was written with other labels or another tokenizer than the run directory has.
    """
    import torch

    try:
        check_zip(checkpoint)
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weights = content["state_dict"]
        for name, value in weights.items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
                raise TypeError(f"{name} is not a tensor of weights")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise TypeError(f"{name} claims {value.numel():,} values, which the file does not have")
    except FileNotFoundError:
        raise
    except Exception as error:  # truncated zip files, pickles and tensors raise different errors
        raise ValueError(f"cannot be read: {type(error).__name__}: {first_line(error)}") from error
    for name, expected in content.get(FILES_KEY, {}).items():
        file = checkpoint.parents[1] / name
        if name in TRAINED_WITH and (not file.exists() or file_digest(file) != expected):
            raise ValueError(f"was trained with another {name} than {file}")
    return content  # type: ignore[no-any-return]


def digests_of_files(run_dir: Path) -> dict[str, str]:
    """Digests of the files that the weights of a run depend on, for its checkpoints."""
    return {name: file_digest(run_dir / name) for name in TRAINED_WITH if (run_dir / name).exists()}


def config_choices(choices: Mapping[str, str]) -> dict[str, str | None]:
    """Hydra's choices restricted to the config groups that describe a run."""
    return {name: choice for name, choice in choices.items() if "/" not in name and name != "sweep"}
