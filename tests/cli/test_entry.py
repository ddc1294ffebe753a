"""The command line, in processes of their own."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.preloaded import PreloadedPopen
from helpers.project import PROJECT, Command

QUICK = ["data=synthetic", "data.num_documents=100", "data.mean_length=10", "training.max_epochs=1", "model=bow"]


def test_a_training_from_another_folder_leaves_one_run_folder(command: Command, tmp_path: Path) -> None:
    process = command("train.py", *QUICK)
    assert process.returncode == 0, process.stderr
    (folder,) = (tmp_path / "outputs" / "synthetic" / "bow").iterdir()
    assert (folder / "run.log").exists()
    assert {path.name for path in folder.iterdir()} >= {"metrics.json", "config.yaml", "report.md"}
    results = json.loads((folder / "metrics.json").read_text())
    assert f"accuracy {results['test/accuracy']:.4f}" in process.stdout
    assert f"tensorboard --logdir {folder}" in process.stdout
    assert process.stdout.splitlines()[-2].startswith("note")
    assert "Traceback" not in process.stderr
    assert "\r" not in process.stdout + process.stderr  # no bar where the output is a file


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=lstmm"], "bilstm, birnn, bow, cnn, flatten, gru, kim_cnn, lstm, rnn; did you mean model=lstm?"),
        (["model.hiden_size=3"], "model.hiden_size is not a setting; did you mean model.hidden_size?"),
        (["modle=lstm"], "modle"),
        (["+model.colour=red"], "model.colour is not a setting; known are model.cell, model.directions"),
        (["model.hidden_size=abc"], "model.hidden_size is abc: it has to be a whole number"),
        (["model"], "missing EQUAL"),
        (["data=files", "data.separator=;"], "needs quotes inside the shell's quotes: \"data.separator=';'\""),
        (
            ["model.dropout=it's ]"],
            """needs quotes inside the shell's quotes: 'model.dropout='"'"'it\\'"'"'s ]'"'"''""",
        ),
        (["paths.cache_dir=${nope}"], "Interpolation key 'nope' not found"),
        (["data.source=local"], "The corpus 'imdb' was not found"),
        (["data=files"], "data.train is null: name the training documents, such as data.train=train.csv"),
    ],
)
def test_mistakes_get_one_message_status_2_and_no_folder(
    command_here: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    process = command_here("train.py", *arguments)
    assert process.returncode == 2
    assert process.stderr.startswith("error: ")
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert "object_type" not in process.stderr
    assert not (tmp_path / "outputs").exists() or not any((tmp_path / "outputs").iterdir())


def test_the_traceback_is_there_for_those_who_ask(command_here: Command) -> None:
    process = command_here("train.py", "model.hiden_size=3", environment={"HYDRA_FULL_ERROR": "1"})
    assert "Traceback" in process.stderr


def test_help_comes_at_once_and_names_the_choices() -> None:
    command = [sys.executable, "-X", "importtime", str(PROJECT / "train.py"), "--help"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "polars", "datasets"}  # which take seconds
    assert process.returncode == 0
    assert "kim_cnn, lstm, rnn" in process.stdout
    corpora = "files, hub, imdb, r52, r8, rcv1, reuters, reuters10, reuters115, reuters46, synthetic, synthetic_rcv1"
    assert f"data: {corpora}" in process.stdout


def test_folders_that_cannot_be_written_to_are_named(command_here: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for setting in ("paths.cache_dir=file", "paths.output_dir=file"):
        process = command_here("train.py", *QUICK, setting)
        assert process.returncode == 2
        assert "Not a directory" in process.stderr
        assert "Traceback" not in process.stderr


def test_a_refused_run_leaves_the_users_own_folder_alone(command_here: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    process = command_here("train.py", *QUICK, "seed=-1", "hydra.run.dir=mine/deep")
    assert process.returncode == 2
    assert (tmp_path / "mine" / "deep").is_dir()


def test_a_refused_command_can_be_mended_and_typed_again(command_here: Command, tmp_path: Path) -> None:
    folder = "hydra.run.dir=mine"
    assert command_here("train.py", "data=files", "data.train=none.csv", "trainer=cpu", folder).returncode == 2
    assert (tmp_path / "mine" / "config.yaml").exists()
    process = command_here("train.py", *QUICK, folder)
    assert process.returncode == 0, process.stderr


def test_a_run_never_writes_over_another(command_here: Command, tmp_path: Path) -> None:
    assert command_here("train.py", *QUICK, "hydra.run.dir=mine").returncode == 0
    before = (tmp_path / "mine" / "metrics.json").read_text()
    process = command_here("train.py", *QUICK, "seed=2", "hydra.run.dir=mine")
    assert process.returncode == 2
    assert "contains another run" in process.stderr
    assert (tmp_path / "mine" / "metrics.json").read_text() == before


@pytest.mark.parametrize(
    ("sent", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_training_that_is_stopped_says_so_in_its_status(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    long = [*QUICK, "data.num_documents=2000", "training.max_epochs=100000", "training.patience=null"]
    process = PreloadedPopen(
        ["train.py", *long, f"paths.cache_dir={tmp_path / 'cache'}"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
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
