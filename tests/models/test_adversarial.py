"""Perturbed embeddings and the losses that read them, against dense Hessians and gradients of the whole network."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

from helpers.machine import needs_bfloat16_lstm
from helpers.marks import with_fast
from newsreel.batches.batch import Batch
from newsreel.corpora.corpus import Task
from newsreel.embeddings.dropout import mask_generator
from newsreel.embeddings.embedding import TableEmbedding
from newsreel.models import adversarial
from newsreel.models.adversarial import (
    AdditionalLosses,
    AdversarialSettings,
    PerturbedPasses,
    Prediction,
    perturbable,
)
from newsreel.models.cnn import KimCNN, StackedCNN
from newsreel.models.flatten import FlattenMLP
from newsreel.models.loss import Loss, LossSettings
from newsreel.models.micro_batches import Masks, MicroBatchRunner, Part
from newsreel.models.network import Network
from newsreel.models.recurrent import RecurrentNetwork

RECURRENT: dict[str, Any] = {
    "cell": "lstm", "directions": "both", "hidden_size": 5, "num_layers": 2, "pooling": "max_mean", "dropout": 0.0,
    "recurrent_dropout": 0.0, "layer_norm": True,
}  # fmt: skip
STACK: dict[str, Any] = {
    "num_filters": 4, "kernel_size": 3, "num_layers": 2, "pool_size": 2, "pooling": "max", "hidden_sizes": [3],
    "input_dropout": 0.0, "dropout": 0.0,
}  # fmt: skip
NETWORKS: dict[str, Callable[[TableEmbedding, int], Network]] = {
    "bilstm": lambda table, outputs: RecurrentNetwork(table, outputs, **RECURRENT),
    "cnn": lambda table, outputs: StackedCNN(table, outputs, **STACK),
    "kim_cnn": lambda table, outputs: KimCNN(table, outputs, num_filters=4, kernel_sizes=[2, 3], dropout=0.0),
    "flatten": lambda table, outputs: FlattenMLP(table, outputs, num_tokens=6, hidden_sizes=[4], dropout=0.0),
}
TASKS: list[tuple[Task, bool, int]] = [
    ("binary", False, 1), ("multiclass", False, 3), ("multiclass", True, 3), ("multilabel", False, 3),
]  # fmt: skip
LENGTHS = torch.tensor([3, 0, 9, 5, 5, 1, 7, 2, 9, 4, 6, 8, 3, 1, 5, 2, 7, 9, 4, 6])  # (B,)
NORM = 2.0


def token_batch() -> tuple[Tensor, Tensor]:
    token_ids = torch.randint(1, 30, (len(LENGTHS), 9), generator=torch.Generator().manual_seed(2))
    return token_ids * (torch.arange(9) < LENGTHS[:, None]), LENGTHS


def targets_of(task: Task, num_outputs: int) -> Tensor:
    random = torch.Generator().manual_seed(5)
    if task == "multilabel":
        return torch.randint(0, 2, (len(LENGTHS), num_outputs), generator=random).float()
    return torch.randint(0, max(2, num_outputs), (len(LENGTHS),), generator=random)


def build(name: str, num_outputs: int, dropout: float = 0.0, trainable: bool = True) -> Network:
    torch.manual_seed(1)
    table = TableEmbedding(torch.randn(30, 6), trainable=trainable, dropout=dropout, word_dropout=dropout)
    table.keep_normalized(torch.arange(30.0))
    network = NETWORKS[name](table, num_outputs)
    network.micro_batch_size = 8
    return network


def loss_of(task: Task, num_outputs: int, one_vs_rest: bool = False) -> Loss:
    settings = LossSettings(class_balance=0.5, focal_gamma=0.0, label_smoothing=0.1, one_vs_rest=one_vs_rest)
    return Loss(task, torch.arange(1, max(2, num_outputs) + 1), 50, settings)


def passes_of(network: Network, loss: Loss, **settings: float) -> PerturbedPasses:
    prediction = Prediction(loss.task, loss.settings.one_vs_rest)
    return PerturbedPasses(
        network, loss, prediction, AdversarialSettings(**{"perturbation_norm": NORM / std_of(network), **settings})
    )


def std_of(network: Network) -> float:
    assert network.embedding.std is not None
    return network.embedding.std


def whole(token_ids: Tensor, lengths: Tensor) -> Part:
    return Part(torch.arange(len(lengths)), token_ids, lengths)


def masks_of(seed: int = 3) -> Masks:
    return partial(mask_generator, [seed])


@pytest.fixture
def doubles() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def single_document(network: Network, num_tokens: int = 5) -> tuple[Part, Tensor, Callable[[Tensor], Tensor]]:
    """A document as a part, its (T · E,) embeddings, and its (O,) logits as a function of such embeddings."""
    token_ids = torch.randint(2, 30, (1, num_tokens), generator=torch.Generator().manual_seed(4))
    part = whole(token_ids, torch.tensor([num_tokens]))
    inputs = network.attribution_inputs(part.token_ids, part.lengths)
    return part, inputs.values.flatten(), lambda values: inputs.logits(values.view_as(inputs.values))[0]


def dense_hessian(logits: Callable[[Tensor], Tensor], values: Tensor, is_softmax: bool) -> Tensor:
    """(T · E, T · E) of the divergence of the distribution at `values` from that at other ones, at `values`."""
    kind = Categorical if is_softmax else Bernoulli
    clean = kind(logits=logits(values).detach())
    hessian = torch.autograd.functional.hessian(
        lambda other: kl_divergence(clean, kind(logits=logits(other))).sum(), values
    )
    assert isinstance(hessian, Tensor)
    return hessian


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize(("task", "one_vs_rest", "num_outputs"), with_fast(TASKS[:2], TASKS))
def test_the_virtual_direction_is_a_step_of_the_power_method_and_more_steps_the_dominant_eigenvector(
    task: Task, one_vs_rest: bool, num_outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adversarial, "FINITE_DIFFERENCE", 1e-5)
    network = build("bilstm", num_outputs)
    passes = passes_of(network, loss_of(task, num_outputs, one_vs_rest), vat=1.0)
    part, values, logits = single_document(network)
    hessian = dense_hessian(logits, values, task == "multiclass" and not one_vs_rest)
    with perturbable(network.embedding):
        clean = passes.read(part, masks_of())
        assert clean.start.shape == ((1, 1) if num_outputs == 1 else (1, 5, 6))
        direction = passes.virtual_direction(part, masks_of(), clean, clean.start)
        if num_outputs > 1:
            expected = hessian @ clean.start.flatten()
            torch.testing.assert_close(direction.flatten(), expected / expected.norm(), rtol=1e-4, atol=1e-5)
            for _ in range(200):
                direction = passes.virtual_direction(part, masks_of(), clean, direction)
    eigenvector = torch.linalg.eigh(hessian).eigenvectors[:, -1]
    assert float((direction.flatten() @ eigenvector).abs()) == pytest.approx(1, abs=1e-5)


def test_finite_differences_of_single_precision_are_close_to_the_hessian() -> None:
    network = build("bilstm", 3)
    passes = passes_of(network, loss_of("multiclass", 3), vat=1.0)
    part, values, logits = single_document(network)
    with perturbable(network.embedding):
        clean = passes.read(part, masks_of())
        direction = passes.virtual_direction(part, masks_of(), clean, clean.start).flatten()
    expected = dense_hessian(logits, values, is_softmax=True) @ clean.start.flatten()
    assert float(direction @ expected / expected.norm()) > 0.999


@needs_bfloat16_lstm
def test_those_of_half_precision_are_near_it_too() -> None:
    network = build("bilstm", 3)
    passes = passes_of(network, loss_of("multiclass", 3), vat=1.0)
    part, values, logits = single_document(network)
    with perturbable(network.embedding), torch.autocast("cpu", torch.bfloat16):
        half = passes.read(part, masks_of())
        assert half.logits.dtype == torch.bfloat16
        rounded = passes.virtual_direction(part, masks_of(), half, half.start).flatten()
    expected = dense_hessian(logits, values, is_softmax=True) @ half.start.flatten()
    assert float(rounded @ expected / expected.norm()) > 0.98


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("task", "one_vs_rest", "num_outputs"), TASKS)
def test_the_adversarial_perturbation_follows_the_gradient_of_each_documents_loss(
    name: str, task: Task, one_vs_rest: bool, num_outputs: int
) -> None:
    network = build(name, num_outputs)
    loss, targets = loss_of(task, num_outputs, one_vs_rest), targets_of(task, num_outputs)
    token_ids, lengths = token_batch()
    passes = passes_of(network, loss, adversarial=1.0)
    with perturbable(network.embedding):
        given = passes(whole(token_ids, lengths), masks_of(), targets)  # (B, 2 · O)
    for row, length in enumerate(lengths.tolist()):
        ids = token_ids[row : row + 1, : max(1, length)]
        inputs = network.attribution_inputs(ids, lengths[row : row + 1])
        values = inputs.values.clone().requires_grad_()
        logits = inputs.logits(values)
        (gradient,) = torch.autograd.grad(loss(logits, targets[row : row + 1]), values)
        is_sensitive = bool(gradient.any())  # not an empty document, or one that no filter finds anything in
        perturbation = NORM * gradient / gradient.norm() if is_sensitive else gradient
        assert is_sensitive or not length or name in ("cnn", "flatten")
        expected = torch.cat([logits, inputs.logits(values + perturbation)], dim=1)
        torch.testing.assert_close(given[row : row + 1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_virtual_perturbations_of_that_norm_leave_padding_alone_and_raise_the_divergence(
    name: str, num_outputs: int
) -> None:
    network = build(name, num_outputs)
    passes = passes_of(network, loss_of("multiclass" if num_outputs > 1 else "binary", num_outputs), vat=1.0)
    token_ids, lengths = token_batch()
    part = whole(token_ids, lengths)
    with perturbable(network.embedding):
        clean = passes.read(part, masks_of())
        directions = passes.virtual_direction(part, masks_of(), clean, clean.start)
        given = passes(part, masks_of(), None).split(num_outputs, dim=1)
        random = torch.randn(directions.shape, generator=torch.Generator().manual_seed(1))
        random *= (directions != 0).any(dim=2, keepdim=True)
        random *= NORM / random.flatten(1).norm(dim=1).clamp(min=1e-9)[:, None, None]
        at_random = passes._logits_at(part, masks_of(), random)
    norms = directions.flatten(1).norm(dim=1)
    expected = (lengths > 0).float() if name not in ("cnn", "flatten") else norms.round()  # 0 where nothing is found
    torch.testing.assert_close(norms, expected, rtol=1e-4, atol=1e-6)
    assert norms.mean() > 0.7
    if name != "flatten":  # it aligns documents at their ends
        assert not directions[torch.arange(9) >= lengths[:, None]].any()
    divergence = passes.prediction.divergence
    along, aside = (divergence(given[0], each).detach().mean() for each in (given[1], at_random))
    assert float(along) > 2 * float(aside)


@pytest.mark.parametrize("is_divided", [True, False])
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_all_passes_have_the_same_dropout(is_divided: bool, num_outputs: int) -> None:
    network = build("bilstm", num_outputs, dropout=0.5)
    assert isinstance(network, RecurrentNetwork)
    network.recurrent_dropout = 0.5
    if not is_divided:
        network.dropout = torch.nn.Dropout(0.5)  # type: ignore[assignment]  # torch's, for whole batches
    loss = loss_of("multiclass" if num_outputs > 1 else "binary", num_outputs)
    passes = passes_of(network, loss, adversarial=1.0, vat=1.0, perturbation_norm=1e-9)
    runner = MicroBatchRunner(network)
    assert (runner.max_documents is not None) == is_divided
    torch.manual_seed(3)
    forward = partial(passes, targets=targets_of(loss.task, num_outputs))
    with perturbable(network.embedding):
        first, second = (runner(*token_batch(), forward) for _ in range(2))
    clean, *perturbed = first.split(num_outputs, dim=1)
    assert len(perturbed) == 2
    for logits in perturbed:
        torch.testing.assert_close(logits, clean, rtol=0, atol=1e-3)
    assert (first - second).abs().mean() > 0.1  # other masks in the next step
    torch.manual_seed(3)
    with perturbable(network.embedding):
        assert torch.equal(runner(*token_batch(), forward), first)


def run(
    network: Network, task: Task, num_outputs: int, num_threads: int = 1, **settings: float
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Logits, losses and gradients of a step on 12 labelled and 8 unlabelled documents."""
    runner = MicroBatchRunner(network)
    losses = AdditionalLosses(
        network, runner, loss_of(task, num_outputs), AdversarialSettings(perturbation_norm=3.0, **settings)
    )
    token_ids, lengths = token_batch()
    targets = targets_of(task, num_outputs)
    unlabeled = Batch(token_ids[12:], lengths[12:], targets[12:], 8)
    batch = Batch(token_ids[:12], lengths[:12], targets[:12], 12, unlabeled=unlabeled)
    torch.manual_seed(3)
    with runner.threads(num_threads):
        logits, values = losses(batch, lambda _: 1.0)
        sum(values.values(), logits.sum()).backward()
    gradients = {name: weights.grad for name, weights in network.named_parameters() if weights.grad is not None}
    detached = {name: value.detach() for name, value in values.items()}
    dense = {name: gradient.to_dense() if gradient.is_sparse else gradient for name, gradient in gradients.items()}
    return logits.detach(), detached, dense


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_losses_and_gradients_do_not_depend_on_the_number_of_threads(name: str, num_outputs: int) -> None:
    task: Task = "binary" if num_outputs == 1 else "multilabel"
    weights = {"adversarial": 1.0, "vat": 1.0, "entropy": 1.0}
    results = [
        run(build(name, num_outputs, dropout=0.5), task, num_outputs, threads, **weights) for threads in (1, 2, 4)
    ]
    logits, losses, gradients = results[0]
    assert list(losses) == ["adversarial", "vat", "entropy"]
    for other_logits, other_losses, other_gradients in results[1:]:
        assert torch.equal(other_logits, logits)
        assert other_losses == losses
        assert all(torch.equal(other_gradients[key], gradient) for key, gradient in gradients.items())


