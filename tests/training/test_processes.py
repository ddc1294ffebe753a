"""Trainings in several processes."""

import json
import multiprocessing
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
import torch

import newsreel
from helpers import process_work
from helpers.preloaded import SERVER, PreloadedPopen
from helpers.project import PROJECT, Command
from helpers.tiny_runs import SMALL_LSTM, read_tiny, tiny_spec, train_tiny
from newsreel.core import dist
from newsreel.core.dist import DistEnv, dist_env
from newsreel.core.errors import UserError
from newsreel.training import launch
from newsreel.training.launch import ProcessError, _worker, spawn
from newsreel.training.resume import changed_settings

# 47 training documents: of the batch with 7 of 20 two processes have 4 and 3, of that with 1 of 2 the second has none
UNEVEN = ["data.num_documents=65", "batches.batch_size=20", "training.patience=null", "data.difficulty=0.3"]
STILL = [*UNEVEN, *SMALL_LSTM, "model.dropout=0", "embedding.dropout=0", "embedding.word_dropout=0"]
TRAININGS = {
    "stand-in and balanced": [*STILL, "batches.batch_size=2", "training.max_epochs=1", "data.num_labels=3",
                              "training.class_balance=1"],
    "sparse, accumulated, several labels": [*UNEVEN, "model=bow", "model.dropout=0", "training.solver=minibatch",
                                            "data.num_labels=5", "data.multilabel=true",
                                            "trainer.accumulate_grad_batches=3"],
    "newton": [*UNEVEN, "model=bow", "data.num_labels=5", "data.multilabel=true", "training.max_epochs=3"],
    "averaged": [*STILL, "training.ema=0.9", "data.num_labels=3"],
    "soft pseudo-labels": [*STILL, "data.num_unlabeled=20", "data.pseudo_labels=TEACHER", "data.pseudo_weight=0.3"],
    "adversarial": [*STILL, "training.adversarial=1", "training.perturbation_norm=1"],
}  # fmt: skip
FAST = ("stand-in and balanced", "sparse, accumulated, several labels")
TEACHER = [*UNEVEN, "model=bow"]
DROPOUT = [*UNEVEN, *SMALL_LSTM, "model.dropout=0.5", "training.schedule=constant", "training.warmup_fraction=0"]


def parts(tmp_path: Path, folder: str, *overrides: str, is_resumed: bool = False) -> tuple[Any, ...]:
    """What `_worker` is called with."""
    spec = vars(tiny_spec(tmp_path, *overrides, "trainer.devices=2", "trainer.threads=1", folder=folder)).copy()
    return spec.pop("experiment").config, spec, is_resumed, None


def take_all(trainings: list[tuple[Any, ...]]) -> None:
    """One training after the other: starting processes costs more than they do."""
    for training in trainings:
        _worker(*training)


def preloaded() -> AbstractContextManager[Any]:
    """Processes that begin with Lightning imported. `process_work`, run as a program, starts them as users do."""
    return mock.patch.object(multiprocessing, "get_context", return_value=SERVER)


