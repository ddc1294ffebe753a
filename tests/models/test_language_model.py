"""The language model: its gradients, the states that it carries on, and its perplexity."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from newsreel.batches.streams import StreamBatch, StreamDataset
from newsreel.embeddings.embedding import TableEmbedding
from newsreel.models.language_model import LanguageModel, LanguageModelModule, LanguageModelSettings
from newsreel.models.optimization import LanguageModelTraining
from newsreel.models.recurrent import REVERSED
from newsreel.models.sampled_softmax import Proposal
from newsreel.text.tokens import PAD, TokenSequences

NUM_WORDS = 9
TRAINING: dict[str, Any] = {
    "learning_rate": 0.01, "schedule": "constant", "warmup_fraction": 0.0, "gradient_clip": None, "max_epochs": 1,
    "patience": None, "checkpoint": "last", "sampling_power": 0.75,
}  # fmt: skip


def build(num_samples: int | None = None, trainable: bool = True, **changes: Any) -> LanguageModelModule:
    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "cell": "lstm", "directions": "forward", "hidden_size": 5, "num_layers": 1, "dropout": 0.0,
        "recurrent_dropout": 0.0,
    }  # fmt: skip
    table = TableEmbedding(torch.randn(NUM_WORDS, 4), trainable=trainable)
    network = LanguageModel(table, LanguageModelSettings(**settings | changes))
    proposal = None if num_samples is None else Proposal.of(np.arange(NUM_WORDS), 0.75, num_samples)
    return LanguageModelModule(network, LanguageModelTraining(num_samples=num_samples, **TRAINING), proposal, {})


def batches(directions: str, num_streams: int = 2, num_steps: int = 6) -> list[StreamBatch]:
    random = np.random.default_rng(2)
    tokens = random.integers(1, NUM_WORDS, size=43).astype(np.int32)
    table = TokenSequences(tokens, np.array([0, 10, 11, 30, 43]))
    data = StreamDataset([table], [np.arange(4)], num_streams, num_steps, REVERSED[directions], seed=None)
    return [data[0, step] for step in range(len(data))]


def gradients_of(module: LanguageModelModule, batch: StreamBatch, seed: int = 3) -> tuple[Tensor, dict[str, Tensor]]:
    module.states = module.start_states(module.states, batch.token_ids.shape[2])
    loss, gradients = module.step_gradients(batch, seed)
    names = {weights: name for name, weights in module.network.named_parameters()}
    return loss, {names[weights]: each.to_dense() for weights, each in gradients.items()}


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_gradients_are_those_of_autograd_on_the_whole_network(cell: str, num_layers: int) -> None:
    module = build(cell=cell, num_layers=num_layers)
    batch = batches("forward")[0]
    loss, gradients = gradients_of(module, batch)
    network = module.network
    states = network.embedding(batch.token_ids[0])
    for layer in network.layers:
        states, _ = layer[0](states)  # type: ignore[index]
    logits = states @ network.output.weight.T + network.output_bias.weight[:, 0]
    expected = F.cross_entropy(logits.reshape(-1, NUM_WORDS), batch.targets[0].reshape(-1))
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    assert gradients.keys() == dict(network.named_parameters()).keys()
    for name, weights in network.named_parameters():
        torch.testing.assert_close(gradients[name], weights.grad, rtol=1e-4, atol=1e-6)


def test_with_all_words_sampled_steps_are_those_of_the_full_softmax() -> None:
    full, sampled = (gradients_of(build(size, directions="both"), batches("both")[0]) for size in (None, NUM_WORDS))
    torch.testing.assert_close(sampled[0], full[0])
    for name, gradient in full[1].items():
        torch.testing.assert_close(sampled[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_tables_get_gradients_of_the_rows_of_a_step_alone() -> None:
    module = build(num_samples=2)
    batch = batches("forward", num_steps=2)[0]
    module.states = module.start_states([], 2)
    _, gradients = module.step_gradients(batch, 1)
    table = gradients[module.network.embedding.table.weight]
    assert table.is_sparse
    assert set(table.indices()[0].tolist()) == {PAD, *batch.token_ids.flatten().tolist()}
    assert not table.to_dense()[PAD].any()
    assert gradients[module.network.output.weight].is_sparse
    frozen = build(num_samples=2, trainable=False)
    assert not any("embedding" in name for name in gradients_of(frozen, batch)[1])


@pytest.mark.parametrize("directions", ["forward", "backward", "both"])
def test_streams_in_pieces_have_the_states_of_long_streams(directions: str) -> None:
    module = build(directions=directions, num_layers=2).eval()
    long, pieces = [], []
    for results, num_steps in ((long, 100), (pieces, 4)):
        module.states = []
        losses = []
        for batch in batches(directions, num_steps=num_steps):
            loss, _ = gradients_of(module, batch)
            losses.append(float(loss) * int((batch.targets >= 0).sum()))
        results.append(sum(losses))
        results += [state for direction in module.states for layer in direction for state in layer]
    assert long[0] == pytest.approx(pieces[0], rel=1e-6)
    for state, other in zip(long[1:], pieces[1:], strict=True):
        torch.testing.assert_close(state, other)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_dropout_and_gradients_do_not_depend_on_the_number_of_threads(cell: str) -> None:
    results = []
    for num_threads in (1, 2, 3):
        module = build(4, cell=cell, directions="both", num_layers=2, dropout=0.3, recurrent_dropout=0.3)
        module.network.embedding.word_dropout = 0.2
        with module.runner.threads(num_threads):
            results.append([gradients_of(module, batch) for batch in batches("both", num_streams=40, num_steps=1)])
    assert len(module.parts(40, torch.device("cpu"))) > 2
    for steps in results[1:]:
        for (loss, gradients), (expected, targets) in zip(steps, results[0], strict=True):
            assert torch.equal(loss, expected)
            assert all(torch.equal(gradients[name], target) for name, target in targets.items())


def perplexities(module: LanguageModelModule, directions: str, num_steps: int = 6) -> dict[str, float]:
    logged: dict[str, float] = {}
    module.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign, assignment]
    module.eval()
    module.on_validation_epoch_start()
    with torch.no_grad():
        for number, batch in enumerate(batches(directions, num_steps=num_steps)):
            module.validation_step(batch, number)
    module.on_validation_epoch_end()
    return logged


def test_the_perplexity_of_a_bigram_model_is_that_of_its_table() -> None:
    """A cell whose state is the word before: one-hot words, scaled into the saturation of tanh, without a memory."""
    module = build(cell="rnn", hidden_size=NUM_WORDS)
    network = module.network
    network.embedding.table = torch.nn.Embedding.from_pretrained(torch.eye(NUM_WORDS))
    network.embedding.dimension = NUM_WORDS
    network.layers[0][0] = torch.nn.RNN(NUM_WORDS, NUM_WORDS)  # type: ignore[index, operator]
    cell = network.cells(0)[0]
    table = torch.randn(NUM_WORDS, NUM_WORDS)  # logits of the next word after each
    with torch.no_grad():
        for name, weights in cell.named_parameters():
            weights.copy_(100 * torch.eye(NUM_WORDS) if name == "weight_ih_l0" else torch.zeros_like(weights))
        network.output.weight.copy_(table.T)
    losses = []
    for batch in batches("forward"):
        known = batch.targets[0] >= 0
        log_probabilities = F.log_softmax(table[batch.token_ids[0][known]], dim=1)
        losses += (-log_probabilities.gather(1, batch.targets[0][known][:, None])[:, 0]).tolist()
    assert perplexities(module, "forward")["val/perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)


def test_both_directions_have_perplexities_of_their_own_and_pieces_do_not_matter() -> None:
    long, pieces = (perplexities(build(directions="both"), "both", num_steps) for num_steps in (100, 5))
    assert long == pytest.approx(pieces, rel=1e-6)
    mean = (np.log(long["val/perplexity_forward"]) + np.log(long["val/perplexity_backward"])) / 2
    assert long["val/loss"] == pytest.approx(mean)
    assert long["val/perplexity"] == pytest.approx(np.exp(mean))


def test_the_output_bias_starts_with_the_frequencies_of_words() -> None:
    module = build()
    counts = np.array([2, 0, 6, 1, 1, 1, 1, 1, 3])
    module.network.init_bias_from_counts(counts)
    probabilities = torch.softmax(module.network.output_bias.weight.detach()[:, 0], dim=0)
    assert float(probabilities[2]) == pytest.approx(6 / 16.5, rel=1e-5)  # a word without occurrences counts ½


def test_documents_are_drawn_up_to_their_end_without_unknown_words() -> None:
    network = build(directions="backward").network.eval()
    with torch.no_grad():
        network.output.weight.zero_()
        network.output_bias.weight[:, 0] = torch.tensor([-50.0, 50, 0, 0, -50, -50, -50, -50, -50])
    drawn = network.generate(20, np.random.default_rng(1))
    assert len(drawn) == 20
    assert set(drawn) == {2, 3}
    with torch.no_grad():
        network.output_bias.weight[PAD] = 90.0
    assert network.generate(20, np.random.default_rng(1)) == []
