"""Neighbour counts, their mutual information and its decomposition, against computations by hand and dense ones."""

from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from helpers.documents import token_sequences
from helpers.vectors import TABLE, build, share_topics, two_topics
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Paths
from newsreel.embeddings.corpus_trained import Documents
from newsreel.embeddings.svd import SVD, count_pairs, ppmi, truncated_svd

CATS, CHASE, MICE, EAT, CHEESE = range(2, 7)
FARM = [[CATS, CHASE, MICE], [MICE, EAT, CHEESE]]  # two documents; 0 and 1 are <pad> and <unk>


def pairs(texts: Sequence[Sequence[int]], num_words: int, window: int) -> csr_array:
    return count_pairs(Documents([(token_sequences(*texts), np.arange(len(texts)))]), num_words, window)


def dense_counts(texts: Sequence[Sequence[int]], num_words: int, window: int) -> np.ndarray:
    """Every word against every other of its document, one by one."""
    counts = np.zeros((num_words, num_words))
    for text in texts:
        for place, word in enumerate(text):
            for other_place, other in enumerate(text):
                counts[word, other] += place != other_place and abs(place - other_place) <= window
    return counts


def random_texts(num_words: int, count: int, length: int) -> list[list[int]]:
    frequent_first = np.random.default_rng(0).geometric(3 / num_words, (count, length))
    return (2 + frequent_first % (num_words - 2)).tolist()


@pytest.mark.parametrize("window", [1, 4, 50])
def test_counts_are_those_of_a_loop_over_all_pairs(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("newsreel.embeddings.corpus_trained.CHUNK_TOKENS", 100)
    texts = [*random_texts(12, 20, 15), [], [3]]
    assert pairs(texts, 12, window).toarray().tolist() == dense_counts(texts, 12, window).tolist()


# Of 12 pairs mice have 4 and the others 2: log(12 · 1 / (2 · 2)) = log 3, log(12 · 1 / (2 · 4)) = log 1.5.
# With smoothing by 0.5 the contexts weigh √2, √2, √4, √2, √2, 4√2 + 2 together; P(chase | cats) = P(mice | cats) = 1/2.
@pytest.mark.parametrize(
    ("shift", "smoothing", "cats_chase", "cats_mice", "mice_cats", "num_positive"),
    [
        (1, 1, log(3), log(1.5), log(1.5), 12),
        (2, 1, log(3 / 2), 0, 0, 4),
        (1, 0.5, log(2 + 1 / 2**0.5), log(2**0.5 + 0.5), log(1 + 0.5 / 2**0.5), 12),
    ],
)
def test_mutual_information_of_two_documents_by_hand(
    shift: float, smoothing: float, cats_chase: float, cats_mice: float, mice_cats: float, num_positive: int
) -> None:
    information = ppmi(pairs(FARM, 7, window=2), shift, smoothing).toarray()
    assert information.dtype == np.float32
    found = [information[CATS, CHASE], information[CATS, MICE], information[MICE, CATS], information[CATS, EAT]]
    assert found == pytest.approx([cats_chase, cats_mice, mice_cats, 0], abs=1e-6)
    assert np.count_nonzero(information) == num_positive


@pytest.mark.parametrize("dense_words", [100, 50])
def test_decomposition_is_that_of_numpy(dense_words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("newsreel.embeddings.svd.DENSE_WORDS", dense_words)
    matrix = csr_array(random_array((100, 100), density=0.05, rng=1, dtype=np.float32))
    left, values = truncated_svd(matrix, 5)
    expected_left, expected_values, _ = np.linalg.svd(matrix.toarray().astype(np.float64))
    assert np.allclose(values, expected_values[:5], rtol=1e-4)
    assert np.allclose(np.abs(np.sum(left * expected_left[:, :5], axis=0)), 1, atol=1e-3)
    assert np.array_equal(left, truncated_svd(matrix, 5)[0])
    assert (left[np.abs(left).argmax(axis=0), range(5)] > 0).all()


def svd(**changes: Any) -> SVD:
    usual = {"dimension": 3, "window": 2, "shift": 1.0, "context_smoothing": 0.75, "exponent": 0.5}
    return SVD(**{**TABLE, "unlabeled": True, **usual, **changes})


def test_neighbours_in_the_table_share_a_topic(paths: Paths) -> None:
    embedding, words = build(svd(), paths, two_topics())
    assert share_topics(list(words)[2:], embedding.rows().numpy()[2:])
    coverage = build(svd(), paths, [*two_topics(), "lonely"])[0].coverage
    assert (coverage.known_types, coverage.types) == (10, 11)  # a word without informative neighbours has no vector


@pytest.mark.parametrize(
    "change", [{"dimension": 2}, {"window": 1}, {"shift": 1.2}, {"context_smoothing": 1.0}, {"exponent": 0.0}]
)
def test_every_setting_changes_the_rows(paths: Paths, change: dict[str, Any]) -> None:
    usual, changed = (build(svd(**changes), paths, two_topics())[0].rows() for changes in ({}, change))
    assert usual.shape != changed.shape or not np.allclose(usual, changed)


def test_documents_that_do_not_suffice_are_refused(paths: Paths) -> None:
    with pytest.raises(UserError, match=r"embedding\.dimension=10 must be below .* which is 10"):
        build(svd(dimension=10), paths, two_topics())
    with pytest.raises(UserError, match=r"no two words occur within embedding\.window=2"):
        build(svd(), paths, ["one", "two", "three", "four", "five"])
