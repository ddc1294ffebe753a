"""The experiment of key=value settings, as train.py composes it."""

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from newsreel.config.schema import Experiment, read_experiment

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def experiment_of(overrides: Sequence[str]) -> Experiment:
    """Raises Hydra's exceptions and UserError."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return read_experiment({str(key): value for key, value in config.items()})
