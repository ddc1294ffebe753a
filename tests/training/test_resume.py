"""Runs that are stopped and go on."""

import errno
import io
import json
import logging
import random
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from omegaconf import OmegaConf

from helpers.files import truncate
from helpers.killed import kill, snapshots, start
from helpers.shared_runs import SharedRuns
from helpers.tensorboard import scalars
from helpers.tiny_runs import MINIBATCH_BOW, SMALL_LSTM, go_on, tiny, train_tiny, without_times
from newsreel.core.errors import UserError
from newsreel.models.classifier import TextClassifier
from newsreel.training.checkpoints import AtomicCheckpointIO, RunCheckpoints

EPOCHS = ["training.max_epochs=2", "training.patience=null", "batches.batch_size=9"]  # of 8 steps
STEADY = ["training.schedule=constant", "training.warmup_fraction=0", "training.patience=null"]
STUCK = [*MINIBATCH_BOW, "training.learning_rate=1e-12"]  # the first epoch is the best
TRAININGS = {
    "lstm": SMALL_LSTM,
    "several labels": ["model=bow", "data.num_labels=5", "data.multilabel=true", "model.dropout=0.3"],
    "accumulated": [*SMALL_LSTM, "trainer.accumulate_grad_batches=3"],
    "worker": [*SMALL_LSTM, "batches.num_workers=1"],
    "no progress": STUCK,
    "threads": [*SMALL_LSTM, "embedding.dropout=0.3", "embedding.max_norm=1", "trainer.threads=3"],
    "newton": ["model=bow", "training.max_epochs=4", "data.num_labels=3"],  # one step an epoch
    "averaged": [*SMALL_LSTM, "embedding.dropout=0.3", "training.ema=0.95"],
    "averaged rows": ["model=bow", "model.dropout=0.3", "training.ema=0.95", "trainer.accumulate_grad_batches=3"],
    "several passes": ["model=bow", "model.dropout=0.3", "training.min_steps_per_epoch=9"],  # 2 passes of 8 steps
}


def train_with_snapshots(tmp_path: Path, *overrides: str, at: Sequence[int] | None = None) -> list[int]:
    """Train in `run`, with a checkpoint after every step, and `killed<step>` beside it; returns the steps."""
    with snapshots(tmp_path / "run", at) as steps:
        train_tiny(tmp_path, *EPOCHS, "trainer.checkpoint_every_s=0", *overrides)
    return steps


