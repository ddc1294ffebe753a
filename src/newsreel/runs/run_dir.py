"""The files of a run directory: their names, and functions that read them.

Imports torch lazily: libraries with thread pools must be imported after `limit_threads`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from newsreel.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

RUN_FORMAT = 2  # of the files below; raise it when an older version could not read them, or misread them
FAILED_FILE = "failed.json"
PRUNED_FILE = "pruned.json"

CONFIG_FILE = "config.yaml"
LABELS_FILE = "labels.json"
COMMAND_FILE = "command.json"
METRICS_FILE = "metrics.json"
BEST_CHECKPOINT = Path("checkpoints") / "best.ckpt"
INITIAL_FILES = ("run.log", CONFIG_FILE, COMMAND_FILE)  # written before the documents are read
TABLE_KEY_SUFFIX = "embedding.table.weight"  # of the parameter name of an embedding table in a checkpoint


def holds_run(run_dir: Path) -> bool:
    """Whether a directory contains a run that got further than the checks of its settings."""
    return (run_dir / CONFIG_FILE).exists() and any(path.name not in INITIAL_FILES for path in run_dir.iterdir())


def read_json(file: Path) -> dict[str, Any]:
    """The content of a JSON file, {} if it does not exist. Raises UserError if it is invalid."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not a valid file of a run: {error}. Remove the run, or exclude it.") from error
    return content


def check_format(run_dir: Path) -> None:
    """Refuse a run directory that another version has to open. Raises UserError.

    newsreel 0.1 wrote no format number. A missing command.json is left to what reads it.
    """
    file = run_dir / COMMAND_FILE
    if not file.exists():
        return
    run_format = read_json(file).get("format", 1)
    if run_format == RUN_FORMAT:
        return
    if not isinstance(run_format, int):
        raise UserError(f"{file} is not as a run has written it: its format is {run_format!r}, not a number.")
    remedy = "use newsreel 0.1.0" if run_format < RUN_FORMAT else "use the newer newsreel that wrote it"
    raise UserError(
        f"{run_dir} has run format {run_format}, and this version of newsreel opens format {RUN_FORMAT}: {remedy}."
    )


def read_config(run_dir: Path, *sections: str) -> dict[str, Any]:
    """The config of a run, which must have these sections; values are not checked. Raises UserError."""
    file = run_dir / CONFIG_FILE
    try:
        config: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(file))  # type: ignore[assignment]
        for name in sections:
            if not isinstance(config[name], dict):
                raise TypeError(f"{name} is not a section")
        config.items()  # raises unless it is a mapping
    except Exception as error:  # invalid YAML or structure
        raise UserError(f"{file} is not a valid config of a run: {type(error).__name__}: {error}") from error
    return config


def read_weights(checkpoint: Path) -> "dict[str, Tensor]":
    """The state dict of a checkpoint, on the CPU. Raises UserError."""
    import torch

    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weights: dict[str, Tensor] = content["state_dict"]
    except FileNotFoundError as error:
        raise UserError(f"{checkpoint} does not exist: the run was stopped during its first epoch.") from error
    except Exception as error:  # truncated zip files, pickles and tensors raise different errors
        raise UserError(f"{checkpoint} cannot be read: {type(error).__name__}: {error}") from error
    return weights


def config_choices(choices: Mapping[str, str]) -> dict[str, str]:
    """Hydra's choices restricted to the config groups that describe a run."""
    return {name: choice for name, choice in choices.items() if "/" not in name and name != "sweep"}
