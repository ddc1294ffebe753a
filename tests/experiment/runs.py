"""Trainings inside the test's process."""

import time
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from newsreel.config.schema import Experiment, read_experiment
from newsreel.training.run import train_run
from newsreel.training.spec import RunSpec

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = [
    "data=synthetic",
    "data.num_documents=200",
    "data.vocabulary_size=300",
    "data.mean_length=12",
    "training.max_epochs=2",
    "trainer=cpu",
    "trainer.log_every_n_steps=1",
    "evaluation.figures=false",
]
SMALL_LSTM = ["model=lstm", "model.hidden_size=6", "embedding.dimension=8"]


def compose_tiny(tmp_path: Path, *overrides: str) -> DictConfig:
    paths = [f"paths.cache_dir={tmp_path / 'cache'}", f"paths.output_dir={tmp_path / 'outputs'}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [*TINY, *paths, *overrides], return_hydra_config=True)


def read_tiny(tmp_path: Path, *overrides: str) -> Experiment:
    """A checked experiment on made-up documents, with caches shared by the test's folder."""
    config = compose_tiny(tmp_path, *overrides)
    config = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    return read_experiment({str(key): value for key, value in settings.items()})


def train_tiny(tmp_path: Path, *overrides: str, folder: str = "run") -> dict[str, Any]:
    """metrics.json of a training on made-up documents."""
    chosen = compose_tiny(tmp_path, *overrides).hydra.runtime.choices
    choices = {name: choice for name, choice in chosen.items() if "/" not in name}
    experiment = read_tiny(tmp_path, *overrides)
    return train_run(RunSpec(experiment, tmp_path / folder, choices, [*TINY, *overrides], time.perf_counter()))


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    """What has to repeat exactly, whatever is committed meanwhile."""
    kept = {key: value for key, value in results.items() if not key.startswith(("time/", "throughput/", "memory/"))}
    return kept | {"environment": kept["environment"] | {"git_commit": None}}