@pytest.fixture(scope="module")
def lstm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Snapshots of a training; every test has other copies for itself."""
    folder = tmp_path_factory.mktemp("lstm")
    assert train_with_snapshots(folder, *SMALL_LSTM, "logger=tensorboard") == list(range(1, 17))
    return folder


def assert_same_run(run_dir: Path, expected_dir: Path) -> None:
    results, expected = (json.loads((folder / "metrics.json").read_text()) for folder in (run_dir, expected_dir))
    assert without_times(results) == without_times(expected)
    tables = [pl.read_parquet(folder / "predictions.parquet") for folder in (run_dir, expected_dir)]
    assert tables[0].equals(tables[1])
    for name in ("best", "last"):
        checkpoint, target = (
            torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True) for folder in (run_dir, expected_dir)
        )
        assert checkpoint["epoch"] == target["epoch"]
        assert all(torch.equal(checkpoint["state_dict"][key], value) for key, value in target["state_dict"].items())
    averages = [
        state["callbacks"].get("ExponentialMovingAverage", {}).get("averages", {}) for state in (checkpoint, target)
    ]
    assert all(torch.equal(averages[0][name], average) for name, average in averages[1].items())
    epochs = [
        [{key: value for key, value in epoch.items() if not key.startswith("time/")} for epoch in state["epochs"]]
        for state in (checkpoint["callbacks"]["History"], target["callbacks"]["History"])
    ]
    assert epochs[0] == epochs[1]


def assert_ends_alike(tmp_path: Path, step: int) -> None:
    go_on(tmp_path / f"killed{step}")
    assert_same_run(tmp_path / f"killed{step}", tmp_path / "run")


@pytest.mark.parametrize("step", [4, 8])
def test_a_run_resumed_at_a_step_ends_with_the_same_numbers(lstm: Path, step: int) -> None:
    assert_ends_alike(lstm, step)


@pytest.mark.parametrize(
    ("name", "step"),
    [("accumulated", 2), ("several passes", 11), ("newton", 2), ("averaged rows", 2)],
)
def test_so_does_a_run_of_another_kind(tmp_path: Path, name: str, step: int) -> None:
    train_with_snapshots(tmp_path, *TRAININGS[name], at=[step])
    assert_ends_alike(tmp_path, step)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_so_does_every_run_at_every_step(tmp_path: Path, name: str) -> None:
    for step in train_with_snapshots(tmp_path, *TRAININGS[name]):
        assert_ends_alike(tmp_path, step)


@pytest.mark.slow
def test_so_does_one_with_labels_of_a_teacher_that_is_gone(tmp_path: Path, shared_runs: SharedRuns) -> None:
    teacher = shared_runs.copy(tmp_path / "teacher", "model=bow")
    pseudo = ["data.num_unlabeled=40", f"data.pseudo_labels={teacher}", "data.pseudo_weight=0.5"]
    assert train_with_snapshots(tmp_path, *SMALL_LSTM, "embedding.dropout=0.3", *pseudo, at=[5]) == list(range(1, 27))
    shutil.rmtree(teacher)
    shutil.rmtree(tmp_path / "cache")
    assert_ends_alike(tmp_path, 5)


def test_checkpoints_can_come_only_with_the_epochs(tmp_path: Path) -> None:
    assert train_with_snapshots(tmp_path, *MINIBATCH_BOW, "trainer.checkpoint_every_s=null") == [8, 16]


def test_checkpoints_within_epochs_take_a_fiftieth_of_the_time_at_most(tmp_path: Path, monkeypatch: Any) -> None:
    now = [0.0]
    times = []
    original = RunCheckpoints._save_last

    def save(self: RunCheckpoints, trainer: Any) -> None:
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
    with pytest.raises(UserError, match=r"best\.ckpt does not exist"):  # the best checkpoint, which nobody wrote
        train_tiny(tmp_path, *MINIBATCH_BOW, *EPOCHS, "training.max_epochs=1", "trainer.checkpoint_every_s=2")
    assert times == pytest.approx([3.0, 3.1 + 6.0, 9.2 + 3.0 + 0.1])  # the last: after the epoch and best.ckpt


def test_a_torn_last_checkpoint_gives_way_to_the_one_before_it(lstm: Path, caplog: pytest.LogCaptureFixture) -> None:
    truncate(lstm / "killed11" / "checkpoints" / "last.ckpt")
    assert_ends_alike(lstm, 11)
    assert "last.ckpt cannot be read" in caplog.text
    assert "last-1.ckpt, is used instead" in caplog.text
    gone = lstm / "killed12" / "checkpoints"
    (gone / "last.ckpt").rename(gone / ".last.ckpt.partial-01234567")  # killed between two renames
    assert_ends_alike(lstm, 12)
    assert {file.name for file in gone.iterdir()} == {"best.ckpt", "last.ckpt", "last-1.ckpt"}
    for name in ("last.ckpt", "last-1.ckpt"):
        truncate(lstm / "killed13" / "checkpoints" / name)
    with pytest.raises(UserError, match=r"last-1\.ckpt cannot be read(.|\n)*to restart this run from the beginning"):
        go_on(lstm / "killed13")


def test_a_run_stopped_before_its_first_checkpoint_begins_again(lstm: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for path in (lstm / "killed2").iterdir():  # what is there before the documents are read
        if path.name not in ("config.yaml", "command.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert_ends_alike(lstm, 2)
    assert "resumed     from the beginning: it was stopped before its first checkpoint" in caplog.text


def test_a_run_stopped_after_its_training_is_tested(tmp_path: Path) -> None:
    train_tiny(tmp_path, *STUCK, "training.max_epochs=9", "training.patience=1")
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    for name in ("metrics.json", "report.md", "predictions.parquet"):
        (tmp_path / "killed" / name).unlink()
    assert go_on(tmp_path / "killed")["train/epochs"] == 2  # patience had ended it
    assert_same_run(tmp_path / "killed", tmp_path / "run")
    assert (tmp_path / "killed" / "report.md").exists()


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, caplog: Any, shared_runs: SharedRuns) -> None:
    caplog.set_level(logging.INFO)
    results = shared_runs.results("model=bow")
    shared_runs.copy(tmp_path / "run", "model=bow")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert go_on(tmp_path / "run") == results
    assert go_on(tmp_path / "run", "training.max_epochs=2", "trainer.threads=1") == results
    assert "is finished: it trained for 2 epochs" in caplog.text
    with pytest.raises(UserError) as refused:
        go_on(tmp_path / "run", "model=lstm", "seed=2", "training.max_epochs=1", "training.learning_rate=1")
    for part in ("model cannot", "seed cannot", "training.learning_rate cannot", "it is 1, and the run has 2"):
        assert part in str(refused.value)
    with pytest.raises(UserError, match=r"training\.max_epochs is many: it must be a whole number"):
        go_on(tmp_path / "run", "training.max_epochs=many")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_more_epochs_are_those_of_a_run_that_had_them_from_the_start(tmp_path: Path) -> None:
    """True of a constant rate without warm-up, whose past does not depend on the number of epochs."""
    train_tiny(tmp_path, *SMALL_LSTM, *STEADY, "training.max_epochs=2", folder="longer")
    train_tiny(tmp_path, *SMALL_LSTM, *STEADY, "training.max_epochs=1")
    go_on(tmp_path / "run", "training.max_epochs=2")
    assert_same_run(tmp_path / "run", tmp_path / "longer")
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").training.max_epochs == 2
    report = (tmp_path / "run" / "report.md").read_text()
    assert f"python train.py resume={tmp_path / 'run'} training.max_epochs=2" in report


def test_more_epochs_take_the_rates_that_the_schedule_has_for_them(tmp_path: Path) -> None:
    falling = [
        "training.warmup_fraction=0",
        "training.learning_rate=0.003",
        "logger=tensorboard",
    ]
    train_tiny(tmp_path, *MINIBATCH_BOW, *EPOCHS, *falling, "training.max_epochs=1")
    wait_for_the_next_second()
    go_on(tmp_path / "run", "training.max_epochs=2")
    rates = scalars(tmp_path / "run", "train/learning_rate")
    expected = [0.003 * (1 - step / 8) for step in range(8)] + [0.003 * (1 - step / 16) for step in range(8, 16)]
    assert [rates[step] for step in range(16)] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_more_patience_continues_a_run_that_stopped_early(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert train_tiny(tmp_path, *STUCK, "training.max_epochs=2", "training.patience=1")["train/epochs"] == 2
    assert go_on(tmp_path / "run", "training.max_epochs=6")["train/epochs"] == 2
    assert "to train longer, raise training.patience" in caplog.text
    assert go_on(tmp_path / "run", "training.max_epochs=7")["train/epochs"] == 2
    assert go_on(tmp_path / "run", "training.patience=3")["train/epochs"] == 4
    assert go_on(tmp_path / "run", "training.patience=null")["train/epochs"] == 6


def test_tensorboard_shows_every_step_once(lstm: Path) -> None:
    behind = lstm / "killed9"
    shutil.rmtree(behind / "tensorboard")
    shutil.copytree(lstm / "killed14" / "tensorboard", behind / "tensorboard")  # it was told of later steps
    go_on(behind)
    for tag in ("train/loss_step", "train/loss_epoch", "val/loss", "test/loss"):
        assert scalars(behind, tag) == scalars(lstm / "run", tag), tag


def test_the_table_of_a_run_that_goes_on_has_every_row_once(tmp_path: Path) -> None:
    train_with_snapshots(tmp_path, *MINIBATCH_BOW, "logger=csv", at=[3, 6, 8, 11])
    for step in (3, 8):
        behind = tmp_path / f"killed{step}" / "metrics.csv"
        later = (tmp_path / f"killed{step + 3}" / "metrics.csv").read_text()
        behind.write_text(later + "14,1,0.6931")  # killed as it wrote
        go_on(behind.parent)
        assert behind.read_text() == (tmp_path / "run" / "metrics.csv").read_text()


def wait_for_the_next_second() -> None:
    """TensorBoard sorts a run's files by second, then by a counter of the process as text, in which 10 precedes 9."""
    time.sleep(1 - time.time() % 1)


