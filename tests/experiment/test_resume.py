"""Runs that are stopped and go on."""

import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from newsreel.errors import UserError
from newsreel.experiment.checkpoints import AtomicCheckpointIO
from newsreel.experiment.resume import resume

from conftest import truncate
from runs import SMALL_LSTM, compose_tiny, train_tiny, without_times

LONGER = ["training.max_epochs=3", "training.patience=null", "batches.batch_size=20"]  # 8 steps an epoch
SEVERAL_LABELS = ["model=bow", "data.num_labels=5", "data.multilabel=true", "model.dropout=0.3"]
Snapshots = dict[int, Path]  # by the number of optimiser steps, copies of a run folder as a kill would leave it


def go_on(folder: Path, *overrides: str) -> dict[str, Any]:
    """`python train.py resume=<folder> …`, within this process."""
    chosen = [f"resume={folder}", *overrides]
    composed = compose_tiny(folder.parent, *chosen)
    plain = OmegaConf.to_container(OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"]))
    assert isinstance(plain, dict)
    return resume(folder, {str(key): value for key, value in plain.items()}, chosen, time.perf_counter())


@pytest.fixture
def snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, Any], Snapshots]]:
    """A training in `tmp_path/run` that writes a checkpoint after every step, with a copy of its folder after each."""

    def train(*overrides: str) -> tuple[dict[str, Any], Snapshots]:
        taken: Snapshots = {}
        original = AtomicCheckpointIO.save_checkpoint

        def save(self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
            original(self, checkpoint, path, storage_options)
            if Path(path).name == "last.ckpt":
                taken[checkpoint["global_step"]] = tmp_path / "killed" / str(checkpoint["global_step"])
                shutil.copytree(tmp_path / "run", taken[checkpoint["global_step"]])

        with monkeypatch.context() as patch:
            patch.setattr(AtomicCheckpointIO, "save_checkpoint", save)
            results = train_tiny(tmp_path, *overrides, "trainer.checkpoint_every_s=0")
        return results, taken

    return train


def assert_same_run(folder: Path, results: dict[str, Any], base: Path) -> None:
    expected = json.loads((base / "metrics.json").read_text())
    assert without_times(results) == without_times(expected)
    assert pl.read_parquet(folder / "predictions.parquet").equals(pl.read_parquet(base / "predictions.parquet"))
    for name in ("best", "last"):
        weights, wanted = (
            torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"] for run in (folder, base)
        )
        assert all(torch.equal(weights[key], wanted[key]) for key in wanted)
    assert epochs_of(folder) == epochs_of(base)


def epochs_of(folder: Path) -> list[dict[str, float]]:
    """What History kept of every epoch, apart from times."""
    states = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    return [
        {name: value for name, value in epoch.items() if not name.startswith("time/")}
        for epoch in states["History"]["epochs"]
    ]


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (SMALL_LSTM, [1, 7, 8, 9, 20, 24]),
        ([*SMALL_LSTM, "batches.num_workers=1"], [3, 8]),
        (SEVERAL_LABELS, [5, 16, 17]),
    ],
    ids=["lstm", "worker", "several labels"],
)
def test_a_run_goes_on_from_any_step_to_the_numbers_of_one_that_was_not_stopped(
    tmp_path: Path, snapshots: Callable[..., tuple[dict[str, Any], Snapshots]], overrides: list[str], steps: list[int]
) -> None:
    _, killed = snapshots(*overrides, *LONGER)
    assert sorted(killed) == [*range(1, 7 + 1), 8, *range(9, 15 + 1), 16, *range(17, 23 + 1), 24]
    for step in steps:
        assert_same_run(killed[step], go_on(killed[step]), tmp_path / "run")
