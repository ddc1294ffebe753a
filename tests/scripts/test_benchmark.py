"""The benchmark: ratios and their spread, results kept by row, and the page."""

import contextlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import benchmark
from bench import environments
from bench.contenders import Contender, Figures, Inference, Part, Train, figures_of_run
from bench.environments import PeerError, build_environment, error_line
from bench.page import number, page, row_cells
from bench.peers.documents import accuracy, documents_per_s, read_all_training, read_documents
from bench.results import Result, Side, read_results, write_results
from bench.rows import ROWS, Row
from bench.session import MeasurementError, Session, busy_processes, last_line
from helpers.configs import composed
from helpers.project import PROJECT, Command


@dataclass(frozen=True, kw_only=True)
class Scripted(Contender):
    """Returns given figures, one after the other, and notes the order of all calls."""

    values: list[float]
    calls: list[str]
    problem: Exception | None = None  # raised before the first measurement

    def prepare(self, session: Session) -> None:
        if self.problem is not None:
            raise self.problem

    def run(self, session: Session) -> Figures:
        self.calls.append(self.name)
        if not self.values:
            raise MeasurementError("train.py has failed: no space left")
        return {self.figure: self.values.pop(0), "accuracy": 0.9}


def scripted_row(ours: list[float], peer: list[float], problem: Exception | None = None, **limits: float) -> Row:
    calls: list[str] = []
    sides = [
        Scripted(name="newsreel", figure="wall_s", values=ours, calls=calls),
        Scripted(name="another", figure="wall_s", values=peer, calls=calls, problem=problem),
    ]
    return Row("one", "a comparison", *sides, **limits)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path, tmp_path / "environments", limit=None, baseline="HEAD")


def result_of(row: Row, session: Session, rounds: int = 3) -> Result:
    return Result("one", *benchmark.measure(row, session, rounds), measured={"processor": "a processor"})


def test_the_sides_alternate_and_the_ratio_is_the_median_of_the_rounds(session: Session) -> None:
    row = scripted_row([2, 3, 4], [4, 4, 5], reach=0.8)
    result = result_of(row, session)
    assert isinstance(row.ours, Scripted)
    assert row.ours.calls == ["newsreel", "another"] * 3
    assert result.ratios == [0.5, 0.75, 0.8]
    assert result.ratio == 0.75
    cells = row_cells(row, result)
    assert cells == [
        "`one`", "3 s (2–4)", "another", "4 s (4–5)", "**0.75** (0.50–0.80)", "≤ 0.8", "yes", "0.9000", "0.9000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("figure", "ratio", "score", "expected"),
    [("wall_s", 0.8, 0.92, True), ("wall_s", 0.81, 0.92, False), ("wall_s", 0.5, 0.91, False),
     ("wall_s", 0.5, None, False), ("documents_per_s", 0.8, 0.92, True), ("documents_per_s", 0.79, 0.92, False)],
)  # fmt: skip
def test_times_reach_from_above_and_speeds_from_below_and_scores_count(
    figure: str, ratio: float, score: float | None, expected: bool
) -> None:
    side = Scripted(name="", figure=figure, values=[], calls=[])
    assert Row("one", "", side, side, reach=0.8, min_accuracy=0.92).is_reached(ratio, score) is expected


def test_a_peer_that_cannot_be_installed_is_in_the_page_with_its_error(session: Session) -> None:
    row = scripted_row([2, 3], [], problem=PeerError("No matching distribution found for another==1"))
    result = result_of(row, session, rounds=2)
    assert result.ours.values == [2, 3]
    assert result.ratios == []
    text = page({"one": row}, {"one": result})
    assert "- `one`, the peer: No matching distribution found for another==1" in text
    assert "| failed " in text


def test_a_command_that_fails_in_a_later_round_is_in_the_page(session: Session) -> None:
    result = result_of(scripted_row([2, 3], [1]), session, rounds=2)
    assert result.peer.error == "train.py has failed: no space left"
    assert result.ratios == []


def test_an_environment_is_built_once_for_its_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str]) -> None:
        commands.append(command)
        (tmp_path / "keras").mkdir(exist_ok=True)

    monkeypatch.setattr(environments, "run", run)
    python = build_environment("keras", tmp_path)
    assert python == tmp_path / "keras" / "bin" / "python"
    assert commands[-1][-2:] == list(environments.REQUIREMENTS["keras"])
    assert build_environment("keras", tmp_path) == python
    assert len(commands) == 2
    monkeypatch.setitem(environments.REQUIREMENTS, "keras", ("keras==4",))
    build_environment("keras", tmp_path)
    assert commands[-1][-1] == "keras==4"


def test_a_failed_installation_leaves_no_environment_that_looks_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[str]) -> None:
        raise PeerError("no")

    monkeypatch.setattr(environments, "run", fail)
    for _ in range(2):
        with pytest.raises(PeerError, match="no"):
            build_environment("keras", tmp_path)


def test_the_error_of_pip_is_its_last_without_addresses_and_folders() -> None:
    output = (
        "WARNING: old\nERROR: one\nERROR: cannot read https://index.example/keras in /home/me/x\n[notice] new pip\n"
    )
    assert error_line(output) == "cannot read … in …"
    assert error_line("") == "no message"
    assert last_line('  File "/home/me/train.py"\nKeyError: 1\n\n') == "KeyError: 1"


