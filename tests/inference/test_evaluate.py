"""Finished runs, measured again."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score, log_loss

from helpers.project import Command
from helpers.shared_runs import SharedRuns
from helpers.tiny_runs import SMALL_LSTM, compose_config, evaluated, figures, train_tiny
from newsreel.config.schema import read_experiment
from newsreel.core.errors import UserError
from newsreel.training.run import train_run
from newsreel.training.spec import RunSpec

BOW = ["model=bow"]
SEVERAL = ["data.num_labels=4", "data.multilabel=true"]


def scores(folder: Path) -> np.ndarray:
    table = pl.read_parquet(folder / "predictions.parquet")
    return table.select(pl.col("^p\\(.*$")).to_numpy()


def train_files(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    """metrics.json of a run on files, with paths of its config relative to the current folder."""
    given = [
        "data=files",
        "model=bow",
        "trainer=cpu",
        "training.max_epochs=1",
        "evaluation.figures=false",
        "paths.cache_dir=cache",
        *overrides,
    ]
    experiment = read_experiment(compose_config("train", *given))
    choices = {"data": "files", "model": "bow", "tokenizer": "words", "embedding": "one_hot"}
    return train_run(RunSpec(experiment, tmp_path / "run", choices, given, time.perf_counter()))


def write_films(file: Path, labels: tuple[str, ...] = ("dull", "fine"), num_documents: int = 40) -> Path:
    lines = [f"a {labels[number % len(labels)]} film no {number},{labels[number % len(labels)]}\n"
             for number in range(num_documents)]  # fmt: skip
    file.write_text("text,label\n" + "".join(lines))
    return file


def test_a_setting_of_no_chosen_corpus_is_answered_with_the_choice(
    command_here: Command,
) -> None:
    process = command_here("evaluate.py", "run=somewhere", "data.limit=5")
    assert process.returncode == 2
    assert process.stderr.startswith("error: data.limit is not a setting unless data is chosen: set")


@pytest.mark.parametrize(
    "overrides",
    [
        SMALL_LSTM,
        [*BOW, "model.weighting=nb", "tokenizer=ngrams"],
        [*BOW, *SEVERAL],
        [*BOW, *SEVERAL, "evaluation.thresholds=top_k"],
        ["model=cnn", "model.num_filters=4", "embedding.dimension=8", "tokenizer=subwords", "data.num_labels=3"],
    ],
    ids=" ".join,
)
def test_a_moved_run_has_the_figures_and_predictions_of_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_runs: SharedRuns, overrides: list[str]
) -> None:
    trained = shared_runs.results(*overrides)
    shared_runs.copy(tmp_path / "moved", *overrides)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    results = evaluated(tmp_path / "test", "run=../moved")
    assert figures(results, "test") == figures(trained, "test")
    predictions = [(tmp_path / name / "predictions.parquet").read_bytes() for name in ("test", "moved")]
    assert predictions[0] == predictions[1]
    validated = evaluated(tmp_path / "validation", "run=../moved", "split=validation")
    assert figures(validated, "val") == figures(trained, "val")
    on_training = evaluated(tmp_path / "train", "run=../moved", "split=train")
    assert on_training["documents/train"] == trained["documents/train"]
    assert "train/f1_macro" in on_training


def test_paths_of_a_run_start_where_it_was_trained_typed_ones_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("trained", "here"):
        (tmp_path / name).mkdir()
    write_films(tmp_path / "trained" / "films.csv")
    write_films(tmp_path / "here" / "films.csv", ("fine",), num_documents=5)
    monkeypatch.chdir(tmp_path / "trained")
    trained = train_files(tmp_path, "data.train=films.csv")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("NEWSREEL_CACHE_DIR", raising=False)
    run = f"run={tmp_path / 'run'}"
    results = evaluated(tmp_path / "own", run)
    assert figures(results, "test") == figures(trained, "test")
    others = evaluated(tmp_path / "other", run, "data=files", "data.test=films.csv")
    assert others["documents/test"] == 5
    assert others["environment"]["corpus_source"] == "films.csv"
    evaluated(tmp_path / "cached", run, "paths.cache_dir=another")
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["another", "films.csv"]


def test_labels_of_other_documents_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train_files(tmp_path, f"data.train={write_films(tmp_path / 'films.csv', ('bad', 'dull', 'fine'))}")
    write_films(tmp_path / "some.csv", ("fine", "dull"), num_documents=10)
    results = evaluated(tmp_path / "some", "run=run", "data=files", "data.test=some.csv")
    table = pl.read_parquet(tmp_path / "some" / "predictions.parquet")
    assert sorted(table["labels"]) == ["dull"] * 5 + ["fine"] * 5
    assert table.columns[3:] == ["p(bad)", "p(dull)", "p(fine)"]
    assert results["test/accuracy"] == pytest.approx((table["labels"] == table["predicted"]).mean())
    write_films(tmp_path / "more.csv", ("fine", "odd", "dull"))
    with pytest.raises(UserError, match=r"1 labels that the run does not know: odd\. It knows bad, dull, fine"):
        evaluated(tmp_path / "more", "run=run", "data=files", "data.test=more.csv")
    with pytest.raises(UserError, match="have lists of labels, but the run predicts one label each"):
        evaluated(tmp_path / "more", "run=run", "data=files", "data.test=some.csv", "data.separator=';'")
    with pytest.raises(UserError, match=r"data\.validation is null"):
        evaluated(tmp_path / "more", "run=run", "split=validation", "data=files", "data.test=some.csv")
    assert not (tmp_path / "more").exists()


def test_lists_of_labels_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [("a fine long film", ["fine", "long"]), ("a dull film", ["dull"]), ("a film", [])] * 15
    lines = [json.dumps({"text": f"{text} {number}", "label": labels}) for number, (text, labels) in enumerate(rows)]
    (tmp_path / "films.jsonl").write_text("\n".join(lines))
    train_files(tmp_path, "data.train=films.jsonl")
    (tmp_path / "some.jsonl").write_text("\n".join(line for line in lines[:9] if "fine" not in line))
    evaluated(tmp_path / "some", "run=run", "data=files", "data.test=some.jsonl")
    table = pl.read_parquet(tmp_path / "some" / "predictions.parquet")
    assert sorted(table["labels"].to_list()) == [[], [], [], ["dull"], ["dull"], ["dull"]]
    assert pl.read_csv(tmp_path / "some" / "labels.csv")["documents"].to_list() == [3, 0, 0]


def test_several_runs_answer_by_the_mean_of_their_probabilities(tmp_path: Path) -> None:
    three = "data.num_labels=3"
    train_tiny(tmp_path, *SMALL_LSTM, three, "tokenizer=subwords", folder="lstm")
    trained = train_tiny(tmp_path, *BOW, three, folder="bow")
    results = evaluated(tmp_path / "joint", f"run=[{tmp_path / 'lstm'},{tmp_path / 'bow'}]")
    mean = (scores(tmp_path / "lstm") + scores(tmp_path / "bow")) / 2
    assert np.allclose(scores(tmp_path / "joint"), mean, atol=1e-6)
    table = pl.read_parquet(tmp_path / "joint" / "predictions.parquet")
    wanted = np.array([int(name.removeprefix("label")) for name in table["labels"]])
    assert results["test/accuracy"] == pytest.approx((mean.argmax(axis=1) == wanted).mean())
    assert results["test/loss"] == pytest.approx(log_loss(wanted, mean), abs=1e-5)
    alone = results["runs"][str((tmp_path / "bow").resolve())]
    assert {f"test/{name}": value for name, value in alone.items()} == figures(trained, "test")


def test_several_runs_decide_by_the_mean_of_their_thresholds(tmp_path: Path) -> None:
    thresholds = []
    for name, seed in (("one", 1), ("two", 2)):
        train_tiny(tmp_path, *BOW, *SEVERAL, f"seed={seed}", "evaluation.shrinkage=0", folder=name)
        described = json.loads((tmp_path / name / "thresholds.json").read_text())
        thresholds.append(list(described["thresholds"].values()))
    assert thresholds[0] != thresholds[1]
    results = evaluated(tmp_path / "joint", f"run=[{tmp_path / 'one'},{tmp_path / 'two'}]")
    decided = scores(tmp_path / "joint") > np.mean(thresholds, axis=0)
    names = [f"label{number}" for number in range(4)]
    table = pl.read_parquet(tmp_path / "joint" / "predictions.parquet")
    given = [np.isin(names, labels) for labels in table["predicted"].to_list()]
    assert (np.array(given) == decided).all()
    wanted = [np.isin(names, labels) for labels in table["labels"].to_list()]
    assert results["test/f1_micro"] == pytest.approx(f1_score(wanted, given, average="micro"), abs=1e-6)


def test_runs_that_cannot_answer_together_are_named(tmp_path: Path, shared_runs: SharedRuns) -> None:
    shared_runs.copy(tmp_path / "one", *BOW, *SEVERAL)
    refused = {
        "labels": (["data.num_labels=3", "data.multilabel=true"], "have different labels: multilabel with 3"),
        "rule": ([*SEVERAL, "evaluation.thresholds=top_k"], "cannot be averaged"),
        "documents": ([*SEVERAL, "data.seed=7"], "have different test documents"),
    }
    for name, (overrides, message) in refused.items():
        shared_runs.copy(tmp_path / name, *BOW, *overrides)
        with pytest.raises(UserError, match=message):
            evaluated(tmp_path / "joint", f"run=[{tmp_path / 'one'},{tmp_path / name}]")
    other_split = f"run=[{tmp_path / 'one'},{tmp_path / 'documents'}]"
    joint = evaluated(tmp_path / "joint", other_split, "data=synthetic", "data.num_documents=50", *SEVERAL)
    assert joint["documents/test"] == 10


def test_documents_that_changed_since_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    train_files(tmp_path, f"data.train={write_films(tmp_path / 'films.csv')}")
    caplog.set_level("INFO")
    evaluated(tmp_path / "before", "run=run")
    assert "in training  the same metrics" in caplog.text
    write_films(tmp_path / "films.csv", num_documents=60)
    evaluated(tmp_path / "after", "run=run")
    assert "The documents have changed since the training" in caplog.text


def test_results_are_never_lost(tmp_path: Path, shared_runs: SharedRuns) -> None:
    shared_runs.copy(tmp_path / "run", *BOW)
    with pytest.raises(UserError, match="contains results, which would be lost"):
        evaluated(tmp_path / "run", f"run={tmp_path / 'run'}")


def test_the_command_answers_and_refuses(
    command: Command, command_here: Command, tmp_path: Path, shared_runs: SharedRuns
) -> None:
    shared_runs.copy(tmp_path / "run", *BOW)
    done = command("evaluate.py", "run=run", "output=results")
    assert done.returncode == 0, done.stderr
    assert "in training  the same metrics" in done.stdout
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        "metrics.json",
        "predictions.parquet",
        "labels.csv",
        "run.log",
    }
    (tmp_path / "kept").mkdir()
    refused = command_here("evaluate.py", "run=nowhere", "output=kept")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert (
        refused.stderr
        == "error: nowhere is not a run directory: it has no config.yaml. Name the directory of one run.\n"
    )
    assert (tmp_path / "kept").is_dir()
