"""Word vectors by truncated singular value decomposition of the pointwise mutual information of neighbouring words.

Levy, Goldberg and Dagan 2015, "Improving Distributional Similarity with Lessons Learned from Word Embeddings".

Axes: V words of the vocabulary, E dimensions of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le
from tqdm import tqdm

from newsreel.core.errors import UserError
from newsreel.embeddings.corpus_trained import CorpusTrained, Documents
from newsreel.embeddings.embedding import Size
from newsreel.embeddings.pretrained import Vectors
from newsreel.text.tokens import SPECIAL_TOKENS

if TYPE_CHECKING:
    from scipy.sparse import csr_array

DENSE_WORDS = 1_000  # up to this size, the full decomposition is as fast as the truncated one


@dataclass(frozen=True, kw_only=True)
class SVD(CorpusTrained):
    """Rows U · Σ^exponent of the decomposition of the words' shifted positive pointwise mutual information."""

    dimension: Size
    window: Annotated[int, Ge(1), Le(1_000)]
    shift: Annotated[float, Ge(1)]
    context_smoothing: Annotated[float, Gt(0), Le(1)]
    exponent: Annotated[float, Ge(0), Le(1)]

    kind: ClassVar[str] = "svd"
    library: ClassVar[str] = "scipy"

    def train(self, documents: Documents, vocabulary: Sequence[str]) -> Vectors:
        num_words = len(vocabulary)
        if self.dimension >= num_words - len(SPECIAL_TOKENS):
            raise UserError(
                f"embedding.dimension={self.dimension} must be below the size of the vocabulary, which is "
                f"{num_words - len(SPECIAL_TOKENS):,}: lower it."
            )
        information = ppmi(count_pairs(documents, num_words, self.window), self.shift, self.context_smoothing)
        known = np.diff(information.indptr) > 0  # (V,)
        if not known.any():
            raise UserError(
                f"In the {len(documents):,} documents, no two words occur within embedding.window={self.window} of "
                f"each other more often than by chance (times embedding.shift={self.shift:g}), so there is nothing to "
                "learn. Lower embedding.shift, or use more documents."
            )
        left, singular_values = truncated_svd(information, self.dimension)
        return Vectors((left * singular_values**self.exponent).astype(np.float32), known)


def count_pairs(documents: Documents, num_words: int, window: int) -> "csr_array":
    """(V, V) counts of the column's word within `window` words before or after the row's word."""
    from scipy.sparse import coo_array, csr_array

    counts = csr_array((num_words, num_words), dtype=np.int32)  # each pair once: the row is the smaller id
    with tqdm(total=len(documents), unit=" documents", desc="counting neighbours", disable=None) as bar:
        for ids, lengths in documents.chunks():
            numbers = np.repeat(np.arange(len(lengths)), lengths)  # the document of each word
            smaller, larger = [], []
            for distance in range(1, window + 1):
                in_same_document = numbers[distance:] == numbers[:-distance]
                first, second = ids[:-distance][in_same_document], ids[distance:][in_same_document]
                smaller.append(np.minimum(first, second))
                larger.append(np.maximum(first, second))
            pairs = (np.concatenate(smaller), np.concatenate(larger))
            ones = np.ones(len(pairs[0]), dtype=np.int32)
            counts = counts + coo_array((ones, pairs), counts.shape).tocsr()
            bar.update(len(lengths))
    return counts + counts.T.tocsr()


def ppmi(counts: "csr_array", shift: float, context_smoothing: float) -> "csr_array":
    """(V, V) max(0, log (P(w, c) / (P(w) P(c))) - log shift) for words w in the rows and contexts c in the columns.

    The probabilities are estimated from the counted pairs; P(c) is proportional to the count of c to the power of
    `context_smoothing` (Levy et al. 2015, eq. 3), and `shift` corresponds to the number of negative samples of word2vec
    (Levy and Goldberg 2014).
    """
    word_counts = counts.sum(axis=1).astype(np.float64)  # (V,)
    smoothed = word_counts**context_smoothing
    with np.errstate(divide="ignore", invalid="ignore"):  # words without neighbours, which occur in no pair
        word_logs = np.log(word_counts)
        context_logs = np.log(smoothed / smoothed.sum())
    information = counts.astype(np.float32)
    np.log(information.data, out=information.data)
    information.data -= np.repeat(word_logs.astype(np.float32), np.diff(counts.indptr))
    information.data -= context_logs.astype(np.float32)[counts.indices]
    information.data -= np.float32(np.log(shift))
    np.maximum(information.data, 0, out=information.data)
    information.eliminate_zeros()
    return information


def truncated_svd(matrix: "csr_array", dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """The first left singular vectors, (V, E), and singular values, (E,) descending.

    Deterministic: the largest component of each vector is positive, and the iteration starts from a fixed vector.
    """
    from scipy.sparse.linalg import LinearOperator, svds

    num_words = matrix.shape[0]
    if num_words <= DENSE_WORDS:
        left, values, _ = np.linalg.svd(matrix.toarray().astype(np.float64))
    else:
        transposed = matrix.T.tocsr()
        with tqdm(unit=" products", desc="decomposing", disable=None) as bar:

            def product(of: "csr_array", vector: np.ndarray) -> Any:
                bar.update()
                return of @ vector

            operator = LinearOperator(
                matrix.shape,
                matvec=lambda vector: product(matrix, vector),
                rmatvec=lambda vector: product(transposed, vector),
                dtype=matrix.dtype,
            )
            start = np.random.default_rng(0).standard_normal(num_words)
            left, values, _ = svds(operator, dimension, v0=start, return_singular_vectors="u")
    first = np.argsort(-values)[:dimension]
    left, values = left[:, first], values[first]
    largest = left[np.abs(left).argmax(axis=0), np.arange(dimension)]  # (E,)
    return left * np.sign(largest), values
