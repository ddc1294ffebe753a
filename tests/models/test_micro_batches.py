"""Micro-batches on threads."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from newsreel.embeddings.embedding import TableEmbedding
from newsreel.models.cnn import KimCNN, StackedCNN
from newsreel.models.flatten import FlattenMLP
from newsreel.models.micro_batches import MicroBatchRunner, divide
from newsreel.models.network import Network
from newsreel.models.recurrent import RecurrentNetwork
from newsreel.text.tokens import PAD

RECURRENT: dict[str, Any] = {
    "directions": "both", "hidden_size": 5, "num_layers": 2, "pooling": "max_mean", "dropout": 0.0,
    "recurrent_dropout": 0.0, "layer_norm": True,
}  # fmt: skip
STACK: dict[str, Any] = {
    "num_filters": 4, "kernel_size": 3, "num_layers": 2, "pool_size": 2, "pooling": "max", "hidden_sizes": [3],
    "input_dropout": 0.0, "dropout": 0.0,
}  # fmt: skip
NETWORKS: dict[str, Callable[[TableEmbedding], Network]] = {
    "rnn": lambda table: RecurrentNetwork(table, 3, cell="rnn", **RECURRENT),
    "gru": lambda table: RecurrentNetwork(table, 3, cell="gru", **RECURRENT),
    "lstm": lambda table: RecurrentNetwork(table, 3, cell="lstm", **RECURRENT),
    "cnn": lambda table: StackedCNN(table, 3, **STACK),
    "kim_cnn": lambda table: KimCNN(table, 3, num_filters=4, kernel_sizes=[2, 3], dropout=0.0),
    "flatten": lambda table: FlattenMLP(table, 3, num_tokens=6, hidden_sizes=[4], dropout=0.0),
}
LENGTHS = torch.tensor([3, 0, 9, 5, 5, 1, 7, 2, 9, 4, 6, 8, 3, 1, 5, 2, 7, 9, 4, 6])  # (B,)


def build(name: str, dropout: float = 0.0, sparse: bool = True) -> Network:
    torch.manual_seed(1)
    network = NETWORKS[name](TableEmbedding(torch.randn(30, 6), dropout=dropout, word_dropout=dropout))
    network.embedding.table.sparse = sparse  # type: ignore[union-attr]
    network.micro_batch_size = 8
    return network


def batch() -> tuple[Tensor, Tensor]:
    token_ids = torch.randint(1, 30, (len(LENGTHS), 9), generator=torch.Generator().manual_seed(2))
    return token_ids * (torch.arange(9) < LENGTHS[:, None]), LENGTHS


def step(network: Network, runner: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and gradients of one step; the global random numbers always start alike."""
    torch.manual_seed(3)
    logits = runner(*batch())
    (logits**2).sum().backward()
    gradients = {name: weights.grad for name, weights in network.named_parameters() if weights.grad is not None}
    return logits.detach(), {name: grad.to_dense() if grad.is_sparse else grad for name, grad in gradients.items()}


def on_threads(network: Network, num_threads: int) -> tuple[Tensor, dict[str, Tensor]]:
    runner = MicroBatchRunner(network)
    with runner.threads(num_threads):
        return step(network, runner)


def assert_close(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)


def test_parts_hold_every_document_once_with_little_padding() -> None:
    token_ids, lengths = batch()
    parts = divide(token_ids, lengths, 8)
    assert [len(part.rows) for part in parts] == [7, 7, 6]
    assert [part.token_ids.shape[1] for part in parts] == [16, 8, 8]  # of 9, 6 and 3 tokens
    assert torch.cat([part.rows for part in parts]).sort().values.tolist() == list(range(20))
    for part in parts:
        assert part.lengths.tolist() == lengths[part.rows].tolist()
        expected = torch.full_like(part.token_ids, PAD)
        expected[:, : token_ids.shape[1]] = token_ids[part.rows, : part.token_ids.shape[1]]
        assert torch.equal(part.token_ids, expected)
    assert len(divide(token_ids[:2], lengths[:2], 8)) == 2
    assert len(divide(token_ids[:1], lengths[:1], 8)) == 1


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sparse", [False, True])
def test_logits_and_gradients_are_those_of_the_whole_batch(name: str, sparse: bool) -> None:
    whole_network, divided_network = build(name, sparse=sparse), build(name, sparse=sparse)
    whole, whole_gradients = step(whole_network, whole_network)
    divided, divided_gradients = on_threads(divided_network, 2)
    torch.testing.assert_close(divided, whole, rtol=1e-5, atol=1e-6)
    assert_close(divided_gradients, whole_gradients)


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_and_gradients_do_not_depend_on_the_number_of_threads(name: str) -> None:
    results = [on_threads(build(name, dropout=0.5), num_threads) for num_threads in (1, 2, 4, 2)]
    for logits, gradients in results[1:]:
        assert torch.equal(logits, results[0][0])
        for gradient, expected in zip(gradients.values(), results[0][1].values(), strict=True):
            assert torch.equal(gradient, expected)
    assert not torch.equal(results[0][0], on_threads(build(name), 1)[0])  # there was dropout


def test_recurrent_dropout_leaves_the_weights_that_threads_share_as_they_are() -> None:
    def build_dropped() -> Network:
        torch.manual_seed(1)
        settings: Any = RECURRENT | {"recurrent_dropout": 0.5}
        network = RecurrentNetwork(TableEmbedding(torch.randn(30, 6)), 3, cell="lstm", **settings)
        network.micro_batch_size = 2
        return network

    network = build_dropped()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = on_threads(network, 4)[1]
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    for name, expected in on_threads(build_dropped(), 1)[1].items():
        assert torch.equal(gradients[name], expected)


def test_parts_have_different_dropout() -> None:
    network = build("lstm", dropout=0.5)
    runner = MicroBatchRunner(network)
    token_ids, lengths = torch.full((16, 9), 5), torch.full((16,), 9)
    logits = runner(token_ids, lengths).detach()
    assert len(logits.unique(dim=0)) == 16
    assert not torch.equal(logits, runner(token_ids, lengths).detach())  # nor have two steps the same


def test_evaluation_has_no_gradients_and_draws_no_random_numbers() -> None:
    network = build("lstm", dropout=0.5).eval()
    runner = MicroBatchRunner(network)
    state = torch.get_rng_state()
    with torch.inference_mode(), runner.threads(2):
        logits = runner(*batch())
    assert logits.is_inference()
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        torch.testing.assert_close(logits.clone(), network(*batch()), rtol=1e-5, atol=1e-6)


def test_threads_compute_in_the_precision_of_autocast() -> None:
    runner = MicroBatchRunner(build("cnn"))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        alone = runner(*batch())
        with runner.threads(2):
            assert torch.equal(runner(*batch()), alone)
    assert alone.dtype == torch.bfloat16


def test_a_network_with_torchs_dropout_gets_whole_batches() -> None:
    network = build("kim_cnn")
    runner = MicroBatchRunner(network)
    assert runner.max_documents == 8
    network.dropout = torch.nn.Dropout(0.5)
    assert runner.max_documents is None
    results = [on_threads(network, num_threads) for num_threads in (1, 2)]
    assert torch.equal(results[0][0], results[1][0])


def test_an_error_in_a_thread_is_raised() -> None:
    network = build("lstm")
    runner = MicroBatchRunner(network)
    token_ids, lengths = batch()
    with runner.threads(2), pytest.raises(IndexError):
        runner(token_ids + 100, lengths)


def test_openmp_has_one_thread_while_the_threads_run() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        runner = MicroBatchRunner(build("lstm"))
        with runner.threads(2):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
