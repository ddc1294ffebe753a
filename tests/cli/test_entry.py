"""The command line."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.preloaded import PreloadedPopen
from helpers.project import CONFIGS, PROJECT, Command
from newsreel.core import storage

MODELS = [file.stem for file in (CONFIGS / "model").glob("*.yaml")]
QUICK = ["data=synthetic", "data.num_documents=100", "data.mean_length=10", "training.max_epochs=1", "model=bow",
         "training.min_steps_per_epoch=1"]  # fmt: skip


def test_a_training_leaves_one_folder_that_no_other_writes_over(
    command: Command, command_here: Command, tmp_path: Path
) -> None:
    process = command("train.py", *QUICK)
    assert process.returncode == 0, process.stderr
    (folder,) = (tmp_path / "outputs" / "synthetic" / "bow").iterdir()
    assert {path.name for path in folder.iterdir()} >= {"metrics.json", "config.yaml", "report.md", "run.log"}
    written = (folder / "metrics.json").read_text()
    assert f"accuracy {json.loads(written)['test/accuracy']:.4f}" in process.stdout
    assert f"tensorboard --logdir {folder}" in process.stdout
    assert process.stdout.splitlines()[-2].startswith("note")
    assert "Traceback" not in process.stderr
    assert "\r" not in process.stdout + process.stderr  # no bar where the output is a file
    again = command_here("train.py", *QUICK, "seed=2", f"hydra.run.dir={folder}")
    assert again.returncode == 2
    assert "contains another run" in again.stderr
    assert (folder / "metrics.json").read_text() == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=lstmm"], f"{', '.join(sorted(MODELS))}; did you mean model=lstm?"),
        (["model.hiden_size=3"], "model.hiden_size is not a setting; did you mean model.hidden_size?"),
        (["modle=lstm"], "modle"),
        (["model"], "missing EQUAL"),
        (["data=files", "data.separator=;"], "needs quotes inside the shell's quotes: \"data.separator=';'\""),
        (
            ["model.dropout=it's ]"],
            """needs quotes inside the shell's quotes: 'model.dropout='"'"'it\\'"'"'s ]'"'"''""",
        ),
        (["paths.cache_dir=${nope}"], "Interpolation key 'nope' not found"),
        (["data.source=local"], "The corpus 'imdb' was not found"),
        (["data=files"], "data.train is null: name the training documents, such as data.train=train.csv"),
        ([*QUICK, "seed=-1", "hydra.run.dir=mine/deep"], "seed is -1: it must be at least 0"),
        ([*QUICK, "paths.cache_dir=file"], "Not a directory"),
        ([*QUICK, "paths.output_dir=file"], "Not a directory"),
    ],
)
def test_mistakes_get_one_message_status_2_and_no_folder(
    command_here: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    process = command_here("train.py", *arguments)
    assert process.returncode == 2
    assert process.stderr.startswith("error: ")
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert "object_type" not in process.stderr
    assert not list(tmp_path.glob("outputs/*"))
    assert (tmp_path / "mine" / "deep").is_dir()  # the user's own


def test_the_traceback_is_there_for_those_who_ask(command_here: Command) -> None:
    process = command_here("train.py", "model.hiden_size=3", environment={"HYDRA_FULL_ERROR": "1"})
    assert "Traceback" in process.stderr


def test_help_comes_at_once_and_names_the_choices() -> None:
    command = [sys.executable, "-X", "importtime", str(PROJECT / "train.py"), "--help"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "polars", "datasets"}  # which take seconds
    assert process.returncode == 0
    for group in ("model", "data"):
        choices = sorted(file.stem for file in (CONFIGS / group).glob("*.yaml"))
        assert f"{group}: {', '.join(choices)}" in process.stdout


def test_a_refused_command_can_be_mended_and_typed_again(command_here: Command, tmp_path: Path) -> None:
    folder = "hydra.run.dir=mine"
    assert command_here("train.py", "data=files", "data.train=none.csv", "trainer=cpu", folder).returncode == 2
    assert (tmp_path / "mine" / "config.yaml").exists()
    process = command_here("train.py", *QUICK, folder)
    assert process.returncode == 0, process.stderr


def test_a_folder_that_another_process_writes_is_left_to_it(
    command_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.1)
    (tmp_path / "mine").mkdir()
    with storage.lock_dir(tmp_path / "mine"):
        process = command_here("train.py", *QUICK, "hydra.run.dir=mine")
    assert process.returncode == 2
    assert "mine is being written by another process" in process.stderr
    assert not (tmp_path / "mine" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("sent", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_training_that_is_stopped_says_so_in_its_status(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    long = [*QUICK, "training.max_epochs=100000", "training.patience=null", f"paths.cache_dir={tmp_path / 'cache'}"]
    process = PreloadedPopen(["train.py", *long], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                break
        process.send_signal(sent)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status
    assert "Stopped before the end" in rest
    assert "python train.py resume=" in rest
    assert "Traceback" not in rest
