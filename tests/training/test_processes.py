"""Trainings in several processes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import newsreel
from helpers import process_work
from helpers.preloaded import PreloadedPopen
from helpers.project import PROJECT, Command
from helpers.tiny_runs import SMALL_LSTM, TINY, compose_tiny, read_tiny, train_tiny
from newsreel.core import dist
from newsreel.core.dist import DistEnv, dist_env
from newsreel.core.errors import UserError
from newsreel.training.launch import ProcessError, _worker, spawn
from newsreel.training.resume import changed_settings

# 147 training documents: of the batch with 7 of 20 two processes have 4 and 3, of that with 1 of 2 the second has none
UNEVEN = ["data.num_documents=203", "batches.batch_size=20", "training.patience=null", "data.difficulty=0.3"]
UNTOUCHED = ["model.dropout=0", "embedding.dropout=0", "embedding.word_dropout=0"]
TRAININGS = {
    "lstm": [*UNEVEN, *SMALL_LSTM, *UNTOUCHED],
    "stand-in": [*UNEVEN, *SMALL_LSTM, *UNTOUCHED, "batches.batch_size=2", "training.max_epochs=1"],
    "accumulated": [*UNEVEN, *SMALL_LSTM, *UNTOUCHED, "trainer.accumulate_grad_batches=3"],
    "sparse": [*UNEVEN, "model=bow", "model.dropout=0"],
    "several labels": [*UNEVEN, "model=bow", "model.dropout=0", "data.num_labels=5", "data.multilabel=true"],
    "balanced": [*UNEVEN, *SMALL_LSTM, *UNTOUCHED, "data.num_labels=3", "training.class_balance=1"],
}
DROPOUT = [*UNEVEN, *SMALL_LSTM, "model.dropout=0.5", "training.schedule=constant", "training.warmup_fraction=0"]
TOGETHER = ["trainer.devices=2", "trainer.threads=1"]


def parts(tmp_path: Path, folder: str, overrides: list[str], is_resumed: bool = False) -> tuple[Any, ...]:
    """What `_worker` is called with."""
    overrides = [*overrides, *TOGETHER]
    chosen = compose_tiny(tmp_path, *overrides).hydra.runtime.choices
    choices = {name: choice for name, choice in chosen.items() if "/" not in name}
    config = read_tiny(tmp_path, *overrides).config
    spec = {
        "run_dir": tmp_path / folder,
        "choices": choices,
        "overrides": [*TINY, *overrides],
        "started": time.perf_counter(),
        "resumed": (),
    }
    return config, spec, is_resumed, None


def take_all(trainings: list[tuple[Any, ...]]) -> None:
    """One training after the other: starting processes costs more than they do."""
    for training in trainings:
        _worker(*training)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders of trainings in two processes."""
    folder = tmp_path_factory.mktemp("together")
    longer = [*DROPOUT, "training.max_epochs=3"]
    spawn(
        take_all,
        2,
        [
            *(parts(folder, name, overrides) for name, overrides in TRAININGS.items()),
            parts(folder, "whole", longer),
            parts(folder, "stopped", DROPOUT),
            parts(folder, "stopped", longer, is_resumed=True),
        ],
    )
    return folder


