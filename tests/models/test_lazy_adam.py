"""LazyAdam against torch's optimizers."""

import copy

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


def test_without_lazy_groups_it_is_adam() -> None:
    table, layer = parts(sparse=False)
    parameters = [*table.parameters(), *layer.parameters()]
    expected = [weights.clone() for weights in train(table, layer, [torch.optim.Adam(parameters, lr=0.05)])]
    table, layer = parts(sparse=False)
    result = train(table, layer, [LazyAdam([{"params": [*table.parameters(), *layer.parameters()]}], lr=0.05)])
    assert all(map(torch.equal, result, expected))


def test_rows_without_a_gradient_keep_values_and_moments() -> None:
    table, layer = parts(sparse=True)
    optimizer = lazy(table, layer)
    (layer(table(torch.tensor([3, 5]))) ** 2).sum().backward()
    optimizer.step()
    before = copy.deepcopy(table.weight.detach()), copy.deepcopy(optimizer.state[table.weight])
    optimizer.zero_grad()
    (layer(table(torch.tensor([5, 5]))) ** 2).sum().backward()
    optimizer.step()
    others = torch.arange(15) != 5
    assert torch.equal(table.weight[others], before[0][others])
    assert torch.equal(optimizer.state[table.weight]["exp_avg"][others], before[1]["exp_avg"][others])
    assert not torch.equal(table.weight[5], before[0][5])


def test_a_saved_state_continues_with_the_same_numbers() -> None:
    table, layer = parts(sparse=True)
    optimizer = lazy(table, layer)
    train(table, layer, [optimizer])
    other_table, other_layer = copy.deepcopy(table), copy.deepcopy(layer)
    other = lazy(other_table, other_layer)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    expected = [weights.clone() for weights in train(table, layer, [optimizer])]
    assert all(map(torch.equal, train(other_table, other_layer, [other]), expected))
