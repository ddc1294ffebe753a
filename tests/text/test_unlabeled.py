"""Unlabelled documents as token ids, and in the vocabulary."""

from pathlib import Path

import pytest

from helpers.documents import make_corpus, make_table, ngram_tokenizer, with_tables, word_tokenizer
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus
from newsreel.text import unlabeled
from newsreel.text.tokens import UNK
from newsreel.text.unlabeled import encode_unlabeled

TRAIN = [("good film", 0), ("bad film", 1)]
UNLABELED = ["odd film", "odd", "good odd good"]


def corpus_of(texts: list[str] = UNLABELED) -> Corpus:
    return with_tables(make_corpus(TRAIN, TRAIN), unlabeled=make_table([(text, -1) for text in texts]))


def test_unlabeled_documents_are_encoded_once_with_the_training_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, tokenized = corpus_of(), word_tokenizer().fit(corpus_of(), tmp_path)
    assert "unlabeled" not in tokenized.tables
    table = encode_unlabeled(tokenized, corpus, tmp_path).tables["unlabeled"]
    tokens = tokenized.tokenizer.tokens
    assert [[tokens[number] for number in table[row]] for row in range(3)] == [
        ["<unk>", "film"],
        ["<unk>"],
        ["good", "<unk>", "good"],
    ]
    monkeypatch.setattr(unlabeled, "map_in_threads", lambda *_: pytest.fail("encoded again"))
    assert encode_unlabeled(tokenized, corpus, tmp_path).tables["unlabeled"].ids.tolist() == table.ids.tolist()


def test_other_unlabeled_documents_are_encoded_anew(tmp_path: Path) -> None:
    tokenized = word_tokenizer().fit(corpus_of(), tmp_path)
    encode_unlabeled(tokenized, corpus_of(), tmp_path)
    assert encode_unlabeled(tokenized, corpus_of(["film"]), tmp_path).tables["unlabeled"].lengths.tolist() == [1]


def test_other_ngrams_of_the_same_words_encode_anew(tmp_path: Path) -> None:
    corpus = with_tables(
        make_corpus([("good film", 0), ("film good", 1)], TRAIN), unlabeled=make_table([("good film", -1)])
    )
    lengths = []
    for max_size in (2, None):
        tokenized = ngram_tokenizer(max_n=2, max_size=max_size).fit(corpus, tmp_path)
        ids = encode_unlabeled(tokenized, corpus, tmp_path).tables["unlabeled"].ids
        lengths.append(int((ids > UNK).sum()))
    assert lengths == [2, 3]  # the two words, then the bigram too


def test_the_vocabulary_counts_unlabeled_documents_if_asked(tmp_path: Path) -> None:
    corpus = corpus_of()
    without, counted = (
        word_tokenizer(unlabeled=unlabeled, min_document_count=2).fit(corpus, tmp_path) for unlabeled in (False, True)
    )
    assert list(without.tokenizer.tokens[2:]) == ["film"]
    assert list(counted.tokenizer.tokens[2:]) == ["film", "good", "odd"]  # 3 times each, in alphabetical order
    tokens = counted.tokenizer.tokens
    assert [tokens[number] for number in counted.tables["unlabeled"][2]] == ["good", "odd", "good"]


def test_a_corpus_without_unlabeled_documents_cannot_count_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.unlabeled is true, but the corpus .* has no unlabelled"):
        word_tokenizer(unlabeled=True).fit(make_corpus(TRAIN, TRAIN), tmp_path)
