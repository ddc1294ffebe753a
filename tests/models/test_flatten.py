"""The flattened network against rows laid end to end by hand."""

from typing import Any

import pytest
import torch

from newsreel.embeddings.embedding import OneHotEmbedding, TableEmbedding
from newsreel.models.flatten import FlattenMLP

NUM_WORDS = 10
TOKEN_IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 0, 0, 0], [0, 0, 0, 0, 0]])
LENGTHS = torch.tensor([5, 2, 0])
PRE_PADDED = [[4, 1, 5], [0, 9, 2], [0, 0, 0]]  # three places: what Keras' pad_sequences(…, maxlen=3) makes of them


def network(**changes: Any) -> FlattenMLP:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"num_tokens": 3, "hidden_sizes": [], "dropout": 0.0}
    return FlattenMLP(TableEmbedding(torch.randn(NUM_WORDS, 4)), 2, **{**settings, **changes})


def test_places_count_from_the_end_of_a_document() -> None:
    made = network()
    rows = torch.stack([torch.cat([made.embedding.table.weight[word] for word in words]) for words in PRE_PADDED])  # type: ignore[union-attr, index]
    linear = made.layers[1]
    assert torch.allclose(made(TOKEN_IDS, LENGTHS), rows @ linear.weight.T + linear.bias, atol=1e-6)  # type: ignore[operator, union-attr]


def test_places_before_a_document_hold_no_word_of_a_one_hot_embedding() -> None:
    made = FlattenMLP(OneHotEmbedding(NUM_WORDS), 2, num_tokens=3, hidden_sizes=[], dropout=0.0)
    weight, bias = made.layers[1].weight.view(2, 3, NUM_WORDS), made.layers[1].bias  # type: ignore[operator]
    logits = made(TOKEN_IDS, LENGTHS)
    assert torch.allclose(logits[1], weight[:, 1, 9] + weight[:, 2, 2] + bias, atol=1e-6)
    assert torch.equal(logits[2], bias)


def test_the_dense_network_of_the_lecture() -> None:
    embedding = TableEmbedding(torch.randn(10_000, 8))
    made = FlattenMLP(embedding, 1, num_tokens=20, hidden_sizes=[], dropout=0.0)
    assert sum(parameter.numel() for parameter in made.parameters()) == 80_000 + 20 * 8 + 1


@pytest.mark.parametrize("change", [{"num_tokens": 4}, {"hidden_sizes": [7]}])
def test_settings_shape_the_layers(change: dict[str, Any]) -> None:
    def shapes(made: FlattenMLP) -> list[torch.Size]:
        return [parameter.shape for parameter in made.layers.parameters()]

    assert shapes(network(**change)) != shapes(network())


def test_dropout_zeroes_rows_and_hidden_values_while_training_only() -> None:
    made = network(hidden_sizes=[50], dropout=0.5)
    assert not torch.equal(made(TOKEN_IDS, LENGTHS), made(TOKEN_IDS, LENGTHS))
    made.eval()
    assert torch.equal(made(TOKEN_IDS, LENGTHS), made(TOKEN_IDS, LENGTHS))
