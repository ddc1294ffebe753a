"""Bag-of-words classifiers: word weights, without word order.

Axes: B documents, T tokens, V words of the vocabulary, H outputs of the first layer.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from scipy.sparse import csr_array
from torch import Tensor, nn

from newsreel.batches.bags import count_words
from newsreel.batches.batch import Batch
from newsreel.core.errors import UserError
from newsreel.embeddings.dropout import Dropout
from newsreel.embeddings.embedding import Embedding, OneHotBagLayer
from newsreel.embeddings.naive_bayes import WEIGHT_SMOOTHING, log_count_ratios
from newsreel.models.convex import Features
from newsreel.models.network import AttributionInputs, HiddenSizes, Network, mlp
from newsreel.text.tokens import UNK

Weighting = Literal["binary", "count", "tf", "tfidf", "nb"]


class BagOfWords(Network):
    """A weighted bag of words, followed by a linear layer or an MLP with ReLU.

    weighting: the weight of a word in a document. `binary`: 1; `count`: its number of occurrences; `tf`: its count
    divided by the number of known words in the document; `tfidf`: its count times ln((1 + N) / (1 + n)) + 1, where n
    of the N training documents contain it, with each document scaled to unit L2 norm (as scikit-learn's
    TfidfTransformer); `nb`: its naive-Bayes log-count ratio (`log_count_ratios`, smoothing 1). Each document's ratios
    are scaled to unit L2 norm (not in the paper; it makes one learning rate work for both `nb` and `tfidf`). If the
    network has one output per label, a word has one ratio per label.
    sublinear_tf: replaces a count n by 1 + ln n, as in scikit-learn; it has no effect on `binary` and `nb`.
    Words outside the vocabulary have weight zero.

    Raises UserError for `nb` with several outputs unless the classifier is linear on one-hot words.
    """

    needs_dense_embeddings = False
    order_invariant = True
    micro_batch_size = None  # its work is in the optimizer
    takes_counts = True

    @classmethod
    def is_linear_in_words(cls, settings: Mapping[str, Any]) -> bool:
        return not settings["hidden_sizes"] and not settings["dropout"]

    def __init__(
        self,
        embedding: Embedding,
        num_outputs: int,
        *,
        weighting: Weighting,
        sublinear_tf: bool,
        hidden_sizes: HiddenSizes,
        dropout: Annotated[float, Ge(0), Lt(1)],
    ) -> None:
        super().__init__()
        self.weighting = weighting
        self.sublinear_tf = sublinear_tf
        sizes = [*hidden_sizes, num_outputs]
        self.bag = embedding.bag_layer(sizes[0])
        self.rest = mlp(sizes, dropout)
        self.word_dropout = Dropout(dropout)
        self.idf: Tensor
        self.ratios: Tensor
        if weighting == "tfidf":
            self.register_buffer("idf", torch.ones(embedding.num_words))  # (V,)
        if weighting == "nb":
            if num_outputs > 1 and (hidden_sizes or not self.bag.weighs_outputs):
                raise UserError(
                    f"model.weighting=nb gives each word one weight per label ({num_outputs} in this corpus), which "
                    "only a linear classifier on one-hot words can use: set model.hidden_sizes=[] and "
                    "embedding=one_hot, or choose another model.weighting."
                )
            self.register_buffer("ratios", torch.zeros(embedding.num_words, num_outputs))  # (V, num_outputs)

    def fit_statistics(self, training: Iterable[Batch]) -> None:
        """Compute document frequencies or naive-Bayes ratios in one pass over the training documents."""
        if self.weighting not in ("tfidf", "nb"):
            return
        words, labels = [], []
        for batch in training:
            ids, counts = bags(batch.token_ids, batch.counts)
            words += [row[present].numpy() for row, present in zip(ids, counts > 0, strict=True)]
            labels.append(batch.targets)
        self.fit_word_statistics(count_words(words, len(self._statistics())), torch.cat(labels))

    def fit_word_statistics(self, counts: csr_array, targets: Tensor) -> None:
        """The same from the (N, V) counts of words and the (N,) or (N, L) targets of the training documents.

        Targets that are probabilities count as fractions of documents.
        """
        document_counts = torch.from_numpy(np.bincount(counts.indices, minlength=counts.shape[1])).float()  # (V,)
        if self.weighting == "tfidf":
            self.idf.copy_(torch.log((1 + counts.shape[0]) / (1 + document_counts)) + 1)
        if self.weighting == "nb":
            presence = csr_array((np.ones_like(counts.data), counts.indices, counts.indptr), shape=counts.shape)
            with_label = presence.T @ indicators(targets, self.ratios.shape[1]).numpy()  # (V, num_outputs)
            self.ratios.copy_(log_count_ratios(torch.from_numpy(with_label), document_counts, WEIGHT_SMOOTHING))

    def _statistics(self) -> Tensor:
        return self.idf if self.weighting == "tfidf" else self.ratios

    @property
    def output_bias(self) -> Tensor:
        if not len(self.rest):
            return self.bag.output_bias
        last = self.rest[-1]
        assert isinstance(last, nn.Linear)
        return last.bias

    def forward(self, token_ids: Tensor, lengths: Tensor, counts: Tensor | None = None) -> Tensor:
        """counts: (B, T) of distinct words; None: `token_ids` are those of the documents, in any order."""
        words, counts = bags(token_ids, counts)  # (B, T), (B, T)
        weights = self.weigh(words, counts)  # (B, T)
        return self.rest(self.bag(words, self.word_dropout(weights)))  # type: ignore[no-any-return]  # (B, num_outputs)

    def attribution_inputs(self, token_ids: Tensor, lengths: Tensor) -> AttributionInputs:
        """The weight of each (1, T) token; the weight of a word is divided equally among its occurrences."""
        words, counts = distinct_words(token_ids)  # (1, T), (1, T)
        weights = self.weigh(words, counts)  # (1, T), or (1, T, num_outputs)
        present = counts > 0
        weight_per_token = weights.new_zeros(
            int(token_ids.max()) + 1, *weights.shape[2:]
        )  # (V', …) weight per occurrence
        weight_per_token[words[present]] = weights[present] / counts[present].reshape(-1, *[1] * (weights.ndim - 2))

        def logits(values: Tensor) -> Tensor:
            bag = self.bag(token_ids.expand(len(values), -1), values)
            return self.rest(bag)  # type: ignore[no-any-return]

        return AttributionInputs(token_ids[0], weight_per_token[token_ids], logits, linear=not len(self.rest))

    def weigh(self, words: Tensor, counts: Tensor) -> Tensor:
        """Weights of distinct words from their (B, T) counts: (B, T), or (B, T, num_outputs); 0 where the count is."""
        weights = self._term_weights(counts)
        if (factors := self._word_factors()) is not None:
            weights = weights[:, :, None] * factors[words]  # (B, T, 1 or num_outputs)
            weights = weights if weights.shape[2] > 1 else weights[:, :, 0]
        if self.weighting == "tf":
            return weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
        return F.normalize(weights, dim=1) if self.weighting in ("tfidf", "nb") else weights

    def features(self, counts: csr_array) -> Features:
        """The factors of `weigh`, for all documents at once."""
        data = self._term_weights(torch.from_numpy(counts.data)).numpy()
        matrix = csr_array((data, counts.indices, counts.indptr), shape=counts.shape)
        factors = self._word_factors()
        columns = np.ones((counts.shape[1], 1), np.float32) if factors is None else factors.cpu().numpy()
        rows = np.ones((counts.shape[0], 1), np.float32)
        if self.weighting == "tf":
            rows /= np.maximum(1, matrix.sum(axis=1))[:, None]
        if self.weighting in ("tfidf", "nb"):
            squares = csr_array((data**2, counts.indices, counts.indptr), shape=counts.shape)
            rows = 1 / np.maximum(np.sqrt(squares @ columns**2), 1e-12)  # as F.normalize
        return Features.of(matrix, rows.astype(np.float32), columns, torch.get_num_threads())

    def word_layer(self) -> tuple[Tensor, Tensor]:
        assert isinstance(self.bag, OneHotBagLayer)
        return self.bag.table.weight, self.bag.bias

    def _term_weights(self, counts: Tensor) -> Tensor:
        """The part of a word's weight that depends on its count alone; 0 where the count is."""
        if self.weighting in ("binary", "nb"):
            return (counts > 0).to(counts.dtype)
        return torch.where(counts > 0, 1 + counts.clamp(min=1).log(), 0) if self.sublinear_tf else counts

    def _word_factors(self) -> Tensor | None:
        """The part of a word's weight that depends on the word alone: (V, 1) or (V, num_outputs); None: 1."""
        if self.weighting == "tfidf":
            return self.idf[:, None]
        return self.ratios if self.weighting == "nb" else None


