"""report.html of single runs."""

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from datasets import Dataset
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import newsreel
from helpers.documents import make_table
from helpers.html_page import require_self_contained, rows_of
from helpers.predictions import predictions
from helpers.shared_runs import TOPICS, SharedRuns
from helpers.tiny_runs import SMALL_LSTM, train_tiny
from newsreel.evaluation.predictions import Predictions
from newsreel.reporting.report import Report, read_limits
from newsreel.reporting.run_page import MAX_DOCUMENTS, sample_documents, write_run_page

SHOWN = ("model=bow", "evaluation.figures=true", "logger=tensorboard")


def test_the_page_shows_the_scores_of_metrics_json(shared_runs: SharedRuns) -> None:
    results, folder = shared_runs.results(*SHOWN), shared_runs.run(*SHOWN)
    page = (folder / "report.html").read_text(encoding="utf-8")
    text = require_self_contained(page).text
    assert f"{results['test/accuracy']:.4f} test accuracy; 95% interval {results['test/accuracy_ci_low']:.4f}" in text
    assert f"the majority guess has {results['test/majority_accuracy']:.4f}" in text
    assert f"The expected calibration error is {results['test/ece']:.4f}" in text
    documents = rows_of(page, "Documents by their numbers")
    assert len(documents) == results["documents/test"] + 1
    assert sum(row[2].startswith("✓") for row in documents[1:]) == round(
        results["test/accuracy"] * results["documents/test"]
    )
    matrix = rows_of(page, "Test documents by label (row)")
    assert sum(int(cell.split()[0]) for row in matrix[1:] for cell in row[1:]) == results["documents/test"]
    assert len(rows_of(page, "Loss and accuracy by epoch")) == results["train/epochs"] + 1
    assert "python train.py" in text
    assert "num_documents: 100" in text  # of the config
    report = (folder / "report.md").read_text()
    assert "[report.html](report.html)" in report
    limits = read_limits(folder)
    assert limits[0].startswith("It predicts one of these 2 labels")
    assert all(sentence in text for sentence in limits)
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert "report/text_summary" in events.Tags()["tensors"]


@pytest.mark.parametrize("overrides", [SHOWN, (*SMALL_LSTM, "evaluation.figures=true")], ids=["bow", "lstm"])
def test_words_have_the_contributions_that_predict_py_gives_them(
    shared_runs: SharedRuns, overrides: tuple[str, ...]
) -> None:
    folder = shared_runs.run(*overrides)
    page = (folder / "report.html").read_text(encoding="utf-8")
    table = pl.read_parquet(folder / "predictions.parquet")
    documents = re.findall(r">Document (\d+): .*?; the words for <bdi>(.*?)</bdi></summary>\n(<p .*?</p>)", page)
    wrong = [int(row) for row, _, _ in documents if table["labels"][int(row)] != table["predicted"][int(row)]]
    assert 0 < len(wrong) <= 10 < len(documents) <= 20
    assert [int(row) for row, _, _ in documents[: len(wrong)]] == wrong  # they come first
    run = newsreel.load(folder)
    experiment = run.ensemble.members[0].experiment
    corpus = experiment.reader.load(experiment.paths)
    for row, target, words in documents[:3]:
        assert target == table["predicted"][int(row)]
        (explanation,) = run.explain([corpus.text("test", int(row))])
        strongest = max(abs(value) for _, value in explanation.attributions)
        expected = [(word, f"{value:+.3g}") for word, value in explanation.attributions if abs(value) > strongest / 6]
        marks = re.findall(r'<mark class="(for|against) w[1-4]" title="(.*?)">(.*?)</mark>', words)
        assert all((kind == "for") == value.startswith("+") for kind, value, _ in marks)
        assert len(marks) >= len(expected) > 0
        assert set(expected) <= {(unescape(word), value) for _, value, word in marks}
        assert unescape(re.sub(r"<.*?>", "", words)).strip() == " ".join(word for word, _ in explanation.attributions)


def test_without_figures_there_is_no_page(shared_runs: SharedRuns) -> None:
    folder = shared_runs.run(*TOPICS)
    assert not (folder / "report.html").exists()
    assert "report.html" not in (folder / "report.md").read_text()


