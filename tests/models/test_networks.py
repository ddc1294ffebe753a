"""What every network obeys."""

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from newsreel.batches.batch import Batch
from newsreel.embeddings.embedding import Embedding, OneHotEmbedding, TableEmbedding
from newsreel.models.bow import BagOfWords
from newsreel.models.cnn import KimCNN, StackedCNN
from newsreel.models.flatten import FlattenMLP
from newsreel.models.network import Network, glorot_linear, mlp
from newsreel.models.pooling import PoolingName
from newsreel.models.recurrent import RecurrentNetwork

NUM_WORDS = 42


def learned() -> Embedding:
    return TableEmbedding(torch.randn(NUM_WORDS, 5) * 5**-0.5, dropout=0.1, word_dropout=0.1)


def bow(weighting: str, embedding: Callable[[], Embedding], hidden: list[int]) -> Network:
    return BagOfWords(embedding(), 3, weighting=weighting, sublinear_tf=False, hidden_sizes=hidden, dropout=0.1)  # type: ignore[arg-type]


def recurrent(
    cell: str, directions: str, pooling: str, embedding: Callable[[], Embedding] = learned, **changes: Any
) -> Network:
    settings: dict[str, Any] = {
        "cell": cell,
        "directions": directions,
        "hidden_size": 4,
        "num_layers": 2,
        "pooling": pooling,
        "dropout": 0.1,
        "recurrent_dropout": 0.0,
        "layer_norm": False,
    }
    return RecurrentNetwork(embedding(), 3, **{**settings, **changes})


def naive_bayes() -> Network:
    return BagOfWords(one_hot(), 3, weighting="nb", sublinear_tf=False, hidden_sizes=[], dropout=0.1)


def flatten(num_tokens: int, embedding: Callable[[], Embedding], hidden: list[int]) -> Network:
    return FlattenMLP(embedding(), 3, num_tokens=num_tokens, hidden_sizes=hidden, dropout=0.1)


def cnn(embedding: Callable[[], Embedding], pooling: Any = "max") -> Network:
    sizes = {"num_filters": 4, "width": 3, "num_layers": 2, "pool_size": 2}
    return StackedCNN(embedding(), 3, **sizes, pooling=pooling, hidden_sizes=[7], input_dropout=0.1, dropout=0.1)


def kim_cnn(embedding: Callable[[], Embedding]) -> Network:
    return KimCNN(embedding(), 3, num_filters=4, kernel_sizes=[1, 2, 5], dropout=0.1)


def one_hot() -> Embedding:
    return OneHotEmbedding(NUM_WORDS)


NETWORKS: dict[str, Callable[[], Network]] = {
    "bow nb": naive_bayes,
    **{f"cnn {pooling}": partial(cnn, learned, pooling) for pooling in ("max", "mean", "max_mean")},
    **{
        f"{network.__name__} {embedding.__name__}": partial(network, embedding)
        for network in (cnn, kim_cnn)
        for embedding in (one_hot, learned)
    },
    **{
        f"flatten {num_tokens} {embedding.__name__} {hidden}": partial(flatten, num_tokens, embedding, hidden)
        for num_tokens in (5, 9)
        for embedding in (one_hot, learned)
        for hidden in ([], [16, 16])
    },
    **{
        f"{cell} {directions} one_hot": partial(recurrent, cell, directions, "max_mean", one_hot)
        for cell in ("rnn", "gru", "lstm")
        for directions in ("forward", "backward", "both")
    },
    **{
        f"{cell} both {change}": partial(recurrent, cell, "both", "last", **change)
        for cell in ("rnn", "gru", "lstm")
        for change in ({"recurrent_dropout": 0.5}, {"layer_norm": True})
    },
    **{
        f"{cell} {directions} {pooling}": partial(recurrent, cell, directions, pooling)
        for cell in ("rnn", "gru", "lstm")
        for directions in ("forward", "backward", "both")
        for pooling in get_args(PoolingName)
    },
    **{
        f"bow {weighting} {embedding.__name__} {hidden}": partial(bow, weighting, embedding, hidden)
        for weighting in ("binary", "count", "tf", "tfidf")
        for embedding in (one_hot, learned)
        for hidden in ([], [16, 16])
    },
}


def make(name: str) -> Network:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    network.fit_statistics([Batch(torch.randint(0, 42, (20, 9)), torch.full((20,), 9), torch.arange(20) % 3, 20)])
    return network.eval()


def documents() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    lengths = torch.tensor([6, 1, 0, 4])
    token_ids = torch.randint(1, 42, (4, 6))
    token_ids[torch.arange(6) >= lengths[:, None]] = 0
    return token_ids, lengths


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_leaves_logits_unchanged(name: str) -> None:
    network = make(name)
    token_ids, lengths = documents()
    logits = network(token_ids, lengths)
    padded = network(torch.nn.functional.pad(token_ids, (0, 5)), lengths)
    assert torch.allclose(logits, padded, atol=1e-6)
    for document, length in enumerate(lengths):
        alone = network(token_ids[document : document + 1, : max(1, int(length))], lengths[document : document + 1])
        assert torch.allclose(logits[document], alone[0], atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_depend_on_every_document_and_word(name: str) -> None:
    network = make(name)
    token_ids, lengths = documents()
    logits = network(token_ids, lengths)
    token_ids[0, 2] = 2 if token_ids[0, 2] != 2 else 3  # amid others: it reaches states on both sides
    assert not torch.allclose(logits[0], network(token_ids, lengths)[0], atol=1e-7)
    assert logits.shape == (4, 3)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_trained_parameter_gets_a_finite_gradient(name: str) -> None:
    network = make(name).train()
    network(*documents()).square().sum().backward()
    for key, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_can_start_at_the_shares_of_labels(name: str) -> None:
    network = make(name)
    logits = network(*documents())
    before = network.output_bias.clone()
    network.init_bias_from_priors(torch.tensor([0.5, 0.25, 0.01]))
    expected = logits - before + torch.tensor([1, 1 / 3, 1 / 99]).log()
    assert torch.allclose(network(*documents()), expected, atol=1e-5)


def test_dense_layers_start_as_in_keras() -> None:
    torch.manual_seed(0)
    layer = glorot_linear(300, 100)
    assert layer.bias.tolist() == [0] * 100
    assert 0.95 * (6 / 400) ** 0.5 < layer.weight.abs().max() <= (6 / 400) ** 0.5


def test_a_perceptron_goes_through_its_sizes() -> None:
    kinds = [type(layer).__name__ for layer in mlp([4, 3, 2], 0.1)]
    assert kinds == ["ReLU", "Dropout", "Linear"] * 2
    assert mlp([4, 3, 2], 0.1)(torch.ones(5, 4)).shape == (5, 2)
    assert len(mlp([4], 0.1)) == 0