@pytest.mark.parametrize("trainable", [True, False])
def test_gradients_of_micro_batches_are_those_of_the_whole_batch(trainable: bool) -> None:
    divided, undivided = (build("bilstm", 3, trainable=trainable) for _ in range(2))
    undivided.micro_batch_size = None
    results = [run(network, "multiclass", 3, adversarial=1.0, entropy=1.0) for network in (divided, undivided)]
    for name, gradient in results[0][2].items():
        torch.testing.assert_close(gradient, results[1][2][name], rtol=1e-4, atol=1e-5)
    for name, value in results[0][1].items():
        torch.testing.assert_close(value, results[1][1][name])


def test_losses_are_means_over_labelled_and_unlabelled_documents_without_gradients_through_the_clean_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = Prediction.divergence
    learns: list[tuple[bool, bool]] = []

    def divergence(self: Prediction, logits: Tensor, others: Tensor) -> Tensor:
        learns.append((logits.requires_grad, others.requires_grad))
        return original(self, logits, others)

    monkeypatch.setattr(Prediction, "divergence", divergence)
    network = build("kim_cnn", 1)
    logits, losses, _ = run(network, "binary", 1, vat=1.0, entropy=1.0)
    assert learns == [(False, True)] * 2
    token_ids, lengths = token_batch()
    with torch.no_grad():
        clean = network(token_ids, lengths)
    torch.testing.assert_close(logits, clean[:12], rtol=1e-5, atol=1e-6)
    assert float(losses["entropy"]) == pytest.approx(float(Bernoulli(logits=clean).entropy().mean()), rel=1e-5)
    # The perturbations are those along the gradient of the logit; their signs are random, so either of both
    possible = []
    for sign in (-1.0, 1.0):
        passes = passes_of(network, loss_of("binary", 1), vat=1.0, perturbation_norm=3.0)
        part = whole(token_ids, lengths)
        with perturbable(network.embedding):
            read = passes.read(part, masks_of())
            direction = passes.virtual_direction(part, masks_of(), read, torch.full((20, 1), sign))
            possible.append(passes._logits_at(part, masks_of(), 3.0 * std_of(network) * direction))
    divergences = [kl_divergence(Bernoulli(logits=clean), Bernoulli(logits=each)).detach() for each in possible]
    low, high = torch.stack(divergences).amin(dim=0).mean(), torch.stack(divergences).amax(dim=0).mean()
    assert float(low) <= float(losses["vat"]) <= float(high)


