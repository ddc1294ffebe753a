"""The LSTM against a cell written from its equations."""

import torch
from torch import Tensor

from newsreel.embeddings.embedding import LearnedEmbedding
from newsreel.models.lstm import LSTM

WORDS = [f"word{number}" for number in range(30)]


def lstm(**changes: object) -> LSTM:
    torch.manual_seed(0)
    embedding = LearnedEmbedding(WORDS, dimension=5, dropout=0.0, word_dropout=0.0, max_norm=None)
    settings: dict[str, object] = {"hidden_size": 4, "num_layers": 1, "pooling": "last", "dropout": 0.0}
    return LSTM(embedding, 2, **{**settings, **changes}).eval()  # type: ignore[arg-type]


def unrolled(network: LSTM, embedded: Tensor) -> Tensor:
    """States (t, H) of one document (t, E): the cell's equations, one token after the other."""
    weights = {name: value.chunk(4) for name, value in network.lstm.named_parameters()}
    (w_i, w_f, w_g, w_o), (u_i, u_f, u_g, u_o) = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b_i, b_f, b_g, b_o = (b + c for b, c in zip(weights["bias_ih_l0"], weights["bias_hh_l0"], strict=True))
    h, c = torch.zeros(4), torch.zeros(4)
    states = []
    for x in embedded:
        g = torch.tanh(w_g @ x + u_g @ h + b_g)  # candidate
        i = torch.sigmoid(w_i @ x + u_i @ h + b_i)  # input gate
        f = torch.sigmoid(w_f @ x + u_f @ h + b_f)  # forget gate
        o = torch.sigmoid(w_o @ x + u_o @ h + b_o)  # output gate
        c = f * c + i * g  # cell
        h = o * torch.tanh(c)  # state
        states.append(h)
    return torch.stack(states)


def test_states_are_those_of_the_equations() -> None:
    network = lstm()
    token_ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2]])
    logits = network(token_ids, torch.tensor([7]))
    states = unrolled(network, network.embedding(token_ids)[0])
    assert torch.allclose(logits[0], network.output(states[-1]), atol=1e-6)


def test_the_forget_gate_starts_open() -> None:
    network = lstm(num_layers=2)
    for layer in range(2):
        bias = getattr(network.lstm, f"bias_ih_l{layer}") + getattr(network.lstm, f"bias_hh_l{layer}")
        assert bias.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8


def test_pooling_layers_and_size_shape_the_network() -> None:
    def count(**changes: object) -> int:
        return sum(parameter.numel() for parameter in lstm(**changes).parameters())

    base = count()
    assert count(num_layers=2) - base == 4 * 4 * (4 + 4 + 2)
    assert count(pooling="max_mean") - base == 4 * 2
    assert count(hidden_size=8) > base
