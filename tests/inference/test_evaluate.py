"""Finished runs, measured again."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score, log_loss

from helpers.project import Command
from helpers.shared_runs import CLASSES, LSTM, TOPICS, SharedRuns
from helpers.tiny_runs import evaluated, figures, train_tiny
from newsreel.core.errors import UserError

BOW = ["model=bow"]
TOP_K = [*TOPICS, "evaluation.thresholds=top_k"]


def scores(folder: Path) -> np.ndarray:
    return pl.read_parquet(folder / "predictions.parquet").select(pl.col("^p\\(.*$")).to_numpy()


def train_files(tmp_path: Path, file: str) -> dict[str, Any]:
    """metrics.json of a run on a file, with paths relative to the current folder."""
    return train_tiny(tmp_path, "data=files", f"data.train={file}", "model=bow", "paths.cache_dir=cache")


def write_films(file: Path, labels: tuple[str, ...] = ("dull", "fine"), num_documents: int = 40) -> Path:
    rows = [(labels[number % len(labels)], number) for number in range(num_documents)]
    file.write_text("text,label\n" + "".join(f"a {label} film no {number},{label}\n" for label, number in rows))
    return file


@pytest.mark.parametrize(
    "overrides", [LSTM, CLASSES, pytest.param(TOPICS, marks=pytest.mark.slow), TOP_K], ids=" ".join
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
    if overrides == LSTM:
        on_training = evaluated(tmp_path / "train", "run=../moved", "split=train")
        assert on_training["documents/train"] == trained["documents/train"]
        assert "train/f1_macro" in on_training
        with pytest.raises(UserError, match="contains results, which would be lost"):
            evaluated(tmp_path / "moved", "run=../moved")


def test_paths_of_a_run_start_where_it_was_trained_typed_ones_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for name in ("trained", "here"):
        (tmp_path / name).mkdir()
    write_films(tmp_path / "trained" / "films.csv")
    write_films(tmp_path / "here" / "films.csv", ("fine",), num_documents=5)
    monkeypatch.chdir(tmp_path / "trained")
    trained = train_files(tmp_path, "films.csv")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("NEWSREEL_CACHE_DIR", raising=False)
    run = f"run={tmp_path / 'run'}"
    results = evaluated(tmp_path / "own", run)
    assert figures(results, "test") == figures(trained, "test")
    assert re.search("in training +the same metrics", caplog.text)
    others = evaluated(tmp_path / "other", run, "data=files", "data.test=films.csv")
    assert (others["documents/test"], others["environment"]["corpus_source"]) == (5, "films.csv")
    write_films(tmp_path / "trained" / "films.csv", num_documents=60)
    evaluated(tmp_path / "cached", run, "paths.cache_dir=another")
    assert "The documents have changed since the training: test documents that are split off may" in caplog.text
    other = shutil.copytree(tmp_path / "run", tmp_path / "other_run")
    evaluated(tmp_path / "both", f"run=[{tmp_path / 'run'},{other}]", "paths.cache_dir=another")
    assert f"The documents have changed since the training of {other}" in caplog.text
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["another", "films.csv"]


def test_labels_of_other_documents_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_films(tmp_path / "films.csv", ("bad", "dull", "fine"))
    train_files(tmp_path, "films.csv")
    write_films(tmp_path / "some.csv", ("fine", "dull"), num_documents=10)
    write_films(tmp_path / "more.csv", ("fine", "odd", "dull"))
    results = evaluated(tmp_path / "some", "run=run", "data=files", "data.test=some.csv")
    table = pl.read_parquet(tmp_path / "some" / "predictions.parquet")
    assert sorted(table["labels"]) == ["dull"] * 5 + ["fine"] * 5
    assert table.columns[3:] == ["p(bad)", "p(dull)", "p(fine)"]
    assert results["test/accuracy"] == pytest.approx((table["labels"] == table["predicted"]).mean())
    for wrong, message in (
        (["data.test=more.csv"], r"1 labels that the run does not know: odd\. It knows bad, dull, fine"),
        (["data.test=some.csv", "data.separator=';'"], "have lists of labels, but the run predicts one label each"),
        (["data.test=some.csv", "split=validation"], r"data\.validation is null"),
        (
            ["data.test=some.csv", "data.text=body"],
            r"data\.text=body(?s:.*)\nThe run was trained with data\.text=text\.",
        ),
    ):
        with pytest.raises(UserError, match=message):
            evaluated(tmp_path / "more", "run=run", "data=files", *wrong)
    assert not (tmp_path / "more").exists()


def test_lists_of_labels_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [("a fine long film", ["fine", "long"]), ("a dull film", ["dull"]), ("a film", [])] * 15
    lines = [json.dumps({"text": f"{text} {number}", "label": labels}) for number, (text, labels) in enumerate(rows)]
    (tmp_path / "films.jsonl").write_text("\n".join(lines))
    train_files(tmp_path, "films.jsonl")
    (tmp_path / "some.jsonl").write_text("\n".join(line for line in lines[:9] if "fine" not in line))
    evaluated(tmp_path / "some", "run=run", "data=files", "data.test=some.jsonl")
    table = pl.read_parquet(tmp_path / "some" / "predictions.parquet")
    assert sorted(table["labels"].to_list()) == [[], [], [], ["dull"], ["dull"], ["dull"]]
    assert pl.read_csv(tmp_path / "some" / "labels.csv")["documents"].to_list() == [3, 0, 0]


def test_several_runs_answer_by_the_mean_of_their_probabilities(tmp_path: Path, shared_runs: SharedRuns) -> None:
    other = ["model=bow", "data.num_labels=3"]
    runs = [shared_runs.run(*CLASSES), shared_runs.run(*other)]
    results = evaluated(tmp_path / "joint", f"run=[{runs[0]},{runs[1]}]")
    mean = (scores(runs[0]) + scores(runs[1])) / 2
    assert np.allclose(scores(tmp_path / "joint"), mean, atol=1e-6)
    labels = pl.read_parquet(tmp_path / "joint" / "predictions.parquet")["labels"]
    targets = np.array([int(name.removeprefix("label")) for name in labels])
    assert results["test/accuracy"] == pytest.approx((mean.argmax(axis=1) == targets).mean())
    assert results["test/loss"] == pytest.approx(log_loss(targets, mean), abs=1e-5)
    alone = results["runs"][str(runs[1].resolve())]
    assert {f"test/{name}": value for name, value in alone.items()} == figures(shared_runs.results(*other), "test")


def test_several_runs_decide_by_the_mean_of_their_thresholds(tmp_path: Path, shared_runs: SharedRuns) -> None:
    runs = [shared_runs.run(*TOPICS), shared_runs.run(*TOPICS, "seed=2", "evaluation.shrinkage=0")]
    files = [json.loads((run / "thresholds.json").read_text()) for run in runs]
    thresholds = [list(described["thresholds"].values()) for described in files]
    assert thresholds[0] != thresholds[1]
    results = evaluated(tmp_path / "joint", f"run=[{runs[0]},{runs[1]}]")
    decided = scores(tmp_path / "joint") > np.mean(thresholds, axis=0)
    names = [f"label{number}" for number in range(4)]
    table = pl.read_parquet(tmp_path / "joint" / "predictions.parquet")
    preds, targets = ([np.isin(names, row) for row in table[key].to_list()] for key in ("predicted", "labels"))
    assert (np.array(preds) == decided).all()
    assert results["test/f1_micro"] == pytest.approx(f1_score(targets, preds, average="micro"), abs=1e-6)


def test_runs_that_cannot_answer_together_are_named(tmp_path: Path, shared_runs: SharedRuns) -> None:
    first, other_documents = shared_runs.run(*TOPICS), [*TOPICS, "data.seed=7"]
    for overrides, message in (
        ([*TOPICS, "data.num_labels=3"], "have different labels: multilabel with 3"),
        (TOP_K, "cannot be averaged"),
        (other_documents, "have different test documents"),
    ):
        with pytest.raises(UserError, match=message):
            evaluated(tmp_path / "joint", f"run=[{first},{shared_runs.run(*overrides)}]")
    runs = f"run=[{first},{shared_runs.run(*other_documents)}]"
    joint = evaluated(tmp_path / "joint", runs, "data=synthetic", "data.num_documents=50", *TOPICS[1:])
    assert joint["documents/test"] == 10


def test_the_command_answers_and_refuses(command_here: Command, tmp_path: Path, shared_runs: SharedRuns) -> None:
    shared_runs.copy(tmp_path / "run", *BOW)
    done = command_here("evaluate.py", "run=run", "output=results")
    assert done.returncode == 0, done.stderr
    assert "in training  the same metrics" in done.stdout
    files = {path.name for path in (tmp_path / "results").iterdir()}
    assert files == {"metrics.json", "predictions.parquet", "labels.csv", "run.log"}
    (tmp_path / "kept").mkdir()
    refused = command_here("evaluate.py", "run=nowhere", "output=kept")
    message = "error: nowhere is not a run directory: it has no config.yaml. Name the directory of one run.\n"
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", message)
    assert (tmp_path / "kept").is_dir()
    refused = command_here("evaluate.py", "run=somewhere", "data.limit=5")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: data.limit is a setting only if data is chosen: also set")
