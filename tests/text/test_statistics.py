"""Statistics of tokens, beside plain Python on the same documents."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.documents import make_corpus, word_tokenizer
from newsreel.corpora.corpus import Corpus
from newsreel.text.statistics import (
    coverage_by_size,
    describe_lengths,
    log_odds_z,
    split_lengths,
    telling_tokens,
    token_notes,
    types_of,
    unknown_fraction,
    vocabulary_growth,
)
from newsreel.text.tokens import TokenizedCorpus

TRAIN = [("good good film", 1), ("bad film", 0), ("good story", 1), ("bad bad film film", 0)]
TEST = [("good film", 1), ("zorb film the end", 0)]


def tokenized(corpus: Corpus, cache: Path, **settings: Any) -> TokenizedCorpus:
    return word_tokenizer(**settings).fit(corpus, cache)


def test_lengths_are_counted_and_what_the_limit_cuts() -> None:
    lengths = describe_lengths(np.array([0, 1, 2, 3, 10]), max_tokens=2)
    assert (lengths.num_documents, lengths.num_tokens, lengths.without_tokens, lengths.mean) == (5, 16, 1, 3.2)
    assert lengths.quantiles == (0, 2, 10, 10)  # of five values: the 1st, 3rd, 5th and 5th
    assert (lengths.longest, lengths.cut_documents, lengths.cut_tokens) == (10, 2, 9)
    assert describe_lengths(np.array([3, 9]), None).cut_tokens == 0


def test_the_growth_counts_different_words_so_far() -> None:
    types = np.array([7, 3, 7, 7, 0, 3, 9])
    tokens, counts = vocabulary_growth(types)
    assert tokens.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert counts.tolist() == [len(set(types[:end].tolist())) for end in tokens]
    long = np.random.default_rng(0).zipf(1.3, 5_000) % 1_000
    tokens, counts = vocabulary_growth(long)
    assert counts.tolist() == [len(set(long[:end].tolist())) for end in tokens]


def test_coverage_is_that_of_the_most_frequent_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("newsreel.text.statistics.COVERAGE_SIZES", (1, 2, 5_000))
    train, validation = np.array([4, 4, 4, 2, 2, 7]), np.array([2, 9, 4, 9])
    # word 4 is half of the training tokens and a quarter of the validation ones; 9 is in no training document
    assert coverage_by_size(train, validation) == [(1, 0.5, 0.25), (2, pytest.approx(5 / 6), 0.5), (3, 1.0, 0.5)]


def test_unknown_tokens_and_types_are_those_of_the_documents(tmp_path: Path) -> None:
    corpus = make_corpus(TRAIN, TEST)
    tokens = tokenized(corpus, tmp_path)
    assert unknown_fraction(corpus, tokens, "test") == 0.5  # zorb, the and end of 6 tokens
    assert unknown_fraction(corpus, tokens, "train") == 0
    assert split_lengths(corpus, tokens, "test").tolist() == [2, 4]
    types = types_of(tokenized(corpus, tmp_path, max_size=1).tables["train"], np.array([1, 2]))
    assert len(set(types.tolist())) == 4  # bad, film, good, story: whatever the vocabulary


def test_telling_words_have_the_z_scores_of_the_formula(tmp_path: Path) -> None:
    corpus = make_corpus(TRAIN * 10, TEST)
    telling = telling_tokens(corpus, tokenized(corpus, tmp_path), 5)
    counts = {label: Counter(" ".join(text for text, of in TRAIN * 10 if of == label).split()) for label in (0, 1)}
    total = counts[0] + counts[1]

    def z(word: str, label: int) -> float:
        """Monroe, Colaresi and Quinn 2008, with a tenth of the corpus as prior."""
        prior = {name: 0.1 * count for name, count in total.items()}
        odds = []
        for of in (label, 1 - label):
            smoothed = counts[of][word] + prior[word]
            odds.append(math.log(smoothed / (counts[of].total() + 0.1 * total.total() - smoothed)))
        return (odds[0] - odds[1]) / math.sqrt(sum(1 / (counts[of][word] + prior[word]) for of in (0, 1)))

    assert telling[1][0] == ("good", pytest.approx(z("good", 1)))
    assert telling[0][0] == ("bad", pytest.approx(z("bad", 0)))
    assert all(score > 1.96 for of_label in telling for _, score in of_label)


def test_a_word_as_frequent_everywhere_is_not_telling() -> None:
    scores = log_odds_z(np.array([5, 10, 0]), np.array([10, 20, 0]), np.array([5.0, 10.0, 0.0]))
    assert scores.tolist() == pytest.approx([0, 0, 0], abs=0.1)


def test_documents_without_a_token_are_noted_by_split_with_the_remedy(tmp_path: Path) -> None:
    corpus = make_corpus([*TRAIN, ("", 0), ("!!!", 1), ("...", 0)], [*TEST, (" ", 1)])
    assert token_notes(corpus, tokenized(corpus, tmp_path), False) == [
        "4 of the 10 documents (40.0%) have no token: 3 in train, 1 in test; 2 are empty texts. The model reads "
        "nothing in them: remove them, or change the tokenizer's rules."
    ]
    empty = make_corpus([*TRAIN, ("", 0)])
    assert token_notes(empty, tokenized(empty, tmp_path), False)[0].endswith("nothing in them: remove them.")
    assert token_notes(make_corpus(TRAIN), tokenized(make_corpus(TRAIN), tmp_path), False) == []


def test_texts_that_are_one_long_token_are_noted_but_not_for_bags(tmp_path: Path) -> None:
    corpus = make_corpus([("ab" * 20, 0), ("cd" * 20, 1), ("ab" * 20, 1), ("a film", 0)])
    tokens = tokenized(corpus, tmp_path)
    (note,) = token_notes(corpus, tokens, False)
    assert "have at least 40 characters per token" in note
    assert "tokenizer=subwords" in note
    assert token_notes(corpus, tokens, True) == []
