"""Test documents that are in training, word for word or nearly."""

from pathlib import Path

import numpy as np
import pytest

from helpers.documents import make_corpus
from newsreel.corpora import overlap
from newsreel.corpora.corpus import Corpus
from newsreel.corpora.overlap import find_training_overlap

LONG = "it was one of the best films of the year and we will see it again next week"  # 18 words, 16 shingles


def corpus() -> Corpus:
    train = [(LONG, 1), ("a dull film", 0), ("so long", 0), ("", 1), ("another one", 1), ("the rest", 0)]
    test = [
        (LONG, 1),
        (f"{LONG}!", 1),  # the same words
        (f"{LONG} or not", 0),  # 16 of 18 shingles
        (f"But {LONG} or not", 0),  # 16 of 19 shingles
        (f"But {LONG} or not, and again, if there is time", 0),  # 16 of 25 shingles: 0.64
        (f"but {LONG}, or not", 1),  # a copy of a near-repeat, with other punctuation
        ("a dull film", 1),
        ("", 0),
        ("new", 0),
    ]
    return make_corpus(train, test)


def test_exact_and_near_copies_of_training_documents_are_found(tmp_path: Path) -> None:
    found = find_training_overlap(corpus(), tmp_path)
    assert found.others == ("train",)
    assert np.flatnonzero(found.exact).tolist() == [0, 6]
    assert np.flatnonzero(found.contradictory).tolist() == [6]
    assert np.flatnonzero(found.near).tolist() == [1, 2, 3, 5]
    assert np.flatnonzero(found.either).tolist() == [0, 1, 2, 3, 5, 6]


def test_copies_of_validation_documents_count_and_those_within_test_do_not(tmp_path: Path) -> None:
    train = [(" ".join(f"w{number}x{place}" for place in range(20)), number % 2) for number in range(20)]
    validation = make_corpus(train).with_validation(0.2, seed=0)["validation"]["text"]
    test = [(f"{validation[0]} more", 0), (validation[1], 0), (LONG, 0), (f"{LONG} again", 1)]
    found = find_training_overlap(make_corpus(train, test).with_validation(0.2, seed=0), tmp_path)
    assert found.others == ("train", "validation")
    assert found.exact.tolist() == [False, True, False, False]
    assert found.near.tolist() == [True, False, False, False]


def test_near_copies_are_kept_in_the_cache_for_each_corpus_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = (corpus().with_validation(0.3, seed) for seed in (0, 1))
    assert first.splits["validation"].rows.tolist() != other.splits["validation"].rows.tolist()
    found = find_training_overlap(first, tmp_path)
    monkeypatch.setattr(overlap, "compare_words", None)
    assert find_training_overlap(first, tmp_path).near.tolist() == found.near.tolist()
    with pytest.raises(TypeError):
        find_training_overlap(other, tmp_path)