def test_a_moved_run_goes_on_and_relative_paths_start_where_it_began(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    train_with_snapshots(tmp_path, *MINIBATCH_BOW, "paths.cache_dir=here", at=[10])
    monkeypatch.chdir(tmp_path)
    moved = (tmp_path / "killed10").rename(tmp_path / "moved")
    go_on(moved)
    assert_same_run(moved, tmp_path / "run")
    assert not (tmp_path / "here").exists()
    assert Path.cwd() == tmp_path


COMMAND = [*SMALL_LSTM, *EPOCHS, "data.num_documents=1000", "trainer.checkpoint_every_s=0", "trainer.threads=1"]


@pytest.mark.slow
def test_a_process_killed_twice_goes_on(tmp_path: Path) -> None:
    checkpoints = tmp_path / "killed" / "checkpoints"
    kill(start(tmp_path, *tiny(*COMMAND), "hydra.run.dir=killed"), (checkpoints / "last-1.ckpt").exists)
    kill(start(tmp_path, "resume=killed"), lambda: any(checkpoints.glob(".last.ckpt.partial-*")))
    assert start(tmp_path, "resume=killed").wait() == 0
    train_tiny(tmp_path, *COMMAND)
    assert_same_run(tmp_path / "killed", tmp_path / "run")


@pytest.mark.slow
def test_ten_runs_killed_at_random_moments_end_with_the_same_numbers(tmp_path: Path) -> None:
    seconds = train_tiny(tmp_path, *COMMAND)["time/fit_s"]
    moments = random.Random(5)
    for number in range(10):
        folder = tmp_path / f"killed{number}"
        process = start(tmp_path, *tiny(*COMMAND), f"hydra.run.dir={folder.name}")
        kill(process, (folder / "tokenizer.json").exists, moments.uniform(0, seconds))
        assert_ends_alike(tmp_path, number)


def test_a_refused_resume_leaves_a_finished_run_as_it_is(tmp_path: Path, shared_runs: SharedRuns) -> None:
    shared_runs.copy(tmp_path / "run", "model=bow")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("difficulty: 0.5", "difficulty: 0.4"))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="The documents differ from those"):
        go_on(tmp_path / "run", "training.max_epochs=5")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert tmp_path / "run" / "metrics.json" in before


