"""Tables of run folders that the tests write by hand."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import polars as pl
import pytest
from omegaconf import OmegaConf

from helpers.project import Command
from newsreel.core.errors import UserError
from newsreel.reporting.comparison import Comparison
from newsreel.reporting.significance import outcomes_of
from newsreel.reporting.summary_page import PAGE_FILE, write_summary_page
from newsreel.runs.records import find_runs


def write_run(folder: Path, overrides: str, val: float | None, test: float = 0.5, **changes: Any) -> Path:
    """A run folder. val, test: accuracies; no results if val is None. changes: of the config and the choices."""
    folder.mkdir(parents=True)
    settings = dict(override.split("=") for override in overrides.split())
    fingerprint = changes.pop("fingerprint", "a" * 32)
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
        environment = {"seed": seed, "corpus_fingerprint": fingerprint}
        others = {"time/fit_s": 2.0, "model/parameters": 1234, "environment": environment}
        (folder / "metrics.json").write_text(json.dumps(figures | others))
    return folder


def write_predictions(folder: Path, right: int, wrong: int, shift: int = 0) -> Path:
    """Predictions of documents, the first of which are right; `shift` of the right ones are others instead."""
    labels = [f"label{number % 2}" for number in range(right + wrong)]
    is_right = [shift <= number < right + shift for number in range(right + wrong)]
    predicted = [label if correct else "another" for label, correct in zip(labels, is_right, strict=True)]
    pl.DataFrame({"labels": labels, "predicted": predicted}).write_parquet(folder / "predictions.parquet")
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
    assert "Excluded, since a later run has the same settings, documents and seed: 1." in text


def test_runs_on_other_documents_of_the_same_file_are_no_repetition(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, "model=bow seed=1", 0.7, fingerprint=name * 32)
    text = Comparison(find_runs([tmp_path])).text()
    assert [row[:2] for row in rows_of(text)] == [
        ["data.fingerprint", "seeds"],
        ANY,
        ["aaaaaaaa", "1"],
        ["bbbbbbbb", "1"],
    ]
    assert "Excluded" not in text


def test_language_models_have_a_table_of_their_own_with_the_lowest_perplexity_first(tmp_path: Path) -> None:
    write_run(tmp_path / "bow", "model=bow", 0.7)
    for name, perplexity in (("lstm", 150.0), ("gru", 140.0)):
        folder = write_run(tmp_path / name, f"model={name}", 0.1, choices={"model": name})
        (folder / "labels.json").unlink()
        results = {"val/perplexity": perplexity, "documents/train": 9e5, "time/fit_s": 2.0, "model/parameters": 9}
        (folder / "metrics.json").write_text(json.dumps(results | {"environment": {"seed": 1}}))
    _, classifiers, language_models = Comparison(find_runs([tmp_path])).text().split("## ")
    assert [row[0] for row in rows_of(classifiers)[2:]] == ["bow"]
    assert language_models.startswith("text of imdb")
    assert rows_of(language_models)[0] == ["model", "seeds", "validation perplexity", "fit s", "parameters"]
    assert "Without a test" not in language_models
    assert [row[:3] for row in rows_of(language_models)[2:]] == [["gru", "1", "140.0000"], ["lstm", "1", "150.0000"]]
    for folders in ([tmp_path], [tmp_path / "lstm", tmp_path / "gru"]):
        comparison = Comparison(find_runs(folders))
        comparison.write(tmp_path / "table", "Runs")
        write_summary_page(comparison, tmp_path / "table", "Runs")
        assert "These are language models" in (tmp_path / "table" / PAGE_FILE).read_text()


def test_what_runs_with_results_share_is_told_though_others_differ(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "model=bow model.dropout=0.2", 0.7)
    write_run(tmp_path / "1", "model=bow model.dropout=1", None)
    assert "In common: data=imdb, model=bow, model.dropout=0.2." in Comparison(find_runs([tmp_path])).text()


def test_corpora_have_tables_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "", 0.7)
    for dropout in ("0", "0.5"):
        write_run(tmp_path / dropout, f"model.dropout={dropout}", 0.9, choices={"data": "r8"})
    _, imdb, r8 = Comparison(find_runs([tmp_path])).text().split("## ")
    assert imdb.startswith("imdb")
    assert rows_of(imdb)[0][:3] == ["data", "model.dropout", "seeds"]
    assert rows_of(r8)[0][:2] == ["model.dropout", "seeds"]


def test_own_corpora_are_told_apart_by_their_files(tmp_path: Path) -> None:
    own = {"choices": {"data": "files"}}
    write_run(tmp_path / "0", "", 0.7, **own, data={"train": "/somewhere/data/tickets.csv"})
    write_run(tmp_path / "1", "", 0.8, **own, data={"train": ["posts.jsonl", "old/more.jsonl"]})
    write_run(tmp_path / "2", "", 0.6, choices={"data": "hub"}, data={"name": "ag_news"})
    corpora = {run.run_dir.name: run.corpus for run in find_runs([tmp_path])}
    assert corpora == {
        "0": "files (data/tickets.csv)",
        "1": "files (posts.jsonl, old/more.jsonl)",
        "2": "hub (ag_news)",
    }
    assert Comparison(find_runs([tmp_path])).text().count("\n## ") == 3


def test_runs_on_fewer_documents_come_last_and_are_not_tested(tmp_path: Path) -> None:
    for name, val, size in (("1", 0.7, 900), ("2", 0.6, 900), ("3", 0.9, 90), ("4", 0.8, 400)):
        run = write_run(tmp_path / name, f"model.dropout=0.{name}", val)
        write_predictions(run, right=70 if name == "2" else 90, wrong=30 if name == "2" else 10)
        results = json.loads((run / "metrics.json").read_text())
        (run / "metrics.json").write_text(json.dumps(results | {"documents/train": size}))
    comparison = Comparison(find_runs([tmp_path]))
    rows = [[row[0], row[6]] for row in rows_of(comparison.text())[2:]]
    assert rows == [["0.1", "best"], ["0.2", "<0.0001"], ["0.3", ""], ["0.4", ""]]
    assert "corrected for 1 test " in comparison.text()
    assert "validation accuracy, those with fewer training documents last: to choose" in comparison.text()


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


def column_of(text: str, name: str) -> list[str]:
    head, _, *rows = rows_of(text)
    return [row[head.index(name)] for row in rows]


def test_configurations_are_tested_against_the_best_and_ties_are_marked(tmp_path: Path) -> None:
    # of 100 documents, the best gets the first 80 right
    write_predictions(write_run(tmp_path / "a", "model.dropout=0", 0.9, 0.8), 80, 20)
    write_predictions(write_run(tmp_path / "b", "model.dropout=0.1", 0.8, 0.7), 70, 30)  # loses 10 and gains none
    write_predictions(write_run(tmp_path / "c", "model.dropout=0.2", 0.7, 0.8), 80, 20, shift=3)  # loses 3, gains 3
    text = Comparison(find_runs([tmp_path])).text()
    # McNemar: 2 / 2¹⁰ = 0.00195, twice as much for the smaller of two; 1
    assert column_of(text, "p vs. best") == ["best", "0.0039", "1.0000 ="]
    assert "against the first row, on the same documents, corrected for 2 tests (Holm). = marks ties" in text
    assert "Without a test" not in text
    Comparison(find_runs([tmp_path])).write(tmp_path / "table", "title")
    table = pl.read_csv(tmp_path / "table" / "summary.csv")
    assert table["p vs. best"].to_list() == [None, pytest.approx(2 / 2**9, abs=1e-7), 1]


def test_several_seeds_are_tested_together(tmp_path: Path) -> None:
    for seed, right in ((1, 80), (2, 78), (3, 82)):
        write_predictions(write_run(tmp_path / f"a{seed}", f"model.dropout=0 seed={seed}", 0.9), right, 100 - right)
        write_predictions(
            write_run(tmp_path / f"b{seed}", f"model.dropout=0.1 seed={seed}", 0.8), right - 2, 102 - right
        )
        write_predictions(write_run(tmp_path / f"c{seed}", f"model.dropout=0.2 seed={seed}", 0.7), 40, 60)
    text = Comparison(find_runs([tmp_path])).text()
    best, tie, worse = column_of(text, "p vs. best")
    assert (best, tie[-1], worse) == ("best", "=", "<0.0001")
    assert 0.1 < float(tie[:-2]) < 0.5  # a difference of 0.02 with a standard error of 0.014 and more


def test_what_cannot_be_tested_against_the_best_is_named(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, f"model.dropout=0.{number}", 0.9 - number / 100)
            for number, name in enumerate("abcdef")]  # fmt: skip
    for run in (runs[0], runs[3]):
        write_predictions(run, 80, 20)
    write_predictions(runs[1], 81, 20)
    (runs[2] / "predictions.parquet").write_bytes(b"PAR1 and no more")
    write_predictions(runs[5], 80, 20)
    (runs[5] / "metrics.json").write_text((runs[5] / "metrics.json").read_text().replace("a" * 32, "another"))
    text = Comparison(find_runs([tmp_path])).text()
    assert column_of(text, "p vs. best") == ["best", "", "", "1.0000 =", "", ""]
    (line,) = (line for line in text.splitlines() if line.startswith("Without a test against the best: "))
    assert f"{runs[1]} and {runs[0]} were tested on different documents; " in line
    assert f"{runs[2] / 'predictions.parquet'} cannot be read (ArrowInvalid: " in line
    assert f"{runs[4] / 'predictions.parquet'} is missing; and 1 more." in line
    (runs[0] / "predictions.parquet").unlink()
    without = Comparison(find_runs([tmp_path])).text()
    assert f"Without a test against the best: {runs[0] / 'predictions.parquet'} is missing." in without
    assert "p vs. best" not in rows_of(without)[0]


def test_micro_f1_counts_the_labels_that_both_lists_have() -> None:
    documents = pl.DataFrame({"labels": [["a", "b"], ["c"], []], "predicted": [["b", "c"], [], ["a"]]})
    outcomes = outcomes_of(documents)
    assert (outcomes.hits.tolist(), outcomes.sizes.tolist()) == ([2, 0, 0], [4, 1, 1])


def test_intervals_are_not_averaged_and_the_majority_guess_is_shown(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("a", 2), ("a", 3), ("b", 1)):  # the mean of three is not quite the figure itself
        dropout = 0.5 if name == "b" else 0
        run = write_run(tmp_path / f"{name}{seed}", f"seed={seed} model.dropout={dropout}", 0.7)
        results = json.loads((run / "metrics.json").read_text())
        others = {
            "test/accuracy_ci_low": 0.4,
            "test/accuracy_ci_high": 0.6,
            "test/majority_accuracy": 0.4291666805744171,
        }
        (run / "metrics.json").write_text(json.dumps(results | others))
    comparison = Comparison(find_runs([tmp_path]))
    columns = comparison.table().columns
    assert not [name for name in columns if "_ci_" in name or name == "test/majority_accuracy std"]
    assert "The majority guess has a test accuracy of 0.4292." in comparison.text()


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a directory"):
        find_runs([tmp_path / "nowhere"])
    run = write_run(tmp_path / "run", "", 0.7)
    (run / "metrics.json").write_text('{"val/acc')
    (broken,) = find_runs([tmp_path])
    assert broken.status == "failed"
    assert f"{run / 'metrics.json'} is not as a run has written it: Invalid JSON" in broken.message
