"""Accuracy by number of training documents: samples, table and figure."""

import json
from pathlib import Path

import polars as pl
import pytest

import learning_curve
from learning_curve import (
    NUM_HELD_OUT,
    Curve,
    RunKey,
    collect,
    curves_of,
    draw,
    page,
    read_scores,
    reference_accuracy,
    sentences,
    write_samples,
    write_scores,
)
from newsreel.core.errors import UserError

REVIEWS = pl.DataFrame(
    {"text": [f"{'good' if number % 2 else 'bad'} film no. {number}" for number in range(2400)],
     "label": [number % 2 for number in range(2400)]}
)  # fmt: skip


def texts(folder: Path, name: str) -> set[str]:
    return set(pl.read_parquet(folder / f"{name}.parquet")["text"])


def test_samples_are_nested_and_apart_from_the_held_out_documents(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_samples(REVIEWS, [10, 40], seed, tmp_path / str(seed))
    names = ("train-10", "train-40", "validation", "test")
    small, large, validation, test = (texts(tmp_path / "1", name) for name in names)
    assert [len(part) for part in (small, large, validation, test)] == [10, 40, NUM_HELD_OUT, NUM_HELD_OUT]
    assert small < large
    assert not (large & validation)
    assert not (large & test)
    assert not (validation & test)
    assert pl.read_parquet(tmp_path / "1" / "train-10.parquet")["label"].sum() == 5
    assert texts(tmp_path / "2", "test") == test
    assert texts(tmp_path / "2", "train-40") != large


def test_a_sample_larger_than_the_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--sizes has 500, but there are only 400 documents"):
        write_samples(REVIEWS, [500], 1, tmp_path)


def test_a_review_gives_its_first_sentence_of_the_right_length() -> None:
    long = " ".join(["word"] * 26) + ". "
    fitting = " ".join(["fitting"] * 15) + "!"
    reviews = pl.DataFrame({"text": [long + "Short. " + fitting + " " + fitting, long], "label": [1, 0]})
    assert sentences(reviews).rows() == [(fitting, 1)]


def test_the_reference_learns_from_the_sample(tmp_path: Path) -> None:
    write_samples(REVIEWS, [20], 1, tmp_path)
    assert reference_accuracy(tmp_path, 20) == 1.0  # good and bad decide


def test_the_page_has_means_and_deviations_of_finished_runs(tmp_path: Path) -> None:
    for setting, seed, accuracy in (("as_large", 1, 0.5), ("default", 1, 0.7), ("default", 2, 0.8)):
        folder = tmp_path / "reviews" / f"lstm-{setting}" / f"200-{seed}"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"test/accuracy": accuracy}))
    (tmp_path / "reviews" / "LinearSVC-200-1.json").write_text("0.75")
    curves = curves_of(collect(tmp_path))
    rows = {(curve.name, curve.setting): curve.cell(200) for curve in curves["reviews"] if curve.scores}
    assert rows == {
        ("lstm", "as large"): "0.5000",
        ("lstm", "default"): "0.7500 ± 0.0707",
        ("LinearSVC", ""): "0.7500",
    }
    assert Curve("lstm", "default").cell(200) == "–"
    text = page(curves, [1, 2])
    assert "| lstm" in text
    assert "Seeds: 1, 2" in text
    assert draw(curves).startswith(b"\x89PNG")


def test_written_scores_are_read_again_with_one_line_each(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    assert read_scores(file) == {}
    scores = {
        RunKey("reviews", "lstm", "default", 1000, 1): 0.75,
        RunKey("reviews", "lstm", "default", 200, 1): 0.7250000238418579,
    }
    write_scores(file, scores)
    assert file.read_text().splitlines() == [
        "[",
        '{"kind": "reviews", "family": "lstm", "setting": "default", "size": 200, "seed": 1, "accuracy": 0.725},',
        '{"kind": "reviews", "family": "lstm", "setting": "default", "size": 1000, "seed": 1, "accuracy": 0.75}',
        "]",
    ]
    assert read_scores(file) == {**scores, RunKey("reviews", "lstm", "default", 200, 1): 0.725}


def test_recorded_scores_stay_on_the_page_and_are_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = tmp_path / "docs"
    (docs / "images").mkdir(parents=True)
    write_scores(docs / "learning_curve.json", {RunKey("reviews", "bow", "default", 20, 1): 0.9125})
    trained = []

    def finish_run(folder: Path, sample: Path, size: int, options: list[str]) -> float:
        trained.append((folder.parent.name, size))
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text('{"test/accuracy": 0.8375}')
        return 0.8375

    monkeypatch.setattr(learning_curve, "read_documents", lambda kind, overrides: REVIEWS)
    monkeypatch.setattr(learning_curve, "run_accuracy", finish_run)
    only = ["--families", "bow", "--kinds", "reviews", "--settings", "default", "--sizes", "20", "40", "--seeds", "1"]
    monkeypatch.setattr("sys.argv", ["learning_curve.py", *only, "--output", f"{tmp_path}", "--docs", f"{docs}"])
    assert learning_curve.main() == 0
    assert trained == [("bow-default", 40)]
    [row] = [line for line in (docs / "learning_curve.md").read_text().splitlines() if line.startswith("| bow ")]
    assert [cell.strip() for cell in row.split("|")[3:5]] == ["0.9125", "0.8375"]
    assert read_scores(docs / "learning_curve.json")[RunKey("reviews", "bow", "default", 40, 1)] == 0.8375
