"""Recurrent networks against cells written from their equations."""

from typing import Any

import pytest
import torch
from torch import Tensor

from newsreel.embeddings.embedding import Embedding, OneHotEmbedding, TableEmbedding
from newsreel.models.recurrent import RecurrentNetwork, reversed_order

WORDS = [f"word{number}" for number in range(30)]
H = 4


def initial(embedding: Embedding | None = None, **changes: Any) -> RecurrentNetwork:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "cell": "lstm",
        "directions": "forward",
        "hidden_size": H,
        "num_layers": 1,
        "pooling": "last",
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "layer_norm": False,
    }
    return RecurrentNetwork(embedding or TableEmbedding(torch.randn(len(WORDS), 5)), 2, **{**settings, **changes})


def network(embedding: Embedding | None = None, **changes: Any) -> RecurrentNetwork:
    made = initial(embedding, **changes)
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


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("directions", ["forward", "backward", "both"])
@pytest.mark.parametrize("cell", UNROLLED)
def test_one_hot_words_are_looked_up_as_torchs_own_layers_multiply_them(
    cell: str, directions: str, num_layers: int
) -> None:
    """States and the gradients of all weights, of two unpadded documents."""
    made = network(OneHotEmbedding(len(WORDS)), cell=cell, directions=directions, num_layers=num_layers, pooling="mean")
    token_ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 8, 9, 7]])
    layers = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
    own = layers[cell](len(WORDS), H, num_layers, batch_first=True, bidirectional=directions == "both")
    weights = own_names(made)
    own.load_state_dict(weights)
    words = torch.nn.functional.one_hot(token_ids, len(WORDS)).float()
    states, _ = own(words.flip(1) if directions == "backward" else words)
    logits = made(token_ids, torch.tensor([7, 7]))
    expected = made.output(states.mean(dim=1))
    assert torch.allclose(logits, expected, atol=1e-6)

    logits.square().sum().backward()
    expected.square().sum().backward()
    gradients = own_names(made, gradient=True)
    for name, parameter in own.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(gradients[name], parameter.grad, atol=1e-6), name


def own_names(made: RecurrentNetwork, gradient: bool = False) -> dict[str, Tensor]:
    """A one-hot network's weights, or their gradients, under the names and in the shapes of torch's own layers."""

    def value(parameter: Any) -> Tensor:
        return (parameter.grad if gradient else parameter).detach().clone()

    found = {}
    for number, layer in enumerate(made.layers):
        for suffix, recurrence in zip(("", "_reverse"), layer, strict=False):  # type: ignore[call-overload]
            for name, parameter in recurrence.named_parameters():
                if parameter.requires_grad:
                    found[f"{name.removesuffix('0')}{number}{suffix}"] = value(parameter)
    table = value(made.embedding.table.weight)  # type: ignore[union-attr]
    for suffix, part in zip(("", "_reverse"), table.chunk(len(made.reversed), dim=1), strict=False):
        found[f"weight_ih_l0{suffix}"] = part.T
    return found


def test_a_one_hot_network_trains_a_row_of_gate_inputs_for_each_word() -> None:
    made = initial(OneHotEmbedding(len(WORDS)), directions="both")
    trained = {name: weights for name, weights in made.named_parameters() if weights.requires_grad}
    assert trained["embedding.table.weight"].shape == (len(WORDS), 2 * 4 * H)
    assert trained["embedding.table.weight"].abs().max() <= (6 / (len(WORDS) + 2 * 4 * H)) ** 0.5
    one_direction = 4 * H * H + 2 * 4 * H  # recurrent weights and biases
    assert (
        sum(weights.numel() for weights in trained.values()) == len(WORDS) * 8 * H + 2 * one_direction + 2 * H * 2 + 2
    )


@pytest.mark.parametrize("cell", UNROLLED)
def test_dropped_recurrent_weights_are_the_same_at_every_step(cell: str) -> None:
    made = network(cell=cell, directions="both", recurrent_dropout=0.5)
    kept = made(TOKEN_IDS, LENGTHS)
    torch.manual_seed(5)
    logits = made.train()(TOKEN_IDS, LENGTHS)
    logits.sum().backward()
    torch.manual_seed(5)
    masks = [(torch.nn.functional.dropout(torch.ones_like(cell.weight_hh_l0), 0.5) > 0) for cell in made.layers[0]]  # type: ignore[attr-defined, union-attr]
    assert torch.equal(made.eval()(TOKEN_IDS, LENGTHS), kept)

    assert all(0.2 < mask.float().mean() < 0.8 for mask in masks)
    for recurrence, mask in zip(made.layers[0], masks, strict=True):  # type: ignore[arg-type]
        assert ((recurrence.weight_hh_l0.grad != 0) <= mask).all()
        with torch.no_grad():
            recurrence.weight_hh_l0.mul_(mask / 0.5)
    for document, length in enumerate(LENGTHS):
        inputs = made.embedding(TOKEN_IDS[document : document + 1, :length])[0]
        forward, backward = made.layers[0]  # type: ignore[misc]
        final = torch.cat([UNROLLED[cell](forward, inputs)[-1], UNROLLED[cell](backward, inputs.flip(0))[-1]])
        assert torch.allclose(logits[document], made.output(final), atol=1e-6)


def test_each_batch_drops_other_recurrent_weights() -> None:
    made = network(recurrent_dropout=0.5).train()
    assert not torch.equal(made(TOKEN_IDS, LENGTHS), made(TOKEN_IDS, LENGTHS))


def test_states_are_normalised_before_the_next_layer_and_the_pooling() -> None:
    made = network(num_layers=2, layer_norm=True)
    logits = made(TOKEN_IDS, LENGTHS)
    for document, length in enumerate(LENGTHS):
        states = made.embedding(TOKEN_IDS[document : document + 1, :length])[0]
        for (recurrence,), norm in zip(made.layers, made.norms, strict=True):  # type: ignore[misc]
            states = lstm(recurrence, states)  # (t, H)
            centred = states - states.mean(dim=1, keepdim=True)
            states = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
        assert torch.allclose(logits[document], made.output(states[-1]), atol=1e-5)


def test_documents_are_reversed_within_their_length() -> None:
    assert reversed_order(torch.tensor([3, 0, 5]), 5).tolist() == [[2, 1, 0, 3, 4], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]


def test_weights_start_orthogonal_and_the_forget_gate_open() -> None:
    made = initial(directions="both", num_layers=2)
    for layer in made.layers:
        for recurrence in layer:  # type: ignore[attr-defined]
            assert (recurrence.bias_ih_l0 + recurrence.bias_hh_l0).tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
            for gate in recurrence.weight_hh_l0.split(H):
                assert torch.allclose(gate @ gate.T, torch.eye(H), atol=1e-5)