def indicators(targets: Tensor, num_outputs: int) -> Tensor:
    """(B,) class indices, or (B, L) indicators or probabilities → (B, num_outputs) floats."""
    if targets.ndim == 2:
        return targets[:, 1:] if num_outputs == 1 else targets
    if num_outputs == 1:
        return targets[:, None].to(torch.get_default_dtype())
    return F.one_hot(targets, num_outputs).to(torch.get_default_dtype())


def bags(token_ids: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """(B, T) words and counts of a batch, whether or not it has counts already."""
    return distinct_words(token_ids) if counts is None else (token_ids, counts)


def distinct_words(token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T) sorted words, and (B, T) float counts: a word's count at its first position, 0 at the others.

    The counts of <pad> and <unk> are 0.
    """
    words, _ = token_ids.sort(dim=1)  # (B, T)
    begins = torch.cat([torch.ones_like(words[:, :1], dtype=torch.bool), words[:, 1:] != words[:, :-1]], dim=1)
    runs = begins.long().cumsum(dim=1) - 1  # (B, T) index of the distinct word at each position
    sizes = torch.zeros_like(words).scatter_add(1, runs, torch.ones_like(words))  # (B, T) of each run
    counts = torch.where(begins & (words > UNK), sizes.gather(1, runs), 0)
    return words, counts.to(torch.get_default_dtype())
