"""The files of a run folder, by their names and as they are read again.

Imports little: libraries with threads of their own may have to wait.
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
BEGUN = ("run.log", CONFIG_FILE, COMMAND_FILE)  # what a run writes before its documents are looked at
TABLE_KEY_SUFFIX = "embedding.table.weight"  # how the name of an embedding's table ends in a checkpoint


def holds_run(folder: Path) -> bool:
    """Whether a folder has what would be missed of a run: more than one leaves that was refused."""
    return (folder / CONFIG_FILE).exists() and any(path.name not in BEGUN for path in folder.iterdir())


def read_json(file: Path) -> dict[str, Any]:
    """What a file holds; nothing if it is not there. Raises UserError."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not as a run has written it: {error}. Remove the run, or leave it out.") from error
    return content


def check_format(folder: Path) -> None:
    """Refuse a run directory that another version has to open. Raises UserError.

    newsreel 0.1 wrote no format number. A missing command.json is left to what reads it.
    """
    file = folder / COMMAND_FILE
    if not file.exists():
        return
    run_format = read_json(file).get("format", 1)
    if run_format == RUN_FORMAT:
        return
    if not isinstance(run_format, int):
        raise UserError(f"{file} is not as a run has written it: its format is {run_format!r}, not a number.")
    remedy = "use newsreel 0.1.0" if run_format < RUN_FORMAT else "use the newer newsreel that wrote it"
    raise UserError(
        f"{folder} has run format {run_format}, and this version of newsreel opens format {RUN_FORMAT}: {remedy}."
    )


def read_config(folder: Path, *sections: str) -> dict[str, Any]:
    """The config of a run, its values unchecked, with the given sections. Raises UserError."""
    file = folder / CONFIG_FILE
    try:
        config: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(file))  # type: ignore[assignment]
        for name in sections:
            if not isinstance(config[name], dict):
                raise TypeError(f"{name} is no section")
        config.items()  # of a mapping alone
    except Exception as error:  # of YAML or of its shape
        raise UserError(f"{file} is not a config that a run has written: {type(error).__name__}: {error}") from error
    return config


def read_weights(checkpoint: Path) -> "dict[str, Tensor]":
    """The tensors of a checkpoint, on the processor. Raises UserError."""
    import torch

    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weights: dict[str, Tensor] = content["state_dict"]
    except FileNotFoundError as error:
        raise UserError(f"{checkpoint} is not there: the run was stopped before its first epoch was done.") from error
    except Exception as error:  # torn zip files, pickles and tensors each have their own
        raise UserError(f"{checkpoint} cannot be read: {type(error).__name__}: {error}") from error
    return weights


def config_choices(choices: Mapping[str, str]) -> dict[str, str]:
    """Of all choices that Hydra knows, those of the groups that describe a run."""
    return {name: choice for name, choice in choices.items() if "/" not in name and name != "sweep"}
