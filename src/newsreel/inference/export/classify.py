"""Classify texts with an exported model: `python classify.py "a text" "another"`, or from Python:

    from classify import Classifier
    print(Classifier()(["a text", "another"]))

This file is copied into every export. It reads the files beside it and needs neither newsreel nor torch.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
ERRORS_ONLY = 3  # log severity of onnxruntime
UNK = 1  # token id of words outside the vocabulary


class Classifier:
    """The model in a folder, by default that of this file."""

    def __init__(self, folder: Path = HERE) -> None:
        def read(name: str) -> dict[str, Any]:
            return dict(json.loads((folder / name).read_text(encoding="utf-8")))

        onnxruntime.set_default_logger_severity(ERRORS_ONLY)
        self.session = onnxruntime.InferenceSession(folder / "model.onnx")
        self.settings = read("classify.json")
        labels = read("labels.json")
        self.names: list[str] = labels["names"]
        self.parents: list[int] = labels["parents"]
        self.rule: dict[str, Any] = {"rule": "top_k", "k": 1}
        if (folder / "thresholds.json").exists():
            self.rule = read("thresholds.json")
        self.encode = encoder(read("tokenizer.json"), self.settings, folder)

    def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """For each text, its labels and the probabilities of all labels."""
        return [
            {"labels": self.decide(row), "probabilities": dict(zip(self.names, row.tolist(), strict=True))}
            for row in self.probabilities(texts)
        ]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(documents, labels)."""
        first, last = self.settings["tokens_read"]  # from the beginning and the end of longer documents
        documents = [
            ids if len(ids) <= first + last else [*ids[:first], *ids[len(ids) - last :]] for ids in self.encode(texts)
        ]
        lengths = np.array([len(ids) for ids in documents], dtype=np.int64)
        token_ids = np.zeros((len(documents), lengths.max(initial=1)), dtype=np.int64)
        for row, ids in zip(token_ids, documents, strict=True):
            row[: len(ids)] = ids
        (probabilities,) = self.session.run(None, {"token_ids": token_ids, "lengths": lengths})
        return np.asarray(probabilities)

    def decide(self, probabilities: np.ndarray) -> list[str]:
        """The labels of a document with these probabilities (labels,)."""
        if self.rule["rule"] == "top_k":
            given = [int(label) for label in np.argsort(-probabilities, kind="stable")[: self.rule["k"]]]
        else:
            thresholds = [self.rule["thresholds"][name] for name in self.names]
            given = np.flatnonzero(probabilities > thresholds).tolist()
        if self.settings["give_parents"]:
            for label in given:  # the loop also visits the appended parents
                if self.parents[label] >= 0 and self.parents[label] not in given:
                    given.append(self.parents[label])
        return [self.names[label] for label in given]


def encoder(
    tokenizer: dict[str, Any], settings: dict[str, Any], folder: Path
) -> Callable[[Sequence[str]], Iterable[Sequence[int]]]:
    """The function from texts to token ids. Raises ValueError for a kind of tokenizer without one."""
    if tokenizer["kind"] == "subwords":
        import tokenizers

        model = tokenizers.Tokenizer.from_str(json.dumps(tokenizer["model"]))
        rules = tokenizer["rules"]

        def subword_ids(texts: Sequence[str]) -> list[list[int]]:
            texts = decoded(texts, rules, settings)
            if rules["strip_html"]:
                texts = [re.sub(settings["html_tag"], " ", text) for text in texts]
            return [encoding.ids for encoding in model.encode_batch(texts, add_special_tokens=False)]

        return subword_ids
    if tokenizer["kind"] == "characters":
        ids = {character: number for number, character in enumerate(tokenizer["tokens"])}
        return lambda texts: [
            [ids.get(character, UNK) for character in text] for text in characters(texts, tokenizer["rules"], settings)
        ]
    if tokenizer["kind"] == "character_ngrams":
        return character_ngram_encoder(tokenizer, settings)
    if tokenizer["kind"] not in ("words", "ngrams"):
        raise ValueError(f"`encoder` in classify.py has nothing for tokenizers of the kind {tokenizer['kind']!r}")
    words = tokenizer["words" if tokenizer["kind"] == "ngrams" else "tokens"]
    ids = {word: number for number, word in enumerate(words) if number > UNK}

    def word_ids(texts: Sequence[str]) -> list[list[int]]:
        return [[ids.get(word, UNK) for word in found] for found in split(texts, tokenizer["rules"], settings)]

    if tokenizer["kind"] == "words":
        return word_ids
    arrays = dict(np.load(folder / "ngrams.npz"))
    return lambda texts: [ngrams(np.array(row, np.int64), arrays, len(words)) for row in word_ids(texts)]


