"""Convolutions over the words of a document.

Axes: B documents, T tokens (or windows after a convolution), E embedding dimensions, F filters.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Len, Lt
from torch import Tensor, nn

from newsreel.embeddings.dropout import Dropout
from newsreel.embeddings.embedding import Embedding
from newsreel.models.network import Network
from newsreel.models.pooling import MaskedPooling, token_mask


class StackedCNN(Network):
    """Convolution, max pooling, convolution, … , pooling over time: the stack of Chollet 2017, section 6.4.

    pooling: over the windows of the last convolution; `max` in the book.
    hidden_sizes: of the dense layers with ReLU between the pooling and the output layer.
    """

    def __init__(
        self,
        embedding: Embedding,
        num_outputs: int,
        *,
        num_filters: Annotated[int, Ge(1), Le(65_536)],
        kernel_size: Annotated[int, Ge(1), Le(1_000)],
        num_layers: Annotated[int, Ge(1), Le(100)],
        pool_size: Annotated[int, Ge(1)],
        pooling: Literal["max", "mean", "max_mean"],
        hidden_sizes: Sequence[Annotated[int, Ge(1), Le(65_536)]],
        input_dropout: Annotated[float, Ge(0), Lt(1)],
        dropout: Annotated[float, Ge(0), Lt(1)],
    ) -> None:
        super().__init__()
        self.embedding = embedding
        sizes = [embedding.dimension, *[num_filters] * (num_layers - 1)]
        self.convolutions = nn.ModuleList(MaskedConvolution(size, num_filters, kernel_size) for size in sizes)
        self.pool_size = pool_size
        self.input_dropout = Dropout(input_dropout)
        self.dropout = Dropout(dropout)
        self.pooling = MaskedPooling(pooling, num_filters)
        sizes = [self.pooling.num_parts * num_filters, *hidden_sizes]
        self.hidden = nn.Sequential(
            *(layer for before, after in pairwise(sizes) for layer in (nn.Linear(before, after), nn.ReLU()))
        )
        self.output = nn.Linear(sizes[-1], num_outputs)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        states = self.input_dropout(self.embedding(token_ids)).transpose(1, 2)  # (B, E, T)
        for number, convolution in enumerate(self.convolutions):
            if number:  # the last window of a document may be shorter
                states = max_pool(states, self.pool_size)  # (B, F, T / pool_size)
                lengths = (lengths + self.pool_size - 1) // self.pool_size
            states, lengths = convolution(states, lengths)  # (B, F, T'), zeros where padded
        document = self.pooling(states.transpose(1, 2), lengths)  # (B, num_parts · F)
        return self.output(self.dropout(self.hidden(document)))  # type: ignore[no-any-return]  # (B, num_outputs)


class KimCNN(Network):
    """Parallel convolutions with several kernel sizes, each filter's maximum over time (Kim 2014)."""

    def __init__(
        self,
        embedding: Embedding,
        num_outputs: int,
        *,
        num_filters: Annotated[int, Ge(1), Le(65_536)],
        kernel_sizes: Annotated[Sequence[Annotated[int, Ge(1), Le(1_000)]], Len(1, 100)],
        dropout: Annotated[float, Ge(0), Lt(1)],
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.convolutions = nn.ModuleList(
            MaskedConvolution(embedding.dimension, num_filters, kernel_size) for kernel_size in kernel_sizes
        )
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(len(kernel_sizes) * num_filters, num_outputs)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        states = self.embedding(token_ids).transpose(1, 2)  # (B, E, T)
        highest = [convolution(states, lengths)[0].amax(dim=2) for convolution in self.convolutions]  # (B, F) each
        return self.output(self.dropout(torch.cat(highest, dim=1)))  # type: ignore[no-any-return]  # (B, num_outputs)


class MaskedConvolution(nn.Module):
    """A convolution with ReLU over the windows within a document; documents shorter than the kernel are zero-padded."""

    def __init__(self, size: int, num_filters: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.convolution = nn.Conv1d(size, num_filters, kernel_size)

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, E, T), (B,) → (B, F, T') with zeros after each document's windows, (B,) numbers of windows."""
        states = states * token_mask(lengths, states.shape[2])[:, None].to(states.dtype)  # padding may have any values
        missing = states.new_zeros(states.shape[0], states.shape[1], self.kernel_size)[:, :, states.shape[2] :]
        states = torch.cat(
            [states, missing], dim=2
        )  # (B, E, ≥ kernel_size), without an `if`, which a trace would freeze
        num_windows = (lengths - self.kernel_size + 1).clamp(min=1)
        windows = self.convolution(states).relu()  # (B, F, T')
        return windows * token_mask(num_windows, windows.shape[2])[:, None].to(windows.dtype), num_windows


def max_pool(states: Tensor, size: int) -> Tensor:
    """(B, F, T) → (B, F, ⌈T / size⌉): the maximum of every `size` positions."""
    if torch.compiler.is_compiling():  # max_pool1d is recompiled for every T
        return F.max_pool2d(states[:, :, None], (1, size), ceil_mode=True)[:, :, 0]
    return F.max_pool1d(states, size, ceil_mode=True)
