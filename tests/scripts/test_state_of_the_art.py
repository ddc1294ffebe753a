"""The steps and the table of the best classifiers."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import state_of_the_art
from helpers.configs import compose_config
from helpers.project import PROJECT
from state_of_the_art import BETWEEN, ROWS, STEPS, Row, Runner, Step, commands, main, needed, page


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Two runs, their ensemble and a student in place of the steps; the commands called, which leave metrics.json."""
    steps = {
        "bag": Step("train.py", "model=bow"),
        "other": Step("train.py", "model=rnn"),
        "both": Step("evaluate.py", "run=[{bag},{other}] weights=fit"),
        "student": Step("train.py", "model=cnn data.pseudo_labels={both}"),
    }
    rows = {
        "student": Row("IMDB", "CNN", "student", ("test/accuracy",), "", (1, 2)),
        "bag": Row("IMDB", "bag", "bag", ("test/accuracy",), "", (1,)),
    }
    called: list[list[str]] = []

    def run(command: list[str], check: bool) -> Any:
        called.append(command[1:])
        keys = dict(argument.split("=", 1) for argument in command[2:] if "=" in argument)
        folder = Path(keys.get("hydra.run.dir") or keys["output"])
        folder.mkdir(parents=True)
        score = 0.8 + 0.1 * (keys.get("seed") == "2")
        (folder / "metrics.json").write_text(json.dumps({"test/accuracy": score, "val/accuracy": score}))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(state_of_the_art, "STEPS", steps)
    monkeypatch.setattr(state_of_the_art, "ROWS", rows)
    return called


def test_a_step_runs_after_those_that_it_needs_and_only_once(calls: list[list[str]], tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    assert runner.run("student", 1)
    assert [Path(call[0]).name for call in calls] == ["train.py", "train.py", "evaluate.py", "train.py"]
    bag, other, both = (runner.run_dir(name, 1) for name in ("bag", "other", "both"))
    assert calls[2][1:3] == [f"run=[{bag},{other}]", "weights=fit"]
    assert f"save={both}" in calls[2]
    assert f"data.pseudo_labels={both}" in calls[3]
    assert "seed=1" in calls[3]
    assert Runner(tmp_path).run("student", 1)
    assert len(calls) == 4


def test_other_settings_of_a_step_run_it_and_what_needs_it_again(
    calls: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runner(tmp_path).run("student", 1)
    monkeypatch.setitem(state_of_the_art.STEPS, "other", Step("train.py", "model=gru"))
    Runner(tmp_path).run("student", 1)
    assert [Path(call[0]).name for call in calls[4:]] == ["train.py", "evaluate.py", "train.py"]


def test_a_row_has_the_mean_of_its_seeds_and_the_seconds_of_all_its_steps(
    calls: list[list[str]], tmp_path: Path
) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"before\n{BETWEEN[0]}\nold\n{BETWEEN[1]}\nafter\n")
    arguments = ["", "student", "--output", str(tmp_path / "runs"), "--docs", str(file)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", arguments)
        assert main() == 0
    for seconds in (tmp_path / "runs").rglob("seconds.json"):
        seconds.write_text("30.0")
    assert Runner(tmp_path / "runs").cells("student") == [
        "`student`", "IMDB", "CNN", "0.8500 ± 0.0707", "0.8500 ± 0.0707", "1, 2", "2.0 min", "",
    ]  # fmt: skip
    text = file.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "student: python train.py model=cnn data.pseudo_labels={both}" in text


def test_rows_that_are_not_run_again_keep_their_lines_while_their_commands_are_the_same(
    calls: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(tmp_path / "runs")
    assert all(runner.run("student", seed) for seed in (1, 2))
    whole = page(runner, "")
    assert whole.count("| `") == 2
    elsewhere = Runner(tmp_path / "other")
    assert page(elsewhere, whole) == whole
    monkeypatch.setitem(state_of_the_art.STEPS, "other", Step("train.py", "model=gru"))
    assert [line[:8] for line in page(elsewhere, whole).splitlines() if line.startswith("| `")] == ["| `bag` "]


def test_a_step_with_a_seed_of_its_own_is_run_once(
    calls: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, step in state_of_the_art.STEPS.items():
        if name != "student":
            monkeypatch.setitem(state_of_the_art.STEPS, name, replace(step, seed=5))
    runner = Runner(tmp_path, threads=1)
    assert all(runner.run("student", seed) for seed in (1, 2))
    assert [[word for word in call if word.startswith("seed=")] for call in calls] == [
        ["seed=5"], ["seed=5"], [], ["seed=1"], ["seed=2"],
    ]  # fmt: skip
    assert all("trainer.threads=1" in call for call in calls)
    assert "bag: python train.py model=bow seed=5" in commands("student")


def test_a_step_that_fails_has_no_results(
    calls: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, 1))
    assert not Runner(tmp_path).run("student", 1)
    assert Runner(tmp_path).metrics("bag", 1) is None


def test_every_row_has_a_step_and_every_step_what_it_needs() -> None:
    assert {row.step for row in ROWS.values()} <= set(STEPS)
    assert set().union(*(needed(name) for name in STEPS)) == set(STEPS)
    assert all((PROJECT / step.script).exists() for step in STEPS.values())


@pytest.mark.parametrize("name", STEPS)
def test_the_settings_of_a_step_exist(name: str) -> None:
    step = STEPS[name]
    script, *overrides = step.command(1, {other: f"outputs/{other}" for other in step.needs}, threads=1)
    compose_config(Path(script).stem, *overrides)


def test_the_page_lists_the_commands_of_every_row_in_the_table() -> None:
    text = (PROJECT / "docs" / "state_of_the_art.md").read_text()
    for name in ROWS:
        if f"| `{name}` |" in text.replace("  ", " "):
            assert "\n".join(commands(ROWS[name].step)) in text