def assert_alike(ours: Path, theirs: Path, tolerance: float) -> None:
    """Figures, weights and predictions of two run folders, and the order of the latter."""
    results, expected = (json.loads((run / "metrics.json").read_text()) for run in (ours, theirs))
    figures = [key for key in expected if key.startswith(("train/", "val/", "test/", "documents/"))]
    assert {key: results[key] for key in figures} == pytest.approx(
        {key: expected[key] for key in figures}, rel=0, abs=tolerance
    )
    for name in ("best", "last"):
        weights, wanted = (
            torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"] for run in (ours, theirs)
        )
        assert weights.keys() == wanted.keys()
        assert all(torch.allclose(weights[key], value, rtol=0, atol=tolerance) for key, value in wanted.items())
    table, expected_table = (pl.read_parquet(run / "predictions.parquet") for run in (ours, theirs))
    assert table.drop(pl.selectors.float()).equals(expected_table.drop(pl.selectors.float()))
    for column in expected_table.select(pl.selectors.float()).columns:
        assert np.allclose(table[column], expected_table[column], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_as_one_does_with_the_documents_of_both(together: Path, name: str) -> None:
    results = train_tiny(together, *TRAININGS[name], folder=f"{name} alone")
    assert results["documents/train"] % (2 if name == "stand-in" else 20)
    assert_alike(together / name, together / f"{name} alone", tolerance=2e-6)


def test_a_stopped_run_of_two_processes_ends_with_the_same_numbers(together: Path) -> None:
    assert_alike(together / "stopped", together / "whole", tolerance=0)
    own, other = torch.load(together / "whole" / "checkpoints" / "last.ckpt", weights_only=True)["newsreel"]["random"]
    assert not torch.equal(own["torch"], other["torch"])  # each has its own dropout


def test_the_folder_is_that_of_one_process_and_opens_in_one(together: Path) -> None:
    folder = together / "lstm"
    names = {path.name for path in (together / "whole").iterdir()}
    assert names == {path.name for path in folder.iterdir()} >= {"metrics.json", "config.yaml", "report.md"}
    assert len(list((folder / "tensorboard").glob("events.*"))) == 1
    environment = json.loads((folder / "metrics.json").read_text())["environment"]
    assert (environment["processes"], environment["threads"]) == (2, 1)
    experiment = read_tiny(together, *TRAININGS["lstm"])
    texts = experiment.reader.load(experiment.paths)["test"]["text"]
    answers = newsreel.load(folder)(list(texts))
    expected = pl.read_parquet(folder / "predictions.parquet")["predicted"].to_list()
    assert [answer["label"] for answer in answers] == expected


SYNTHETIC = ["data=synthetic", "data.num_documents=100", "data.mean_length=10", "training.max_epochs=1", "model=bow"]
QUICK = [*SYNTHETIC, "evaluation.figures=false", "trainer=ddp", "trainer.devices=2", "trainer.threads=1"]


@pytest.mark.slow
def test_each_job_of_a_sweep_has_processes_and_failures_of_its_own(command: Command, tmp_path: Path) -> None:
    diverging = ["training.weight_decay=0,1e30", "training.learning_rate=1", "training.optimizer=sgd"]
    process = command("train.py", "-m", *QUICK, "batches.batch_size=10", *diverging)
    assert process.returncode == 1, process.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert json.loads((sweep / "0" / "metrics.json").read_text())["environment"]["processes"] == 2
    failed = json.loads((sweep / "1" / "failed.json").read_text())
    assert failed["error"] == "UserError"
    assert "diverged. Lower training.learning_rate" in failed["message"]
    assert failed["traceback"] == []
    assert not (sweep / "1" / "metrics.json").exists()
    assert process.stdout.count("epoch 1/1") == 1
    assert "Traceback" not in process.stdout + process.stderr


def test_pruning_is_for_one_process(command_here: Command, tmp_path: Path) -> None:
    process = command_here("train.py", *QUICK, "sweep=optuna")
    assert process.returncode == 2
    assert process.stderr == (
        "error: hydra.sweeper.pruner is median, which works only in a single process, but trainer.devices is 2: set "
        "hydra.sweeper.pruner=none.\n"
    )


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
        paths = [f"paths.cache_dir={tmp_path / 'cache'}"]
        return subprocess.run(
            [*started, str(PROJECT / "train.py"), *arguments, *paths],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

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


def start(tmp_path: Path, *arguments: str) -> PreloadedPopen:
    return PreloadedPopen(list(arguments), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def output_after(process: PreloadedPopen, beginning: str, sent: signal.Signals) -> str:
    """What comes when a process is sent a signal after such a line, until nobody is left who could print more."""
    try:
        assert process.stdout is not None
        assert any(line.startswith(beginning) for line in process.stdout)
        process.send_signal(sent)
        rest, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    return rest


@pytest.mark.slow
def test_a_training_that_is_stopped_says_so_and_leaves_no_process(tmp_path: Path) -> None:
    long = ["data.num_documents=1000", "training.max_epochs=100000", "training.patience=null"]
    process = start(tmp_path, "train.py", *QUICK, *long, f"paths.cache_dir={tmp_path / 'cache'}")
    rest = output_after(process, "epoch 2/", signal.SIGTERM)
    assert process.returncode == 143
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
    process = start(tmp_path, str(Path(process_work.__file__)))
    output_after(process, "waiting", sent)
    assert process.returncode == status


def test_processes_know_who_they_are(tmp_path: Path) -> None:
    spawn(process_work.note_place, 2, tmp_path)
    assert [(tmp_path / str(number)).read_text() for number in range(2)] == ["0 of 2", "1 of 2"]
    assert dist_env() == DistEnv(0, 1, 0, 1)


def test_what_one_process_dies_of_ends_all() -> None:
    with pytest.raises(UserError, match=r"^no$"):
        spawn(process_work.refuse_in_one, 2)
    with pytest.raises(UserError, match=r"One of the 2 processes of the training was killed by signal 9"):
        spawn(process_work.die_in_one, 2)
    with pytest.raises(ProcessError, match=r"process 1 of 2 failed:(.|\n)*ZeroDivisionError: by hand"):
        spawn(process_work.fail_in_one, 2)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, DistEnv(0, 1, 0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, DistEnv(0, 1, 0, 1)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, DistEnv(5, 8, 1, 4)),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, DistEnv(0, 1, 0, 1)),  # sbatch, which starts one process
        (
            {
                "SLURM_STEP_NUM_TASKS": "6",
                "SLURM_STEP_NUM_NODES": "3",
                "SLURM_PROCID": "5",
                "SLURM_LOCALID": "1",
            },
            DistEnv(5, 6, 1, 2),
        ),
    ],
)
def test_the_environment_says_which_process_this_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: DistEnv
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert dist_env() == expected


