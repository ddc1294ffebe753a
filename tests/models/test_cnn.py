"""Convolutions against loops over windows."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from newsreel.embeddings.embedding import TableEmbedding
from newsreel.models.cnn import KimCNN, MaskedConvolution, StackedCNN

TOKEN_IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 0, 0, 0, 0, 0, 0]])
LENGTHS = torch.tensor([8, 2])


def embedding() -> TableEmbedding:
    torch.manual_seed(0)
    return TableEmbedding(torch.randn(30, 5))


def stacked(**changes: Any) -> StackedCNN:
    sizes: dict[str, Any] = {"num_filters": 3, "kernel_size": 3, "num_layers": 2, "pool_size": 2, "hidden_sizes": []}
    return StackedCNN(embedding(), 2, **{**sizes, "pooling": "max", "input_dropout": 0.0, "dropout": 0.0, **changes})


def num_parameters(network: torch.nn.Module) -> int:
    return sum(map(torch.numel, network.parameters())) - 30 * 5  # without the embedding's


def windows(convolution: Any, states: torch.Tensor) -> torch.Tensor:
    """(F, number of windows) of one document (E, t), window by window."""
    assert isinstance(convolution, MaskedConvolution)
    width, kernel, bias = convolution.kernel_size, convolution.convolution.weight, convolution.convolution.bias
    states = torch.nn.functional.pad(states, (0, max(0, width - states.shape[1])))
    places = range(states.shape[1] - width + 1)
    return torch.stack([(kernel * states[:, p : p + width]).sum(dim=(1, 2)) + bias for p in places], dim=1).relu()


def test_kim_cnn_takes_each_filters_maximum_over_its_documents_windows() -> None:
    network = KimCNN(embedding(), 2, num_filters=3, kernel_sizes=[2, 3, 4], dropout=0.0)
    assert num_parameters(network) == 3 * 5 * (2 + 3 + 4) + 9 + 2 * 9 + 2
    logits = network(TOKEN_IDS, LENGTHS)
    for document, length in enumerate(LENGTHS):
        states = network.embedding(TOKEN_IDS[document : document + 1, :length])[0].T
        highest = torch.cat([windows(convolution, states).amax(dim=1) for convolution in network.convolutions])
        assert torch.allclose(logits[document], network.output(highest), atol=1e-6)


@pytest.mark.parametrize(("pooling", "hidden_sizes"), [("max", []), ("mean", [4, 3]), ("max_mean", [4])])
def test_stacked_cnn_convolves_pools_and_convolves_again(pooling: str, hidden_sizes: list[int]) -> None:
    network = stacked(pooling=pooling, hidden_sizes=hidden_sizes)
    sizes = [3 if pooling != "max_mean" else 6, *hidden_sizes, 2]
    layers = sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
    assert num_parameters(network) == (5 * 3 + 1) * 3 + (3 * 3 + 1) * 3 + layers
    logits = network(TOKEN_IDS, LENGTHS)
    first, second = network.convolutions
    for document, length in enumerate(LENGTHS):
        states = windows(first, network.embedding(TOKEN_IDS[document : document + 1, :length])[0].T)
        pooled = torch.stack([part.amax(dim=1) for part in states.split(2, dim=1)], dim=1)
        states = windows(second, pooled)
        parts = {"max": [states.amax(dim=1)], "mean": [states.mean(dim=1)]}
        document_vector = torch.cat(parts.get(pooling, [*parts["max"], *parts["mean"]]))
        for layer in [module for module in network.hidden if isinstance(module, torch.nn.Linear)]:
            document_vector = (layer.weight @ document_vector + layer.bias).clamp(min=0)
        assert torch.allclose(logits[document], network.output(document_vector), atol=1e-6)


def test_sizes_of_the_stack_are_those_of_the_settings() -> None:
    network = stacked(num_filters=4, kernel_size=2, num_layers=3)
    assert num_parameters(network) == (5 * 2 + 1) * 4 + 2 * (4 * 2 + 1) * 4 + (4 + 1) * 2


def test_the_first_convolution_reads_rows_with_values_left_out() -> None:
    network = stacked(num_layers=1, input_dropout=0.5)
    assert not torch.equal(network(TOKEN_IDS, LENGTHS), network(TOKEN_IDS, LENGTHS))
    assert torch.equal(network.eval()(TOKEN_IDS, LENGTHS), network(TOKEN_IDS, LENGTHS))
