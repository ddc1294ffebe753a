"""Single documents, and pairs of labels that are taken for one another."""

from pathlib import Path

import numpy as np
import polars as pl

from helpers.predictions import predictions
from newsreel.evaluation.predictions import Predictions

PROBABILITIES = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
CLASSES = predictions([("a film", label) for label in (2, 2, 1, 0)], [1, 1, 1, 2])


def of_sets(targets: list[list[int]], preds: list[list[int]]) -> Predictions:
    indicators = [[label in labels for label in range(3)] for labels in preds]
    return predictions([("a film", labels) for labels in targets], indicators, PROBABILITIES, "multilabel")


def test_confusions_by_hand() -> None:
    assert CLASSES.confusions() == [("label2", "label1", 2), ("label0", "label2", 1)]  # the most frequent first
    # each missed label with each wrong one, and no right one
    found = of_sets([[0, 1], [0], [2], []], [[2], [1], [0, 2], [0]]).confusions()
    assert found == [("label0", "label1", 1), ("label0", "label2", 1), ("label1", "label2", 1)]


def test_figures_of_each_label_by_hand() -> None:
    table = CLASSES.by_label()
    assert table["documents"].to_list() == [1, 1, 2]
    assert table["predicted"].to_list() == [0, 3, 1]
    assert table["precision"].to_list() == [0, 1 / 3, 0]
    assert table["recall"].to_list() == [0, 1, 0]
    assert table["f1"].to_list() == [0, 0.5, 0]


def test_the_table_of_predictions_names_the_labels(tmp_path: Path) -> None:
    of_sets([[0, 1], [], [2], [1]], [[], [1], [0, 2], []]).write(tmp_path / "sets.parquet")
    table = pl.read_parquet(tmp_path / "sets.parquet")
    assert table["labels"].to_list() == [["label0", "label1"], [], ["label2"], ["label1"]]
    assert table["predicted"].to_list() == [[], ["label1"], ["label0", "label2"], []]
    assert table["p(label1)"].to_numpy().tolist() == PROBABILITIES[:, 1].tolist()
    CLASSES.write(tmp_path / "classes.parquet")
    table = pl.read_parquet(tmp_path / "classes.parquet")
    assert table["predicted"].to_list() == ["label1", "label1", "label1", "label2"]
    assert table["document"].to_list() == [0, 1, 2, 3]
