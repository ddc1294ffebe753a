"""Tiny made-up corpora, and tokenizers for them."""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from newsreel.corpora.corpus import Corpus, Task
from newsreel.text.tokens import TokenizedCorpus, TokenSequences
from newsreel.text.words import FittedWords, WordTokenizer


def make_corpus(
    train: Sequence[tuple[str, object]],
    test: Sequence[tuple[str, object]] = (("a film", 0),),
    task: Task = "binary",
    num_labels: int = 2,
) -> Corpus:
    """A corpus of (text, labels) pairs."""

    def table(rows: Sequence[tuple[str, object]]) -> Dataset:
        return Dataset.from_dict({"text": [text for text, _ in rows], "labels": [labels for _, labels in rows]})

    return Corpus(
        name="tiny",
        task=task,
        label_names=tuple(f"label{number}" for number in range(num_labels)),
        metric="f1_micro" if task == "multilabel" else "accuracy",
        tables={"train": table(train), "test": table(test)},
        fingerprint=repr((train, test)),
        source="made in a test",
    )


def word_tokenizer(**changes: object) -> WordTokenizer:
    settings: dict[str, object] = {
        "strip_html": True,
        "normalization": "NFC",
        "lowercase": True,
        "word_pattern": r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+)*",
        "punctuation": "drop",
        "mark_title": False,
        "max_size": None,
        "min_document_count": 1,
    }
    return WordTokenizer(**{**settings, **changes})


def tokenized_corpus(
    words: Sequence[str], train: Sequence[Sequence[str]], test: Sequence[Sequence[str]] = ()
) -> TokenizedCorpus:
    """Documents of words that are in the vocabulary <pad>, <unk>, *words, and of others."""
    tokens = ["<pad>", "<unk>", *words]

    def sequences(documents: Sequence[Sequence[str]]) -> TokenSequences:
        ids = [tokens.index(word) if word in words else 1 for document in documents for word in document]
        offsets = np.cumsum([0, *map(len, documents)])
        return TokenSequences(np.array(ids, dtype=np.int32), offsets)

    return TokenizedCorpus(
        FittedWords(word_tokenizer().rules, tokens), {"train": sequences(train), "test": sequences(test)}
    )
