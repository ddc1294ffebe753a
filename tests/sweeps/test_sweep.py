"""Sweeps and searches as they are typed, with every launcher."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.marks import slow
from helpers.preloaded import PreloadedPopen
from helpers.project import PROJECT, Command
from helpers.tiny_runs import QUICK, SYNTHETIC
from newsreel.core.dist import jobs_at_once

BOW = [*SYNTHETIC, *QUICK, "model=bow"]


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def test_a_failing_job_is_recorded_and_the_others_go_on(command_here: Command, tmp_path: Path) -> None:
    process = command_here("train.py", "-m", *BOW, "seed=0,-1,1")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == "error: 1 of 3 jobs have no results"
    assert "Traceback" not in process.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    first, third = (read(sweep / job / "metrics.json") for job in ("0", "2"))
    assert [first["environment"]["seed"], third["environment"]["seed"]] == [0, 1]
    assert third["time/total_s"] < first["time/total_s"]  # each job has its own clock
    failure = read(sweep / "1" / "failed.json")
    assert failure["error"] == "UserError"
    assert failure["message"] == "seed is -1: it must be at least 0 and at most 4294967295"
    assert failure["overrides"][-1] == "seed=-1"
    table = pl.read_csv(sweep / "summary.csv")
    assert table["status"].to_list() == ["finished", "failed"]
    assert table["seeds"].to_list() == ["0, 1", "-1"]
    mean = (first["test/accuracy"] + third["test/accuracy"]) / 2
    assert table["test/accuracy mean"][0] == pytest.approx(mean, abs=1e-6)
    assert failure["message"] in (sweep / "summary.md").read_text()
    assert (sweep / "summary.png").exists()
    tags = EventAccumulator(str(sweep / "0" / "tensorboard")).Reload().summary_metadata
    assert any(metadata.plugin_data.plugin_name == "hparams" for metadata in tags.values())


def test_a_key_that_does_not_exist_is_refused_before_the_first_job(command_here: Command, tmp_path: Path) -> None:
    process = command_here("train.py", "-m", *BOW, "model.drpout=0.1,0.2")
    assert process.returncode == 2
    assert process.stderr.startswith("error: model.drpout is not a setting; did you mean model.dropout?")
    assert not list((tmp_path / "outputs").rglob("metrics.json"))


@pytest.mark.parametrize("start", [["train.py", "-m"], ["train.py", "sweep=optuna"], slow(["pretrain.py", "-m"])])
def test_several_runs_cannot_be_resumed_together(command_here: Command, tmp_path: Path, start: list[str]) -> None:
    process = command_here(*start, "data=synthetic", "resume=outputs/a,outputs/b")
    assert process.returncode == 2
    assert process.stderr.startswith("error: resume continues a single run, and -m and sweep=… start several.")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training.learning_rate=-1"], "No trial of this search can work.*learning_rate is -1: it must be above 0"),
        slow(["hydra.sweeper.num_trials=0"], r"hydra\.sweeper\.num_trials is 0: it must be at least 1"),
        (["hydra.sweeper.params.seed=choice(1,2)"], "Values to search over are given to the setting itself: 'seed=cho"),
    ],
)
def test_a_search_that_cannot_work_leaves_nothing(
    command_here: Command, tmp_path: Path, settings: list[str], message: str
) -> None:
    process = command_here("train.py", "sweep=optuna", *BOW, *settings)
    assert process.returncode == 2
    assert re.search(message, process.stderr, re.DOTALL)
    assert "jobs" not in process.stderr + process.stdout
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow  # test_a_failing_job_is_recorded_and_the_others_go_on stands for it, with Hydra's own launcher
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_launchers_run_the_jobs_record_failures_and_share_the_cores(tmp_path: Path, launcher: str) -> None:
    """In a Python of its own: one that multiprocessing has forked waits for joblib's workers, and they for it."""
    if launcher == "ray":
        pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    asked = [f"hydra/launcher={launcher}", *BOW, "seed=1,-1", "hydra.sweep.dir=sweep", "paths.cache_dir=cache"]
    asked += ["trainer.threads=1"] if launcher == "submitit_local" else []
    started = [sys.executable, str(PROJECT / "train.py"), "-m", *asked]
    process = subprocess.run(started, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert process.returncode == 1, process.stderr
    assert "error: 1 of 2 jobs have no results" in process.stderr
    assert "ConfigStore" not in process.stderr
    assert read(tmp_path / "sweep" / "0" / "metrics.json")["environment"]["threads"] == 1
    assert "seed is -1" in read(tmp_path / "sweep" / "1" / "failed.json")["message"]
    assert "1 finished, 1 failed." in (tmp_path / "sweep" / "summary.md").read_text()


def test_cores_are_shared_out_among_jobs() -> None:
    cores = jobs_at_once(1)
    assert jobs_at_once(None) == cores
    assert jobs_at_once(cores) == jobs_at_once(10 * cores) == 1


@pytest.mark.slow
def test_a_killed_search_goes_on_and_its_best_trial_can_be_run_again(command: Command, tmp_path: Path) -> None:
    search = ["train.py", *BOW, "sweep=optuna", "hydra.sweeper.num_trials=3", "hydra.sweep.dir=search"]
    environment = {**os.environ, "NEWSREEL_CACHE_DIR": str(tmp_path / "cache")}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = PreloadedPopen(search, cwd=tmp_path, env=environment, **streams)
    assert process.stdout is not None
    assert any("#1 :" in line for line in process.stdout)
    process.kill()
    process.communicate()
    assert not (tmp_path / "search" / "1" / "metrics.json").exists()
    first = (tmp_path / "search" / "0" / "metrics.json").stat().st_mtime_ns

    again = command(*search)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "search" / "0" / "metrics.json").stat().st_mtime_ns == first
    table = pl.read_csv(tmp_path / "search" / "summary.csv")
    assert table["status"].to_list() == ["finished"] * 3
    assert table["model.weighting"].dtype == pl.String

    best = command("train.py", "--config-dir", "search", "experiment=best", "hydra.run.dir=best")
    assert best.returncode == 0, best.stderr
    (number,) = re.findall(r"best trial \((\d+)\)", (tmp_path / "search" / "experiment" / "best.yaml").read_text())
    there, here = read(tmp_path / "search" / number / "metrics.json"), read(tmp_path / "best" / "metrics.json")
    figures = [name for name in there if name.startswith(("val/", "test/", "train/"))]
    assert {name: here[name] for name in figures} == {name: there[name] for name in figures}
    assert here["val/accuracy"] == table["val/accuracy mean"].max()