def test_the_mean_over_processes_is_the_loss_of_the_whole_batches() -> None:
    """Each of two processes has every second document, of 9 labelled and 5 unlabelled ones."""
    network, loss = build("kim_cnn", 1), loss_of("binary", 1)
    losses = AdditionalLosses(
        network, MicroBatchRunner(network), loss, AdversarialSettings(adversarial=1.0, entropy=1.0)
    )
    token_ids, lengths = token_batch()
    targets = targets_of("binary", 1)

    def part(rows: slice) -> dict[str, Tensor]:
        labelled, others = torch.arange(9)[rows], 9 + torch.arange(5)[rows]
        unlabeled = Batch(token_ids[others], lengths[others], targets[others], 5)
        batch = Batch(token_ids[labelled], lengths[labelled], targets[labelled], 9, unlabeled=unlabeled)
        num_processes = rows.step or 1
        return losses(batch, lambda each: len(each.lengths) * num_processes / each.num_documents)[1]

    whole_batch, first, second = part(slice(None)), part(slice(0, None, 2)), part(slice(1, None, 2))
    for name, value in whole_batch.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, value)


def test_a_step_without_entropy_learns_nothing_from_the_clean_pass_of_unlabelled_documents() -> None:
    network = build("kim_cnn", 1)
    passes = passes_of(network, loss_of("binary", 1), vat=1.0)
    with perturbable(network.embedding):
        clean, perturbed = passes(whole(*token_batch()), masks_of(), None).split(1, dim=1)
        (gradient,) = torch.autograd.grad(clean.sum(), network.output.weight, retain_graph=True)
        assert not gradient.any()
        (gradient,) = torch.autograd.grad(perturbed.sum(), network.output.weight)
        assert gradient.any()


