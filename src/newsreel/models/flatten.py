"""A dense network on the concatenated embeddings of a fixed number of tokens.

Axes: B documents, T tokens, T0 positions that the network reads, E embedding dimensions.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from newsreel.embeddings.dropout import Dropout
from newsreel.embeddings.embedding import Embedding
from newsreel.models.network import HiddenSizes, Network, glorot_linear, mlp
from newsreel.text.tokens import PAD


class FlattenMLP(Network):
    """Embedding, flatten, dense layers with ReLU: every position has separate weights (Chollet 2017, section 6.1).

    num_tokens: T0. Documents are aligned at their ends, as by Keras' `pad_sequences`: of a longer document the last T0
    tokens are read, and a shorter one is padded with zeros at the front.
    """

    def __init__(
        self,
        embedding: Embedding,
        num_outputs: int,
        *,
        num_tokens: Annotated[int, Ge(1), Le(100_000)],
        hidden_sizes: HiddenSizes,
        dropout: Annotated[float, Ge(0), Lt(1)],
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.num_tokens = num_tokens
        first, *sizes = [num_tokens * embedding.dimension, *hidden_sizes, num_outputs]
        self.layers = nn.Sequential(Dropout(dropout), glorot_linear(first, sizes[0]), *mlp(sizes, dropout))

    @property
    def output_bias(self) -> Tensor:
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        return last.bias

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        positions = (
            torch.arange(-self.num_tokens, 0, device=lengths.device) + lengths[:, None]
        )  # (B, T0), negative: padding
        token_ids = token_ids.gather(1, positions.clamp(min=0)).where(positions >= 0, PAD)  # (B, T0)
        rows = self.embedding(token_ids) * (positions >= 0)[:, :, None]  # (B, T0, E); <pad> may have any row
        return self.layers(rows.flatten(1))  # type: ignore[no-any-return]  # (B, num_outputs)
