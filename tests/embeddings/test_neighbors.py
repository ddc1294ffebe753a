"""Neighbours, analogies and similarities by hand and against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from newsreel.core.errors import UserError
from newsreel.embeddings.neighbors import WordVectors

WORDS = ["king", "man", "woman", "queen", "apple", "no"]
ROWS = [[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 2, 2], [-1, 0, 0], [0, 0, 0]]
PEOPLE = WordVectors.of(WORDS, torch.tensor(ROWS, dtype=torch.float))


def test_neighbours_are_sorted_by_cosine_and_have_vectors() -> None:
    found = PEOPLE.nearest(PEOPLE.direction("man"), 10, but=["man"])
    assert [word for word, _ in found] == ["king", "woman", "queen", "apple"]
    assert [cosine for _, cosine in found] == pytest.approx([2**-0.5, 0, 0, -1], abs=1e-6)
    assert len(PEOPLE.nearest(PEOPLE.direction("man"), 2)) == 2


def test_an_analogy_is_a_sum_of_unit_vectors() -> None:
    query, words = PEOPLE.combine("king - man + woman")
    assert words == ["king", "man", "woman"]
    expected = np.array([1, 1, 0]) / 2**0.5 - np.array([1, 0, 0]) + np.array([0, 0, 1])
    assert query.numpy() == pytest.approx(expected, abs=1e-6)
    assert PEOPLE.nearest(query, 1, but=words)[0][0] == "queen"


def test_similarities_are_those_of_scikit_learn() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 4))
    vectors = WordVectors.of(list("abcdef"), torch.from_numpy(rows))
    assert np.allclose(vectors.similarities(list("fab")), cosine_similarity(rows[[5, 0, 1]]), atol=1e-6)


def test_unknown_words_and_broken_analogies_are_refused() -> None:
    with pytest.raises(UserError, match=r"'kong' is not among the 5 words with a vector; did you mean king\?"):
        PEOPLE.direction("kong")
    with pytest.raises(UserError, match="'no' is not among the 5 words"):
        PEOPLE.direction("no")
    for broken in ("king", "king man", "king - man woman", ""):
        with pytest.raises(UserError, match="is not an analogy"):
            PEOPLE.combine(broken)
    with pytest.raises(UserError, match="All rows of the embedding table are zeros"):
        WordVectors.of(["a"], torch.zeros(1, 3))