def test_results_are_merged_by_row_and_the_page_is_written_from_them(tmp_path: Path) -> None:
    results = {key: Result(key, Side([1.0]), Side([2.0]), {"date": "today"}) for key in ("bow-cold", "gone")}
    write_results(tmp_path / "benchmark.json", results, list(ROWS))
    assert read_results(tmp_path / "benchmark.json") == {"bow-cold": results["bow-cold"]}
    (tmp_path / "benchmark.md").write_text("old")
    before = (tmp_path / "benchmark.json").read_text()
    assert benchmark_main(["--page", "--docs", str(tmp_path)]) == 0
    text = (tmp_path / "benchmark.md").read_text()
    assert "1 s (1–1)" in text
    assert "**0.50** (0.50–0.50)" in text
    assert "- `bow-cold`: date today." in text
    assert text.count("\n| `") == len(ROWS)  # also those that were not measured
    assert (tmp_path / "benchmark.json").read_text() == before


def benchmark_main(arguments: list[str]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["benchmark.py", *arguments])
        return benchmark.main()


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark_main(["bow-hot"]) == 2
    assert "there is no row bow-hot: choose from bow-cold, " in capsys.readouterr().err


def test_a_trial_is_marked_and_reaches_nothing(session: Session) -> None:
    row = scripted_row([1], [2], reach=0.8)
    result = Result("one", *benchmark.measure(row, session, 1), measured={}, limit=10)
    cells = row_cells(row, result)
    assert cells[0] == "`one` (trial, limit 10: not a measurement)"
    assert cells[6] == "–"


def test_the_page_in_the_documentation_is_that_of_its_results() -> None:
    docs = PROJECT / "docs"
    expected = page(ROWS, read_results(docs / "benchmark.json"))
    assert (docs / "benchmark.md").read_text("utf-8") == expected, "python scripts/benchmark.py --page writes it"


@pytest.mark.parametrize(
    ("value", "expected"), [(1234.5, "1,234"), (99.95, "100"), (12.345, "12.3"), (0.01234, "0.0123")]
)
def test_numbers_have_three_digits(value: float, expected: str) -> None:
    assert number(value) == expected


def test_figures_of_a_run_are_those_of_its_metrics() -> None:
    metrics = {
        "documents/train": 600, "documents/validation": 100, "documents/test": 300, "train/passes_per_epoch": 2,
        "throughput/train_documents_per_s": 400.0, "time/fit_s": 5.0, "memory/peak_rss_mb": 70.0, "test/accuracy": 0.5,
    }  # fmt: skip
    assert figures_of_run(metrics) == {
        "documents_per_s": 400.0, "epoch_s": 3.0, "fit_s": 5.0, "fit_ms_per_document": 5.0, "first_step_s": 0.0,
        "peak_rss_mb": 70.0, "accuracy": 0.5,
    }  # fmt: skip


def test_the_limit_of_a_trial_replaces_that_of_the_settings(tmp_path: Path) -> None:
    session = Session(tmp_path, tmp_path, limit=7, baseline="HEAD")
    short = "training.min_steps_per_epoch=1"
    assert session.limited("data=imdb data.limit=1000 data.train_limit=9 seed=1") == [
        "data=imdb",
        "seed=1",
        "data.limit=7",
        short,
    ]
    assert session.limited("data=synthetic data.num_documents=900") == ["data=synthetic", "data.num_documents=7", short]


def test_speed_counts_from_the_second_epoch() -> None:
    assert documents_per_s(10, [0.0, 100.0, 102.0, 105.0]) == 4.0  # 20 documents in 5 s
    with pytest.raises(ValueError, match="at least two"):
        documents_per_s(10, [0.0, 1.0])


def test_peers_read_the_splits(tmp_path: Path) -> None:
    for split, label in (("train", 0), ("validation", 1), ("test", 1)):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"text": split, "labels": label}) + "\n")
    assert read_documents(tmp_path, "test").texts == ["test"]
    assert read_all_training(tmp_path) == (["train", "validation"], [0, 1])
    assert accuracy([1, 0], [1, 1]) == 0.5


def test_busy_processes_end_with_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    with contextlib.suppress(KeyError), busy_processes(2):
        assert [process.poll() for process in started] == [None, None]
        raise KeyError
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 2


def settings_of_rows() -> list[str]:
    sides = [side for row in ROWS.values() for side in (row.ours, row.peer)]
    return sorted({side.settings for side in sides if isinstance(side, Train | Part | Inference)})


@pytest.mark.slow
def test_the_settings_of_all_rows_exist() -> None:
    for settings in settings_of_rows():
        options = [option for option in settings.split() if option != "-m" and "launcher" not in option]
        composed(*(option.partition(",")[0] for option in options if "kernel_sizes" not in option))


@pytest.mark.slow
def test_a_tiny_row_is_measured_and_the_page_written(command: Command, tmp_path: Path) -> None:
    options = ["--rounds", "2", "--limit", "60", "--docs", str(tmp_path)]
    done = command("scripts/benchmark.py", "size-bow-200k", "size-prepare-200k", "size-predict-200k", *options)
    assert done.returncode == 0, done.stderr
    results = read_results(tmp_path / "benchmark.json")
    assert {key: len(result.ratios) for key, result in results.items()} == {
        "size-bow-200k": 2, "size-prepare-200k": 2, "size-predict-200k": 2,
    }  # fmt: skip
    assert results["size-bow-200k"].ours.scores[0] > 0
    assert "`size-bow-200k` (trial, limit 60: not a measurement)" in (tmp_path / "benchmark.md").read_text()
