"""Tiny made-up corpora, and tokenizers for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset

from newsreel.corpora.corpus import Corpus, CorpusReader, Paths, Task
from newsreel.text.ngrams import NgramTokenizer
from newsreel.text.tokens import TokenizedCorpus, TokenSequences
from newsreel.text.words import FittedWords, WordTokenizer

NOWHERE = Paths(corpora_dir="nowhere", cache_dir="nowhere", output_dir="nowhere")  # for what reads and writes no file
READING: dict[str, Any] = {"limit": None, "train_limit": None, "validation_fraction": 0.25, "split_seed": 0}


def make_corpus(
    train: Sequence[tuple[str, Any]],
    test: Sequence[tuple[str, Any]] = (("a film", 0),),
    task: Task = "binary",
    num_labels: int = 2,
) -> Corpus:
    """A corpus of (text, labels) pairs."""
    return Corpus(
        name="tiny",
        task=task,
        label_names=tuple(f"label{number}" for number in range(num_labels)),
        metric="f1_micro" if task == "multilabel" else "accuracy",
        tables={"train": make_table(train), "test": make_table(test)},
        fingerprint=repr((train, test)),
        source="made in a test",
    )


@dataclass(frozen=True, kw_only=True)
class GivenCorpus(CorpusReader):
    """Reads a corpus that a test has made."""

    corpus: Corpus

    def read(self, paths: Paths) -> Corpus:
        return self.corpus


def reader_of(corpus: Corpus, **changes: Any) -> GivenCorpus:
    return GivenCorpus(**{"corpus": corpus, **READING, **changes})


def make_table(rows: Sequence[tuple[str, Any]]) -> Dataset:
    return Dataset.from_dict({"text": [text for text, _ in rows], "labels": [labels for _, labels in rows]})


def with_tables(corpus: Corpus, **tables: Dataset | None) -> Corpus:
    """The corpus with other tables, or without those that are None."""
    together = {**corpus.tables, **tables}
    return replace(corpus, tables={name: of for name, of in together.items() if of is not None}, splits={})


def contents(corpus: Corpus, column: str = "text") -> dict[str, list[tuple[Any, Any]]]:
    """Texts and labels of each labelled table."""
    tables = {name: table for name, table in corpus.tables.items() if name != "unlabeled"}
    return {name: list(zip(table[column][:], table["labels"][:], strict=True)) for name, table in tables.items()}


def ids(tokenized: TokenizedCorpus, table: str) -> list[list[int]]:
    return [document.tolist() for document in tokenized.tables[table]]


def split_sizes(corpus: Corpus) -> dict[str, int]:
    return {split: len(rows.rows) for split, rows in corpus.splits.items()}


WORD_SETTINGS = {
    "strip_html": True,
    "normalization": "NFC",
    "lowercase": True,
    "word_pattern": None,
    "punctuation": "drop",
    "mark_title": False,
    "max_size": None,
    "min_document_count": 1,
}


def word_tokenizer(**changes: Any) -> WordTokenizer:
    return WordTokenizer(**{**WORD_SETTINGS, **changes})


def ngram_tokenizer(**changes: Any) -> NgramTokenizer:
    return NgramTokenizer(**{**WORD_SETTINGS, "max_n": 3, **changes})


def tokenized_corpus(
    words: Sequence[str], train: Sequence[Sequence[str]], test: Sequence[Sequence[str]] = ()
) -> TokenizedCorpus:
    """Documents of words that are in the vocabulary <pad>, <unk>, *words, and of others."""
    tokens = ["<pad>", "<unk>", *words]
    numbers = {word: number for number, word in enumerate(tokens[2:], 2)}
    tables = {
        split: token_sequences(*([numbers.get(word, 1) for word in document] for document in documents))
        for split, documents in (("train", train), ("test", test))
    }
    return TokenizedCorpus(FittedWords(word_tokenizer().rules, tokens), tables)


def token_sequences(*documents: Sequence[int]) -> TokenSequences:
    ids = [number for document in documents for number in document]
    return TokenSequences(np.array(ids, dtype=np.int32), np.cumsum([0, *map(len, documents)]))
