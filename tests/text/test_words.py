"""Word rules, vocabularies and encoded documents, against expectations made by hand."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from helpers.documents import ids, make_corpus, ngram_tokenizer, token_sequences, word_tokenizer
from newsreel.core.errors import UserError
from newsreel.text import words as words_module
from newsreel.text.loading import load_tokenizer
from newsreel.text.tokens import TokenizedCorpus
from newsreel.text.words import FittedWords, count_types


def split(text: str, **rules: Any) -> list[str]:
    (found,) = word_tokenizer(**{"unescape_html": True, **rules}).rules.words(pl.Series([text])).to_list()
    return list(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A fine<br /><br />film, don't miss it!", ["a", "fine", "film", "don't", "miss", "it"]),
        ("2 < 3 and <i>so on</i>", ["2", "3", "and", "so", "on"]),
        ("cafe\u0301 CAFÉ", ["café", "café"]),
        ("Ärger über ’98", ["ärger", "über", "98"]),
        ("…!?", []),
        ("o'clock rock'n'roll 'quoted'", ["o'clock", "rock'n'roll", "quoted"]),
        ("naïve\u200bjoin end", ["naïve", "join", "end"]),
        ("我在1号看电影。", ["我", "在", "1", "号", "看", "电", "影"]),
        ("日本語とEnglish混在", ["日", "本", "語", "と", "english", "混", "在"]),
        ("コーヒーを飲む", ["コーヒー", "を", "飲", "む"]),
        ("ชอบนี้", ["ช", "อ", "บ", "นี้"]),
        ("좋은 영화", ["좋은", "영화"]),
        ("الفيلم كثيرًا", ["الفيلم", "كثيرًا"]),
        ("अच्छी क्\u200dया می\u200cخواهم", ["अच्छी", "क्\u200dया", "می\u200cخواهم"]),
        ("I ❤️ it 👍🏽🙂 🇫🇷🇩🇪 👨\u200d👩\u200d👧", ["i", "❤️", "it", "👍🏽", "🙂", "🇫🇷", "🇩🇪", "👨\u200d👩\u200d👧"]),
        ("© ★ 1️⃣ #", ["1️⃣"]),
        (
            "if x <fine lovely and y> 1, x <b and c> d",
            ["if", "x", "fine", "lovely", "and", "y", "1", "x", "b", "and", "c", "d"],
        ),
        ("<a href='x y' target=_blank hidden>a</a><BR/><input disabled >b< c>", ["a", "b", "c"]),
        (
            "fish &amp; chips don&#8217;t &#x27; &nope; R&D; caf&eacute;",
            ["fish", "chips", "don’t", "nope", "r", "d", "café"],
        ),
        ("&lt;br /&gt;fine", ["fine"]),
    ],
)
def test_words_of_a_text(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_every_rule_can_be_turned_off() -> None:
    assert split("<br />Fine!", strip_html=False) == ["br", "fine"]
    assert split("a&amp;b", unescape_html=False) == ["a", "amp", "b"]
    assert split("Fine", lowercase=False) == ["Fine"]
    assert split("Fine, no?", punctuation="keep") == ["fine", ",", "no", "?"]
    assert split("cafe\u0301", normalization=None) == ["cafe\u0301"]
    assert split("ﬁne", normalization="NFKC") == ["fine"]
    assert split("one two", word_pattern="[a-n]+") == ["ne"]
    with pytest.raises(UserError, match=r"tokenizer\.word_pattern=\[a"):
        split("", word_pattern="[a")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Cocoa UP\nCocoa rose.\nMore", ["title:cocoa", "title:up", "cocoa", "up", "cocoa", "rose", "more"]),
        ("\n Up <b>\nand on", ["title:up", "up", "and", "on"]),
        ("one line alone", ["one", "line", "alone"]),
        ("…\nno title", ["no", "title"]),
        ("", []),
    ],
)
def test_words_of_a_title_come_once_more_with_a_mark(text: str, expected: list[str]) -> None:
    assert split(text, mark_title=True) == expected


def fit(tmp_path: Path, *train: str, test: tuple[str, ...] = ("film",), **settings: Any) -> TokenizedCorpus:
    corpus = make_corpus([(text, 0) for text in train], [(text, 0) for text in test])
    return word_tokenizer(**settings).fit(corpus, tmp_path)


@pytest.mark.parametrize(
    ("documents", "settings", "tokens"),
    [
        (["b b a", "c a d", "d"], {}, ["a", "b", "d", "c"]),  # by frequency, then by the alphabet
        (["b b a", "c a d"], {"max_size": 2}, ["a", "b"]),  # the special tokens not counted
        (["b b b", "c", "c a", "a"], {"min_document_count": 2}, ["a", "c"]),  # documents, not occurrences
    ],
)
def test_the_vocabulary_is_ordered_and_limited(tmp_path: Path, documents: Any, settings: Any, tokens: Any) -> None:
    assert fit(tmp_path, *documents, **settings).tokenizer.tokens == ["<pad>", "<unk>", *tokens]


def test_documents_are_encoded_by_hand_made_expectation(tmp_path: Path) -> None:
    tokenized = fit(tmp_path, "b b a", "", "a", "b " * 100_000, test=("a new b",))
    train, test = tokenized.tables["train"], tokenized.tables["test"]
    assert [train[document].tolist() for document in range(3)] == [[2, 2, 3], [], [3]]
    assert test[0].tolist() == [3, 1, 2]
    assert train.lengths.tolist() == [3, 0, 1, 100_000]


def test_no_word_of_test_or_validation_documents_enters_the_vocabulary(tmp_path: Path) -> None:
    train = [(f"common word{number}", number % 2) for number in range(40)]
    corpus = make_corpus(train, [("common testing", 0)] * 9).with_validation(0.25, seed=3)
    tokens = word_tokenizer().fit(corpus, tmp_path).tokenizer.tokens
    assert len(corpus["validation"]) == 10
    assert set(tokens) - {"<pad>", "<unk>"} == {word for text in corpus["train"]["text"] for word in text.split()}


def test_other_splits_and_vocabularies_share_one_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_corpus([(f"a word{number}", number % 2) for number in range(20)])
    cold = word_tokenizer().fit(corpus.with_validation(0.2, seed=0), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(words_module, "number_words", lambda *arguments: pytest.fail("read the texts again"))
        warm = word_tokenizer().fit(corpus.with_validation(0.2, seed=0), tmp_path)
        word_tokenizer(max_size=3).fit(corpus.with_validation(0.3, seed=1), tmp_path)
    assert warm.tokenizer.tokens == cold.tokenizer.tokens
    assert isinstance(warm.tables["train"].ids, np.memmap)
    word_tokenizer(lowercase=False).fit(corpus, tmp_path)
    assert len(list((tmp_path / "encoded").glob("tiny-words-*"))) == 2


def test_prediction_uses_the_same_rules_as_training(tmp_path: Path) -> None:
    texts = ("Fine<br />film", "", "a <i>fine</i> one", "unseen words only")
    tokenized = fit(tmp_path, *texts[:3], test=texts)
    encoded = FittedWords.restore(tokenized.tokenizer.to_json().encode(), tmp_path).encode(texts)
    assert [ids.tolist() for ids in encoded] == [ids.tolist() for ids in tokenized.tables["test"]]
    assert encoded[3].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("make", "unknown"), [(word_tokenizer, [1]), (partial(ngram_tokenizer, max_n=1), [])], ids=["words", "ngrams"]
)
def test_words_spelt_like_special_tokens_are_unknown(tmp_path: Path, make: Any, unknown: list[int]) -> None:
    """unknown: the ids of an unknown word; n-grams leave it out."""
    corpus = make_corpus([("the <unk> cat", 0), ("<pad> <pad> cat", 1)], [("the <pad> cat", 0)])
    tokenized = make(word_pattern=r"\S+", strip_html=False).fit(corpus, tmp_path)
    assert list(tokenized.tokenizer.tokens) in (["<pad>", "<unk>", "cat", "the"], ["<pad>", "<unk>", "the", "cat"])
    the, cat = (list(tokenized.tokenizer.tokens).index(word) for word in ("the", "cat"))
    assert ids(tokenized, "train") == [[the, *unknown, cat], [*unknown, *unknown, cat]]
    assert ids(tokenized, "test") == [[the, *unknown, cat]]
    encoded = tokenized.tokenizer.encode(["the <unk> <pad> cat", "cat"])
    assert [document.tolist() for document in encoded] == [[the, *unknown, *unknown, cat], [cat]]
    tokenized.tokenizer.save(tmp_path)
    assert list(load_tokenizer(tmp_path).tokens) == list(tokenized.tokenizer.tokens)


def test_training_documents_without_any_word_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No word of the 2 training .* matches tokenizer\.word_pattern"):
        fit(tmp_path, "...", "")


def test_counts_of_chosen_documents_against_python() -> None:
    random = np.random.default_rng(0)
    documents = [random.integers(0, 50, size).tolist() for size in random.integers(0, 20, 300)]
    rows = np.sort(random.permutation(300)[:200])
    counts, document_counts = count_types(token_sequences(*documents), rows, 50)
    for word in range(50):
        assert counts[word] == sum(documents[row].count(word) for row in rows)
        assert document_counts[word] == sum(word in documents[row] for row in rows)
