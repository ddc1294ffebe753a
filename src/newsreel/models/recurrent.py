"""Recurrent networks over the words of a document: simple RNN, GRU and LSTM, read forwards, backwards or both ways.

Axes: B documents, T tokens, E embedding dimensions, H hidden size, D directions (1 or 2).
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from newsreel.embeddings.embedding import Embedding
from newsreel.models.network import Network
from newsreel.models.pooling import MaskedPooling, PoolingName
from newsreel.rules import Range

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
READINGS = {"forward": (False,), "backward": (True,), "both": (False, True)}  # which of them are reversed


class RecurrentNetwork(Network):
    """Layers of a recurrent cell, pooled over time.

    cell: `rnn` (Elman 1990, tanh), `gru` (Cho et al. 2014) or `lstm` (Hochreiter and Schmidhuber 1997, with the forget
    gate of Gers et al. 2000, whose bias starts at 1: Jozefowicz et al. 2015). Recurrent weights start orthogonal
    (Saxe et al. 2014), input weights Glorot uniform, gate by gate.

    Batches stay padded: padding stands after a document's last token, where it cannot reach the states of its tokens,
    and pooling leaves it out. Reading backwards reverses each document within its own length, so that it too begins
    with a token; with `pooling=last` a backward state is the one that has read everything, at the first token.
    """

    def __init__(
        self,
        embedding: Embedding,
        num_outputs: int,
        *,
        cell: Literal["rnn", "gru", "lstm"],
        directions: Literal["forward", "backward", "both"],
        hidden_size: Annotated[int, Range(min=1, max=65_536)],
        num_layers: Annotated[int, Range(min=1, max=100)],
        pooling: PoolingName,
        dropout: Annotated[float, Range(min=0, below=1)],
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.reversed = READINGS[directions]
        width = len(self.reversed) * hidden_size  # D · H
        sizes = [embedding.dimension, *[width] * (num_layers - 1)]
        self.layers = nn.ModuleList(
            nn.ModuleList(CELLS[cell](size, hidden_size, batch_first=True) for _ in self.reversed) for size in sizes
        )
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            for recurrence in layer:
                assert isinstance(recurrence, nn.RNNBase)
                initialize(recurrence)
        self.pooling = MaskedPooling(pooling, width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.pooling.num_parts * width, num_outputs)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        order = reversed_order(lengths, token_ids.shape[1])  # (B, T)
        states = self.embedding(token_ids)  # (B, T, E)
        for number, layer in enumerate(self.layers):
            if number:
                states = self.dropout(states)
            states = torch.cat(
                [
                    reorder(recurrence(reorder(states, order))[0], order) if backward else recurrence(states)[0]
                    for recurrence, backward in zip(layer, self.reversed, strict=True)  # type: ignore[call-overload]
                ],
                dim=2,
            )  # (B, T, D · H), every state at the place of its token
        document = self.pooling(states, lengths, self.reversed)  # (B, num_parts · D · H)
        return self.output(self.dropout(document))  # type: ignore[no-any-return]  # (B, num_outputs)


def initialize(recurrence: nn.RNNBase) -> None:
    """Orthogonal recurrent and Glorot-uniform input weights of each gate, zero biases, an open forget gate."""
    hidden_size = recurrence.hidden_size
    with torch.no_grad():
        for name, parameter in recurrence.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            for gate in torch.split(parameter, hidden_size):
                if name.startswith("weight_hh"):
                    nn.init.orthogonal_(gate)
                elif name.startswith("weight_ih"):
                    nn.init.xavier_uniform_(gate)
        if isinstance(recurrence, nn.LSTM):  # gates stand in the order i, f, g, o; the two biases are added
            assert isinstance(recurrence.bias_ih_l0, Tensor)
            recurrence.bias_ih_l0[hidden_size : 2 * hidden_size] = 1.0


def reversed_order(lengths: Tensor, num_tokens: int) -> Tensor:
    """(B, T) places that reverse each document within its length and leave padding where it is."""
    places = torch.arange(num_tokens, device=lengths.device).expand(len(lengths), -1)  # (B, T)
    mirrored = lengths[:, None] - 1 - places
    return torch.where(mirrored >= 0, mirrored, places)


def reorder(states: Tensor, order: Tensor) -> Tensor:
    """(B, T, X) states at the places that (B, T) `order` names."""
    return states.gather(1, order[:, :, None].expand_as(states))
