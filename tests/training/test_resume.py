"""Runs that are stopped and go on."""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.files import truncate
from helpers.preloaded import PreloadedPopen
from helpers.tiny_runs import SMALL_LSTM, TINY, go_on, train_tiny, without_times
from newsreel.core.errors import UserError
from newsreel.models.classifier import TextClassifier
from newsreel.training.checkpoints import AtomicCheckpointIO, RunCheckpoints

LONGER = ["training.max_epochs=3", "training.patience=null", "batches.batch_size=20"]  # 8 steps an epoch
SEVERAL_LABELS = ["model=bow", "data.num_labels=5", "data.multilabel=true", "model.dropout=0.3"]
Snapshots = dict[int, Path]  # by the number of optimiser steps, copies of a run folder as a kill would leave it


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
            results = train_tiny(tmp_path, "trainer.checkpoint_every_s=0", *overrides)
        return results, taken

    return train


def assert_same_run(folder: Path, results: dict[str, Any], base: Path) -> None:
    expected = json.loads((base / "metrics.json").read_text())
    assert without_times(results) == without_times(expected)
    assert pl.read_parquet(folder / "predictions.parquet").equals(pl.read_parquet(base / "predictions.parquet"))
    for name in ("best", "last"):
        checkpoint, wanted = (
            torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for run in (folder, base)
        )
        assert checkpoint["epoch"] == wanted["epoch"]
        assert all(torch.equal(checkpoint["state_dict"][key], value) for key, value in wanted["state_dict"].items())
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
        (SMALL_LSTM, [7, 8]),
        (SEVERAL_LABELS, [17]),
        ([*SMALL_LSTM, "batches.batch_size=7", "trainer.accumulate_grad_batches=3"], [8]),
        pytest.param(SMALL_LSTM, [1, 9, 20, 24], marks=pytest.mark.slow),
        pytest.param(SEVERAL_LABELS, [5, 16], marks=pytest.mark.slow),
        pytest.param(
            [*SMALL_LSTM, "batches.batch_size=7", "trainer.accumulate_grad_batches=3"], [3, 15], marks=pytest.mark.slow
        ),
        pytest.param([*SMALL_LSTM, "batches.num_workers=1"], [3, 8], marks=pytest.mark.slow),
        # the first epoch is the best
        pytest.param(["model=bow", "training.learning_rate=1e-12"], [8, 12], marks=pytest.mark.slow),
    ],
    ids=["lstm", "several labels", "accumulated", "lstm+", "several labels+", "accumulated+", "worker", "no progress"],
)
def test_a_run_resumed_at_any_step_ends_with_the_same_numbers(
    tmp_path: Path, snapshots: Callable[..., tuple[dict[str, Any], Snapshots]], overrides: list[str], steps: list[int]
) -> None:
    _, killed = snapshots(*LONGER, *overrides)
    for step in steps:
        assert_same_run(killed[step], go_on(killed[step]), tmp_path / "run")


def test_checkpoints_come_after_every_step_or_only_with_the_epochs(
    tmp_path: Path, snapshots: Callable[..., tuple[dict[str, Any], Snapshots]]
) -> None:
    _, every = snapshots(*SMALL_LSTM, *LONGER)
    assert list(every) == list(range(1, 25))
    shutil.rmtree(tmp_path / "killed")
    shutil.rmtree(tmp_path / "run")
    _, epochs = snapshots(*SMALL_LSTM, *LONGER, "trainer.checkpoint_every_s=null")
    assert list(epochs) == [8, 16, 24]