def overrides_of(name: str, folder: Path) -> list[str]:
    return [override.replace("TEACHER", str(folder / "teacher")) for override in TRAININGS[name]]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders of trainings in two processes."""
    folder = tmp_path_factory.mktemp("together")
    trainings = [parts(folder, name, *TRAININGS[name]) for name in FAST]
    trainings += [parts(folder, name, *DROPOUT, f"training.max_epochs={n}") for name, n in (("whole", 2), ("short", 1))]
    trainings += [parts(folder, "short", *DROPOUT, is_resumed=True)]
    with preloaded():
        spawn(take_all, 2, trainings)
    return folder


def assert_alike(ours: Path, theirs: Path, tolerance: float) -> None:
    """Figures, weights and predictions of two run folders, and the order of the latter."""
    results, expected = (json.loads((run / "metrics.json").read_text()) for run in (ours, theirs))
    figures = [key for key in expected if key.startswith(("train/", "val/", "test/", "documents/"))]
    assert {key: results[key] for key in figures} == pytest.approx(
        {key: expected[key] for key in figures}, rel=0, abs=tolerance
    )
    for name in ("best", "last"):
        files = (run / "checkpoints" / f"{name}.ckpt" for run in (ours, theirs))
        weights, targets = (torch.load(file, weights_only=True)["state_dict"] for file in files)
        assert weights.keys() == targets.keys()
        assert all(torch.allclose(weights[key], value, rtol=0, atol=tolerance) for key, value in targets.items())
    table, target = (pl.read_parquet(run / "predictions.parquet") for run in (ours, theirs))
    assert table.drop(pl.selectors.float()).equals(target.drop(pl.selectors.float()))
    probabilities, targets = (frame.select(pl.selectors.float()).to_numpy() for frame in (table, target))
    assert np.allclose(probabilities, targets, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", FAST)
def test_two_processes_train_as_one_does_with_the_documents_of_both(together: Path, name: str) -> None:
    results = train_tiny(together, *TRAININGS[name], folder=f"{name} alone")
    assert results["documents/train"] == 47
    assert_alike(together / name, together / f"{name} alone", tolerance=2e-6)


@pytest.mark.slow
def test_so_do_two_processes_with_other_trainings(tmp_path: Path) -> None:
    others = [name for name in TRAININGS if name not in FAST]
    train_tiny(tmp_path, *TEACHER, folder="teacher")
    with preloaded():
        spawn(take_all, 2, [parts(tmp_path, name, *overrides_of(name, tmp_path)) for name in others])
    for name in others:
        train_tiny(tmp_path, *overrides_of(name, tmp_path), folder=f"{name} alone")
        assert_alike(tmp_path / name, tmp_path / f"{name} alone", tolerance=2e-6)


def test_a_stopped_run_of_two_processes_ends_with_the_same_numbers(together: Path) -> None:
    assert_alike(together / "short", together / "whole", tolerance=0)
    own, other = torch.load(together / "whole" / "checkpoints" / "last.ckpt", weights_only=True)["newsreel"]["random"]
    assert not torch.equal(own["torch"], other["torch"])  # each has its own dropout


def test_the_folder_is_that_of_one_process_and_opens_in_one(together: Path) -> None:
    name = "stand-in and balanced"
    folder = together / name
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in (together / "whole").iterdir()} >= {"metrics.json", "report.md"}
    environment = json.loads((folder / "metrics.json").read_text())["environment"]
    assert (environment["processes"], environment["threads"]) == (2, 1)
    experiment = read_tiny(together, *TRAININGS[name])
    answers = newsreel.load(folder)(list(experiment.reader.load(experiment.paths)["test"]["text"]))
    assert [row["label"] for row in answers] == pl.read_parquet(folder / "predictions.parquet")["predicted"].to_list()


SYNTHETIC = ["data=synthetic", "data.num_documents=100", "data.mean_length=10", "training.max_epochs=1", "model=bow"]
QUICK = [*SYNTHETIC, "evaluation.figures=false", "trainer=ddp", "trainer.devices=2", "trainer.threads=1"]


@pytest.mark.slow
def test_each_job_of_a_sweep_has_processes_and_failures_of_its_own(command: Command, tmp_path: Path) -> None:
    optimizer = ["training.solver=minibatch", "training.optimizer=sgd", "training.learning_rate=1"]
    diverging = [*optimizer, "training.weight_decay=0,1e30"]
    process = command("train.py", "-m", *QUICK, "batches.batch_size=10", *diverging)
    assert process.returncode == 1, process.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert json.loads((sweep / "0" / "metrics.json").read_text())["environment"]["processes"] == 2
    assert len(list((sweep / "0" / "tensorboard").glob("events.*"))) == 1
    failed = json.loads((sweep / "1" / "failed.json").read_text())
    assert (failed["error"], failed["traceback"]) == ("UserError", [])
    assert "diverged. Lower training.learning_rate" in failed["message"]
    assert not (sweep / "1" / "metrics.json").exists()
    assert process.stdout.count("epoch 1/1") == 1
    assert "Traceback" not in process.stdout + process.stderr


def test_the_number_of_processes_stays_when_a_run_goes_on() -> None:
    composed = {"trainer": {"accelerator": "auto", "devices": 2}}
    with pytest.raises(UserError, match=r"^trainer\.devices cannot be changed when a run is resumed"):
        changed_settings(["trainer=ddp"], composed, {"trainer": {"accelerator": "cpu", "devices": None}})
    kept = {"trainer": {"accelerator": "cpu", "devices": 2}}
    changed_settings(["trainer=cpu"], {"trainer": {"accelerator": "cpu", "devices": None}}, kept)
    assert kept["trainer"]["devices"] == 2


@pytest.mark.slow
def test_torchrun_starts_the_processes_of_one_run(tmp_path: Path) -> None:
    def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
        started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        asked = [str(PROJECT / "train.py"), *arguments, f"paths.cache_dir={tmp_path / 'cache'}"]
        return subprocess.run([*started, *asked], cwd=tmp_path, capture_output=True, text=True, timeout=240)

    refused = torchrun("-m", *QUICK, "seed=1,2")
    assert refused.returncode != 0
    assert refused.stderr.count("error: A sweep cannot run under torchrun") == 1
    assert not (tmp_path / "outputs").exists()
    process = torchrun(*SYNTHETIC, "trainer=ddp")
    assert process.returncode == 0, process.stderr
    (folder,) = (tmp_path / "outputs" / "synthetic" / "bow").iterdir()
    assert json.loads((folder / "metrics.json").read_text())["environment"]["processes"] == 2
    assert process.stdout.count("epoch 1/1") == 1
    assert (folder / "run.log").read_text().count("epoch 1/1") == 1


def output_after(tmp_path: Path, command: list[str], beginning: str, sent: signal.Signals) -> tuple[int, str]:
    """The status of a command that gets a signal after such a line, and its output until no process is left."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = PreloadedPopen(command, cwd=tmp_path, **streams)
    try:
        assert process.stdout is not None
        assert any(line.startswith(beginning) for line in process.stdout)
        process.send_signal(sent)
        rest, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, rest


