"""Bags of words: which words a document has, and nothing of their order.

Axes: B documents, T tokens, V words of the vocabulary, H outputs of the first layer.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from newsreel.batches.batch import Batch
from newsreel.embeddings.embedding import Embedding
from newsreel.models.network import Network
from newsreel.rules import Range
from newsreel.text.tokens import UNK

Weighting = Literal["binary", "count", "tf", "tfidf"]


class BagOfWords(Network):
    """A weighted bag of words, then a linear layer or a perceptron with ReLU.

    weighting: what a word of the document weighs. `binary`: 1; `count`: how often it occurs; `tf`: its share of the
    document's known words; `tfidf`: its count times ln((1 + N) / (1 + n)) + 1 with n of the N training documents
    holding it, the whole divided by its L2 norm (as scikit-learn's TfidfTransformer).
    Words outside the vocabulary weigh nothing.
    """

    reads_rows = False

    def __init__(
        self,
        embedding: Embedding,
        num_outputs: int,
        *,
        weighting: Weighting,
        hidden_sizes: Sequence[Annotated[int, Range(min=1, max=65_536)]],
        dropout: Annotated[float, Range(min=0, below=1)],
    ) -> None:
        super().__init__()
        self.weighting = weighting
        sizes = [*hidden_sizes, num_outputs]
        self.bag = embedding.bag_layer(sizes[0])
        rest: list[nn.Module] = []
        for size, next_size in pairwise(sizes):
            rest += [nn.ReLU(), nn.Dropout(dropout), nn.Linear(size, next_size)]
        self.rest = nn.Sequential(*rest)
        self.word_dropout = nn.Dropout(dropout)
        self.idf: Tensor
        self.register_buffer("idf", torch.ones(embedding.num_words))  # (V,)

    def fit_statistics(self, training: Iterable[Batch]) -> None:
        """Inverse document frequencies, from one pass over the training documents."""
        if self.weighting != "tfidf":
            return
        document_counts = torch.zeros_like(self.idf)
        num_documents = 0
        for batch in training:
            token_ids, counts = distinct_words(batch.token_ids)
            document_counts += torch.bincount(token_ids[counts > 0], minlength=len(self.idf))
            num_documents += len(batch.lengths)
        self.idf.copy_(torch.log((1 + num_documents) / (1 + document_counts)) + 1)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        words, counts = distinct_words(token_ids)  # (B, T), (B, T)
        weights = self.weigh(words, counts)  # (B, T)
        return self.rest(self.bag(words, self.word_dropout(weights)))  # type: ignore[no-any-return]  # (B, num_outputs)

    def weigh(self, words: Tensor, counts: Tensor) -> Tensor:
        """Weights of distinct words by their counts; both (B, T), zero where the count is."""
        if self.weighting == "binary":
            return (counts > 0).to(counts.dtype)
        if self.weighting == "count":
            return counts
        if self.weighting == "tf":
            return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
        weights = counts * self.idf[words]
        return F.normalize(weights, dim=1)


def distinct_words(token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's words sorted, and at one place of each known word its count, as floats; 0 elsewhere. Both (B, T)."""
    words, _ = token_ids.sort(dim=1)  # (B, T)
    begins = torch.ones_like(words, dtype=torch.bool)
    begins[:, 1:] = words[:, 1:] != words[:, :-1]
    # The count of a run is the distance from its begin to the next one.
    places = torch.arange(words.shape[1], device=words.device).expand_as(words)
    next_begin = torch.where(begins, places, words.shape[1]).flip(1).cummin(dim=1).values.flip(1)  # at or after
    after = torch.cat([next_begin[:, 1:], next_begin.new_full((len(words), 1), words.shape[1])], dim=1)
    counts = torch.where(begins & (words > UNK), after - places, 0)
    return words, counts.to(torch.get_default_dtype())
