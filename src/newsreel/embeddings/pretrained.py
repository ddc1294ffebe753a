"""Embeddings with given vectors: computed before the network is trained.

Axes: V words of the vocabulary, E dimensions of an embedding.
"""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import polars as pl
import torch
from annotated_types import Gt

from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.embeddings.embedding import Coverage, Regularized, TableEmbedding
from newsreel.text.tokens import SPECIAL_TOKENS, UNK, TokenizedCorpus

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vectors:
    """Vectors for the words of a vocabulary."""

    values: np.ndarray  # (V, E) float32; rows of unknown words are arbitrary
    known: np.ndarray  # (V,) bool
    from_subwords: int = 0  # the known words whose vectors are computed from their character n-grams


@dataclass(frozen=True, kw_only=True)
class Pretrained(Regularized):
    """A table of given vectors, frozen or fine-tuned.

    fine_tune: whether the rows are trained with the network.
    unknown: the rows of words without a vector, including <unk>: zeros, or drawn by the run's seed from N(0, s²), where
    s is the standard deviation of the known rows' values.
    value_std: scales the whole table by one factor so that the known rows' values have this standard deviation.
    """

    fine_tune: bool
    unknown: Literal["zero", "random"]
    value_std: Annotated[float, Gt(0)] | None

    @abstractmethod
    def vectors(self, tokenized: TokenizedCorpus, corpus: Corpus, paths: Paths) -> Vectors:
        """A vector for each word of the vocabulary that has one, row i for token i. Raises UserError."""

    def build(self, tokenized: TokenizedCorpus, corpus: Corpus, paths: Paths) -> TableEmbedding:
        vectors = self.vectors(tokenized, corpus, paths)
        known = vectors.known.copy()
        known[: len(SPECIAL_TOKENS)] = False
        if not known.any():
            raise UserError(
                f"None of the {len(known) - len(SPECIAL_TOKENS):,} words of {corpus.name!r} has a vector: do the "
                "vectors have another language or alphabet, or were they made with other tokenization "
                "(tokenizer.lowercase, tokenizer=words)?"
            )
        weights = torch.from_numpy(vectors.values.astype(np.float32))  # a copy
        known_rows = torch.from_numpy(known)
        if self.value_std is not None:
            weights *= self.value_std / weights[known_rows].std()
        if self.unknown == "zero":
            weights[~known_rows] = 0
        else:
            weights[~known_rows] = torch.randn(int((~known).sum()), weights.shape[1]) * weights[known_rows].std()
        embedding = self.table(weights, trainable=self.fine_tune)
        embedding.coverage = coverage(known, vectors.from_subwords, tokenized, corpus)
        log.info(f"coverage    {embedding.coverage}")
        return embedding


def coverage(known: np.ndarray, from_subwords: int, tokenized: TokenizedCorpus, corpus: Corpus) -> Coverage:
    """The Coverage of a vocabulary and the training documents. known: (V,) bool."""
    training = corpus.splits["train"]
    counts = tokenized.tables[training.table].count_tokens(training.rows, len(known))  # (V,)
    return Coverage(
        known_types=int(known.sum()),
        types=len(known) - len(SPECIAL_TOKENS),
        known_tokens=int(counts[known].sum()),
        tokens=int(counts[UNK:].sum()),
        from_subwords=from_subwords,
    )


def align(vocabulary: Sequence[str], words: pl.Series | Sequence[str], values: np.ndarray) -> Vectors:
    """The rows of (N, E) `values`, which belong to `words`, in the order of the vocabulary.

    If a word is repeated, its first row is used, as in gensim.
    """
    sources = pl.DataFrame({"word": words}, schema={"word": pl.String}).with_row_index("source")
    targets = pl.DataFrame({"word": vocabulary}, schema={"word": pl.String}).with_row_index("row")
    matches = targets.join(sources, on="word").group_by("row").agg(pl.col("source").min())
    rows, source_rows = matches["row"].to_numpy(), matches["source"].to_numpy()
    aligned = np.zeros((len(vocabulary), values.shape[1]), dtype=np.float32)
    aligned[rows] = values[source_rows]
    known = np.zeros(len(vocabulary), dtype=bool)
    known[rows] = True
    return Vectors(aligned, known)