@pytest.mark.slow
def test_a_training_that_is_stopped_says_so_and_leaves_no_process(tmp_path: Path) -> None:
    long = ["data.num_documents=1000", "training.max_epochs=100000", "training.patience=null"]
    command = ["train.py", *QUICK, *long, f"paths.cache_dir={tmp_path / 'cache'}"]
    status, rest = output_after(tmp_path, command, "epoch 2/", signal.SIGTERM)
    assert status == 143
    assert "Stopped before the end" in rest
    assert "python train.py resume=" in rest
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, -2, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    assert output_after(tmp_path, [process_work.__file__], "waiting", sent)[0] == status


def test_what_one_process_dies_of_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with preloaded(), pytest.raises(UserError, match=r"One of the 2 processes of the training was killed by signal 9"):
        spawn(process_work.die_in_one, 2)
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.1)
    with preloaded(), pytest.raises(UserError, match=r"^no$"):
        spawn(process_work.refuse_in_one, 2)
    with preloaded(), pytest.raises(ProcessError, match=r"process 1 of 2 failed:(.|\n)*ZeroDivisionError: by hand"):
        spawn(process_work.fail_in_one, 2)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, DistEnv(0, 1, 0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, DistEnv(0, 1, 0, 1)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, DistEnv(5, 8, 1, 4)),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, DistEnv(0, 1, 0, 1)),  # sbatch, which starts one process
        ({"SLURM_STEP_NUM_TASKS": "6", "SLURM_STEP_NUM_NODES": "3", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"},
         DistEnv(5, 6, 1, 2)),
    ],
)  # fmt: skip
def test_the_environment_says_which_process_this_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: DistEnv
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert dist_env() == expected
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "5")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    if "RANK" not in environment:
        with pytest.raises(UserError, match="srun has started 5 processes on 2 machines"):
            dist_env()


@pytest.mark.parametrize(
    ("override", "num_gpus", "message"),
    [
        (
            "batches.batch_size=1",
            0,
            r"batches\.batch_size is 1, but 2 processes share the batch and each needs at least one",
        ),
        ("trainer.devices=4", 2, r"trainer\.devices is 4, but torch finds 2 GPUs: "),
        ("trainer.devices=0", 0, r"trainer\.devices is 0: it must be at least 1 and at most 1024, or null"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, num_gpus: int, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    with pytest.raises(UserError, match=message):
        read_tiny(tmp_path, "trainer=ddp", override)


def test_processes_of_torchrun_have_to_be_those_of_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "dist_env", lambda: DistEnv(1, 8, 1, 4))
    monkeypatch.setattr("newsreel.config.schema.dist_env", lambda: DistEnv(1, 8, 1, 4))
    assert read_tiny(tmp_path, "trainer=ddp").trainer.devices == 4
    for wrong in ("trainer=cpu", "trainer.devices=2"):
        with pytest.raises(UserError, match="started this command in 4 processes on each machine"):
            read_tiny(tmp_path, wrong)
    with pytest.raises(
        UserError, match=r"batches\.batch_size is 6, but 8 processes share the batch and each needs at least one"
    ):
        read_tiny(tmp_path, "trainer=ddp", "batches.batch_size=6")
