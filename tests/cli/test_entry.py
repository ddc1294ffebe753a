"""The command line."""

import errno
import io
import json
import logging
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.preloaded import PreloadedPopen
from helpers.project import CONFIGS, PROJECT, Command
from newsreel.cli.app import run
from newsreel.core import storage

MODELS = [file.stem for file in (CONFIGS / "model").glob("*.yaml")]
QUICK = ["data=synthetic", "data.num_documents=100", "data.mean_length=10", "training.max_epochs=1", "model=bow",
         "training.min_steps_per_epoch=1", "evaluation.figures=false"]  # fmt: skip


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
        pytest.param(["model"], "missing EQUAL", marks=pytest.mark.slow),
        (["data=files", "data.separator=;"], "needs quotes inside the shell's quotes: \"data.separator=';'\""),
        pytest.param(
            ["model.dropout=it's ]"],
            """needs quotes inside the shell's quotes: 'model.dropout='"'"'it\\'"'"'s ]'"'"''""",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["training.betas=[0.9,~ 1,'a ]']"],
            """inside the shell's quotes: "training.betas=[0.9,'~ 1','a ]']\"""",
            marks=pytest.mark.slow,
        ),
        (["paths.cache_dir=${nope}"], "Interpolation key 'nope' not found"),
        (["data.source=local"], "The corpus 'imdb' was not found"),
        (["data=files"], "data.train is null: name the training documents, such as data.train=train.csv"),
        (["data=files", "data.train=train.csv.rar"], "train.csv.rar: unknown file extension"),
        ([*QUICK, "seed=-1", "hydra.run.dir=mine/deep"], "seed is -1: it must be at least 0"),
        ([*QUICK, "paths.output_dir=file"], "Not a directory"),
        pytest.param([*QUICK, "paths.cache_dir=file"], "Not a directory", marks=pytest.mark.slow),
    ],
)
def test_mistakes_get_one_message_status_2_and_no_folder(
    command_here: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    for name in ("file", "train.csv.rar"):
        (tmp_path / name).write_text("")
    process = command_here("train.py", *arguments)
    assert process.returncode == 2
    assert process.stderr.startswith("error: ")
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert "object_type" not in process.stderr
    assert not list(tmp_path.glob("outputs/*"))
    assert (tmp_path / "mine" / "deep").is_dir()  # the user's own


SLOW_IMPORTS = "torch", "lightning", "datasets", "sklearn", "matplotlib"


def imported_by(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """A command in an interpreter of its own, and the modules that it imports."""
    command = [sys.executable, "-X", "importtime", str(PROJECT / arguments[0]), *arguments[1:]]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return process, {line.rpartition("|")[2].strip() for line in process.stderr.splitlines()}


@pytest.mark.slow
def test_a_missing_file_is_reported_before_anything_slow_is_imported(tmp_path: Path) -> None:
    process, imported = imported_by(tmp_path, "train.py", "data=files", "data.train=nowhere.csv")
    assert process.returncode == 2
    assert "error: data.train=nowhere.csv: there is no such file or folder" in process.stderr
    assert "polars" in imported  # the reader's own, as a check that modules are seen
    assert not imported & set(SLOW_IMPORTS)


@pytest.mark.slow
def test_a_missing_file_to_evaluate_on_is_reported_before_the_run_is_opened(tmp_path: Path) -> None:
    process, imported = imported_by(tmp_path, "evaluate.py", "run=none", "data=files", "data.test=nowhere.csv")
    assert "error: data.test=nowhere.csv: there is no such file" in process.stderr
    assert not imported & set(SLOW_IMPORTS)


def test_a_command_prints_in_an_encoding_without_lines_and_dots(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    with pytest.raises(SystemExit) as stopped:
        run(lambda: print("───\ntest  accuracy 0.5000 …"))
    assert not stopped.value.code
    assert printed.getvalue().decode() == "---\ntest  accuracy 0.5000 ...\n"


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_encoding_without_lines_and_dots_loses_no_result(tmp_path: Path, encoding: str) -> None:
    command = [sys.executable, str(PROJECT / "train.py"), *QUICK, f"paths.cache_dir={tmp_path}", "trainer=cpu"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding=encoding, check=True)
    lines = process.stdout.splitlines()
    assert set(lines[-1]) == {"-"}
    assert any(line.startswith("test ") and "accuracy" in line for line in lines)
    assert "Logging error" not in process.stderr


def test_a_user_without_a_home_directory_is_told_what_to_set(
    command_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_entry(user: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    process = command_here("train.py", *QUICK, "paths.cache_dir='~/.cache'")
    assert process.returncode == 2
    assert process.stderr.startswith("error: paths.cache_dir=~/.cache: ~ is a home directory that is not known here")
    assert process.stderr.endswith("Set HOME, or write paths.cache_dir without ~.\n")
    assert not list(tmp_path.glob("outputs/*"))


def test_a_setting_of_the_corpus_beside_resume_is_answered_with_the_rule(command_here: Command, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    process = command_here("train.py", f"resume={tmp_path}", "data.train=other.csv")
    assert process.returncode == 2
    assert process.stderr.startswith("error: data.train cannot be set here: with resume=, the corpus and the model are")
    process = command_here("train.py", f"resume={tmp_path}", "training.max_epoch=3")
    assert "did you mean training.max_epochs?" in process.stderr


def test_the_traceback_is_there_for_those_who_ask(command_here: Command) -> None:
    process = command_here("train.py", "model.hiden_size=3", environment={"HYDRA_FULL_ERROR": "1"})
    assert "Traceback" in process.stderr


def test_help_comes_at_once_and_names_the_choices(tmp_path: Path) -> None:
    process, imported = imported_by(tmp_path, "train.py", "--help")
    assert not imported & {"torch", "lightning", "polars", "datasets"}  # which take seconds
    assert process.returncode == 0
    for group in ("model", "data"):
        choices = sorted(file.stem for file in (CONFIGS / group).glob("*.yaml"))
        assert f"{group}: {', '.join(choices)}" in process.stdout


def test_a_refused_command_can_be_mended_and_typed_again(command_here: Command, tmp_path: Path) -> None:
    folder = "hydra.run.dir=mine"
    assert command_here("train.py", *QUICK, "embedding=glove", "embedding.path=none.txt", folder).returncode == 2
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


class FullDisk(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_on_a_full_disk_gives_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)  # a command in this process has set it
    monkeypatch.setattr(logging, "raiseExceptions", True)
    handler = logging.StreamHandler(FullDisk())

    def application() -> None:
        logging.getLogger("newsreel").addHandler(handler)
        logging.getLogger("newsreel").error("a line")
        raise OSError(errno.ENOSPC, "No space left on device")

    try:
        with pytest.raises(SystemExit) as ended:
            run(application)
    finally:
        logging.getLogger("newsreel").removeHandler(handler)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error:")] == lines[:1]
    assert "Traceback" not in "".join(lines)


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
