"""What every network obeys."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from helpers.pairwise import pairwise_cover
from newsreel.batches.batch import Batch
from newsreel.embeddings.embedding import Embedding, OneHotEmbedding, TableEmbedding
from newsreel.models.bow import BagOfWords
from newsreel.models.cnn import KimCNN, StackedCNN
from newsreel.models.flatten import FlattenMLP
from newsreel.models.network import Network, glorot_linear, mlp
from newsreel.models.pooling import PoolingName
from newsreel.models.recurrent import RecurrentNetwork

EMBEDDINGS = ["learned", "one_hot"]
CNN = {"num_filters": 4, "kernel_size": 3, "num_layers": 2, "pool_size": 2, "hidden_sizes": [7], "input_dropout": 0.1}


def embed(name: str) -> Embedding:
    if name == "one_hot":
        return OneHotEmbedding(42)
    return TableEmbedding(torch.randn(42, 5) * 5**-0.5, dropout=0.1, word_dropout=0.1)


def bow(weighting: Any, embedding: str, hidden: str) -> Network:
    sizes = [16, 16] if hidden == "hidden" else []
    return BagOfWords(embed(embedding), 3, weighting=weighting, sublinear_tf=False, hidden_sizes=sizes, dropout=0.1)


def recurrent(cell: Any, directions: Any, pooling: Any, embedding: str, change: str) -> Network:
    settings = {"recurrent_dropout": 0.5 * (change == "dropped"), "layer_norm": change == "normalised", "dropout": 0.1}
    named = {"cell": cell, "directions": directions, "pooling": pooling}
    return RecurrentNetwork(embed(embedding), 3, **named, hidden_size=4, num_layers=2, **settings)


def flatten(num_tokens: str, embedding: str, hidden: str) -> Network:
    sizes = [16, 16] if hidden == "hidden" else []
    return FlattenMLP(embed(embedding), 3, num_tokens=int(num_tokens), hidden_sizes=sizes, dropout=0.1)


def cnn(pooling: Any, embedding: str) -> Network:
    return StackedCNN(embed(embedding), 3, **CNN, pooling=pooling, dropout=0.1)  # type: ignore[arg-type]


def kim_cnn(embedding: str) -> Network:
    return KimCNN(embed(embedding), 3, num_filters=4, kernel_sizes=[1, 2, 5], dropout=0.1)


HIDDEN = ["direct", "hidden"]
CHANGES = ["plain", "dropped", "normalised"]
FACTORS: dict[Callable[..., Network], tuple[Any, ...]] = {
    bow: (["binary", "count", "tf", "tfidf"], EMBEDDINGS, HIDDEN),
    recurrent: (["rnn", "gru", "lstm"], ["forward", "backward", "both"], get_args(PoolingName), EMBEDDINGS, CHANGES),
    flatten: (["5", "9"], EMBEDDINGS, HIDDEN),
    cnn: (["max", "mean", "max_mean"], EMBEDDINGS),
    kim_cnn: (EMBEDDINGS,),
}
ROWS = [(bow, "nb", "one_hot", "direct")]
ROWS += [(network, *row) for network, factors in FACTORS.items() for row in pairwise_cover(*factors)]


@pytest.fixture(params=ROWS, ids=lambda row: " ".join([row[0].__name__, *row[1:]]))
def network(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(0)
    make, *settings = request.param
    network: Network = make(*settings)
    network.fit_statistics([Batch(torch.randint(0, 42, (20, 9)), torch.full((20,), 9), torch.arange(20) % 3, 20)])
    return network.eval()


def documents() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    lengths = torch.tensor([6, 1, 0, 4])
    token_ids = torch.randint(1, 42, (4, 6))
    token_ids[torch.arange(6) >= lengths[:, None]] = 0
    return token_ids, lengths


def test_padding_leaves_logits_unchanged(network: Network) -> None:
    token_ids, lengths = documents()
    logits = network(token_ids, lengths)
    padded = network(torch.nn.functional.pad(token_ids, (0, 5)), lengths)
    assert torch.allclose(logits, padded, atol=1e-6)
    for document, length in enumerate(lengths):
        alone = network(token_ids[document : document + 1, : max(1, int(length))], lengths[document : document + 1])
        assert torch.allclose(logits[document], alone[0], atol=1e-6)


def test_logits_depend_on_every_document_and_word(network: Network) -> None:
    token_ids, lengths = documents()
    logits = network(token_ids, lengths)
    token_ids[0, 2] = 2 if token_ids[0, 2] != 2 else 3  # amid others: it reaches states on both sides
    assert not torch.allclose(logits[0], network(token_ids, lengths)[0], atol=1e-7)
    assert logits.shape == (4, 3)
    assert logits.isfinite().all()


def test_every_trained_parameter_gets_a_finite_gradient(network: Network) -> None:
    network.train()(*documents()).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert not parameter.requires_grad or (parameter.grad is not None and parameter.grad.isfinite().all()), key


def test_a_network_can_start_at_the_shares_of_labels(network: Network) -> None:
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
    layers = mlp([4, 3, 2], 0.1)
    assert [type(layer).__name__ for layer in layers] == ["ReLU", "Dropout", "Linear"] * 2
    assert layers(torch.ones(5, 4)).shape == (5, 2)
    assert len(mlp([4], 0.1)) == 0
