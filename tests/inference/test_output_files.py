"""Output files: complete or absent, never in place of the input, and nothing left of killed processes."""

import csv
import fcntl
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.project import PROJECT
from newsreel.core.errors import UserError
from newsreel.inference import output_files
from newsreel.inference.output_files import replacing_output, require_distinct
from newsreel.inference.output_writers import PredictionBatch, require_csv, writing

WRITE_FOR_EVER = """
import sys, time
from pathlib import Path
from newsreel.inference.output_files import replacing_output
with replacing_output(Path(sys.argv[1])) as partial:
    partial.write_text("a part")
    print(partial, flush=True)
    sys.stdin.readline()
"""


def start_writing(path: Path) -> tuple["subprocess.Popen[str]", Path]:
    """Another process in the middle of writing the file, and its temporary file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(path)],
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_leaves_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    output = tmp_path / "answers[1].jsonl"
    killed, left = start_writing(output)
    killed.kill()
    killed.communicate()
    other = tmp_path / ".answers[2].jsonl.partial-12345678"
    other.touch()
    assert left.read_text() == "a part"
    living, being_written = start_writing(output)
    assert not left.exists()
    with replacing_output(output) as partial:
        partial.write_text("whole")
        assert being_written.exists()
    assert output.read_text() == "whole"
    living.communicate("go on\n", timeout=60)
    assert (living.returncode, output.read_text()) == (0, "a part")
    assert sorted(tmp_path.iterdir()) == sorted([other, output])


def test_a_file_that_is_removed_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "partial"
    removed = []

    def flock(descriptor: int, kind: int) -> None:
        if not removed:
            removed.append(file.unlink())

    monkeypatch.setattr(fcntl, "flock", flock)
    descriptor = output_files.lock_file(file)
    assert os.path.samestat(os.fstat(descriptor), file.stat())
    os.close(descriptor)


def test_without_locks_nothing_of_others_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, kind: int) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    other = tmp_path / ".answers.csv.partial-12345678"
    other.touch()
    os.mkfifo(tmp_path / ".answers.csv.partial-pipe")
    with replacing_output(tmp_path / "answers.csv") as partial:
        partial.write_text("whole")
    assert other.exists()
    assert (tmp_path / "answers.csv").read_text() == "whole"


def test_settings_that_name_the_same_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.csv"
    file.touch()
    (tmp_path / "link.csv").symlink_to(file)
    (tmp_path / "hard.csv").hardlink_to(file)
    (tmp_path / "folder").symlink_to(tmp_path)
    for other in (file, tmp_path / "link.csv", tmp_path / "hard.csv", tmp_path / "folder" / "a.csv"):
        with pytest.raises(UserError, match=r"input=.*a\.csv and output=.* are the same file"):
            require_distinct({"input": file, "output": other, "html": None})
    with pytest.raises(UserError, match=r"html=.* and output=.* are the same file"):
        require_distinct({"input": file, "output": tmp_path / "new", "html": tmp_path / "folder" / "new"})
    require_distinct({"input": file, "output": tmp_path / "b.csv", "html": tmp_path / "b.html"})
    with file.open() as opened:
        monkeypatch.setattr(sys, "stdin", opened)
        with pytest.raises(UserError, match=r"output=.*link\.csv is the file that standard input is read from"):
            require_distinct({"input": None, "output": tmp_path / "link.csv", "html": None})
        require_distinct({"input": None, "output": tmp_path / "b.csv", "html": None})
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    require_distinct({"input": None, "output": file, "html": None})


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "1=1", " =1", "fine", "", None]
ESCAPED = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'\r=1", "'＝1", "1=1", " =1", "fine", "", ""]


def test_texts_that_would_be_formulas_are_escaped_on_request(tmp_path: Path) -> None:
    probabilities = np.array([[0.25, 0.75]] * len(FORMULAS), dtype=np.float32)
    answers = PredictionBatch(
        "binary", ["a", "=b"], probabilities, np.ones(len(FORMULAS), dtype=int), kept_columns={"=id": FORMULAS}
    )
    tables = {}
    for name, escape in (("plain", False), ("escaped", True)):
        with writing(tmp_path / f"{name}.csv", escape) as write:
            write(answers)
        with (tmp_path / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            tables[name] = list(csv.reader(file))
    assert tables["plain"][0] == ["=id", "label", "probability", "p(a)", "p(=b)"]
    assert tables["escaped"][0] == ["'=id", "label", "probability", "p(a)", "p(=b)"]
    assert [row[0] for row in tables["plain"][1:]] == [text or "" for text in FORMULAS]
    assert [row[0] for row in tables["escaped"][1:]] == ESCAPED
    assert {tuple(row[1:]) for row in tables["escaped"][1:]} == {("'=b", "0.75", "0.25", "0.75")}
    for path in (None, tmp_path / "answers.jsonl"):
        with pytest.raises(UserError, match="escape_formulas=true has an effect on CSV only, but output is"):
            require_csv(path)
