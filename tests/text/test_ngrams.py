"""N-grams against scikit-learn and by hand."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from helpers.documents import make_corpus, word_tokenizer
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus
from newsreel.text import ngrams
from newsreel.text.loading import load_tokenizer
from newsreel.text.ngrams import NgramTokenizer
from newsreel.text.tokens import TokenizedCorpus

WORD_PATTERN = r"(?u)[\w']+"


def tokenizer(**changes: object) -> NgramTokenizer:
    rules = {name: getattr(word_tokenizer(), name) for name in word_tokenizer().rules.__dataclass_fields__}
    settings: dict[str, object] = {**rules, "max_n": 3, "max_size": None, "min_document_count": 1}
    return NgramTokenizer(**{**settings, **changes})  # type: ignore[arg-type]


def random_corpus(num_documents: int = 60) -> Corpus:
    random = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(12)])

    def documents(count: int) -> list[tuple[str, object]]:
        return [(" ".join(random.choice(words, random.integers(0, 15))), 0) for _ in range(count)]

    return make_corpus(documents(num_documents), documents(20))


def bags(tokenized: TokenizedCorpus, table: str) -> list[Counter[str]]:
    tokens = tokenized.tokenizer.tokens
    return [Counter(tokens[number] for number in document) for document in tokenized.tables[table]]


def scikit_learn_bags(corpus: Corpus, table: str, max_n: int, min_document_count: int) -> list[Counter[str]]:
    counter = CountVectorizer(token_pattern=WORD_PATTERN, ngram_range=(1, max_n), min_df=min_document_count)
    counter.fit(corpus["train"]["text"])
    names = counter.get_feature_names_out()
    matrix = counter.transform(corpus[table]["text"]).toarray()
    return [Counter({names[j]: row[j] for j in np.flatnonzero(row)}) for row in matrix]


@pytest.mark.parametrize("max_n", [1, 2, 4])
@pytest.mark.parametrize("min_document_count", [1, 3, 10])
def test_bags_are_those_of_scikit_learn(tmp_path: Path, max_n: int, min_document_count: int) -> None:
    corpus = random_corpus()
    tokenized = tokenizer(max_n=max_n, min_document_count=min_document_count).fit(corpus, tmp_path)
    for table in ("train", "test"):
        assert bags(tokenized, table) == scikit_learn_bags(corpus, table, max_n, min_document_count)


def test_ngrams_by_hand(tmp_path: Path) -> None:
    corpus = make_corpus(
        [("A fine film", 0), ("a fine day, a film", 1), ("", 0)], [("fine film fine film odd film", 0)]
    )
    tokenized = tokenizer(max_n=2, min_document_count=2).fit(corpus, tmp_path)
    assert list(tokenized.tokenizer.tokens) == ["<pad>", "<unk>", "a", "film", "fine", "a fine"]
    assert [list(document) for document in tokenized.tables["train"]] == [[2, 4, 3, 5], [2, 4, 2, 3, 5], []]
    # neither across documents nor across words that are too rare
    assert list(tokenized.tables["test"][0]) == [4, 3, 4, 3, 3]


def test_the_vocabulary_keeps_what_most_documents_hold(tmp_path: Path) -> None:
    corpus = make_corpus([("a b", 0), ("a b", 0), ("a c c c c", 0), ("c", 0)])
    tokenized = tokenizer(max_n=2, max_size=3).fit(corpus, tmp_path)
    assert list(tokenized.tokenizer.tokens) == ["<pad>", "<unk>", "c", "a", "b"]  # 2, 3 and 2 documents; "a b" too
    tokenized = tokenizer(max_n=2, max_size=4).fit(corpus, tmp_path)
    assert list(tokenized.tokenizer.tokens[2:]) == ["c", "a", "b", "a b"]
    assert bags(tokenized, "train")[2] == Counter({"c": 4, "a": 1})


def test_the_vocabulary_is_that_of_the_training_documents(tmp_path: Path) -> None:
    corpus = random_corpus().with_validation(0.3, 1)
    training = corpus["train"]["text"]
    tokenized = tokenizer(min_document_count=4).fit(corpus, tmp_path)
    counter = CountVectorizer(token_pattern=WORD_PATTERN, ngram_range=(1, 3), min_df=4).fit(training)
    assert sorted(tokenized.tokenizer.tokens[2:]) == list(counter.get_feature_names_out())


def test_the_same_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = random_corpus()
    whole = tokenizer(min_document_count=2, max_size=100).fit(corpus, tmp_path / "whole")
    monkeypatch.setattr(ngrams, "PAIRS_AT_A_TIME", 50)
    monkeypatch.setattr(ngrams, "DOCUMENTS_AT_A_TIME", 7)
    pieces = tokenizer(min_document_count=2, max_size=100).fit(corpus, tmp_path / "pieces")
    assert list(pieces.tokenizer.tokens) == list(whole.tokenizer.tokens)
    assert [list(d) for d in pieces.tables["test"]] == [list(d) for d in whole.tables["test"]]


def test_a_saved_tokenizer_encodes_any_text_alike(tmp_path: Path) -> None:
    corpus = random_corpus()
    tokenized = tokenizer(min_document_count=2, max_size=150).fit(corpus, tmp_path / "cache")
    tokenized.tokenizer.save(tmp_path)
    restored = load_tokenizer(tmp_path)
    assert list(restored.tokens) == list(tokenized.tokenizer.tokens)
    encoded = restored.encode(corpus["test"]["text"])
    assert [list(document) for document in encoded] == [list(document) for document in tokenized.tables["test"]]
    (tmp_path / "ngrams.npz").unlink()
    with pytest.raises(UserError, match=r"ngrams\.npz"):
        load_tokenizer(tmp_path)


def test_the_second_time_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = random_corpus()
    first = tokenizer().fit(corpus, tmp_path)
    monkeypatch.setattr(NgramTokenizer, "find", None)
    assert list(tokenizer().fit(corpus, tmp_path).tokenizer.tokens) == list(first.tokenizer.tokens)
    (broken,) = (path for path in (tmp_path / "encoded").glob("tiny-ngrams-*") if path.is_dir())
    (broken / "ngrams.npz").write_bytes(b"")
    with pytest.raises(UserError, match="Delete that folder"):
        tokenizer().fit(corpus, tmp_path)


def test_tokens_are_spelt_by_number_and_by_slice(tmp_path: Path) -> None:
    tokens = tokenizer(max_n=3).fit(make_corpus([("x y z", 0)]), tmp_path).tokenizer.tokens
    assert tokens[2:] == ["x", "y", "z", "x y", "y z", "x y z"]
    with pytest.raises(IndexError):
        tokens[8]