def prepared(texts: Sequence[str], rules: dict[str, Any], settings: dict[str, Any]) -> Any:
    """The texts as a column of Polars, with the rules for HTML, Unicode and case applied."""
    import polars

    column = polars.Series(decoded(texts, rules, settings), dtype=polars.String)
    if rules["strip_html"]:
        column = column.str.replace_all(settings["html_tag"], " ")
    if rules["normalization"]:
        column = column.str.normalize(rules["normalization"])
    return column.str.to_lowercase() if rules["lowercase"] else column


def split(texts: Sequence[str], rules: dict[str, Any], settings: dict[str, Any]) -> list[list[str]]:
    """The words of each text."""
    word = rules["word_pattern"] + (f"|{settings['punctuation']}" if rules["punctuation"] == "keep" else "")
    column = prepared(texts, rules, settings)
    found: list[list[str]] = column.str.extract_all(word).to_list()
    if not rules["mark_title"]:
        return found
    # The words of the first line stand in front a second time, marked
    titles = column.str.extract(settings["title"]).fill_null("").str.extract_all(word)
    return [
        [*(settings["title_mark"] + word for word in title), *text] for title, text in zip(titles, found, strict=True)
    ]


def characters(texts: Sequence[str], rules: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """The texts with single spaces between words."""
    column = prepared(texts, rules, settings).str.replace_all(settings["whitespace"], " ").str.strip_chars(" ")
    return list(column.to_list())


def character_ngram_encoder(
    tokenizer: dict[str, Any], settings: dict[str, Any]
) -> Callable[[Sequence[str]], list[list[int]]]:
    """The function from texts to the token ids of their n-grams of characters."""
    rules, num_buckets = tokenizer["rules"], tokenizer["num_buckets"]
    ids = {ngram: number for number, ngram in enumerate(tokenizer["ngrams"] or [], start=UNK + 1)}

    def token_ids(text: str) -> list[int]:
        found = character_ngrams(text, rules)
        if num_buckets is not None:
            return [UNK + 1 + hashed(ngram) % num_buckets for ngram in found]
        return [ids[ngram] for ngram in found if ngram in ids]

    return lambda texts: [token_ids(text) for text in characters(texts, rules, settings)]


def character_ngrams(text: str, rules: dict[str, Any]) -> list[str]:
    """The n-grams of a text by position and length; `char_wb`: of its words, with a space before and after each."""
    min_n, max_n, within_words = rules["min_n"], rules["max_n"], rules["analyzer"] == "char_wb"
    found = []
    for part in [f" {word} " for word in text.split(" ") if word] if within_words else [text]:
        if within_words and len(part) < min_n:
            found.append(part)
        for start in range(len(part)):
            found += [part[start : start + n] for n in range(min_n, min(max_n, len(part) - start) + 1)]
    return found


def hashed(ngram: str) -> int:
    """The 64-bit hash of an n-gram: FNV-1a over its code points, then the finalizer of MurmurHash3."""
    value = 0xCBF29CE484222325
    for character in ngram:
        value = (value ^ ord(character)) * 0x100000001B3 % 2**64
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor % 2**64
    return value ^ value >> 33


def decoded(texts: Sequence[str], rules: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """The texts with their HTML entities decoded, if the rules say so."""
    if not rules["unescape_html"]:
        return list(texts)
    return [re.sub(settings["entity"], lambda entity: unescape(entity[0]), text) for text in texts]


def ngrams(word_ids: np.ndarray, arrays: dict[str, np.ndarray], num_words: int) -> list[int]:
    """Token ids of the n-grams of a document; the key of one combines the index of its prefix and its last word."""
    numbers = np.where(word_ids > UNK, word_ids, -1)
    token_ids: list[int] = []
    for order in range(1, sum(name.startswith("ids_") for name in arrays) + 1):
        if order > 1:
            known, prefix, last = arrays[f"keys_{order}"], numbers[:-1], word_ids[order - 1 :]
            keys = np.where((prefix >= 0) & (last > UNK), prefix * num_words + last, -1)
            places = np.searchsorted(known, keys).clip(max=max(0, len(known) - 1))
            numbers = np.where(known[places] == keys, places, -1) if len(known) else np.full_like(keys, -1)
        tokens = arrays[f"ids_{order}"][numbers[numbers >= 0]]
        token_ids += tokens[tokens != UNK].tolist()
    return token_ids


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", metavar="text", help="texts that begin with - come after --")
    for answer in Classifier()(parser.parse_args().texts):
        print(json.dumps(answer))
