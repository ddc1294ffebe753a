"""The lecture's table."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from helpers.configs import composed
from helpers.project import Command
from lecture import SETUPS, Row, run_folder, setups, table

TINY = ["data=synthetic", "data.num_documents=100", "training.max_epochs=1", "trainer=cpu"]


def run(accuracy: float, seed: int) -> dict[str, Any]:
    figures = {"val/accuracy": accuracy, "test/accuracy": accuracy - 0.1, "time/fit_s": 20.0, "train/epochs": 4}
    return {**figures, "model/parameters": 1234, "environment": {"seed": seed, "threads": 2, "processor": "abacus"}}


UNPUBLISHED = "characters"  # the book encodes characters, but trains nothing on them


def test_every_faithful_set_up_has_a_tuned_one_and_a_published_figure() -> None:
    names = setups([])
    assert len(names) == 26
    assert f"{UNPUBLISHED}_tuned" in names
    for name in [name for name in names if not name.endswith("_tuned") and name != UNPUBLISHED]:
        files = [SETUPS / f"{name}.yaml", SETUPS / f"{name}_tuned.yaml"]
        faithful, tuned = (OmegaConf.to_object(OmegaConf.load(file).published) for file in files)
        assert faithful["val_accuracy"] is not None
        assert {**tuned, "source": ""} == {**faithful, "source": ""}


def test_patterns_choose_set_ups() -> None:
    assert setups(["lstm*"]) == ["lstm", "lstm_tuned", "lstm_reversed", "lstm_reversed_tuned"]
    assert setups(["nothing"]) == []


def test_a_row_is_the_mean_and_deviation_of_its_runs() -> None:
    config = composed("experiment=lecture/lstm")
    row = Row("lstm", config, [run(0.8, 1), run(0.9, 2)])
    figures = ["0.8928", "0.8500 ± 0.0707", "", "0.7500 ± 0.0707", "5.0", "1,234"]
    assert row.cells() == ["`lstm`", *figures, "`python train.py experiment=lecture/lstm`"]
    assert "Seeds 1, 2; threads: 2, abacus." in table([row])
    assert "| `lstm` | 0.8928 | – | | – | | | |" in " ".join(table([Row("lstm", config, [])]).split())


def test_other_settings_have_another_folder_and_machines_have_not(tmp_path: Path) -> None:
    def folder(*overrides: str) -> Path:
        return run_folder(tmp_path, "lstm", composed("experiment=lecture/lstm", *overrides), 1)

    elsewhere = ["trainer.threads=1", "paths.cache_dir=elsewhere", "data.source=hub", "evaluation.figures=false"]
    assert folder() == folder(*elsewhere)
    assert folder() != folder("model.hidden_size=16")
    assert folder() != folder("evaluation.thresholds=global")


@pytest.mark.slow
def test_what_is_missing_is_trained_and_what_is_there_is_not(command: Command, tmp_path: Path) -> None:
    arguments = ["multi_hot", *TINY, "--output", "runs", "--docs", "docs/table.md", "--seeds", "1", "2"]
    first = command("scripts/lecture.py", *arguments)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("python train.py experiment=lecture/multi_hot") == 2
    written = (tmp_path / "docs" / "table.md").read_text()
    assert " ± " in next(line for line in written.splitlines() if line.startswith("| `multi_hot`"))
    assert "python train.py" not in command("scripts/lecture.py", *arguments).stdout
    assert (tmp_path / "docs" / "table.md").read_text() == written


@pytest.mark.slow
def test_a_set_up_that_fails_is_named_and_no_table_is_emptied(
    command_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table.md").write_text("figures")
    monkeypatch.setattr(subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, 2))
    done = command_here("scripts/lecture.py", "multi_hot", "--seeds", "1", "--docs", "table.md", "--output", "runs")
    assert done.returncode == 1
    assert "error: no results of multi_hot seed 1" in done.stderr
    assert "has no runs with these seeds and settings" in done.stderr
    assert (tmp_path / "table.md").read_text() == "figures"
    unknown = command_here("scripts/lecture.py", "nothing")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: no set-up matches nothing: choose from bilstm,")
