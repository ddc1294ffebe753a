"""Run directories that were damaged or made to do harm: one message, no code run, little memory and time."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.shared_runs import CLASSES, LSTM, RUNS, SharedRuns
from helpers.tampering import TAMPERED, VARIANTS, Change, change_config
from helpers.tiny_runs import go_on
from newsreel.core.errors import UserError
from newsreel.core.paths import working_directory
from newsreel.inference.run import Run
from newsreel.runs.ensemble import Ensemble
from newsreel.runs.records import find_runs
from newsreel.runs.trained_run import open_run


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the current directory, which is on the path as in a notebook, that leaves a trace if imported."""
    (tmp_path / "canary_module.py").write_text("import pathlib; pathlib.Path('canary').mkdir(); class Net: pass")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    return tmp_path / "canary"


@pytest.mark.parametrize(
    ("kind", "tamper", "message"),
    [
        pytest.param(kind, *rest, id=name, marks=[pytest.mark.slow] * (name in VARIANTS))
        for kind, name, *rest in TAMPERED
    ],
)
def test_a_tampered_run_directory_is_refused_in_words(
    tmp_path: Path, canary: Path, shared_runs: SharedRuns, kind: str, tamper: Change, message: str
) -> None:
    folder = shared_runs.copy(tmp_path / "run", *RUNS[kind])
    tamper(folder)
    with pytest.raises(UserError, match=message) as error:
        open_run(folder)
    assert len(str(error.value)) < 3_000
    assert not canary.exists()
    assert not (folder / "canary").exists()
    assert "canary_module" not in sys.modules


def test_no_module_is_imported_from_the_directory_that_a_run_names(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "canary_module.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with working_directory(tmp_path / "elsewhere"):
        assert Path.cwd() == tmp_path / "elsewhere"
        with pytest.raises(ImportError):
            __import__("canary_module")
    assert Path.cwd() == tmp_path
    assert sys.path[0] == ""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("metrics.json", content) for content in ("{", "[]", "3", '{"test/accuracy": "high"}', '{"val/loss": {}}')),
        *(("command.json", content) for content in ("{", "[]", '{"overrides": ["a=(("]}', '{"choices": 3}')),
        *(("labels.json", content) for content in ("{", "[]", '{"metric": 1}')),
        *(("config.yaml", content) for content in ("{", "[]", "a: &a 1\nb: *a")),
    ],
)
def test_a_broken_run_does_not_hide_the_others(
    tmp_path: Path, shared_runs: SharedRuns, name: str, content: str
) -> None:
    for number in range(2):
        shutil.copytree(shared_runs.run(*LSTM), tmp_path / str(number))
    (tmp_path / "0" / name).write_text(content)
    broken, whole = find_runs([tmp_path])
    assert whole.status == "finished"
    assert broken.status == "failed"
    assert name in broken.message or "overrides of a run cannot be read" in broken.message


def test_predictions_that_are_no_numbers_are_refused(shared_runs: SharedRuns, monkeypatch: Any) -> None:
    run = open_run(shared_runs.run(*CLASSES))
    overflow = torch.tensor([[0.0, 1, 2], [torch.inf, torch.inf, 0]])
    monkeypatch.setattr(run.classifier.network, "forward", lambda *_: overflow)
    with pytest.raises(UserError, match=r"gives no probabilities for 1 of 2 documents, but NaN: its weights"):
        Run(Ensemble.of_one(run)).predict(["a", "b"])


def test_a_pickle_that_a_run_trusts_is_not_opened_for_who_resumes_it(tmp_path: Path, shared_runs: SharedRuns) -> None:
    folder = shared_runs.copy(tmp_path / "run", *LSTM)
    change_config("embedding.trust_pickle", True)(folder)
    change_config("embedding.path", "vectors.kv")(folder)
    with pytest.raises(UserError, match=r"opens vectors\.kv, a pickle, .* add \+embedding\.trust_pickle=true"):
        go_on(folder, "training.max_epochs=9")
    with pytest.raises(UserError, match=r"embedding\.trust_pickle is not a setting"):  # of this embedding
        go_on(folder, "training.max_epochs=9", "+embedding.trust_pickle=true")
