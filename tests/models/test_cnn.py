"""Convolutions against loops over windows."""

from typing import Any

import pytest
import torch

from newsreel.embeddings.embedding import TableEmbedding
from newsreel.models.cnn import KimCNN, MaskedConvolution, StackedCNN

WORDS = [f"word{number}" for number in range(30)]
TOKEN_IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 0, 0, 0, 0, 0, 0]])
LENGTHS = torch.tensor([8, 2])


def embedding() -> TableEmbedding:
    torch.manual_seed(0)
    return TableEmbedding(torch.randn(len(WORDS), 5))


def windows(convolution: MaskedConvolution, states: torch.Tensor) -> torch.Tensor:
    """(F, number of windows) of one document (E, t), window by window."""
    width, kernel, bias = convolution.kernel_size, convolution.convolution.weight, convolution.convolution.bias
    states = torch.nn.functional.pad(states, (0, max(0, width - states.shape[1])))
    places = range(states.shape[1] - width + 1)
    return torch.stack([(kernel * states[:, p : p + width]).sum(dim=(1, 2)) + bias for p in places], dim=1).relu()


def test_kim_cnn_takes_each_filters_maximum_over_its_documents_windows() -> None:
    network = KimCNN(embedding(), 2, num_filters=3, kernel_sizes=[2, 3, 4], dropout=0.0)
    logits = network(TOKEN_IDS, LENGTHS)
    for document, length in enumerate(LENGTHS):
        states = network.embedding(TOKEN_IDS[document : document + 1, :length])[0].T
        highest = torch.cat([windows(convolution, states).amax(dim=1) for convolution in network.convolutions])  # type: ignore[arg-type]
        assert torch.allclose(logits[document], network.output(highest), atol=1e-6)


@pytest.mark.parametrize("hidden_sizes", [[], [4, 3]])
@pytest.mark.parametrize("pooling", ["max", "mean", "max_mean"])
def test_stacked_cnn_convolves_pools_and_convolves_again(pooling: Any, hidden_sizes: list[int]) -> None:
    network = StackedCNN(
        embedding(),
        2,
        num_filters=3,
        width=3,
        num_layers=2,
        pool_size=2,
        pooling=pooling,
        hidden_sizes=hidden_sizes,
        input_dropout=0.0,
        dropout=0.0,
    )
    logits = network(TOKEN_IDS, LENGTHS)
    first, second = network.convolutions
    for document, length in enumerate(LENGTHS):
        states = windows(first, network.embedding(TOKEN_IDS[document : document + 1, :length])[0].T)  # type: ignore[arg-type]
        pooled = torch.stack([part.amax(dim=1) for part in states.split(2, dim=1)], dim=1)
        states = windows(second, pooled)  # type: ignore[arg-type]
        parts = {"max": [states.amax(dim=1)], "mean": [states.mean(dim=1)]}
        document_vector = torch.cat(parts.get(pooling, [*parts["max"], *parts["mean"]]))
        for layer in [module for module in network.hidden if isinstance(module, torch.nn.Linear)]:
            document_vector = (layer.weight @ document_vector + layer.bias).clamp(min=0)
        assert torch.allclose(logits[document], network.output(document_vector), atol=1e-6)


def test_the_first_convolution_reads_rows_with_values_left_out() -> None:
    sizes: dict[str, Any] = {"num_filters": 3, "width": 3, "num_layers": 1, "pool_size": 2, "hidden_sizes": []}
    network = StackedCNN(embedding(), 2, **sizes, pooling="max", input_dropout=0.5, dropout=0.0)
    assert torch.equal(network.eval()(TOKEN_IDS, LENGTHS), network(TOKEN_IDS, LENGTHS))
    assert not torch.equal(network.train()(TOKEN_IDS, LENGTHS), network(TOKEN_IDS, LENGTHS))


@pytest.mark.parametrize(
    "change", [{"num_filters": 4}, {"width": 2}, {"num_layers": 3}, {"pooling": "max_mean"}, {"hidden_sizes": [5]}]
)
def test_settings_shape_the_stack(change: dict[str, Any]) -> None:
    def count(**changes: Any) -> int:
        settings: dict[str, Any] = {
            "num_filters": 3,
            "width": 3,
            "num_layers": 2,
            "pool_size": 2,
            "pooling": "max",
            "hidden_sizes": [],
            "input_dropout": 0.0,
            "dropout": 0.0,
        }
        network = StackedCNN(embedding(), 2, **{**settings, **changes})
        return sum(parameter.numel() for parameter in network.parameters())

    assert count(**change) != count()
