"""Long short-term memory over the words of a document.

Axes: B documents, T tokens, E embedding dimensions, H hidden size.
"""

from typing import Annotated

from torch import Tensor, nn

from newsreel.embeddings.embedding import Embedding
from newsreel.models.network import Network
from newsreel.models.pooling import MaskedPooling, PoolingName
from newsreel.rules import Range


class LSTM(Network):
    """LSTM with a forget gate (Hochreiter and Schmidhuber 1997; Gers et al. 2000), pooled over time.

    Batches stay padded: padding stands after a document's last token, where it cannot reach the states of its tokens,
    and pooling leaves it out. The forget gate's bias starts at 1 (Jozefowicz et al. 2015).
    """

    def __init__(
        self,
        embedding: Embedding,
        num_outputs: int,
        *,
        hidden_size: Annotated[int, Range(min=1)],
        num_layers: Annotated[int, Range(min=1)],
        pooling: PoolingName,
        dropout: Annotated[float, Range(min=0, below=1)],
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.lstm = nn.LSTM(
            embedding.dimension, hidden_size, num_layers, batch_first=True, dropout=dropout if num_layers > 1 else 0.0
        )
        for layer in range(num_layers):
            input_bias: Tensor = getattr(self.lstm, f"bias_ih_l{layer}")
            recurrent_bias: Tensor = getattr(self.lstm, f"bias_hh_l{layer}")  # the two are added
            nn.init.zeros_(input_bias)
            nn.init.zeros_(recurrent_bias)
            nn.init.ones_(input_bias.data[hidden_size : 2 * hidden_size])  # gates stand in the order i, f, g, o
        self.pooling = MaskedPooling(pooling)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.pooling.num_parts * hidden_size, num_outputs)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        embedded = self.embedding(token_ids)  # (B, T, E)
        states, _ = self.lstm(embedded)  # (B, T, H)
        document = self.pooling(states, lengths)  # (B, num_parts · H)
        return self.output(self.dropout(document))  # type: ignore[no-any-return]  # (B, num_outputs)