@pytest.mark.parametrize(
    ("task", "one_vs_rest", "logits", "others", "divergence", "entropy"),
    [
        # p = 1/2 and q = 3/4: ½ ln(½ / ¾) + ½ ln(½ / ¼); entropy ln 2
        ("binary", False, [0.0], [math.log(3)], 0.5 * math.log(4 / 3), math.log(2)),
        # p = (¼, ¼, ½) and q uniform: ln 3 - H(p), with H(p) = 1.5 ln 2
        ("multiclass", False, [0.0, 0.0, math.log(2)], [1.0] * 3, math.log(3) - 1.5 * math.log(2), 1.5 * math.log(2)),
        ("multiclass", True, [0.0, 0.0], [math.log(3), 0.0], 0.5 * math.log(4 / 3), 2 * math.log(2)),
        ("multilabel", False, [0.0, 0.0], [math.log(3), 0.0], 0.25 * math.log(4 / 3), math.log(2)),
        ("binary", False, [200.0], [-200.0], 400.0 - 200.0, 0.0),
    ],
)  # fmt: skip
def test_divergence_and_entropy_by_hand(
    task: Task, one_vs_rest: bool, logits: list[float], others: list[float], divergence: float, entropy: float
) -> None:
    prediction = Prediction(task, one_vs_rest)
    given = prediction.divergence(torch.tensor([logits]), torch.tensor([others]))
    assert given.tolist() == pytest.approx([divergence], abs=1e-6)
    assert prediction.entropy(torch.tensor([logits])).tolist() == pytest.approx([entropy], abs=1e-6)


def test_weights_of_documents_are_those_of_their_adversarial_loss() -> None:
    network, loss = build("kim_cnn", 1), loss_of("binary", 1)
    losses = AdditionalLosses(network, MicroBatchRunner(network), loss, AdversarialSettings(adversarial=1.0))
    token_ids, lengths = token_batch()
    batch = Batch(token_ids, lengths, targets_of("binary", 1), len(lengths))
    alone = losses(batch, lambda _: 1.0)[1]["adversarial"]
    halved = losses(batch._replace(weights=torch.full((len(lengths),), 0.5)), lambda _: 1.0)[1]["adversarial"]
    torch.testing.assert_close(halved, 0.5 * alone)
