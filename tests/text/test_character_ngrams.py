"""N-grams of characters against scikit-learn, and hashes against published ones."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from helpers.documents import ids, make_corpus
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus
from newsreel.text import character_ngrams as module
from newsreel.text.character_ngrams import CharacterNgramTokenizer, FittedCharacterNgrams, keys_of_texts
from newsreel.text.loading import load_tokenizer

RULES = {"strip_html": False, "unescape_html": False, "normalization": None, "lowercase": False}


def tokenizer(**changes: Any) -> CharacterNgramTokenizer:
    settings = {**RULES, "analyzer": "char_wb", "min_n": 1, "max_n": 3, "num_buckets": None}
    return CharacterNgramTokenizer(**{**settings, "max_size": None, "min_document_count": 1, **changes})


def random_corpus() -> Corpus:
    random = np.random.default_rng(0)
    documents = ["".join(random.choice(list("aaabcé日😀  "), random.integers(0, 30))) for _ in range(80)]
    pairs = [(" ".join(text.split()), 0) for text in documents]
    return make_corpus(pairs[:60], pairs[60:])


@pytest.mark.parametrize("analyzer", ["char", "char_wb"])
@pytest.mark.parametrize(("min_n", "max_n", "min_document_count"), [(1, 1, 2), (1, 4, 3), (2, 3, 1), (4, 6, 1)])
def test_bags_are_those_of_scikit_learn(
    tmp_path: Path, analyzer: Any, min_n: int, max_n: int, min_document_count: int
) -> None:
    corpus = random_corpus().with_validation(0.3, 1)
    settings = {"analyzer": analyzer, "min_n": min_n, "max_n": max_n, "min_document_count": min_document_count}
    tokenized = tokenizer(**settings).fit(corpus, tmp_path)
    counter = CountVectorizer(
        analyzer=analyzer, ngram_range=(min_n, max_n), min_df=min_document_count, lowercase=False
    ).fit(corpus["train"]["text"])
    names, tokens = counter.get_feature_names_out(), tokenized.tokenizer.tokens
    assert sorted(tokens[2:]) == sorted(names)
    for table in ("train", "test"):
        expected = counter.transform(corpus.tables[table]["text"]).toarray()
        for document, row in zip(ids(tokenized, table), expected, strict=True):
            assert Counter(tokens[number] for number in document) == {names[j]: row[j] for j in np.flatnonzero(row)}


def test_ngrams_by_hand(tmp_path: Path) -> None:
    corpus = make_corpus([("ab a", 0), ("a", 1), ("", 0)], [("b ab", 0)])
    tokenized = tokenizer(min_n=2, max_n=3).fit(corpus, tmp_path)
    tokens = ["<pad>", "<unk>", " a", " a ", "a ", " ab", "ab", "ab ", "b "]  # in 2 documents, then in 1
    assert list(tokenized.tokenizer.tokens) == tokens
    spelt = [[tokens[number] for number in document] for document in ids(tokenized, "train")]
    assert spelt == [[" a", " ab", "ab", "ab ", "b ", " a", " a ", "a "], [" a", " a ", "a "], []]
    assert [tokens[number] for number in ids(tokenized, "test")[0]] == ["b ", " a", " ab", "ab", "ab ", "b "]
    limited = tokenizer(min_n=2, max_n=3, max_size=2).fit(corpus, tmp_path)
    assert list(limited.tokenizer.tokens) == ["<pad>", "<unk>", " a", " a "]
    assert ids(limited, "test") == [[2]]


def test_hashes_by_hand() -> None:
    def key(ngram: str) -> int:
        """FNV-1a of 64 bits and MurmurHash3's finalizer, in Python's integers."""
        value = 14695981039346656037
        for character in ngram:
            value = ((value ^ ord(character)) * 1099511628211) % 2**64
        value = ((value ^ (value >> 33)) * 18397679294719823053) % 2**64
        value = ((value ^ (value >> 33)) * 14181476777654086739) % 2**64
        return value ^ (value >> 33)

    ngrams = ["a", "foobar", "日本", "😀", " a "]
    assert keys_of_texts(ngrams).tolist() == [key(ngram) for ngram in ngrams]


def test_a_bucket_counts_the_ngrams_that_are_hashed_into_it(tmp_path: Path) -> None:
    corpus = random_corpus()
    hashed = tokenizer(num_buckets=7).fit(corpus, tmp_path)
    numbered = tokenizer().fit(corpus, tmp_path)
    assert len(hashed.tokenizer.tokens) == 9
    assert hashed.tokenizer.tokens[:4] == ["<pad>", "<unk>", "<bucket 0>", "<bucket 1>"]
    with pytest.raises(IndexError):
        hashed.tokenizer.tokens[9]
    buckets = keys_of_texts(numbered.tokenizer.tokens[2:]) % np.uint64(7) + np.uint64(2)
    for document, expected in zip(ids(hashed, "train"), ids(numbered, "train"), strict=True):
        assert document == [int(buckets[number - 2]) for number in expected]


def test_the_same_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = random_corpus()
    whole = tokenizer(min_document_count=2, max_size=100).fit(corpus, tmp_path / "whole")
    monkeypatch.setattr(module, "CHARACTERS_AT_A_TIME", 40)
    pieces = tokenizer(min_document_count=2, max_size=100).fit(corpus, tmp_path / "pieces")
    assert list(pieces.tokenizer.tokens) == list(whole.tokenizer.tokens)
    assert ids(pieces, "test") == ids(whole, "test")


@pytest.mark.parametrize("num_buckets", [None, 50])
def test_a_saved_tokenizer_encodes_any_text_alike(tmp_path: Path, num_buckets: int | None) -> None:
    corpus = random_corpus()
    tokenized = tokenizer(min_document_count=2, num_buckets=num_buckets).fit(corpus, tmp_path / "cache")
    tokenized.tokenizer.save(tmp_path)
    restored = load_tokenizer(tmp_path)
    assert list(restored.tokens) == list(tokenized.tokenizer.tokens)
    assert [document.tolist() for document in restored.encode(corpus["test"]["text"])] == ids(tokenized, "test")
    assert len(restored.encode([])) == 0


@pytest.mark.parametrize("num_buckets", [None, 50])
@pytest.mark.parametrize("texts", [[], [""], ["", "q"]])
def test_texts_without_an_ngram_have_no_token(tmp_path: Path, num_buckets: int | None, texts: list[str]) -> None:
    fitted = tokenizer(analyzer="char", min_n=2, num_buckets=num_buckets).fit(random_corpus(), tmp_path).tokenizer
    encoded = fitted.encode(texts)
    assert [len(document) for document in encoded] == [0] * len(texts)


def test_ngrams_spelt_like_special_tokens_are_unknown(tmp_path: Path) -> None:
    tokenized = tokenizer(analyzer="char", min_n=5, max_n=5).fit(
        make_corpus([("a<unk>b", 0), ("<pad>", 1)], []), tmp_path
    )
    assert list(tokenized.tokenizer.tokens) == ["<pad>", "<unk>", "a<unk", "unk>b"]


def test_the_second_time_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = random_corpus()
    first = tokenizer().fit(corpus, tmp_path)
    tokenizer(num_buckets=5).fit(corpus, tmp_path)
    monkeypatch.setattr(FittedCharacterNgrams, "encoded_chunks", None)
    assert tokenizer().fit(corpus, tmp_path).tokenizer.tokens == first.tokenizer.tokens
    tokenizer(num_buckets=5).fit(corpus.with_validation(0.3, 1), tmp_path)  # hashing learns nothing from the split


def test_what_cannot_be_learned_or_extracted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No n-gram of characters occurs in .*min_document_count=9 of the 60 training"):
        tokenizer(min_n=3, min_document_count=9).fit(make_corpus([("abc", 0)] * 8 + [("", 1)] * 52), tmp_path)
    with pytest.raises(UserError, match=r"tokenizer\.min_n=4 is above tokenizer\.max_n=3"):
        tokenizer(min_n=4)


def test_an_ngram_is_divided_among_the_words_that_it_covers(tmp_path: Path) -> None:
    corpus = make_corpus([("ab cd", 0)])
    across = tokenizer(analyzer="char", min_n=4, max_n=4).fit(corpus, tmp_path).tokenizer
    assert across.tokens[2:] == ["ab c", "b cd"]
    spans = FittedCharacterNgrams.restore(across.to_json().encode(), tmp_path).spans("ab cde")  # "cde" is new
    assert spans.texts == ["ab", "cde"]
    assert spans.weights.toarray().tolist() == [[3 / 4, 1 / 4], [2 / 4, 2 / 4]]  # a space belongs to the word before it
    within = tokenizer(min_n=3, max_n=3, num_buckets=9).fit(corpus, tmp_path).tokenizer
    spans = within.spans("ab 日本")
    assert spans.texts == ["ab", "日", "本"]
    expected = [[1, 0, 0], [1, 0, 0], [0, 2 / 3, 1 / 3], [0, 1 / 3, 2 / 3]]  # " ab", "ab ", " 日本", "日本 "
    assert spans.weights.toarray() == pytest.approx(np.array(expected))
    assert within.spans("").texts == []
