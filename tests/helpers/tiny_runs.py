"""Trainings of a third of a second, and what the commands do with them, inside the test's process."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from omegaconf import DictConfig

from helpers.configs import compose_config, plain
from newsreel.config.schema import Experiment, read_experiment
from newsreel.inference.evaluate import evaluate
from newsreel.inference.export import onnx
from newsreel.training.resume import resume
from newsreel.training.run import train_run
from newsreel.training.spec import RunSpec

SYNTHETIC = ["data=synthetic", "data.num_documents=100", "data.vocabulary_size=300", "data.mean_length=12"]
QUICK = [
    *("training.max_epochs=2", "training.min_steps_per_epoch=1"),
    *("trainer=cpu", "evaluation.figures=false"),
]
MINIBATCH_BOW = ["model=bow", "training.solver=minibatch"]  # whose training takes gradient steps
SMALL_LSTM = ["model=lstm", "model.hidden_size=6", "embedding.dimension=8"]
SMALL_CNN = ["model=cnn", "model.num_filters=6", "model.hidden_sizes=[5]", "embedding.dimension=8"]


def tiny(*overrides: str) -> list[str]:
    """The command line of a quick training: on made-up documents and logged nowhere, unless it says otherwise."""
    data = [] if any(override.startswith("data=") for override in overrides) else SYNTHETIC
    is_logged = any(override.startswith("logger=") for override in overrides)
    logger = ["trainer.log_every_n_steps=1"] if is_logged else ["trainer.log_every_n_steps=1000", "logger=none"]
    return [*data, *QUICK, *logger, *overrides]


def compose_tiny(tmp_path: Path, *overrides: str) -> DictConfig:
    paths = [f"paths.cache_dir={tmp_path / 'cache'}", f"paths.output_dir={tmp_path / 'outputs'}"]
    return compose_config("train", *paths, *tiny(*overrides))


def read_tiny(tmp_path: Path, *overrides: str) -> Experiment:
    """A checked experiment, with caches shared by the test's folder."""
    return read_experiment(plain(compose_tiny(tmp_path, *overrides)))


def tiny_spec(tmp_path: Path, *overrides: str, folder: str = "run", **changes: Any) -> RunSpec:
    """What train.py passes on. changes: other parts of the experiment than the settings say, such as a reader."""
    config = compose_tiny(tmp_path, *overrides)
    choices = {name: choice for name, choice in config.hydra.runtime.choices.items() if "/" not in name}
    experiment = replace(read_experiment(plain(config)), **changes)
    return RunSpec(experiment, tmp_path / folder, choices, tiny(*overrides), time.perf_counter())


def train_tiny(tmp_path: Path, *overrides: str, callbacks: Sequence[Callback] = (), **more: Any) -> dict[str, Any]:
    """metrics.json of a quick training. more: arguments of `tiny_spec`."""
    return train_run(tiny_spec(tmp_path, *overrides, **more), callbacks=callbacks)


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    """What has to repeat exactly, whatever is committed meanwhile."""
    kept = {key: value for key, value in results.items() if not key.startswith(("time/", "throughput/", "memory/"))}
    return kept | {"environment": kept["environment"] | {"git_commit": None}}


def go_on(folder: Path, *overrides: str) -> dict[str, Any]:
    """`python train.py resume=<folder> …`, within this process."""
    chosen = [f"resume={folder}", *overrides]
    return resume(folder, plain(compose_tiny(folder.parent, *chosen)), chosen, time.perf_counter())


def evaluated(folder: Path, *overrides: str) -> dict[str, Any]:
    """metrics.json of an evaluation into a folder."""
    results = evaluate(plain(compose_config("evaluate", *overrides)), folder)
    assert json.loads((folder / "metrics.json").read_text()) == results
    return results


def exported(folder: Path, *overrides: str) -> Path:
    return onnx.export(plain(compose_config("export", f"output={folder}", *overrides)))


def figures(results: dict[str, Any], stage: str) -> dict[str, float]:
    return {name: value for name, value in results.items() if name.startswith(f"{stage}/")}
