"""The flattened network against rows laid end to end by hand."""

from typing import Any

import torch

from newsreel.embeddings.embedding import Embedding, OneHotEmbedding, TableEmbedding
from newsreel.models.flatten import FlattenMLP

TOKEN_IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 0, 0, 0], [0, 0, 0, 0, 0]])
LENGTHS = torch.tensor([5, 2, 0])
PRE_PADDED = [[4, 1, 5], [0, 9, 2], [0, 0, 0]]  # three places: what Keras' pad_sequences(…, maxlen=3) makes of them


def network(embedding: Embedding | None = None, num_outputs: int = 2, **changes: Any) -> FlattenMLP:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"num_tokens": 3, "hidden_sizes": [], "dropout": 0.0, **changes}
    return FlattenMLP(embedding or TableEmbedding(torch.randn(10, 4)), num_outputs, **settings)


def test_places_count_from_the_end_of_a_document() -> None:
    made = network()
    rows = torch.stack([torch.cat([made.embedding.table.weight[word] for word in words]) for words in PRE_PADDED])  # type: ignore[union-attr, index]
    linear = made.layers[1]
    assert torch.allclose(made(TOKEN_IDS, LENGTHS), rows @ linear.weight.T + linear.bias, atol=1e-6)  # type: ignore[operator, union-attr]


def test_places_before_a_document_hold_no_word_of_a_one_hot_embedding() -> None:
    made = network(OneHotEmbedding(10))
    weight, bias = made.layers[1].weight.view(2, 3, 10), made.layers[1].bias  # type: ignore[operator]
    logits = made(TOKEN_IDS, LENGTHS)
    assert torch.allclose(logits[1], weight[:, 1, 9] + weight[:, 2, 2] + bias, atol=1e-6)
    assert torch.equal(logits[2], bias)


def test_the_dense_network_of_the_lecture_and_one_with_a_hidden_layer() -> None:
    lecture = network(TableEmbedding(torch.randn(10_000, 8)), 1, num_tokens=20)
    assert sum(map(torch.numel, lecture.parameters())) == 80_000 + 20 * 8 + 1
    assert sum(map(torch.numel, network(hidden_sizes=[7]).parameters())) == 10 * 4 + (3 * 4 + 1) * 7 + (7 + 1) * 2


def test_dropout_zeroes_values_while_training_only() -> None:
    made = network(hidden_sizes=[50], dropout=0.5)
    assert not torch.equal(made(TOKEN_IDS, LENGTHS), made(TOKEN_IDS, LENGTHS))
    made.eval()
    assert torch.equal(made(TOKEN_IDS, LENGTHS), made(TOKEN_IDS, LENGTHS))
