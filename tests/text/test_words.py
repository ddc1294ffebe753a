"""Word rules, vocabularies and encoded documents, against expectations made by hand."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from helpers.documents import make_corpus, word_tokenizer
from newsreel.core.errors import UserError
from newsreel.text import words as words_module
from newsreel.text.tokens import TokenSequences
from newsreel.text.words import FittedWords, count_types


def split(text: str, **rules: object) -> list[str]:
    (found,) = word_tokenizer(**rules).rules.words(pl.Series([text])).to_list()
    return list(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A fine<br /><br />film, don't miss it!", ["a", "fine", "film", "don't", "miss", "it"]),
        ("2 < 3 and <i>so on</i>", ["2", "3", "and", "so", "on"]),
        ("cafe\u0301 CAFÉ", ["café", "café"]),
        ("Ärger über ’98", ["ärger", "über", "98"]),
        ("電影 很好", ["電影", "很好"]),
        ("…!?", []),
        ("", []),
        ("o'clock rock'n'roll 'quoted'", ["o'clock", "rock'n'roll", "quoted"]),
        ("naïve\u200bjoin 🙂 end", ["naïve", "join", "end"]),
    ],
)
def test_words_of_a_text(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_every_rule_can_be_turned_off() -> None:
    assert split("<br />Fine!", strip_html=False) == ["br", "fine"]
    assert split("Fine", lowercase=False) == ["Fine"]
    assert split("Fine, no?", punctuation="keep") == ["fine", ",", "no", "?"]
    assert split("cafe\u0301", normalization=None) == ["cafe\u0301"]
    assert split("ﬁne", normalization="NFKC") == ["fine"]
    assert split("one two", word_pattern="[a-n]+") == ["ne"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Cocoa UP\nCocoa rose.\nMore cocoa",
            ["title:cocoa", "title:up", "cocoa", "up", "cocoa", "rose", "more", "cocoa"],
        ),
        ("\n Up <b>\nand on", ["title:up", "up", "and", "on"]),
        ("one line alone", ["one", "line", "alone"]),
        ("…\nno title", ["no", "title"]),
        ("", []),
    ],
)
def test_words_of_a_title_come_once_more_with_a_mark(text: str, expected: list[str]) -> None:
    assert split(text, mark_title=True) == expected


def test_a_pattern_that_is_no_pattern_is_refused() -> None:
    with pytest.raises(UserError, match=r"tokenizer\.word_pattern=\[a"):
        word_tokenizer(word_pattern="[a")


def fit(tmp_path: Path, train: list[str], test: list[str] = ["film"], **settings: object):  # noqa: B006
    corpus = make_corpus([(text, 0) for text in train], [(text, 0) for text in test])
    return word_tokenizer(**settings).fit(corpus, tmp_path)


def test_the_vocabulary_is_ordered_by_frequency_then_alphabet(tmp_path: Path) -> None:
    tokenized = fit(tmp_path, ["b b a", "c a d", "d"])
    assert tokenized.tokenizer.tokens == ["<pad>", "<unk>", "a", "b", "d", "c"]


def test_max_size_counts_words_without_the_special_tokens(tmp_path: Path) -> None:
    assert fit(tmp_path, ["b b a", "c a d"], max_size=2).tokenizer.tokens == ["<pad>", "<unk>", "a", "b"]


def test_min_document_count_counts_documents_not_occurrences(tmp_path: Path) -> None:
    tokenized = fit(tmp_path, ["b b b", "c", "c a", "a"], min_document_count=2)
    assert tokenized.tokenizer.tokens == ["<pad>", "<unk>", "a", "c"]


def test_documents_are_encoded_by_hand_made_expectation(tmp_path: Path) -> None:
    tokenized = fit(tmp_path, ["b b a", "", "a"], test=["a new b"])
    train, test = tokenized.tables["train"], tokenized.tables["test"]
    assert [train[document].tolist() for document in range(3)] == [[3, 3, 2], [], [2]]
    assert tokenized.tokenizer.tokens[2:] == ["a", "b"]  # two occurrences each
    assert test[0].tolist() == [2, 1, 3]
    assert train.lengths.tolist() == [3, 0, 1]


def test_no_word_of_test_or_validation_documents_enters_the_vocabulary(tmp_path: Path) -> None:
    train = [(f"common training{number} word{number}", number % 2) for number in range(40)]
    test = [(f"common testing{number}", number % 2) for number in range(10)]
    corpus = make_corpus(train, test).with_validation(0.25, seed=3)
    tokens = set(word_tokenizer().fit(corpus, tmp_path).tokenizer.tokens) - {"<pad>", "<unk>"}
    allowed = {word for text in corpus["train"]["text"] for word in text.split()}
    assert tokens == allowed
    assert not any(word.startswith("testing") for word in tokens)
    held_out = {word for text in corpus["validation"]["text"] for word in text.split()} - {"common"}
    assert held_out
    assert not held_out & tokens


def test_other_splits_and_vocabularies_share_one_encoding(tmp_path: Path) -> None:
    corpus = make_corpus([(f"a word{number}", number % 2) for number in range(20)])
    word_tokenizer().fit(corpus.with_validation(0.2, seed=0), tmp_path)
    word_tokenizer(max_size=3).fit(corpus.with_validation(0.3, seed=1), tmp_path)
    assert len(list((tmp_path / "encoded").glob("tiny-words-*"))) == 1
    word_tokenizer(lowercase=False).fit(corpus, tmp_path)
    assert len(list((tmp_path / "encoded").glob("tiny-words-*"))) == 2


def test_a_warm_cache_reads_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cold = fit(tmp_path, ["b b a", "c"])
    monkeypatch.setattr(words_module, "number_words", lambda *arguments: pytest.fail("read the texts again"))
    warm = fit(tmp_path, ["b b a", "c"])
    assert warm.tokenizer.tokens == cold.tokenizer.tokens
    assert isinstance(warm.tables["train"].ids, np.memmap)


def test_prediction_uses_the_same_rules_as_training(tmp_path: Path) -> None:
    texts = ["Fine<br />film", "", "a <i>fine</i> one", "unseen words only"]
    tokenized = fit(tmp_path, texts[:3], test=texts)
    again = FittedWords.restore(json.loads(tokenized.tokenizer.to_json()), tmp_path)
    encoded = again.encode(texts)
    for document in range(len(texts)):
        assert encoded[document].tolist() == tokenized.tables["test"][document].tolist()
    assert encoded[3].tolist() == [1, 1, 1]


def test_training_documents_without_any_word_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hold no word that tokenizer\.word_pattern finds"):
        fit(tmp_path, ["...", ""])


def test_a_truncated_cache_is_named(tmp_path: Path) -> None:
    fit(tmp_path, ["b b a", "c"])
    (file,) = (tmp_path / "encoded").glob("*/train.ids")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"train\.ids has 12 bytes instead of 16"):
        fit(tmp_path, ["b b a", "c"])


def test_counts_of_chosen_documents_against_python(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    documents = [random.integers(0, 50, size) for size in random.integers(0, 20, 300)]
    offsets = np.concatenate([[0], np.cumsum([len(document) for document in documents])])
    sequences = TokenSequences(np.concatenate(documents).astype(np.int32), offsets)
    rows = np.sort(random.permutation(300)[:200])
    counts, document_counts = count_types(sequences, rows, 50)
    for word in range(50):
        assert counts[word] == sum(int((documents[row] == word).sum()) for row in rows)
        assert document_counts[word] == sum(word in documents[row] for row in rows)


def test_a_very_long_document_is_encoded(tmp_path: Path) -> None:
    tokenized = fit(tmp_path, ["word " * 100_000])
    assert tokenized.tables["train"].lengths.tolist() == [100_000]


def test_a_damaged_list_of_types_is_named(tmp_path: Path) -> None:
    fit(tmp_path, ["b b a", "c"])
    (file,) = (tmp_path / "encoded").glob("*/types.parquet")
    file.write_bytes(b"")
    with pytest.raises(UserError, match="Delete that folder"):
        fit(tmp_path, ["b b a", "c"])
