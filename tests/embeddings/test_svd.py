"""Neighbour counts, their mutual information and its decomposition, against computations by hand and dense ones."""

from collections.abc import Sequence
from math import log

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from helpers.documents import make_corpus, word_tokenizer
from helpers.vectors import TABLE_KEY_SUFFIX, share_topics, two_topics
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Paths
from newsreel.embeddings.corpus_trained import Documents
from newsreel.embeddings.embedding import TableEmbedding
from newsreel.embeddings.svd import SVD, count_pairs, ppmi, truncated_svd
from newsreel.text.tokens import TokenSequences

CATS, CHASE, MICE, EAT, CHEESE = range(2, 7)
FARM = [[CATS, CHASE, MICE], [MICE, EAT, CHEESE]]  # two documents; 0 and 1 are <pad> and <unk>


def documents(*texts: Sequence[int]) -> Documents:
    ids = np.array([number for text in texts for number in text], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, texts)])
    return Documents([(TokenSequences(ids, offsets), np.arange(len(texts)))])


def dense_counts(texts: Sequence[Sequence[int]], num_words: int, window: int) -> np.ndarray:
    """Every word against every other of its document, one by one."""
    counts = np.zeros((num_words, num_words))
    for text in texts:
        for place, word in enumerate(text):
            for other_place, other in enumerate(text):
                counts[word, other] += place != other_place and abs(place - other_place) <= window
    return counts