def test_checkpoints_within_epochs_take_a_fiftieth_of_the_time_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    times = []
    original = RunCheckpoints._save_last

    def save(self: RunCheckpoints, trainer: Trainer) -> None:
        times.append(now[0])
        original(self, trainer)

    def write(self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        now[0] += 0.1  # seconds that a checkpoint takes

    def step(self: TextClassifier, *arguments: Any) -> None:
        now[0] += 1.5

    monkeypatch.setattr("newsreel.training.checkpoints.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(RunCheckpoints, "_save_last", save)
    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", write)
    monkeypatch.setattr(TextClassifier, "on_train_batch_start", step)
    with pytest.raises(FileNotFoundError):  # the best checkpoint, which nobody wrote
        train_tiny(tmp_path, *SMALL_LSTM, *LONGER, "training.max_epochs=1", "trainer.checkpoint_every_s=2")
    assert times == pytest.approx([3.0, 3.1 + 6.0, 9.2 + 3.0 + 0.1])  # the last: after the epoch and best.ckpt


def test_a_torn_last_checkpoint_gives_way_to_the_one_before_it(
    tmp_path: Path, snapshots: Callable[..., tuple[dict[str, Any], Snapshots]], caplog: pytest.LogCaptureFixture
) -> None:
    _, killed = snapshots(*SMALL_LSTM, *LONGER)
    torn, gone = killed[11] / "checkpoints", killed[12] / "checkpoints"
    truncate(torn / "last.ckpt")
    assert_same_run(killed[11], go_on(killed[11]), tmp_path / "run")
    assert "last.ckpt cannot be read" in caplog.text
    assert "last-1.ckpt, is used instead" in caplog.text
    (gone / "last.ckpt").rename(gone / ".last.ckpt.partial-01234567")  # killed between two renames
    assert_same_run(killed[12], go_on(killed[12]), tmp_path / "run")
    assert {file.name for file in gone.iterdir()} == {"best.ckpt", "last.ckpt", "last-1.ckpt"}
    for name in ("last.ckpt", "last-1.ckpt"):
        truncate(killed[13] / "checkpoints" / name)
    with pytest.raises(UserError, match=r"last-1\.ckpt cannot be read(.|\n)*to restart this run from the beginning"):
        go_on(killed[13])


def test_a_run_stopped_before_its_first_checkpoint_begins_again(
    tmp_path: Path, snapshots: Callable[..., tuple[dict[str, Any], Snapshots]]
) -> None:
    _, killed = snapshots(*SMALL_LSTM, *LONGER)
    shutil.rmtree(killed[1] / "checkpoints")
    assert_same_run(killed[1], go_on(killed[1]), tmp_path / "run")
    for path in killed[2].iterdir():  # what is there before the documents are read
        if path.name not in ("config.yaml", "command.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert_same_run(killed[2], go_on(killed[2]), tmp_path / "run")


def test_a_run_stopped_after_its_training_is_tested(tmp_path: Path) -> None:
    train_tiny(tmp_path, *SMALL_LSTM, "data.difficulty=1", "training.max_epochs=9", "training.patience=1")
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    for name in ("metrics.json", "report.md", "predictions.parquet"):
        (tmp_path / "killed" / name).unlink()
    results = go_on(tmp_path / "killed")
    assert results["train/epochs"] < 9  # patience had ended it
    assert_same_run(tmp_path / "killed", results, tmp_path / "run")
    assert (tmp_path / "killed" / "report.md").exists()


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    results = train_tiny(tmp_path, "model=bow")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert go_on(tmp_path / "run") == results
    assert go_on(tmp_path / "run", "training.max_epochs=2", "trainer.threads=1") == results
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    assert "is finished: it trained for 2 epochs" in caplog.text


def test_more_epochs_are_those_of_a_run_that_had_them_from_the_start(tmp_path: Path) -> None:
    """True of a constant rate without warm-up, whose past does not depend on the number of epochs."""
    even = [*SMALL_LSTM, "training.schedule=constant", "training.warmup_fraction=0", "training.patience=null"]
    train_tiny(tmp_path, *even, "training.max_epochs=4", folder="longer")
    train_tiny(tmp_path, *even, "training.max_epochs=2")
    results = go_on(tmp_path / "run", "training.max_epochs=4")
    assert_same_run(tmp_path / "run", results, tmp_path / "longer")
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").training.max_epochs == 4
    report = (tmp_path / "run" / "report.md").read_text()
    assert f"python train.py resume={tmp_path / 'run'} training.max_epochs=4" in report


def test_more_epochs_take_the_rates_that_the_schedule_has_for_them(tmp_path: Path) -> None:
    train_tiny(tmp_path, *SMALL_LSTM, *LONGER, "training.warmup_fraction=0", "training.learning_rate=0.003")
    go_on(tmp_path / "run", "training.max_epochs=6")
    rates = scalars(tmp_path / "run", "train/learning_rate")
    expected = [0.003 * (1 - step / 24) for step in range(24)] + [0.003 * (1 - step / 48) for step in range(24, 48)]
    assert [rates[step] for step in range(48)] == pytest.approx(expected, rel=1e-5)


def test_a_training_that_patience_ended_says_what_to_raise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train_tiny(tmp_path, "model=bow", "training.learning_rate=1e-12", "training.max_epochs=2", "training.patience=1")
    assert go_on(tmp_path / "run", "training.max_epochs=5")["train/epochs"] == 2
    assert "to train longer, raise training.patience" in caplog.text


def test_more_patience_continues_a_run_that_stopped_early(tmp_path: Path) -> None:
    stuck = ["model=bow", "training.learning_rate=1e-12", "training.max_epochs=9"]
    assert train_tiny(tmp_path, *stuck, "training.patience=1")["train/epochs"] == 2
    assert go_on(tmp_path / "run", "training.max_epochs=12")["train/epochs"] == 2
    assert go_on(tmp_path / "run", "training.patience=3")["train/epochs"] == 4
    assert go_on(tmp_path / "run", "training.patience=null")["train/epochs"] == 9


def test_tensorboard_shows_every_step_once(
    tmp_path: Path, snapshots: Callable[..., tuple[dict[str, Any], Snapshots]]
) -> None:
    _, killed = snapshots(*SMALL_LSTM, *LONGER)
    behind = killed[20]
    shutil.rmtree(behind / "tensorboard")
    shutil.copytree(killed[23] / "tensorboard", behind / "tensorboard")  # it was told of steps after the checkpoint
    go_on(behind)
    for tag in ("train/loss_step", "train/loss_epoch", "val/loss", "test/loss"):
        assert scalars(behind, tag) == scalars(tmp_path / "run", tag), tag


def test_the_table_of_a_run_that_goes_on_has_every_row_once(
    tmp_path: Path, snapshots: Callable[..., tuple[dict[str, Any], Snapshots]]
) -> None:
    _, killed = snapshots(*SMALL_LSTM, *LONGER, "logger=csv")
    for step in (3, 8, 20):
        behind = killed[step] / "metrics.csv"
        behind.write_text((killed[min(24, step + 3)] / "metrics.csv").read_text() + "21,2,0.6931")  # killed as it wrote
        go_on(killed[step])
        assert behind.read_text() == (tmp_path / "run" / "metrics.csv").read_text()


def scalars(folder: Path, tag: str) -> dict[int, float]:
    """A tag's values by step, as TensorBoard shows them. Fails if a step has two."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    shown = events.Scalars(tag)
    assert len({event.step for event in shown}) == len(shown)
    return {event.step: event.value for event in shown}


def test_a_moved_run_goes_on_and_relative_paths_start_where_it_began(
    tmp_path: Path, snapshots: Callable[..., tuple[dict[str, Any], Snapshots]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    _, killed = snapshots(*SMALL_LSTM, *LONGER, "paths.cache_dir=here")
    monkeypatch.chdir(tmp_path)
    moved = killed[10].rename(tmp_path / "moved")
    assert_same_run(moved, go_on(moved), tmp_path / "run")
    assert not (tmp_path / "here").exists()
    assert Path.cwd() == tmp_path


def test_other_documents_are_refused(
    tmp_path: Path, snapshots: Callable[..., tuple[dict[str, Any], Snapshots]]
) -> None:
    _, killed = snapshots(*SMALL_LSTM, *LONGER)
    config = killed[5] / "config.yaml"
    config.write_text(config.read_text().replace("difficulty: 0.5", "difficulty: 0.4"))
    with pytest.raises(UserError, match="The documents differ from those"):
        go_on(killed[5])


def test_what_cannot_change_is_refused(tmp_path: Path) -> None:
    train_tiny(tmp_path, "model=bow")
    with pytest.raises(UserError) as refused:
        go_on(tmp_path / "run", "model=lstm", "seed=2", "training.max_epochs=1", "training.learning_rate=1")
    message = str(refused.value)
    for part in ("model cannot", "seed cannot", "max_epochs can be raised, not lowered: it is 1, and the run has 2"):
        assert part in message
    assert "training.learning_rate cannot" in message
    with pytest.raises(UserError, match=r"training\.max_epochs is many: it has to be a whole number"):
        go_on(tmp_path / "run", "training.max_epochs=many")


COMMAND = [*TINY, *SMALL_LSTM, *LONGER, "data.num_documents=1000", "trainer.checkpoint_every_s=0", "trainer.threads=1"]


def start(tmp_path: Path, *overrides: str) -> PreloadedPopen:
    return PreloadedPopen(
        ["train.py", *overrides],
        cwd=tmp_path,
        env={**os.environ, "NEWSREEL_CACHE_DIR": str(tmp_path / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill(process: PreloadedPopen, when: Callable[[], bool], seconds_later: float = 0.0) -> None:
    while not when():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.0005)
    time.sleep(seconds_later)
    process.kill()
    assert process.wait() in (-signal.SIGKILL, *([0] if seconds_later else []))  # a late moment may be too late


@pytest.mark.slow
def test_a_process_killed_twice_goes_on(tmp_path: Path) -> None:
    checkpoints = tmp_path / "killed" / "checkpoints"
    kill(start(tmp_path, *COMMAND, "hydra.run.dir=killed"), lambda: (checkpoints / "last-1.ckpt").exists())
    kill(start(tmp_path, "resume=killed"), lambda: any(checkpoints.glob(".last.ckpt.partial-*")))
    assert start(tmp_path, "resume=killed").wait() == 0
    train_tiny(tmp_path, *COMMAND[len(TINY) :])
    results = json.loads((tmp_path / "killed" / "metrics.json").read_text())
    assert_same_run(tmp_path / "killed", results, tmp_path / "run")


@pytest.mark.slow
def test_ten_runs_killed_at_random_moments_end_with_the_same_numbers(tmp_path: Path) -> None:
    seconds = train_tiny(tmp_path, *COMMAND[len(TINY) :])["time/fit_s"]
    moments = random.Random(5)
    for number in range(10):
        folder = tmp_path / f"killed{number}"
        process = start(tmp_path, *COMMAND, f"hydra.run.dir={folder.name}")
        kill(process, (folder / "tokenizer.json").exists, moments.uniform(0, seconds))
        assert_same_run(folder, go_on(folder), tmp_path / "run")
