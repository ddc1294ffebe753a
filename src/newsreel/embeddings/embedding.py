"""Embeddings: what a word becomes before a network sees it.

Axes: B documents, T tokens, V words of the vocabulary, E dimensions of an embedding, H outputs of a layer.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from newsreel.rules import Range
from newsreel.text.tokens import PAD


class Embedding(nn.Module):
    """Rows for the words of a vocabulary."""

    num_words: int  # V, <pad> and <unk> among them
    dimension: int  # E

    @abstractmethod
    def forward(self, token_ids: Tensor) -> Tensor:
        """(B, T) token ids → (B, T, E)."""

    @abstractmethod
    def bag_layer(self, num_outputs: int) -> "BagLayer":
        """A linear layer on the weighted sum of a document's rows."""


class BagLayer(nn.Module):
    """Computes `linear(Σ_t weight_t · row_t)`."""

    @abstractmethod
    def forward(self, token_ids: Tensor, token_weights: Tensor) -> Tensor:
        """(B, T) token ids, (B, T) weights → (B, H)."""


class LearnedEmbedding(Embedding):
    """A table trained with the network, started at N(0, 1/E) with zeros for <pad>.

    dropout: share of the values of every word's row that is zeroed while training.
    word_dropout: share of the words whose whole row is zeroed while training (Gal and Ghahramani 2016 drop the
    types; here it is single occurrences).
    max_norm: rows longer than this (L2) are scaled back to it when they are used.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        *,
        dimension: Annotated[int, Range(min=1, max=65_536)],
        dropout: Annotated[float, Range(min=0, below=1)],
        word_dropout: Annotated[float, Range(min=0, below=1)],
        max_norm: Annotated[float, Range(above=0)] | None,
    ) -> None:
        super().__init__()
        self.num_words = len(vocabulary)
        self.dimension = dimension
        self.table = nn.Embedding(len(vocabulary), dimension, padding_idx=PAD, max_norm=max_norm)
        nn.init.normal_(self.table.weight, std=dimension**-0.5)
        with torch.no_grad():
            self.table.weight[PAD].zero_()
        self.dropout = nn.Dropout(dropout)
        self.word_dropout = word_dropout

    def forward(self, token_ids: Tensor) -> Tensor:
        embedded = self.table(token_ids)  # (B, T, E)
        if self.training and self.word_dropout:
            kept = torch.rand(token_ids.shape, device=token_ids.device) >= self.word_dropout  # (B, T)
            embedded = embedded * kept[:, :, None]
        return self.dropout(embedded)  # type: ignore[no-any-return]  # (B, T, E)

    def bag_layer(self, num_outputs: int) -> BagLayer:
        return DenseBagLayer(self, num_outputs)


class DenseBagLayer(BagLayer):
    """The sum of dense rows, then a linear layer."""

    def __init__(self, embedding: LearnedEmbedding, num_outputs: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.linear = nn.Linear(embedding.dimension, num_outputs)

    def forward(self, token_ids: Tensor, token_weights: Tensor) -> Tensor:
        table = self.embedding.table
        if self.training and self.embedding.word_dropout:
            token_weights = token_weights * (torch.rand_like(token_weights) >= self.embedding.word_dropout)
        document = F.embedding_bag(
            token_ids, table.weight, mode="sum", per_sample_weights=token_weights, max_norm=table.max_norm
        )  # (B, E)
        return self.linear(self.embedding.dropout(document))  # type: ignore[no-any-return]  # (B, H)


class OneHotEmbedding(Embedding):
    """Every word its own dimension: E = V. The identity table is never built; a layer on top looks its rows up."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__()
        self.num_words = self.dimension = len(vocabulary)

    def forward(self, token_ids: Tensor) -> Tensor:
        return F.one_hot(token_ids, self.dimension).to(torch.get_default_dtype())  # (B, T, V)

    def bag_layer(self, num_outputs: int) -> BagLayer:
        return OneHotBagLayer(self.dimension, num_outputs)


class OneHotBagLayer(BagLayer):
    """A linear layer on a V-dimensional bag of words, as sums of the rows of its words.

    Initialised as the Keras dense layer of the same shape would be (Glorot and Bengio 2010): uniform in
    ±sqrt(6 / (V + H)).
    """

    def __init__(self, vocabulary_size: int, num_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, num_outputs))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, token_ids: Tensor, token_weights: Tensor) -> Tensor:
        return F.embedding_bag(token_ids, self.weight, mode="sum", per_sample_weights=token_weights) + self.bias
