"""Characters and their vocabulary, by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.documents import make_corpus
from newsreel.core.errors import UserError
from newsreel.text import characters as module
from newsreel.text.characters import CharacterTokenizer, FittedCharacters
from newsreel.text.loading import load_tokenizer
from newsreel.text.tokens import TokenizedCorpus


def tokenizer(**changes: Any) -> CharacterTokenizer:
    settings = {"strip_html": True, "unescape_html": True, "normalization": "NFC", "lowercase": True}
    limits = {"max_size": None, "min_document_count": 1}
    return CharacterTokenizer(**{**settings, **limits, **changes})


def fit(tmp_path: Path, *train: str, test: tuple[str, ...] = ("a",), **settings: Any) -> TokenizedCorpus:
    corpus = make_corpus([(text, 0) for text in train], [(text, 0) for text in test])
    return tokenizer(**settings).fit(corpus, tmp_path)


def test_documents_are_numbered_by_hand(tmp_path: Path) -> None:
    tokenized = fit(tmp_path, "Abba", "", "  b\t\n c<br />&amp; ", test=("cab!", "日b"))
    assert tokenized.tokenizer.tokens == [
        "<pad>",
        "<unk>",
        "b",
        " ",
        "a",
        "&",
        "c",
    ]  # 3, 2, 2, 1, 1; ties by code point
    train, test = tokenized.tables["train"], tokenized.tables["test"]
    assert [document.tolist() for document in train] == [[4, 2, 2, 4], [], [2, 3, 6, 3, 5]]
    assert [document.tolist() for document in test] == [[6, 4, 2, 1], [1, 2]]


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        ({}, ["a", "b", "c", " ", "ﬁ"]),  # 4, 4, 3, 1, 1
        ({"max_size": 1}, ["a"]),
        ({"min_document_count": 2}, ["a", "b"]),  # c occurs three times, in one document
        ({"lowercase": False}, ["b", "a", "c", " ", "A", "ﬁ"]),
        ({"normalization": "NFKC"}, ["a", "b", "c", " ", "f", "i"]),
    ],
)
def test_the_vocabulary_is_ordered_and_limited(tmp_path: Path, settings: dict[str, Any], tokens: list[str]) -> None:
    assert fit(tmp_path, "Ab b", "aaab", "bccc", "ﬁ", **settings).tokenizer.tokens[2:] == tokens


def test_no_character_of_validation_documents_enters_the_vocabulary(tmp_path: Path) -> None:
    corpus = make_corpus([(chr(0x4E00 + number), number % 2) for number in range(40)]).with_validation(0.25, seed=3)
    tokens = tokenizer().fit(corpus, tmp_path).tokenizer.tokens
    assert set(tokens[2:]) == set(corpus["train"]["text"])


def test_other_splits_and_vocabularies_share_one_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_corpus([(f"a word{number}", number % 2) for number in range(20)])
    cold = tokenizer().fit(corpus.with_validation(0.2, seed=0), tmp_path)
    monkeypatch.setattr(module, "code_point_chunks", lambda *arguments: pytest.fail("read the texts again"))
    warm = tokenizer().fit(corpus.with_validation(0.2, seed=0), tmp_path)
    tokenizer(max_size=3).fit(corpus.with_validation(0.3, seed=1), tmp_path)
    assert warm.tokenizer.tokens == cold.tokenizer.tokens
    assert isinstance(warm.tables["train"].ids, np.memmap)


def test_a_saved_tokenizer_encodes_any_text_alike(tmp_path: Path) -> None:
    texts = ("Fine<br />film", "", " a  <i>fine</i> one", "Ж 😀 ﬁ\0", "Ⅻİ")
    tokenized = fit(tmp_path / "cache", *texts[:3], test=texts)
    tokenized.tokenizer.save(tmp_path)
    encoded = load_tokenizer(tmp_path).encode(texts)
    assert [ids.tolist() for ids in encoded] == [ids.tolist() for ids in tokenized.tables["test"]]
    assert len(load_tokenizer(tmp_path).encode([])) == 0


def test_training_documents_without_any_character_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No character occurs in at least .* of the 2 training documents"):
        fit(tmp_path, " ", "<br />")


def test_spans_are_words_and_single_characters_where_a_script_has_no_spaces(tmp_path: Path) -> None:
    fitted = FittedCharacters.restore(fit(tmp_path, "a b").tokenizer.to_json().encode(), tmp_path)
    spans = fitted.spans(" Ab,  c 日本!")
    assert spans.texts == ["ab,", "c", "日", "本", "!"]
    expected = [0, 0, 0, 0, 1, 1, 2, 3, 4]  # by character of "ab, c 日本!"
    assert spans.weights.toarray().tolist() == np.eye(5)[expected].tolist()
    assert fitted.spans("").texts == []
