"""Embeddings: the input of networks, from token ids.

Axes: B documents, T tokens, V words of the vocabulary, E dimensions of an embedding, H outputs of a layer.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.embeddings.dropout import Dropout, dropout_mask, keep_mask
from newsreel.embeddings.naive_bayes import ROW_SMOOTHING, training_ratios
from newsreel.text.tokens import PAD, TokenizedCorpus

RATIO_SCALE = 2.0  # norm of the initial row of a word with a log-count ratio of 1, apart from the random values
Fraction = Annotated[float, Ge(0), Lt(1)]
Size = Annotated[int, Ge(1), Le(65_536)]


@dataclass(frozen=True)
class Coverage:
    """Fraction of the vocabulary and of the training documents that has a given vector."""

    known_types: int
    types: int  # words of the vocabulary without <pad> and <unk>
    known_tokens: int
    tokens: int  # running words of the training documents, including those outside the vocabulary
    from_subwords: int = 0  # the known types without a vector of their own, whose vectors come from their subwords

    def __str__(self) -> str:
        composed = f", {self.from_subwords:,} of them from subwords" if self.from_subwords else ""
        return (
            f"{self.known_types:,} of {self.types:,} words ({self.known_types / max(1, self.types):.1%}{composed}), "
            f"{self.known_tokens / max(1, self.tokens):.1%} of the running words of the training documents"
        )


class Embedding(nn.Module):
    """Base class of embeddings, which have a row for each word of a vocabulary."""

    num_words: int  # V, including <pad> and <unk>
    dimension: int  # E
    coverage: Coverage | None = None  # None if the vectors are not given
    std: float | None = None  # standard deviation that the table's values keep; None: they are not normalised

    @abstractmethod
    def forward(self, token_ids: Tensor) -> Tensor:
        """(B, T) token ids → (B, T, E)."""

    @abstractmethod
    def bag_layer(self, num_outputs: int) -> "BagLayer":
        """A linear layer on the weighted sum of a document's rows."""

    def projected(self, num_outputs: int) -> "Embedding | None":
        """A linear layer without bias on this embedding's rows, as a new embedding of its outputs.

        None if that saves nothing because the rows are dense.
        """
        return None

    def keep_normalized(self, word_counts: Tensor) -> None:
        """Normalise the table, now and after each optimizer step, by the (V,) numbers of occurrences of each word.

        Raises UserError if there is no table.
        """
        raise UserError(
            "training.adversarial and training.vat perturb word vectors, which this embedding does not have: use "
            "embedding=learned or another with a table, or leave them out."
        )

    def rows(self) -> Tensor | None:
        """(V, E) rows for inspection, detached; None if there is no table."""
        return None


@dataclass(frozen=True, kw_only=True)
class EmbeddingBuilder(ABC):
    """Base class of builders of embeddings; configured by a file in configs/embedding."""

    def check(self, paths: Paths) -> None:  # noqa: B027  (most kinds need no files)
        """Raise UserError if files that `build` needs are missing; called before documents are read."""

    @abstractmethod
    def build(self, tokenized: TokenizedCorpus, corpus: Corpus, paths: Paths) -> Embedding:
        """The embedding of a tokenized corpus's vocabulary. Raises UserError."""

    @abstractmethod
    def empty(self, num_words: int, dimension: int) -> Embedding:
        """An embedding of this kind and size, to load a checkpoint into."""


class BagLayer(nn.Module):
    """Computes `linear(Σ_t weight_t · row_t)`."""

    weighs_outputs: ClassVar[bool] = False  # whether a token can have a different weight for each output

    @property
    @abstractmethod
    def output_bias(self) -> Tensor:
        """(H,) the linear layer's bias."""

    @abstractmethod
    def forward(self, token_ids: Tensor, token_weights: Tensor) -> Tensor:
        """(B, T) token ids and (B, T) weights, or (B, T, H) weights if `weighs_outputs` → (B, H)."""


