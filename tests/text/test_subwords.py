"""Byte-pair encoding."""

from pathlib import Path

import pytest

from helpers.documents import make_corpus
from newsreel.core.errors import UserError
from newsreel.text.subwords import FittedSubwords, SubwordTokenizer

SETTINGS = SubwordTokenizer(strip_html=True, lowercase=True, max_size=300, min_pair_count=2)


def test_frequent_words_stay_whole_and_rare_ones_become_pieces(tmp_path: Path) -> None:
    corpus = make_corpus([("the film <br /> THE film", 0)] * 20 + [("a zither", 1)], [("the zither film", 0)])
    tokenized = SETTINGS.fit(corpus, tmp_path)
    train, test = (
        [tokenized.tokenizer.tokens[number] for number in tokenized.tables[name][0]] for name in ("train", "test")
    )
    assert train == ["▁the", "▁film", "▁the", "▁film"]
    assert (test[0], test[-1], "".join(test)) == ("▁the", "▁film", "▁the▁zither▁film")
    assert len(test) > 3


def test_merges_come_from_training_documents_only(tmp_path: Path) -> None:
    documents = [(f"alpha word{chr(97 + number)}", 0) for number in range(20)]
    corpus = make_corpus(documents, [("omega omega omega omega", 0)] * 10).with_validation(0.25, seed=0)
    tokens = SubwordTokenizer(**{**vars(SETTINGS), "min_pair_count": 1}).fit(corpus, tmp_path).tokenizer.tokens
    assert {token for token in tokens if token.startswith("▁word") and len(token) == 6} == {
        f"▁{text.split()[1]}" for text in corpus["train"]["text"]
    }
    assert not any("ome" in token for token in tokens)


def test_prediction_uses_the_same_encoding_as_training(tmp_path: Path) -> None:
    texts = ["Fine<br />film", "", "a fine\none", "日本"]
    tokenized = SETTINGS.fit(make_corpus([(text, 0) for text in texts]), tmp_path)
    again = FittedSubwords.restore(tokenized.tokenizer.to_json().encode(), tmp_path)
    assert [ids.tolist() for ids in again.encode(texts)] == [ids.tolist() for ids in tokenized.tables["train"]]
    assert again.tokens[:2] == ["<pad>", "<unk>"]


def test_tokens_are_spelled_as_the_document_has_them(tmp_path: Path) -> None:
    tokenizer = SETTINGS.fit(make_corpus([("a fine film", 0)] * 5), tmp_path).tokenizer
    tokens = zip(tokenizer.surface_forms("A <br /> 日 film"), tokenizer.encode(["A <br /> 日 film"])[0], strict=True)
    assert [word for word, token in tokens if token == 1] == ["日"]


def test_training_documents_without_any_character_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no characters to learn subwords from"):
        SETTINGS.fit(make_corpus([("", 0)]), tmp_path)
