"""The time of training, with that of teachers and of runs that a training starts from."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.tested_runs import write_tested_run
from newsreel.core.errors import UserError
from newsreel.runs.records import read_run
from newsreel.runs.training_time import fit_seconds, total_fit_seconds


def write_run(folder: Path, seconds: float, config: dict[str, Any] | None = None, **metrics: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {}, "pretrained": None} | (config or {})))
    (folder / "command.json").write_text(json.dumps({"choices": {}, "overrides": [], "directory": str(folder.parent)}))
    (folder / "metrics.json").write_text(json.dumps({"time/fit_s": seconds} | metrics))
    return folder


def write_ensemble(folder: Path, *members: str) -> Path:
    folder.mkdir()
    content = {"members": [{"run": member, "weight": 0.5} for member in members]}
    (folder / "ensemble.json").write_text(json.dumps(content))
    (folder / "metrics.json").write_text(json.dumps({"time/fit_s": 999}))
    return folder


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("bow", 1),
        ("student", 10 + 1),
        ("student_of_ensemble", 100 + 1 + 1_000 + 10_000),
        ("both", 10 + 1 + 100 + 1_000 + 10_000),  # the bag once
    ],
)
def test_each_run_that_a_training_needs_counts_once(tmp_path: Path, run: str, expected: float) -> None:
    write_run(tmp_path / "bow", 1)
    write_run(tmp_path / "language", 10_000)
    write_run(tmp_path / "lstm", 1_000, {"pretrained": str(tmp_path / "language")})
    write_ensemble(tmp_path / "ensemble", "../bow", str(tmp_path / "lstm"))
    write_run(tmp_path / "student", 10, {"data": {"pseudo_labels": "bow"}})
    write_run(tmp_path / "student_of_ensemble", 100, {"data": {"pseudo_labels": ["ensemble", "bow"]}})
    write_ensemble(tmp_path / "both", "../student", "../student_of_ensemble")
    assert sum(fit_seconds([tmp_path / run]).values()) == expected


def test_a_run_knows_the_time_of_a_teacher_that_is_gone(tmp_path: Path) -> None:
    student = write_run(tmp_path / "student", 10, {"data": {"pseudo_labels": "gone"}}, **{"time/sources_s": 5.0})
    assert sum(fit_seconds([student]).values()) == 15


def test_an_ensemble_of_itself_is_refused(tmp_path: Path) -> None:
    ensemble = write_ensemble(tmp_path / "ensemble", ".")
    run = read_run(ensemble)
    assert (run.status, "the member . is an ensemble, and must be a run" in run.message) == ("failed", True)
    with pytest.raises(UserError, match="is an ensemble, and must be a run"):
        fit_seconds([ensemble])


def test_a_damaged_teacher_leaves_the_time_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teacher = write_run(tmp_path / "teacher", 1)
    student = write_run(tmp_path / "student", 10, {"data": {"pseudo_labels": "teacher"}})
    assert total_fit_seconds([student]) == 11
    (teacher / "metrics.json").write_text("{")
    assert total_fit_seconds([student]) is None
    assert f"time/sources_s is left out of the results: {teacher / 'metrics.json'}" in caplog.text


def test_comparisons_count_the_teacher(tmp_path: Path) -> None:
    write_tested_run(tmp_path / "run", "model=bow seed=1", [0, 1], [0, 1], fit_s=2, results={"time/sources_s": 40})
    assert read_run(tmp_path / "run").results["time/fit_s"] == 42
