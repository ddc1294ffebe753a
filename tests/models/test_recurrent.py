"""Recurrent networks against cells written from their equations."""

from typing import Any

import pytest
import torch
from torch import Tensor

from newsreel.embeddings.embedding import TableEmbedding
from newsreel.models.recurrent import RecurrentNetwork, reversed_order

WORDS = [f"word{number}" for number in range(30)]
H = 4


def network(**changes: Any) -> RecurrentNetwork:
    torch.manual_seed(0)
    embedding = TableEmbedding(torch.randn(len(WORDS), 5))
    settings: dict[str, Any] = {
        "cell": "lstm",
        "directions": "forward",
        "hidden_size": H,
        "num_layers": 1,
        "pooling": "last",
        "dropout": 0.0,
    }
    made = RecurrentNetwork(embedding, 2, **{**settings, **changes})
    for name, parameter in made.named_parameters():
        if "bias" in name:  # so that a bias in the wrong place is seen
            torch.nn.init.normal_(parameter)
    return made.eval()


def weights(recurrence: torch.nn.Module, num_gates: int) -> tuple[list[Any], ...]:
    parameters = dict(recurrence.named_parameters())
    return tuple(
        list(parameters[f"{name}_l0"].chunk(num_gates)) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )


def lstm(recurrence: torch.nn.Module, inputs: Tensor) -> Tensor:
    """States (t, H) of one document (t, E): Gers et al. 2000."""
    (w_i, w_f, w_g, w_o), (u_i, u_f, u_g, u_o), (b_i, b_f, b_g, b_o), (c_i, c_f, c_g, c_o) = weights(recurrence, 4)
    h, c = torch.zeros(H), torch.zeros(H)
    states = []
    for x in inputs:
        g = torch.tanh(w_g @ x + b_g + u_g @ h + c_g)  # candidate
        i = torch.sigmoid(w_i @ x + b_i + u_i @ h + c_i)  # input gate
        f = torch.sigmoid(w_f @ x + b_f + u_f @ h + c_f)  # forget gate
        o = torch.sigmoid(w_o @ x + b_o + u_o @ h + c_o)  # output gate
        c = f * c + i * g  # cell
        h = o * torch.tanh(c)  # state
        states.append(h)
    return torch.stack(states)


def gru(recurrence: torch.nn.Module, inputs: Tensor) -> Tensor:
    """Cho et al. 2014, with the reset gate behind the recurrent product."""
    (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n), (c_r, c_z, c_n) = weights(recurrence, 3)
    h = torch.zeros(H)
    states = []
    for x in inputs:
        r = torch.sigmoid(w_r @ x + b_r + u_r @ h + c_r)  # reset gate
        z = torch.sigmoid(w_z @ x + b_z + u_z @ h + c_z)  # update gate
        n = torch.tanh(w_n @ x + b_n + r * (u_n @ h + c_n))  # candidate
        h = (1 - z) * n + z * h
        states.append(h)
    return torch.stack(states)


def rnn(recurrence: torch.nn.Module, inputs: Tensor) -> Tensor:
    """Elman 1990."""
    (w,), (u,), (b,), (c,) = weights(recurrence, 1)
    h = torch.zeros(H)
    states = []
    for x in inputs:
        h = torch.tanh(w @ x + b + u @ h + c)
        states.append(h)
    return torch.stack(states)


UNROLLED = {"lstm": lstm, "gru": gru, "rnn": rnn}
TOKEN_IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 0, 0, 0, 0]])
LENGTHS = torch.tensor([7, 3])


@pytest.mark.parametrize("cell", UNROLLED)
@pytest.mark.parametrize("directions", ["forward", "backward", "both"])
def test_last_states_are_those_of_the_equations(cell: str, directions: str) -> None:
    made = network(cell=cell, directions=directions)
    logits = made(TOKEN_IDS, LENGTHS)
    for document, length in enumerate(LENGTHS):
        inputs = made.embedding(TOKEN_IDS[document : document + 1, :length])[0]
        finals = [
            UNROLLED[cell](recurrence, inputs.flip(0) if backward else inputs)[-1]
            for recurrence, backward in zip(made.layers[0], made.reversed, strict=True)  # type: ignore[arg-type]
        ]
        assert torch.allclose(logits[document], made.output(torch.cat(finals)), atol=1e-6)


def test_layers_in_both_directions_stand_on_each_other() -> None:
    made = network(directions="both", num_layers=2, pooling="mean")
    logits = made(TOKEN_IDS, LENGTHS)
    for document, length in enumerate(LENGTHS):
        states = made.embedding(TOKEN_IDS[document : document + 1, :length])[0]
        for layer in made.layers:
            forward, backward = layer  # type: ignore[misc]
            states = torch.cat([lstm(forward, states), lstm(backward, states.flip(0)).flip(0)], dim=1)
        assert torch.allclose(logits[document], made.output(states.mean(dim=0)), atol=1e-6)


def test_both_directions_equal_torchs_own_on_an_unpadded_document() -> None:
    made = network(directions="both", pooling="mean")
    own = torch.nn.LSTM(5, H, batch_first=True, bidirectional=True)
    forward, backward = made.layers[0]  # type: ignore[misc]
    own.load_state_dict(
        {**forward.state_dict(), **{f"{name}_reverse": value for name, value in backward.state_dict().items()}}
    )
    states, _ = own(made.embedding(TOKEN_IDS[:1]))
    assert torch.allclose(made(TOKEN_IDS[:1], LENGTHS[:1]), made.output(states.mean(dim=1)), atol=1e-6)


def test_documents_are_reversed_within_their_length() -> None:
    assert reversed_order(torch.tensor([3, 0, 5]), 5).tolist() == [[2, 1, 0, 3, 4], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]


def test_weights_start_orthogonal_and_the_forget_gate_open() -> None:
    torch.manual_seed(0)
    embedding = TableEmbedding(torch.randn(len(WORDS), 5))
    made = RecurrentNetwork(
        embedding, 2, cell="lstm", directions="both", hidden_size=H, num_layers=2, pooling="last", dropout=0.0
    )
    for layer in made.layers:
        for recurrence in layer:  # type: ignore[attr-defined]
            assert (recurrence.bias_ih_l0 + recurrence.bias_hh_l0).tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
            for gate in recurrence.weight_hh_l0.split(H):
                assert torch.allclose(gate @ gate.T, torch.eye(H), atol=1e-5)
