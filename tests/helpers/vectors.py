"""Embeddings with vectors: documents on two topics, and the settings of tables and of word2vec."""

from typing import Any

import numpy as np
from gensim.models import KeyedVectors

from helpers.documents import make_corpus, word_tokenizer
from newsreel.corpora.corpus import Paths
from newsreel.embeddings.embedding import TableEmbedding

TABLE: dict[str, Any] = {  # settings of every embedding with given vectors
    "fine_tune": False,
    "unknown": "zero",
    "value_std": None,
    "dropout": 0.0,
    "word_dropout": 0.0,
    "max_norm": None,
}
WORD2VEC = {
    **TABLE,
    "unlabeled": True,
    "path": None,
    "algorithm": "skipgram",
    "dimension": 8,
    "window": 3,
    "negative": 3,
    "sample": 0.0,
    "min_count": 1,
    "epochs": 3,
    "seed": 1,
}
ANIMALS, SHIPS = ["cow", "calf", "milk", "barn", "hay"], ["sail", "mast", "wind", "crew", "rope"]
GIVEN = {"film": [1.5, -2.0], "good": [0.25, 4.0], "elsewhere": [9.0, 9.0]}


def two_topics(num_documents: int = 30) -> list[str]:
    """Documents of eight words of one topic, as many of each."""
    random = np.random.default_rng(0)
    return [" ".join(random.choice(topic, 8)) for _ in range(num_documents) for topic in (ANIMALS, SHIPS)]


def share_topics(words: list[str], rows: np.ndarray) -> bool:
    """Whether each word's nearest other word by cosine is of its topic."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    nearest = (unit @ unit.T - 2 * np.eye(len(words))).argmax(axis=1)
    return all((word in ANIMALS) == (words[other] in ANIMALS) for word, other in zip(words, nearest, strict=True))


def build(builder: Any, paths: Paths, texts: list[str]) -> tuple[TableEmbedding, dict[str, list[float]]]:
    """The embedding of the documents' vocabulary, and the row of each word."""
    corpus = make_corpus([(text, 0) for text in texts])
    tokenized = word_tokenizer().fit(corpus, paths.cache)
    builder.check(paths)
    embedding = builder.build(tokenized, corpus, paths)
    return embedding, dict(zip(tokenized.tokenizer.tokens, embedding.rows().tolist(), strict=True))


def given() -> KeyedVectors:
    vectors = KeyedVectors(2)
    vectors.add_vectors(list(GIVEN), np.array(list(GIVEN.values()), dtype=np.float32))
    return vectors