def test_a_flipped_bit_in_the_last_checkpoint_gives_way_to_the_one_before_it(lstm: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lstm / "killed6", tmp_path / "run")
    content = bytearray((folder / "checkpoints" / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "checkpoints" / "last.ckpt").write_bytes(content)
    go_on(folder)
    assert_same_run(folder, lstm / "run")


@pytest.mark.parametrize("key", ["optimizer_states", "lr_schedulers", "loops", "callbacks"])
def test_a_checkpoint_of_another_training_is_refused(lstm: Path, tmp_path: Path, key: str) -> None:
    folder = shutil.copytree(lstm / "killed7", tmp_path / "run")
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    content[key] = {"fit_loop": 3} if key == "loops" else {"History": 3} if key == "callbacks" else [{"x": 1}]
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt does not fit this run: .*\. Remove it to resume from the"):
        go_on(folder)


class FullDisk(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


class Interrupted(io.BytesIO):
    def write(self, data: Any) -> int:
        raise KeyboardInterrupt


@pytest.mark.parametrize(("file", "cause"), [(FullDisk, OSError), (Interrupted, KeyboardInterrupt)])
def test_the_cause_of_a_failed_write_is_told(tmp_path: Path, monkeypatch: Any, file: Any, cause: Any) -> None:
    monkeypatch.setattr(Path, "open", lambda *_: file())
    with pytest.raises(cause):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.ones(9)}, tmp_path / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize(
    ("reading", "is_read"), [("tokenizer.unlabeled=true", True), ("training.vat=0.5", True), ("seed=2", False)]
)
def test_unlabelled_documents_may_not_change_if_they_are_read(tmp_path: Path, reading: str, is_read: bool) -> None:
    train, more = tmp_path / "own.csv", tmp_path / "more.csv"
    train.write_text(
        "text,label\n" + "".join(f"{word} film {n},{word}\n" for n in range(20) for word in ("fine", "dull"))
    )
    more.write_text("text\na fine show\na dull one\n")
    own = [f"data.train={train}", f"data.unlabeled={more}", "data.text=text", "data.label=label"]
    train_tiny(tmp_path, *SMALL_LSTM, "data=files", *own, "training.max_epochs=1", reading)
    more.write_text("text\na fine show\na dull one\na third\n")
    if is_read:
        with pytest.raises(UserError, match=re.escape(f"They come from {train}")):
            go_on(tmp_path / "run", "training.max_epochs=2")
    else:
        assert go_on(tmp_path / "run", "training.max_epochs=2")["train/epochs"] == 2
