"""Recurrent networks over the words of a document: simple RNN, GRU and LSTM, read forwards, backwards or both ways.

Axes: B documents, T tokens, E embedding dimensions, H hidden size, G gates of a cell, D directions (1 or 2).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from newsreel.embeddings.dropout import Dropout, dropout_mask
from newsreel.embeddings.embedding import Embedding
from newsreel.models.network import Network
from newsreel.models.pooling import MaskedPooling, PoolingName

CellName = Literal["rnn", "gru", "lstm"]
Directions = Literal["forward", "backward", "both"]
CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
FUNCTIONS: dict[type, Any] = {nn.RNN: torch.rnn_tanh, nn.GRU: torch.gru, nn.LSTM: torch.lstm}
NUM_GATES = {"rnn": 1, "gru": 3, "lstm": 4}  # G; `rnn` has weights as for one gate
MICRO_BATCH_SIZES = {"rnn": 32, "gru": 32, "lstm": 16}  # by measurement: states of a part stay in a core's cache
REVERSED = {"forward": (False,), "backward": (True,), "both": (False, True)}  # of each direction


class RecurrentNetwork(Network):
    """Layers of a recurrent cell, pooled over time.

    cell: `rnn` (Elman 1990, tanh), `gru` (Cho et al. 2014) or `lstm` (Hochreiter and Schmidhuber 1997, with the forget
    gate of Gers et al. 2000, whose bias is initialised to 1: Jozefowicz et al. 2015). Per gate, recurrent weights are
    initialised orthogonally (Saxe et al. 2014) and input weights Glorot-uniformly.

    recurrent_dropout: probability p of dropping recurrent weights U during training: U ∘ M / (1 - p), with each entry
    of M drawn from Bernoulli(1 - p) once per micro-batch, layer and direction and constant over time steps (the
    weight-dropped LSTM of Merity et al. 2018, section 2). Unlike a mask on the states of each document (Gal and
    Ghahramani 2016), it allows the fused kernel.
    layer_norm: whether the states of a layer, all directions together, are normalised before the next layer and the
    pooling; unlike in Ba et al. 2016, there is no normalisation within the recurrence.

    If the embedding can look up its rows multiplied by the input weights of the first layer (`Embedding.projected`),
    for all gates and directions at once, it replaces these weights: those of the cells are a frozen identity.

    Sequences are not packed: padding follows a document's last token, so it cannot influence the states of the tokens,
    and pooling masks it. The backward direction reverses each document within its length, so that it starts with a
    token; with `pooling=last` its final state is at the first token.
    """

    needs_dense_embeddings = False

    def __init__(
        self,
        embedding: Embedding,
        num_outputs: int,
        *,
        cell: CellName,
        directions: Directions,
        hidden_size: Annotated[int, Ge(1), Le(65_536)],
        num_layers: Annotated[int, Ge(1), Le(100)],
        pooling: PoolingName,
        dropout: Annotated[float, Ge(0), Lt(1)],
        recurrent_dropout: Annotated[float, Ge(0), Lt(1)],
        layer_norm: bool,
    ) -> None:
        super().__init__()
        self.micro_batch_size = MICRO_BATCH_SIZES[cell]
        self.reversed = REVERSED[directions]
        gates_size = NUM_GATES[cell] * hidden_size  # G · H
        projected = embedding.projected(len(self.reversed) * gates_size)
        self.embedding = embedding if projected is None else projected
        self.is_projected = projected is not None
        width = len(self.reversed) * hidden_size  # D · H
        sizes = [gates_size if self.is_projected else embedding.dimension, *[width] * (num_layers - 1)]
        self.layers = nn.ModuleList(
            nn.ModuleList(CELLS[cell](size, hidden_size, batch_first=True) for _ in self.reversed) for size in sizes
        )
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            for recurrence in layer:
                assert isinstance(recurrence, nn.RNNBase)
                initialize(recurrence)
        if self.is_projected:
            for recurrence in self.layers[0]:  # type: ignore[attr-defined]
                nn.init.eye_(recurrence.weight_ih_l0.requires_grad_(False))
        self.norms = nn.ModuleList(nn.LayerNorm(width) if layer_norm else nn.Identity() for _ in sizes)
        self.recurrent_dropout = recurrent_dropout
        self.pooling = MaskedPooling(pooling, width)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(self.pooling.num_parts * width, num_outputs)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        order = reversed_order(lengths, token_ids.shape[1])  # (B, T)
        num_directions = len(self.reversed)
        states = self.embedding(token_ids)  # (B, T, E), or (B, T, D · G · H) if projected
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if number:
                states = self.dropout(states)
            is_split = self.is_projected and not number
            inputs = states.chunk(num_directions, dim=2) if is_split else [states] * num_directions
            parts = [
                self.run_direction(recurrence, part, order if backward else None)
                for recurrence, part, backward in zip(layer, inputs, self.reversed, strict=True)  # type: ignore[call-overload]
            ]
            states = norm(torch.cat(parts, dim=2))  # (B, T, D · H), each state at the position of its token
        document = self.pooling(states, lengths, self.reversed)  # (B, num_parts · D · H)
        return self.output(self.dropout(document))  # type: ignore[no-any-return]  # (B, num_outputs)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        recurrent = [list(layer.parameters()) for layer in self.layers]
        inside = {weights for group in recurrent for weights in group}
        top, *below = super().layer_groups()
        return [[each for each in top if each not in inside], *reversed(recurrent), *below]

    def copy_layers(self, weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> list[str]:
        """Copy the first layers of a network with the same cell and hidden size, in the directions that both have."""
        available = REVERSED.get(str(settings.get("directions")), ())
        copied = []
        for index, is_reversed in enumerate(self.reversed):
            if is_reversed not in available:
                continue
            for number, layer in enumerate(self.layers):
                own = layer[index].state_dict()  # type: ignore[index]
                prefix = f"layers.{number}.{available.index(is_reversed)}."
                other = {name: weights.get(f"{prefix}{name}") for name in own}
                if any(other[name] is None or other[name].shape != own[name].shape for name in own):  # type: ignore[union-attr]
                    break
                layer[index].load_state_dict(other)  # type: ignore[index]
                copied.append(f"{'backward' if is_reversed else 'forward'} {number + 1}")
        return copied

    def run_direction(self, recurrence: nn.RNNBase, inputs: Tensor, order: Tensor | None) -> Tensor:
        """(B, T, X) → (B, T, H): the states of a cell that reads in the (B, T) order, each at its token's position."""
        if order is not None:
            inputs = reorder(inputs, order)
        if self.training and self.recurrent_dropout:
            assert isinstance(recurrence.weight_hh_l0, Tensor)
            weights = recurrence.weight_hh_l0
            dropped = weights * dropout_mask(weights.shape, self.recurrent_dropout, weights)  # (G · H, H)
            states, _ = run_cell(recurrence, inputs, zero_state(recurrence, inputs), dropped)
        else:
            states, _ = recurrence(inputs)
        return states if order is None else reorder(states, order)