def dense_ppmi(counts: np.ndarray, shift: float, smoothing: float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        words = counts.sum(axis=1, keepdims=True) / counts.sum()
        contexts = counts.sum(axis=0) ** smoothing
        information = np.log(counts / counts.sum() / (words * contexts / contexts.sum())) - np.log(shift)
    return np.nan_to_num(np.maximum(information, 0), neginf=0)


def random_texts(num_words: int, count: int, length: int) -> list[list[int]]:
    random = np.random.default_rng(0)
    frequent_first = random.geometric(3 / num_words, (count, length))
    return (2 + frequent_first % (num_words - 2)).tolist()  # type: ignore[no-any-return]


def test_neighbours_of_two_documents_by_hand() -> None:
    counts = count_pairs(documents(*FARM), 7, window=2).toarray()
    expected = np.zeros((7, 7))
    for one, other in [(CATS, CHASE), (CATS, MICE), (CHASE, MICE), (MICE, EAT), (MICE, CHEESE), (EAT, CHEESE)]:
        expected[one, other] = expected[other, one] = 1
    assert counts.tolist() == expected.tolist()
    near = count_pairs(documents(*FARM), 7, window=1).toarray()
    assert near[CATS, MICE] == 0
    assert near.sum() == 8


def test_a_word_beside_itself_is_its_own_neighbour_from_both_sides() -> None:
    assert count_pairs(documents([2, 2]), 3, window=1).toarray()[2, 2] == 2


@pytest.mark.parametrize("window", [1, 4, 50])
def test_counts_are_those_of_a_loop_over_all_pairs(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("newsreel.embeddings.corpus_trained.CHUNK_TOKENS", 100)
    texts = [*random_texts(12, 20, 15), [], [3]]
    assert count_pairs(documents(*texts), 12, window).toarray().tolist() == dense_counts(texts, 12, window).tolist()


def test_mutual_information_of_two_documents_by_hand() -> None:
    """Of 12 pairs mice have 4 and the others 2: log(12 · 1 / (2 · 2)) = log 3, log(12 · 1 / (2 · 4)) = log 1.5."""
    information = ppmi(count_pairs(documents(*FARM), 7, window=2), shift=1, context_smoothing=1).toarray()
    assert information[CATS, CHASE] == pytest.approx(log(3), abs=1e-6)
    assert information[EAT, CHEESE] == pytest.approx(log(3), abs=1e-6)
    assert information[CATS, MICE] == pytest.approx(log(1.5), abs=1e-6)
    assert information[CATS, EAT] == 0
    assert np.count_nonzero(information) == 12


def test_a_shift_takes_its_logarithm_off_and_what_is_left_stays_positive() -> None:
    information = ppmi(count_pairs(documents(*FARM), 7, window=2), shift=2, context_smoothing=1).toarray()
    assert information[CATS, CHASE] == pytest.approx(log(3 / 2), abs=1e-6)
    assert information[CATS, MICE] == 0
    assert np.count_nonzero(information) == 4


def test_context_smoothing_raises_the_counts_of_contexts_to_a_power() -> None:
    """With 0.5 the contexts weigh √2, √2, √4, √2, √2, 4√2 + 2 together; P(chase | cats) = P(mice | cats) = 1/2."""
    information = ppmi(count_pairs(documents(*FARM), 7, window=2), shift=1, context_smoothing=0.5).toarray()
    assert information[CATS, CHASE] == pytest.approx(log(2 + 1 / 2**0.5), abs=1e-6)
    assert information[CATS, MICE] == pytest.approx(log(2**0.5 + 0.5), abs=1e-6)
    assert information[MICE, CATS] == pytest.approx(log(1 + 0.5 / 2**0.5), abs=1e-6)


@pytest.mark.parametrize(("shift", "smoothing"), [(1, 1), (5, 0.75)])
def test_mutual_information_is_that_of_a_dense_computation(shift: float, smoothing: float) -> None:
    texts = random_texts(40, 60, 12)
    found = ppmi(count_pairs(documents(*texts), 40, 3), shift, smoothing)
    assert found.dtype == np.float32
    assert np.allclose(found.toarray(), dense_ppmi(dense_counts(texts, 40, 3), shift, smoothing), atol=1e-5)


@pytest.mark.parametrize("num_words", [60, 1_200])
def test_decomposition_is_that_of_numpy(num_words: int) -> None:
    matrix = csr_array(random_array((num_words, num_words), density=0.05, rng=1, dtype=np.float32))
    left, values = truncated_svd(matrix, 5)
    expected_left, expected_values, _ = np.linalg.svd(matrix.toarray().astype(np.float64))
    assert np.allclose(values, expected_values[:5], rtol=1e-4)
    assert np.allclose(np.abs(np.sum(left * expected_left[:, :5], axis=0)), 1, atol=1e-3)
    again, _ = truncated_svd(matrix, 5)
    assert np.array_equal(left, again)
    assert (left[np.abs(left).argmax(axis=0), range(5)] > 0).all()


def build(paths: Paths, texts: Sequence[str], **changes: object) -> tuple[TableEmbedding, list[str]]:
    """The embedding and its vocabulary."""
    usual = {"dimension": 3, "window": 2, "shift": 1.0, "context_smoothing": 0.75, "exponent": 0.5}
    corpus = make_corpus([(text, 0) for text in texts])
    tokenized = word_tokenizer().fit(corpus, paths.cache)
    return SVD(**{**TABLE_KEY_SUFFIX, **usual, **changes}).build(tokenized, corpus, paths), tokenized.tokenizer.tokens  # type: ignore[arg-type]


def test_neighbours_in_the_table_share_a_topic(paths: Paths) -> None:
    embedding, words = build(paths, two_topics())
    assert share_topics(words[2:], embedding.rows().numpy()[2:])


@pytest.mark.parametrize(
    "change",
    [
        {"dimension": 2},
        {"window": 1},
        {"shift": 1.2},
        {"context_smoothing": 1.0},
        {"exponent": 0.0},
    ],
)
def test_every_setting_changes_the_rows(paths: Paths, change: dict[str, object]) -> None:
    usual, changed = build(paths, two_topics())[0].rows(), build(paths, two_topics(), **change)[0].rows()
    assert usual.shape != changed.shape or not np.allclose(usual, changed)


def test_a_word_without_informative_neighbours_has_no_vector(paths: Paths) -> None:
    coverage = build(paths, [*two_topics(), "lonely"])[0].coverage
    assert coverage is not None
    assert (coverage.known_types, coverage.types) == (10, 11)


def test_more_dimensions_than_words_are_refused(paths: Paths) -> None:
    with pytest.raises(UserError, match=r"embedding\.dimension=10 has to be below .* which is 10"):
        build(paths, two_topics(), dimension=10)


def test_documents_of_single_words_are_refused(paths: Paths) -> None:
    with pytest.raises(UserError, match=r"No two words are found within embedding\.window=2"):
        build(paths, ["one", "two", "three", "four", "five"])