def test_machines_with_unequal_numbers_of_tasks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "5")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    with pytest.raises(UserError, match="srun has started 5 processes on 2 machines"):
        dist_env()


@pytest.mark.parametrize(
    ("overrides", "num_gpus", "message"),
    [
        (["batches.batch_size=1"], 0, "batches.batch_size is 1, fewer documents than the 2 processes"),
        (["embedding.max_norm=3"], 0, "embedding.max_norm is 3, and rows are scaled back where they are looked up"),
        (
            ["trainer.devices=4", "trainer.accelerator=auto"],
            2,
            "trainer.devices is 4, and torch finds 2 GPUs here",
        ),
        (["trainer.devices=0"], 0, "trainer.devices is 0: it has to be at least 1 and at most 1024, or null"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], num_gpus: int, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    with pytest.raises(UserError) as refused:
        read_tiny(tmp_path, "trainer=ddp", *overrides)
    assert message in str(refused.value)


def test_processes_of_torchrun_have_to_be_those_of_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "dist_env", lambda: DistEnv(1, 8, 1, 4))
    monkeypatch.setattr("newsreel.config.schema.dist_env", lambda: DistEnv(1, 8, 1, 4))
    assert read_tiny(tmp_path, "trainer=ddp").trainer.devices == 4
    for wrong in ("trainer=cpu", "trainer.devices=2"):
        with pytest.raises(UserError, match="this command was started in 4 processes on each machine"):
            read_tiny(tmp_path, wrong)
    with pytest.raises(UserError, match=r"batches\.batch_size is 6, fewer documents than the 8"):
        read_tiny(tmp_path, "trainer=ddp", "batches.batch_size=6")
