"""Byte-pair encoding."""

import json
from pathlib import Path

import pytest

from helpers.documents import make_corpus
from newsreel.core.errors import UserError
from newsreel.text.subwords import FittedSubwords, SubwordTokenizer

SETTINGS = SubwordTokenizer(strip_html=True, lowercase=True, max_size=300, min_pair_count=2)


def test_frequent_words_stay_whole_and_rare_ones_become_pieces(tmp_path: Path) -> None:
    corpus = make_corpus([("the film <br /> THE film", 0)] * 20 + [("a zither", 1)], [("the zither film", 0)])
    tokenized = SETTINGS.fit(corpus, tmp_path)
    tokens = [tokenized.tokenizer.tokens[number] for number in tokenized.tables["test"][0]]
    assert tokens[0] == "▁the"
    assert tokens[-1] == "▁film"
    assert len(tokens) > 3
    assert "".join(tokens) == "▁the▁zither▁film"
    train = [tokenized.tokenizer.tokens[number] for number in tokenized.tables["train"][0]]
    assert train == ["▁the", "▁film", "▁the", "▁film"]


def test_merges_come_from_training_documents_only(tmp_path: Path) -> None:
    documents = [(f"alpha beta {'gamma' if number % 2 else 'delta'}", number % 2) for number in range(40)]
    corpus = make_corpus(documents, [("omega omega omega omega", 0)] * 10).with_validation(0.25, seed=0)
    tokens = SETTINGS.fit(corpus, tmp_path).tokenizer.tokens
    assert "▁alpha" in tokens
    assert not any("ome" in token for token in tokens)


def test_prediction_uses_the_same_encoding_as_training(tmp_path: Path) -> None:
    texts = ["Fine<br />film", "", "a fine\none", "日本"]
    tokenized = SETTINGS.fit(make_corpus([(text, 0) for text in texts]), tmp_path)
    again = FittedSubwords.restore(json.loads(tokenized.tokenizer.to_json()), tmp_path)
    encoded = again.encode(texts)
    for document in range(len(texts)):
        assert encoded[document].tolist() == tokenized.tables["train"][document].tolist()
    assert again.tokens[:2] == ["<pad>", "<unk>"]


def test_tokens_are_spelled_as_the_document_has_them(tmp_path: Path) -> None:
    tokenizer = SETTINGS.fit(make_corpus([("a fine film", 0)] * 5), tmp_path).tokenizer
    text = "A <br /> 日 film"
    spelled = tokenizer.surface_forms(text)
    assert spelled is not None
    assert len(spelled) == len(tokenizer.encode([text])[0])
    assert [word for word, token in zip(spelled, tokenizer.encode([text])[0], strict=True) if token == 1] == ["日"]


def test_training_documents_without_any_character_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no character to learn subwords from"):
        SETTINGS.fit(make_corpus([("", 0)]), tmp_path)
