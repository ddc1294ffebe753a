"""Recurrent networks over the words of a document: simple RNN, GRU and LSTM, read forwards, backwards or both ways.

Axes: B documents, T tokens, E embedding dimensions, H hidden size, G gates of a cell, D directions (1 or 2).
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn
from torch.func import functional_call

from newsreel.embeddings.embedding import Embedding
from newsreel.models.network import Network
from newsreel.models.pooling import MaskedPooling, PoolingName

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
NUM_GATES = {"rnn": 1, "gru": 3, "lstm": 4}  # G; a cell without gates has the weights of one
READINGS = {"forward": (False,), "backward": (True,), "both": (False, True)}  # which of them are reversed


class RecurrentNetwork(Network):
    """Layers of a recurrent cell, pooled over time.

    cell: `rnn` (Elman 1990, tanh), `gru` (Cho et al. 2014) or `lstm` (Hochreiter and Schmidhuber 1997, with the forget
    gate of Gers et al. 2000, whose bias starts at 1: Jozefowicz et al. 2015). Recurrent weights start orthogonal
    (Saxe et al. 2014), input weights Glorot uniform, gate by gate.

    recurrent_dropout: share p of the recurrent weights U that are zeroed while training: U ∘ M / (1 - p) with each
    entry of M drawn from Bernoulli(1 - p) once for a batch, layer and direction, the same at every time step (the
    weight-dropped LSTM of Merity et al. 2018, section 2). Unlike the mask on the states of each document (Gal and
    Ghahramani 2016), it leaves the recurrence to one fast kernel.
    layer_norm: whether each state of a layer is normalised, all directions together, before the next layer and the
    pooling; the recurrence itself runs on states as they are, unlike in Ba et al. 2016.

    An embedding that can look up what its rows times the input weights of the first layer give, all gates and
    directions side by side, replaces these weights: those of the cells are then the identity, and not trained.

    Batches stay padded: padding stands after a document's last token, where it cannot reach the states of its tokens,
    and pooling leaves it out. Reading backwards reverses each document within its own length, so that it too begins
    with a token; with `pooling=last` a backward state is the one that has read everything, at the first token.
    """

    needs_dense_embeddings = False

    def __init__(
        self,
        embedding: Embedding,
        num_outputs: int,
        *,
        cell: Literal["rnn", "gru", "lstm"],
        directions: Literal["forward", "backward", "both"],
        hidden_size: Annotated[int, Ge(1), Le(65_536)],
        num_layers: Annotated[int, Ge(1), Le(100)],
        pooling: PoolingName,
        dropout: Annotated[float, Ge(0), Lt(1)],
        recurrent_dropout: Annotated[float, Ge(0), Lt(1)],
        layer_norm: bool,
    ) -> None:
        super().__init__()
        self.reversed = READINGS[directions]
        gates_size = NUM_GATES[cell] * hidden_size  # G · H
        projected = embedding.projected(len(self.reversed) * gates_size)
        self.embedding = embedding if projected is None else projected
        self.reads_gates = projected is not None
        width = len(self.reversed) * hidden_size  # D · H
        sizes = [gates_size if self.reads_gates else embedding.dimension, *[width] * (num_layers - 1)]
        self.layers = nn.ModuleList(
            nn.ModuleList(CELLS[cell](size, hidden_size, batch_first=True) for _ in self.reversed) for size in sizes
        )
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            for recurrence in layer:
                assert isinstance(recurrence, nn.RNNBase)
                initialize(recurrence)
        if self.reads_gates:
            for recurrence in self.layers[0]:  # type: ignore[attr-defined]
                nn.init.eye_(recurrence.weight_ih_l0.requires_grad_(False))
        self.norms = nn.ModuleList(nn.LayerNorm(width) if layer_norm else nn.Identity() for _ in sizes)
        self.recurrent_dropout = recurrent_dropout
        self.pooling = MaskedPooling(pooling, width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.pooling.num_parts * width, num_outputs)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        order = reversed_order(lengths, token_ids.shape[1])  # (B, T)
        num_directions = len(self.reversed)
        states = self.embedding(token_ids)  # (B, T, E), or (B, T, D · G · H) in place of input weights
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if number:
                states = self.dropout(states)
            apart = self.reads_gates and not number
            inputs = states.chunk(num_directions, dim=2) if apart else [states] * num_directions
            parts = [
                self.read(recurrence, part, order if backward else None)
                for recurrence, part, backward in zip(layer, inputs, self.reversed, strict=True)  # type: ignore[call-overload]
            ]
            states = norm(torch.cat(parts, dim=2))  # (B, T, D · H), every state at the place of its token
        document = self.pooling(states, lengths, self.reversed)  # (B, num_parts · D · H)
        return self.output(self.dropout(document))  # type: ignore[no-any-return]  # (B, num_outputs)

    def read(self, recurrence: nn.RNNBase, inputs: Tensor, order: Tensor | None) -> Tensor:
        """(B, T, X) → (B, T, H): the states of a cell that reads in the (B, T) order, each at its token's place."""
        if order is not None:
            inputs = reorder(inputs, order)
        if self.training and self.recurrent_dropout:
            assert isinstance(recurrence.weight_hh_l0, Tensor)
            dropped = F.dropout(recurrence.weight_hh_l0, self.recurrent_dropout)  # (G · H, H)
            states, _ = functional_call(recurrence, {"weight_hh_l0": dropped}, (inputs,))
        else:
            states, _ = recurrence(inputs)
        return states if order is None else reorder(states, order)


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
    places = torch.arange(num_tokens, device=lengths.device).expand(lengths.shape[0], -1)  # (B, T)
    mirrored = lengths[:, None] - 1 - places
    return torch.where(mirrored >= 0, mirrored, places)


def reorder(states: Tensor, order: Tensor) -> Tensor:
    """(B, T, X) states at the places that (B, T) `order` names."""
    return states.gather(1, order[:, :, None].expand_as(states))