class TableEmbedding(Embedding):
    """A table of dense rows, with zeros for <pad>.

    trainable: whether the rows are trained with the network.
    dropout: fraction of the values of each word's row that is zeroed in training.
    word_dropout: fraction of the words whose whole row is zeroed in training. Gal and Ghahramani (2016) drop types;
    this drops single occurrences.
    max_norm: rows with a larger L2 norm are rescaled to it, at the start and after each optimizer step.
    """

    def __init__(
        self,
        weights: Tensor,
        *,
        trainable: bool = True,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        """weights: (V, E), used as the table without a copy."""
        super().__init__()
        self.num_words, self.dimension = weights.shape
        with torch.no_grad():
            weights[PAD].zero_()
        self.table = nn.Embedding(self.num_words, self.dimension, padding_idx=PAD, _weight=weights)
        self.table.requires_grad_(trainable)
        self.dropout = Dropout(dropout)
        self.word_dropout = word_dropout
        self.max_norm = max_norm
        if max_norm is not None:
            self.limit_norms()
            self.register_load_state_dict_post_hook(lambda module, _: module.limit_norms())  # type: ignore[no-untyped-call]

    def forward(self, token_ids: Tensor) -> Tensor:
        return self.drop(self.table(token_ids))

    def drop(self, embedded: Tensor) -> Tensor:
        """(B, T, E) rows of words → (B, T, E), with this embedding's dropout in training."""
        if not self.training or not self.word_dropout:
            return self.dropout(embedded)  # type: ignore[no-any-return]
        mask = keep_mask(embedded.shape[:2], self.word_dropout, embedded)[:, :, None]  # (B, T, 1)
        if self.dropout.probability:
            mask = dropout_mask(embedded.shape, self.dropout.probability, embedded).mul_(mask)  # (B, T, E)
        return embedded * mask

    def limit_norms(self) -> None:
        """Rescale the rows that have a gradient, or all rows, to `max_norm`."""
        weights = self.table.weight.detach()
        if self.max_norm is None or weights.is_meta:
            return
        gradient = self.table.weight.grad
        changed = torch.arange(len(weights), device=weights.device)
        if gradient is not None and gradient.is_sparse:
            changed = gradient.coalesce().indices()[0]
        rows = weights.index_select(0, changed)
        norms = rows.norm(dim=1, keepdim=True)
        limited = torch.where(norms > self.max_norm * (1 + 1e-6), rows * (self.max_norm / norms), rows)
        weights.index_copy_(0, changed, limited)

    def keep_normalized(self, word_counts: Tensor) -> None:
        """Normalise the table, now and after each optimizer step, by the (V,) numbers of occurrences of each word.

        With words weighted by their frequency, the values of every dimension have mean 0 and the same standard
        deviation, that of the whole table at the start (Miyato et al. 2017, eq. 1, where it is 1). A network cannot
        make perturbations of a given size harmless by large embeddings.
        """
        self.frequencies: Tensor
        weights = self.table.weight.detach()
        frequencies = (word_counts / word_counts.sum()).to(weights.dtype)
        self.register_buffer("frequencies", frequencies, persistent=False)  # (V,)
        self.std = float((self.frequencies @ (weights - self.frequencies @ weights) ** 2).mean() ** 0.5)
        self.normalize()

    @torch.no_grad()
    def normalize(self) -> None:
        """Normalise the table as `keep_normalized` says. <pad> remains zero."""
        assert self.std is not None
        weights = self.table.weight.detach()
        weights.sub_(self.frequencies @ weights)
        std = (self.frequencies @ weights.square()).sqrt()  # (E,)
        weights.mul_(self.std / std.clamp(min=1e-12))
        weights[PAD].zero_()

    def bag_layer(self, num_outputs: int) -> BagLayer:
        return TableBagLayer(self, num_outputs)

    def rows(self) -> Tensor:
        return self.table.weight.detach()


class TableBagLayer(BagLayer):
    """A linear layer on the weighted sum of dense rows."""

    def __init__(self, embedding: TableEmbedding, num_outputs: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.linear = nn.Linear(embedding.dimension, num_outputs)

    @property
    def output_bias(self) -> Tensor:
        return self.linear.bias

    def forward(self, token_ids: Tensor, token_weights: Tensor) -> Tensor:
        table = self.embedding.table
        if self.training and self.embedding.word_dropout:
            token_weights = token_weights * keep_mask(token_weights.shape, self.embedding.word_dropout, token_weights)
        document = F.embedding_bag(
            token_ids, table.weight, mode="sum", per_sample_weights=token_weights, sparse=table.sparse
        )  # (B, E)
        return self.linear(self.embedding.dropout(document))  # type: ignore[no-any-return]  # (B, H)


class OneHotEmbedding(Embedding):
    """One dimension per word, E = V. The identity table is not stored; the first layer looks up rows of its weights.

    Its weights are initialised like those of the Keras layer of the same shape (Glorot and Bengio 2010): uniform in
    ±sqrt(6 / (V + H)).
    """

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self.num_words = self.dimension = num_words

    def forward(self, token_ids: Tensor) -> Tensor:
        return F.one_hot(token_ids, self.dimension).to(torch.get_default_dtype())  # (B, T, V)

    def bag_layer(self, num_outputs: int) -> BagLayer:
        return OneHotBagLayer(self.dimension, num_outputs)

    def projected(self, num_outputs: int) -> "TableEmbedding":
        return TableEmbedding(nn.init.xavier_uniform_(torch.empty(self.num_words, num_outputs)))


class OneHotBagLayer(BagLayer):
    """A linear layer on a V-dimensional bag of words, computed as a sum of the rows of its weights."""

    weighs_outputs = True

    def __init__(self, vocabulary_size: int, num_outputs: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary_size, num_outputs)
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        nn.init.xavier_uniform_(self.table.weight)

    @property
    def output_bias(self) -> Tensor:
        return self.bias

    def forward(self, token_ids: Tensor, token_weights: Tensor) -> Tensor:
        if token_weights.ndim == 3:
            rows: Tensor = self.table(token_ids)  # (B, T, H)
            return (rows * token_weights).sum(dim=1) + self.bias
        table = self.table
        document = F.embedding_bag(
            token_ids, table.weight, mode="sum", per_sample_weights=token_weights, sparse=table.sparse
        )  # (B, H)
        return document + self.bias


@dataclass(frozen=True, kw_only=True)
class OneHot(EmbeddingBuilder):
    """One dimension per word."""

    def build(self, tokenized: TokenizedCorpus, corpus: Corpus, paths: Paths) -> OneHotEmbedding:
        return OneHotEmbedding(len(tokenized.tokenizer.tokens))

    def empty(self, num_words: int, dimension: int) -> OneHotEmbedding:
        return OneHotEmbedding(num_words)


@dataclass(frozen=True, kw_only=True)
class Regularized(EmbeddingBuilder):
    """The settings of all embeddings with a table; see TableEmbedding."""

    dropout: Fraction
    word_dropout: Fraction
    max_norm: Annotated[float, Gt(0)] | None

    def table(self, weights: Tensor, trainable: bool = True) -> TableEmbedding:
        """The (V, E) weights as an embedding with these settings."""
        return TableEmbedding(
            weights,
            trainable=trainable,
            dropout=self.dropout,
            word_dropout=self.word_dropout,
            max_norm=self.max_norm,
        )

    def empty(self, num_words: int, dimension: int) -> TableEmbedding:
        return self.table(torch.zeros(num_words, dimension))


@dataclass(frozen=True, kw_only=True)
class Learned(Regularized):
    """A table trained with the network, initialised from N(0, σ²) with σ = `initial_std` or 1/√E.

    adapt_below: with fewer training documents, N < M = `adapt_below`, few rows can be learned before a network knows
    its documents by heart. A row then starts with 2 r · D / √(L E) in addition, where r are L log-count ratios of the
    word (`training_ratios`) and D an (L, E) matrix from N(0, 1), and the word dropout p is p^((N / M)^(1/4)).
    ratio_scale: if not None, the random values of such a row are multiplied by `ratio_scale` ‖r‖ / √L. Words that say
    nothing about the labels start near zero, where they cannot win a maximum over the document by chance, and the
    others in different directions, so that filters differ in the words that they find.
    """

    dimension: Size
    initial_std: Annotated[float, Gt(0)] | None
    adapt_below: Annotated[int, Ge(0)] = 0  # older run directories lack it
    ratio_scale: Annotated[float, Gt(0)] | None = None  # older run directories lack it

    def build(self, tokenized: TokenizedCorpus, corpus: Corpus, paths: Paths) -> TableEmbedding:
        std = self.dimension**-0.5 if self.initial_std is None else self.initial_std
        rows = torch.randn(len(tokenized.tokenizer.tokens), self.dimension) * std  # (V, E)
        relative_size = len(corpus.splits["train"].rows) / max(1, self.adapt_below)
        if relative_size >= 1 or not self.adapt_below:
            return self.table(rows)
        ratios = training_ratios(tokenized, corpus, ROW_SMOOTHING)  # (V, L)
        num_labels = ratios.shape[1]
        if self.ratio_scale is not None:
            rows *= self.ratio_scale / num_labels**0.5 * ratios.norm(dim=1, keepdim=True)
        scale = RATIO_SCALE / (num_labels * self.dimension) ** 0.5
        rows += scale * ratios @ torch.randn(num_labels, self.dimension)
        return replace(self, word_dropout=self.word_dropout**relative_size**0.25).table(rows)
