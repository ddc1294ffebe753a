"""N-grams against scikit-learn and by hand."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from helpers.documents import ids, make_corpus, ngram_tokenizer
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus
from newsreel.text import ngrams
from newsreel.text.loading import load_tokenizer
from newsreel.text.ngrams import NgramTokenizer


def random_corpus() -> Corpus:
    random = np.random.default_rng(0)
    words = [f"w{number}" for number in range(12)]
    documents = [(" ".join(random.choice(words, random.integers(0, 15))), 0) for _ in range(80)]
    return make_corpus(documents[:60], documents[60:])


@pytest.mark.parametrize(("max_n", "min_document_count"), [(1, 3), (2, 1), (4, 1), (4, 3), (3, 10)])
def test_bags_are_those_of_scikit_learn(tmp_path: Path, max_n: int, min_document_count: int) -> None:
    corpus = random_corpus().with_validation(0.3, 1)
    tokenized = ngram_tokenizer(max_n=max_n, min_document_count=min_document_count).fit(corpus, tmp_path)
    counter = CountVectorizer(token_pattern=r"(?u)[\w']+", ngram_range=(1, max_n), min_df=min_document_count)
    counter.fit(corpus["train"]["text"])
    names, tokens = counter.get_feature_names_out(), tokenized.tokenizer.tokens
    assert sorted(tokens[2:]) == list(names)
    for table in ("train", "test"):
        expected = counter.transform(corpus.tables[table]["text"]).toarray()
        for document, row in zip(ids(tokenized, table), expected, strict=True):
            assert Counter(tokens[number] for number in document) == {names[j]: row[j] for j in np.flatnonzero(row)}


def test_ngrams_by_hand(tmp_path: Path) -> None:
    corpus = make_corpus(
        [("A fine film", 0), ("a fine day, a film", 1), ("", 0)], [("fine film fine film odd film", 0)]
    )
    tokenized = ngram_tokenizer(max_n=2, min_document_count=2).fit(corpus, tmp_path)
    assert list(tokenized.tokenizer.tokens) == ["<pad>", "<unk>", "a", "film", "fine", "a fine"]
    assert ids(tokenized, "train") == [[2, 4, 3, 5], [2, 4, 2, 3, 5], []]
    # neither across documents nor across words that are too rare
    assert ids(tokenized, "test") == [[4, 3, 4, 3, 3]]


def test_the_vocabulary_keeps_what_most_documents_hold(tmp_path: Path) -> None:
    corpus = make_corpus([("a b", 0), ("a b", 0), ("a c c c c", 0), ("c", 0)])
    tokenized = ngram_tokenizer(max_n=2, max_size=3).fit(corpus, tmp_path)
    assert list(tokenized.tokenizer.tokens) == ["<pad>", "<unk>", "c", "a", "b"]  # 2, 3 and 2 documents; "a b" too
    assert ids(tokenized, "train")[2] == [3, 2, 2, 2, 2]
    tokens = ngram_tokenizer(max_n=2, max_size=4).fit(corpus, tmp_path).tokenizer.tokens
    assert tokens[2:] == ["c", "a", "b", "a b"]  # spelt by number and by slice
    with pytest.raises(IndexError):
        tokens[6]


def test_the_same_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = random_corpus()
    whole = ngram_tokenizer(min_document_count=2, max_size=100).fit(corpus, tmp_path / "whole")
    monkeypatch.setattr(ngrams, "PAIRS_AT_A_TIME", 50)
    monkeypatch.setattr(ngrams, "DOCUMENTS_AT_A_TIME", 7)
    pieces = ngram_tokenizer(min_document_count=2, max_size=100).fit(corpus, tmp_path / "pieces")
    assert list(pieces.tokenizer.tokens) == list(whole.tokenizer.tokens)
    assert ids(pieces, "test") == ids(whole, "test")


def test_a_saved_tokenizer_encodes_any_text_alike(tmp_path: Path) -> None:
    corpus = random_corpus()
    tokenized = ngram_tokenizer(min_document_count=2, max_size=150).fit(corpus, tmp_path / "cache")
    tokenized.tokenizer.save(tmp_path)
    restored = load_tokenizer(tmp_path)
    assert list(restored.tokens) == list(tokenized.tokenizer.tokens)
    assert [document.tolist() for document in restored.encode(corpus["test"]["text"])] == ids(tokenized, "test")
    (tmp_path / "ngrams.npz").unlink()
    with pytest.raises(UserError, match=r"ngrams\.npz"):
        load_tokenizer(tmp_path)


def test_the_second_time_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = random_corpus()
    first = ngram_tokenizer().fit(corpus, tmp_path)
    monkeypatch.setattr(NgramTokenizer, "find", None)
    assert list(ngram_tokenizer().fit(corpus, tmp_path).tokenizer.tokens) == list(first.tokenizer.tokens)
