"""Configs of the project as Hydra composes them, without reading every file anew, which takes a quarter of a second."""

import io
import pickle
from functools import cache
from inspect import Parameter, signature
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from helpers.project import CONFIGS
from newsreel.config.sections import find_target

LOAD = OmegaConf.load
CONFIGURED = ("data", "embedding", "logger", "model", "tokenizer")  # sections with a target


@cache
def loaded_bytes(text: str) -> bytes:
    """Pickled, of which a copy is made six times as fast as of the config itself."""
    return pickle.dumps(LOAD(io.StringIO(text)))


def load_once(file: Any) -> Any:
    """`OmegaConf.load` that parses the text of an open file once, and leaves paths to the original."""
    return pickle.loads(loaded_bytes(file.read())) if hasattr(file, "read") else LOAD(file)


@cache
def composed_bytes(name: str, *overrides: str) -> bytes:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return pickle.dumps(compose(name, list(overrides), return_hydra_config=True))


def compose_anew(name: str, *overrides: str) -> DictConfig:
    config: DictConfig = pickle.loads(composed_bytes(name, *overrides))
    return config


def is_choice(override: str) -> bool:
    """Whether it chooses a file."""
    return (CONFIGS / override.partition("=")[0]).is_dir()


@cache
def parsed(override: str) -> Override:
    return OverridesParser.create().parse_override(override)


def compose_config(name: str, *overrides: str) -> DictConfig:
    """A config with its section `hydra`: composed once for each choice of files; then values are set as Hydra does."""
    config = compose_anew(name, *filter(is_choice, overrides))
    values = [override for override in overrides if not is_choice(override)]
    for override in map(parsed, values):
        if override.is_add() or override.is_delete():
            return compose_anew(name, *overrides)
        OmegaConf.update(config, override.key_or_group, override.value())
    return config


def own(config: DictConfig) -> DictConfig:
    """Without the section `hydra`, as a command gets it."""
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


def plain(config: DictConfig) -> dict[str, Any]:
    """The same, resolved."""
    sections = ((str(key), config[key]) for key in config if key != "hydra")
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in sections
    }


def composed(*overrides: str) -> dict[str, Any]:
    """What train.py gets."""
    return plain(compose_config("train", *overrides))


def require_a_key_for_each_setting(group: str, section: dict[str, Any]) -> None:
    """The keys of a section are the keyword-only parameters of its target."""
    target = find_target(group, section, object, problems := [])
    assert target is not None, problems
    settings = {each.name for each in signature(target).parameters.values() if each.kind is Parameter.KEYWORD_ONLY}
    assert (section["_target_"], set(section) - {"_target_"}) == (section["_target_"], settings)
