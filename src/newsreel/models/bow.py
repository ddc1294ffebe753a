"""Bag-of-words classifiers: word weights, without word order.

Axes: B documents, T tokens, V words of the vocabulary, H outputs of the first layer.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor, nn

from newsreel.batches.batch import Batch
from newsreel.core.errors import UserError
from newsreel.embeddings.dropout import Dropout
from newsreel.embeddings.embedding import Embedding
from newsreel.embeddings.naive_bayes import WEIGHT_SMOOTHING, log_count_ratios
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
        if self.weighting == "tfidf":
            self._fit_idf(training)
        elif self.weighting == "nb":
            self._fit_ratios(training)

    def _fit_idf(self, training: Iterable[Batch]) -> None:
        document_counts = torch.zeros_like(self.idf)
        num_documents = 0
        for batch in training:
            words, counts = distinct_words(batch.token_ids)
            document_counts += torch.bincount(words[counts > 0], minlength=len(self.idf))
            num_documents += len(batch.lengths)
        self.idf.copy_(torch.log((1 + num_documents) / (1 + document_counts)) + 1)

    def _fit_ratios(self, training: Iterable[Batch]) -> None:
        num_outputs = self.ratios.shape[1]
        with_label = torch.zeros_like(self.ratios)
        documents = torch.zeros(len(self.ratios))  # (V,) documents that contain each word
        for batch in training:
            words, counts = distinct_words(batch.token_ids)
            present = counts > 0  # (B, T)
            labels = indicators(batch.targets, num_outputs)  # (B, num_outputs)
            with_label.index_add_(0, words[present], labels.repeat_interleave(present.sum(dim=1), dim=0))
            documents += torch.bincount(words[present], minlength=len(documents))
        self.ratios.copy_(log_count_ratios(with_label, documents, WEIGHT_SMOOTHING))

    @property
    def output_bias(self) -> Tensor:
        if not len(self.rest):
            return self.bag.output_bias
        last = self.rest[-1]
        assert isinstance(last, nn.Linear)
        return last.bias

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        words, counts = distinct_words(token_ids)  # (B, T), (B, T)
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
        if self.weighting == "binary":
            return (counts > 0).to(counts.dtype)
        if self.weighting == "nb":
            ratios = self.ratios[words] * (counts > 0)[:, :, None]  # (B, T, num_outputs)
            return F.normalize(ratios if ratios.shape[2] > 1 else ratios[:, :, 0], dim=1)
        if self.sublinear_tf:
            counts = torch.where(counts > 0, 1 + counts.clamp(min=1).log(), 0)
        if self.weighting == "count":
            return counts
        if self.weighting == "tf":
            return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
        weights = counts * self.idf[words]
        return F.normalize(weights, dim=1)


def indicators(targets: Tensor, num_outputs: int) -> Tensor:
    """(B,) class indices or (B, L) indicators → (B, num_outputs) float indicators."""
    if targets.ndim == 2:
        return targets
    if num_outputs == 1:
        return targets[:, None].to(torch.get_default_dtype())
    return F.one_hot(targets, num_outputs).to(torch.get_default_dtype())


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
