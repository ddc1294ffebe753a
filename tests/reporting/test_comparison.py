"""Tables of run folders that the tests write by hand."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from omegaconf import OmegaConf

from helpers.project import Command
from newsreel.core.errors import UserError
from newsreel.reporting.comparison import Comparison
from newsreel.runs.records import find_runs


def write_run(folder: Path, overrides: str, val: float | None, test: float = 0.5, **changes: Any) -> Path:
    """A run folder. val, test: accuracies; no results if val is None. changes: of the config and the choices."""
    folder.mkdir(parents=True)
    settings = dict(override.split("=") for override in overrides.split())
    choices = {"model": "bow", "data": "imdb", "experiment": None} | changes.pop("choices", {})
    seed, dropout = int(settings.get("seed", 1)), float(settings.get("model.dropout", 0))
    config = {
        "seed": seed,
        "model": {"_target_": "newsreel.models.bow.BagOfWords", "dropout": dropout},
        "training": {"learning_rate": 0.2, "max_epochs": 3},
        "paths": {"cache_dir": str(folder)},
    }
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config | changes)))
    command = {"choices": choices, "overrides": overrides.split(), "directory": "."}
    (folder / "command.json").write_text(json.dumps(command))
    (folder / "labels.json").write_text(json.dumps({"metric": "accuracy"}))
    if val is not None:
        figures = {"val/accuracy": val, "test/accuracy": test, "test/f1_macro": 0.5, "test/loss": 1.5}
        others = {"time/fit_s": 2.0, "model/parameters": 1234, "environment": {"seed": seed}}
        (folder / "metrics.json").write_text(json.dumps(figures | others))
    return folder


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_seeds_are_averaged_and_the_best_by_validation_comes_first(tmp_path: Path) -> None:
    write_run(tmp_path / "sweep" / "0", "model=bow model.dropout=0 seed=1", 0.7, 0.9)
    write_run(tmp_path / "sweep" / "1", "model=bow model.dropout=0 seed=2", 0.5, 0.9)
    write_run(tmp_path / "sweep" / "10", "model=bow model.dropout=0.5 seed=2", 0.6, 0.4)
    write_run(tmp_path / "sweep" / "2", "model=bow model.dropout=0.5 seed=1", 0.8, 0.2)
    comparison = Comparison(find_runs([tmp_path]))
    assert [run.run_dir.name for run in comparison.runs] == ["0", "1", "2", "10"]
    head, _, best, worst = rows_of(comparison.text())
    assert head[:3] == ["model.dropout", "seeds", "validation accuracy"]
    # (0.8 + 0.6) / 2; the standard deviation of two figures is their distance over √2
    assert best[:4] == ["0.5", "1, 2", "0.7000 ± 0.1414", "0.3000 ± 0.1414"]
    assert worst[:4] == ["0", "1, 2", "0.6000 ± 0.1414", "0.9000 ± 0.0000"]
    assert best[-2:] == ["2.0", "1,234"]
    assert "In common: data=imdb, model=bow." in comparison.text()


def test_columns_are_settings_that_differ_changed_defaults_too(tmp_path: Path) -> None:
    write_run(tmp_path / "old", "model=bow data.source=local", 0.7, training={"learning_rate": 0.1})
    write_run(tmp_path / "new", "model=bow data.source=local", 0.8, training={"learning_rate": 0.2})
    comparison = Comparison(find_runs([tmp_path / "old", tmp_path / "new"]))
    assert comparison.columns == ["training.learning_rate"]
    assert [row[0] for row in rows_of(comparison.text())[2:]] == ["0.2", "0.1"]


def test_a_model_chosen_by_name_needs_no_columns_for_what_that_entails(tmp_path: Path) -> None:
    lstm = {"_target_": "newsreel.models.recurrent.RecurrentNetwork", "hidden_size": 64}
    write_run(tmp_path / "bow", "model=bow", 0.7)
    write_run(tmp_path / "lstm", "model=lstm", 0.8, choices={"model": "lstm"}, model=lstm)
    assert Comparison(find_runs([tmp_path])).columns == ["model"]


def test_runs_without_results_are_listed_with_what_is_known(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "model.dropout=0", 0.7)
    write_run(tmp_path / "1", "model.dropout=0.3", None)
    (tmp_path / "2").mkdir()
    failure = {"message": "it is too much", "overrides": ["model.dropout=2", "seed=3"], "choices": {"model": "bow"}}
    (tmp_path / "2" / "failed.json").write_text(json.dumps(failure))
    pruned = write_run(tmp_path / "3", "model.dropout=0.4", None)
    (pruned / "pruned.json").write_text(json.dumps({"message": "given up"}))
    (tmp_path / "4").mkdir()  # killed before it could say anything
    comparison = Comparison(find_runs([tmp_path]))
    lost = rows_of(comparison.text().partition("Without results:")[2])
    assert lost[0] == ["run", "model.dropout", "seed", "status", "message"]
    assert lost[2:] == [
        ["2", "2", "3", "failed", "it is too much"],
        ["1", "0.3", "1", "unfinished", "has no results yet"],
        ["3", "0.4", "1", "pruned", "given up"],
    ]
    assert comparison.text().startswith("1 finished, 1 failed, 1 unfinished, 1 pruned.")


def test_a_repeated_seed_is_counted_once(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "seed=1", 0.7)
    write_run(tmp_path / "b", "seed=1", 0.7)
    write_run(tmp_path / "c", "seed=2", 0.9)
    text = Comparison(find_runs([tmp_path, tmp_path / "c"])).text()
    assert rows_of(text)[2][:2] == ["1, 2", "0.8000 ± 0.1414"]
    assert "Excluded, since a later run has the same settings and seed: 1." in text


def test_corpora_have_tables_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "", 0.7)
    for dropout in ("0", "0.5"):
        write_run(tmp_path / dropout, f"model.dropout={dropout}", 0.9, choices={"data": "r8"})
    _, imdb, r8 = Comparison(find_runs([tmp_path])).text().split("## ")
    assert imdb.startswith("imdb")
    assert rows_of(imdb)[0][:3] == ["data", "model.dropout", "seeds"]
    assert rows_of(r8)[0][:2] == ["model.dropout", "seeds"]


def test_the_script_writes_table_and_figure(tmp_path: Path, command_here: Command) -> None:
    write_run(tmp_path / "runs" / "a", "model.dropout=0", 0.7)
    write_run(tmp_path / "runs" / "b", "model.dropout=0.5", 0.8)
    (tmp_path / "runs" / "c").mkdir()
    (tmp_path / "runs" / "c" / "failed.json").write_text(json.dumps({"message": "no, it\ndid not"}))
    process = command_here("scripts/compare.py", "runs", "--output", "table")
    assert process.returncode == 0, process.stderr
    table = pl.read_csv(tmp_path / "table" / "summary.csv")
    assert table["status"].to_list() == ["finished", "finished", "failed"]
    assert table["model.dropout"].to_list() == [0.5, 0.0, None]
    assert table["val/accuracy mean"].to_list() == [0.8, 0.7, None]
    assert "| 0.5 " in (tmp_path / "table" / "summary.md").read_text()
    assert (tmp_path / "table" / "summary.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a directory"):
        find_runs([tmp_path / "nowhere"])
    run = write_run(tmp_path / "run", "", 0.7)
    (run / "metrics.json").write_text('{"val/acc')
    with pytest.raises(UserError, match=r"metrics\.json is not a valid file of a run"):
        find_runs([tmp_path])
