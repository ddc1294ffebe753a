"""What is told of single documents and of pairs of labels."""

from pathlib import Path

import numpy as np
import polars as pl

from helpers.documents import make_corpus
from newsreel.evaluation.predictions import Predictions

PROBABILITIES = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)


def of_classes(wanted: list[int], given: list[int]) -> Predictions:
    corpus = make_corpus([("a film", 0)], [("a film", label) for label in wanted], "multiclass", num_labels=3)
    return Predictions(corpus, "test", PROBABILITIES, np.array(given), corpus.targets("test"), None)


def of_sets(wanted: list[list[int]], given: list[list[int]]) -> Predictions:
    corpus = make_corpus([("a film", [0])], [("a film", labels) for labels in wanted], "multilabel", num_labels=3)
    indicators = np.array([[label in labels for label in range(3)] for labels in given])
    return Predictions(corpus, "test", PROBABILITIES, indicators, corpus.targets("test"), None)


def test_confusions_of_classes_by_hand() -> None:
    found = of_classes([0, 0, 1, 2], [1, 1, 1, 0]).confusions()
    assert found == [("label0", "label1", 2), ("label2", "label0", 1)]


def test_confusions_pair_each_missed_label_with_each_wrong_one() -> None:
    found = of_sets([[0, 1], [0], [2], []], [[2], [1], [], [0]]).confusions()
    assert found == [("label0", "label1", 1), ("label0", "label2", 1), ("label1", "label2", 1)]


def test_the_table_of_predictions_names_the_labels(tmp_path: Path) -> None:
    of_sets([[0, 1], [], [2], [1]], [[], [1], [0, 2], []]).write(tmp_path / "sets.parquet")
    table = pl.read_parquet(tmp_path / "sets.parquet")
    assert table["labels"].to_list() == [["label0", "label1"], [], ["label2"], ["label1"]]
    assert table["predicted"].to_list() == [[], ["label1"], ["label0", "label2"], []]
    assert table["p(label1)"].to_numpy().tolist() == PROBABILITIES[:, 1].tolist()
    of_classes([0, 0, 1, 2], [1, 1, 1, 0]).write(tmp_path / "classes.parquet")
    table = pl.read_parquet(tmp_path / "classes.parquet")
    assert table["predicted"].to_list() == ["label1", "label1", "label1", "label0"]
    assert table["document"].to_list() == [0, 1, 2, 3]
