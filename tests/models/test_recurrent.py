"""Recurrent networks against torch's own layers on documents without padding."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from newsreel.embeddings.dropout import dropout_mask, mask_generator
from newsreel.embeddings.embedding import Embedding, OneHotEmbedding, TableEmbedding
from newsreel.models.recurrent import RecurrentNetwork

NUM_WORDS, H = 30, 4
TOKEN_IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 0, 0, 0, 0]])
LENGTHS = torch.tensor([7, 3])


def initial(embedding: Embedding | None = None, **changes: Any) -> RecurrentNetwork:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"cell": "lstm", "directions": "forward", "hidden_size": H, "num_layers": 1}
    others = {"pooling": "last", "dropout": 0.0, "recurrent_dropout": 0.0, "layer_norm": False}
    return RecurrentNetwork(embedding or TableEmbedding(torch.randn(NUM_WORDS, 5)), 2, **{**shape, **others, **changes})


def network(embedding: Embedding | None = None, **changes: Any) -> Any:
    made = initial(embedding, **changes)
    for name, parameter in made.named_parameters():
        if "bias" in name:  # so that a bias in the wrong place is seen
            torch.nn.init.normal_(parameter)
    return made.eval()


def documents(made: RecurrentNetwork) -> Iterator[Tensor]:
    """The embedded words (t, E) of each document."""
    for row, length in zip(TOKEN_IDS, LENGTHS, strict=True):
        yield made.embedding(row[None, :length])[0]


def alone(recurrence: Any, inputs: Tensor, backward: bool = False) -> Tensor:
    """States (t, H) of torch's own layer on one unpadded document (t, E), each at the position of its token."""
    if backward:
        return recurrence(inputs.flip(0))[0].flip(0)  # type: ignore[no-any-return]
    return recurrence(inputs)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("cell", "directions"), [("lstm", "forward"), ("gru", "backward"), ("lstm", "both"), ("rnn", "both")]
)
def test_a_document_ends_in_the_last_state_of_each_direction(cell: str, directions: str) -> None:
    made = network(cell=cell, directions=directions)
    last = {"forward": [-1], "backward": [0], "both": [-1, 0]}[directions]  # where a direction ends
    for logits, inputs in zip(made(TOKEN_IDS, LENGTHS), documents(made), strict=True):
        parts = zip(made.layers[0], last, strict=True)
        finals = [alone(recurrence, inputs, place == 0)[place] for recurrence, place in parts]
        assert torch.allclose(logits, made.output(torch.cat(finals)), atol=1e-6)


def test_layers_in_both_directions_stand_on_each_other() -> None:
    made = network(directions="both", num_layers=2, pooling="mean")
    for logits, states in zip(made(TOKEN_IDS, LENGTHS), documents(made), strict=True):
        for forward, backward in made.layers:
            states = torch.cat([alone(forward, states), alone(backward, states, True)], dim=1)
        assert torch.allclose(logits, made.output(states.mean(dim=0)), atol=1e-6)


@pytest.mark.parametrize(
    ("cell", "directions", "num_layers"),
    [("lstm", "both", 2), ("lstm", "backward", 1), ("gru", "both", 1), ("gru", "forward", 2), ("rnn", "backward", 2)],
)
def test_one_hot_words_are_looked_up_as_torchs_own_layers_multiply(cell: str, directions: str, num_layers: int) -> None:
    made = network(OneHotEmbedding(NUM_WORDS), cell=cell, directions=directions, num_layers=num_layers, pooling="mean")
    token_ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 8, 9, 7]])
    layer = getattr(torch.nn, cell.upper())
    own = layer(NUM_WORDS, H, num_layers, batch_first=True, bidirectional=directions == "both")
    own.load_state_dict(own_names(made))
    words = torch.nn.functional.one_hot(token_ids, NUM_WORDS).float()
    states, _ = own(words.flip(1) if directions == "backward" else words)
    assert torch.allclose(made(token_ids, torch.tensor([7, 7])), made.output(states.mean(dim=1)), atol=1e-6)


def own_names(made: Any) -> dict[str, Tensor]:
    """A one-hot network's weights under the names and in the shapes of torch's own layers."""
    found = {}
    rows = made.embedding.table.weight.chunk(len(made.reversed), dim=1)
    for number, layer in enumerate(made.layers):
        for suffix, recurrence, part in zip(("", "_reverse"), layer, rows, strict=False):
            weights = recurrence.state_dict() | ({} if number else {"weight_ih_l0": part.T})
            found |= {f"{name.removesuffix('0')}{number}{suffix}": value for name, value in weights.items()}
    return found


def test_a_one_hot_network_trains_a_row_of_gate_inputs_for_each_word() -> None:
    made = initial(OneHotEmbedding(NUM_WORDS), directions="both")
    trained = {name: weights for name, weights in made.named_parameters() if weights.requires_grad}
    table = trained["embedding.table.weight"]
    assert table.shape == (NUM_WORDS, 2 * 4 * H)
    assert table.abs().max() <= (6 / (NUM_WORDS + 2 * 4 * H)) ** 0.5
    one_direction = 4 * H * H + 2 * 4 * H  # recurrent weights and biases
    assert sum(map(torch.numel, trained.values())) == table.numel() + 2 * one_direction + 2 * H * 2 + 2


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_dropped_recurrent_weights_are_the_same_at_every_step(cell: str) -> None:
    made = network(cell=cell, directions="both", recurrent_dropout=0.5)
    kept = made(TOKEN_IDS, LENGTHS)
    with mask_generator([5]):
        logits = made.train()(TOKEN_IDS, LENGTHS)
    logits.sum().backward()
    with mask_generator([5]):
        masks = [dropout_mask(part.weight_hh_l0.shape, 0.5, part.weight_hh_l0) > 0 for part in made.layers[0]]
    assert not torch.equal(made(TOKEN_IDS, LENGTHS), logits)  # each batch drops others
    assert torch.equal(made.eval()(TOKEN_IDS, LENGTHS), kept)

    assert all(0.2 < mask.float().mean() < 0.8 for mask in masks)
    for recurrence, mask in zip(made.layers[0], masks, strict=True):
        assert ((recurrence.weight_hh_l0.grad != 0) <= mask).all()
        with torch.no_grad():
            recurrence.weight_hh_l0.mul_(mask / 0.5)
    for document, inputs in zip(logits, documents(made), strict=True):
        forward, backward = made.layers[0]
        final = torch.cat([alone(forward, inputs)[-1], alone(backward, inputs, True)[0]])
        assert torch.allclose(document, made.output(final), atol=1e-6)


def test_states_are_normalised_before_the_next_layer_and_the_pooling() -> None:
    made = network(num_layers=2, layer_norm=True)
    for logits, states in zip(made(TOKEN_IDS, LENGTHS), documents(made), strict=True):
        for (recurrence,), norm in zip(made.layers, made.norms, strict=True):
            states = alone(recurrence, states)  # (t, H)
            centred = states - states.mean(dim=1, keepdim=True)
            states = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
        assert torch.allclose(logits, made.output(states[-1]), atol=1e-5)


def test_weights_start_orthogonal_and_the_forget_gate_open() -> None:
    for layer in initial(directions="both", num_layers=2).layers:
        for recurrence in layer:  # type: ignore[attr-defined]
            assert (recurrence.bias_ih_l0 + recurrence.bias_hh_l0).tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
            for gate in recurrence.weight_hh_l0.split(H):
                assert torch.allclose(gate @ gate.T, torch.eye(H), atol=1e-5)
