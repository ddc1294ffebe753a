"""LazyAdam against torch's optimizers."""

import pytest
import torch
from torch import Tensor, nn

from newsreel.models.lazy_adam import LazyAdam


def train(table: nn.Embedding, layer: nn.Linear, optimizers: list[torch.optim.Optimizer]) -> list[Tensor]:
    """The weights after 20 steps on batches of a few rows; every optimizer makes each step."""
    random = torch.Generator().manual_seed(4)
    for _ in range(20):
        for optimizer in optimizers:
            optimizer.zero_grad()
        token_ids = torch.randint(1, 12, (5,), generator=random)
        (layer(table(token_ids)) ** 2).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    return [table.weight.detach(), layer.weight.detach(), layer.bias.detach()]


def parts(sparse: bool) -> tuple[nn.Embedding, nn.Linear]:
    torch.manual_seed(0)
    return nn.Embedding(15, 4, sparse=sparse), nn.Linear(4, 3)


def lazy(table: nn.Embedding, layer: nn.Linear) -> LazyAdam:
    return LazyAdam([{"params": layer.parameters()}, {"params": [table.weight], "lazy": True}], lr=0.05)


@pytest.mark.parametrize("sparse", [True, False])
def test_tables_are_updated_as_by_sparse_adam_and_the_rest_as_by_adam(sparse: bool) -> None:
    table, layer = parts(sparse=True)
    expected = train(
        table,
        layer,
        [torch.optim.SparseAdam([table.weight], lr=0.05), torch.optim.Adam(layer.parameters(), lr=0.05)],
    )
    table, layer = parts(sparse)
    for weights, right in zip(train(table, layer, [lazy(table, layer)]), expected, strict=True):
        torch.testing.assert_close(weights, right, rtol=1e-5, atol=1e-6)
