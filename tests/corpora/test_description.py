"""Majority, co-occurrence and scripts of a corpus, beside counts by hand and by scikit-learn."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score

from helpers.documents import make_corpus
from newsreel.corpora.description import count_scripts, dominant_scripts, label_pairs, majority_score


def test_the_majority_is_that_of_training_and_is_scored_on_the_split() -> None:
    corpus = make_corpus([("a", 1), ("b", 1), ("c", 0)], [("d", 0), ("e", 0), ("f", 1), ("g", 0)])
    assert majority_score(corpus, "train") == (1, pytest.approx(2 / 3))
    assert majority_score(corpus, "test") == (1, 0.25)


def test_the_majority_of_several_labels_has_the_micro_f1_of_scikit_learn() -> None:
    random = np.random.default_rng(4)
    targets = random.random((50, 3)) < [0.3, 0.6, 0.2]
    documents = [("a", np.flatnonzero(row).tolist()) for row in targets]
    label, score = majority_score(make_corpus(documents, documents, "multilabel", 3), "test")
    guesses = np.zeros_like(targets)
    guesses[:, 1] = True
    assert label == 1
    assert score == pytest.approx(f1_score(targets, guesses, average="micro"))


def test_pairs_of_labels_are_counted_most_frequent_first() -> None:
    targets = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]], dtype=np.uint8)
    assert label_pairs(targets, 10) == [(0, 1, 3), (1, 2, 2), (0, 2, 1)]  # label 3 occurs alone
    assert label_pairs(targets, 1) == [(0, 1, 3)]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("A film", "Latin"),
        ("naïve café 🎬", "Latin"),
        ("фильм on", "Cyrillic"),
        ("ταινία", "Greek"),
        ("映画館で", "Han"),
        ("えいが映画だ", "Hiragana"),
        ("영화", "Hangul"),
        ("ภาพยนตร์", "Thai"),
        ("فيلم", "Arabic"),
        ("ᏣᎳᎩ", "another script"),
        ("123 !?", "no letters"),
        ("🎬 …", "no letters"),
        ("", "no letters"),
    ],
)
def test_a_text_has_the_script_of_most_of_its_letters(text: str, script: str) -> None:
    assert dominant_scripts(pl.Series([text])).to_list() == [script]


def test_scripts_are_counted_over_all_documents() -> None:
    corpus = make_corpus([("a", 0), ("я", 1), ("b", 0), ("!", 1)])
    assert count_scripts(corpus, "train") == {"Latin": 2, "Cyrillic": 1, "no letters": 1}