@pytest.mark.slow
def test_several_labels_have_a_table_and_a_filter_instead_of_a_matrix(tmp_path: Path) -> None:
    train_tiny(tmp_path, "model=bow", "data.num_labels=12", "data.multilabel=true", "evaluation.figures=true")
    page = (tmp_path / "run" / "report.html").read_text()
    require_self_contained(page)
    assert "Test documents by label (row)" not in page
    assert len(rows_of(page, "Test scores of each label")) == 13
    assert 'data-for="table-labels"' in page


HOSTILE = "<img src=x onerror=alert(1)> \"' \u202e </td></script>"


def test_hostile_labels_and_texts_are_shown_and_not_interpreted(tmp_path: Path) -> None:
    rows = [{"text": f"{HOSTILE} word{number % 4}", "label": [HOSTILE, "b"][number % 2]} for number in range(80)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    train_tiny(tmp_path, "data=files", f"data.train={tmp_path / 'train.jsonl'}", "model=bow", "evaluation.figures=true")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    tags = require_self_contained(page)
    assert "\u202e" not in page
    assert "<img src=x onerror=alert(1)> \"' \ufffd </td></script>" in tags.texts


def many(num_documents: int, num_wrong: int, text: str) -> Predictions:
    """Binary predictions; the wrong ones are the most confident, the more the later."""
    targets = np.arange(num_documents) % 2
    preds = np.where(np.arange(num_documents) < num_wrong, 1 - targets, targets)
    sure = 0.6 + 0.3 * np.arange(num_documents) / num_documents
    probabilities = np.where(np.arange(2) == preds[:, None], sure[:, None], 1 - sure[:, None]).astype(np.float32)
    made = predictions([("", 0)], preds, probabilities, "binary")
    made.corpus.tables["test"] = make_table([(text, int(target)) for target in targets])
    made.corpus.splits.clear()
    made.corpus.__post_init__()
    return Predictions(made.corpus, "test", probabilities, preds, targets, None)


def test_a_sample_has_the_most_confident_errors_and_right_documents_at_equal_distances() -> None:
    rows = sample_documents(many(25_000, 3_000, "a"))
    assert len(rows) == MAX_DOCUMENTS
    assert [row for row in rows if row < 3_000] == list(range(2_500, 3_000))
    rights = np.array([row for row in rows if row >= 3_000])
    assert (rights[0], rights[-1]) == (3_000, 24_999)
    assert set(np.diff(rights)) == {44, 45}
    assert len(sample_documents(many(2_000, 10, "a"))) == MAX_DOCUMENTS
    assert sample_documents(many(2_000, 1_990, "a"))[-10:] == list(range(1_990, 2_000))
    assert sample_documents(many(30, 10, "a")) == list(range(30))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["words " * 500, '"<&>👍' * 500])
def test_the_page_of_25000_documents_has_less_than_3_mb(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    epochs = [{"epoch": 1, "train/loss": 1.0, "val/loss": 1.0, "train/accuracy": 0.5, "val/accuracy": 0.5}]
    results = {"test/accuracy": 0.88, "val/loss": 1.0, "train/epochs": 1, "train/kept_epoch": 1, "model/parameters": 1,
               "time/prepare_s": 1, "time/fit_s": 1, "time/test_s": 1, "time/total_s": 1, "memory/peak_rss_mb": 1,
               "throughput/train_documents_per_s": 1, "environment": {}}  # fmt: skip
    report = Report(
        tmp_path, {"model": "bow", "embedding": "one_hot", "data": "imdb"}, [], [], epochs, results, "accuracy",
        "best", many(25_000, 3_000, text), ["learning_curves"], [], ""
    )  # fmt: skip
    monkeypatch.delattr(Dataset, "select")  # a look at all documents for each that is shown
    write_run_page(report, {}, "captum is not installed.")
    page = (tmp_path / "report.html").read_text()
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    assert "3,000 of 25,000 test documents do not get exactly their labels. Shown are 1,000" in page