def run_cell(
    recurrence: nn.RNNBase, inputs: Tensor, state: Sequence[Tensor], weight_hh: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a cell on (B, T, X) inputs, or (T, B, X) if it is not `batch_first`, with these recurrent weights.

    state: (1, B, H), for LSTMs two of them. Returns the states at all steps, and the final ones. Unlike
    `torch.func.functional_call`, this does not change the module for the time of the call, so threads can share it.
    """
    weights = [recurrence.weight_ih_l0, weight_hh, recurrence.bias_ih_l0, recurrence.bias_hh_l0]
    hx = list(state) if isinstance(recurrence, nn.LSTM) else state[0]
    outputs, *final = FUNCTIONS[type(recurrence)](
        inputs, hx, weights, True, 1, 0.0, recurrence.training, False, recurrence.batch_first
    )
    return outputs, tuple(final)


def zero_state(recurrence: nn.RNNBase, inputs: Tensor) -> list[Tensor]:
    """The state of a cell before the first token of (B, T, X) inputs."""
    zeros = inputs.new_zeros(1, len(inputs), recurrence.hidden_size)
    return [zeros] * (2 if isinstance(recurrence, nn.LSTM) else 1)


def initialize(recurrence: nn.RNNBase) -> None:
    """Initialise each gate: orthogonal recurrent weights, Glorot-uniform input weights, zero bias, forget bias 1."""
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
        if isinstance(recurrence, nn.LSTM):  # gates are ordered i, f, g, o; the two biases are added
            assert isinstance(recurrence.bias_ih_l0, Tensor)
            recurrence.bias_ih_l0[hidden_size : 2 * hidden_size] = 1.0


def reversed_order(lengths: Tensor, num_tokens: int) -> Tensor:
    """(B, T) positions that reverse each document within its length and leave padding in place."""
    positions = torch.arange(num_tokens, device=lengths.device).expand(lengths.shape[0], -1)  # (B, T)
    mirrored = lengths[:, None] - 1 - positions
    return torch.where(mirrored >= 0, mirrored, positions)


def reorder(states: Tensor, order: Tensor) -> Tensor:
    """Gather (B, T, X) states at the (B, T) positions `order`."""
    return states.gather(1, order[:, :, None].expand_as(states))
