"""Losses of documents whose embeddings are perturbed, and of predictions on unlabelled documents.

Adversarial and virtual adversarial training of Miyato et al. 2017, "Adversarial training methods for semi-supervised
text classification", and entropy minimisation, mixed as by Sachan et al. 2019, "Revisiting LSTM networks for
semi-supervised text classification via mixed objective function".

Axes: B documents of a batch, B' of a micro-batch, U unlabelled ones, T tokens, E embedding dimensions, O outputs,
P passes through the network.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor

from newsreel.batches.batch import Batch
from newsreel.corpora.corpus import Task
from newsreel.embeddings.dropout import keep_mask
from newsreel.embeddings.embedding import Embedding
from newsreel.models.loss import Loss
from newsreel.models.micro_batches import Masks, MicroBatchRunner, Part
from newsreel.models.network import Network
from newsreel.text.tokens import PAD

FINITE_DIFFERENCE = 0.1  # norm of the step of finite differences, in standard deviations of the embeddings' values

Change = Callable[[Tensor, Tensor], Tensor]  # (B', T) token ids, (B', T, E) embeddings → other embeddings


@dataclass(frozen=True, kw_only=True)
class AdversarialSettings:
    """The settings of these losses in the section `training`; older run directories lack them."""

    adversarial: Annotated[float, Ge(0)] = 0.0
    vat: Annotated[float, Ge(0)] = 0.0
    entropy: Annotated[float, Ge(0)] = 0.0
    perturbation_norm: Annotated[float, Gt(0)] = 5.0

    @property
    def perturbs(self) -> bool:
        """Whether documents are read with perturbed embeddings."""
        return self.adversarial > 0 or self.vat > 0

    @property
    def reads_unlabeled(self) -> bool:
        """Whether training steps have unlabelled documents."""
        return self.vat > 0 or self.entropy > 0


class _Local(threading.local):
    change: Change | None = None


_local = _Local()


@contextmanager
def perturbable(embedding: Embedding) -> Iterator[None]:
    """Context in which `changed_embeddings` works on an embedding."""

    def hook(_: Any, inputs: tuple[Tensor], embedded: Tensor) -> Tensor | None:
        return None if _local.change is None else _local.change(inputs[0], embedded)

    handle = embedding.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def changed_embeddings(change: Change) -> Iterator[None]:
    """Context in which this thread changes what a perturbable embedding looks up."""
    _local.change = change
    try:
        yield
    finally:
        _local.change = None


class Prediction:
    """The distribution of a document's labels that (B, O) logits stand for: a softmax, or O independent decisions.

    Divergence and entropy of decisions are summed for `multiclass` with `one_vs_rest` and averaged for `multilabel`, as
    their log loss is.
    """

    def __init__(self, task: Task, one_vs_rest: bool) -> None:
        self.is_softmax = task == "multiclass" and not one_vs_rest
        self.is_averaged = task == "multilabel"

    def divergence(self, logits: Tensor, others: Tensor) -> Tensor:
        """(B, O), (B, O) → (B,): Kullback-Leibler divergence KL(p(logits) ‖ p(others)), in nats."""
        if self.is_softmax:
            log_probs = logits.log_softmax(dim=1)
            return (log_probs.exp() * (log_probs - others.log_softmax(dim=1))).sum(dim=1)
        positive = logits.sigmoid() * (F.logsigmoid(logits) - F.logsigmoid(others))
        negative = (-logits).sigmoid() * (F.logsigmoid(-logits) - F.logsigmoid(-others))
        return self._reduce(positive + negative)

    def entropy(self, logits: Tensor) -> Tensor:
        """(B, O) → (B,), in nats."""
        if self.is_softmax:
            log_probs = logits.log_softmax(dim=1)
            return -(log_probs.exp() * log_probs).sum(dim=1)
        return self._reduce(-logits.sigmoid() * F.logsigmoid(logits) - (-logits).sigmoid() * F.logsigmoid(-logits))

    def curvature_product(self, logits: Tensor, changes: Tensor) -> Tensor:
        """(B, O), (B, O) → (B, O): the Hessian of `others` → divergence at `logits`, its minimum, times the changes, up
        to a factor.
        """
        if self.is_softmax:
            probs = logits.softmax(dim=1)
            return probs * (changes - (probs * changes).sum(dim=1, keepdim=True))
        return logits.sigmoid() * (-logits).sigmoid() * changes

    def _reduce(self, values: Tensor) -> Tensor:
        return values.mean(dim=1) if self.is_averaged else values.sum(dim=1)


class CleanPass(NamedTuple):
    """A pass of a micro-batch through the network, without perturbations."""

    logits: Tensor  # (B', O)
    embedded: Tensor  # (B', T, E) of the tokens that the network reads
    start: Tensor  # (B', T, E) random directions, zero for <pad>; with one output (B', 1) random signs

    def direction(self, changes: Tensor) -> Tensor:
        """The direction in which the embeddings change the logits along (B', O) `changes` most: (B', T, E).

        Of norm 1 for each document, or 0 if the changes or the gradients are zero.
        """
        changes = F.normalize(changes.double(), dim=1, eps=1e-100).to(self.logits.dtype)  # gradients cannot underflow
        (gradients,) = torch.autograd.grad(self.logits, self.embedded, changes, retain_graph=True)
        return normalized(gradients)


class PerturbedPasses:
    """The logits of documents, and of the same documents with perturbed embeddings and the same dropout masks.

    A perturbation has the norm ε over all tokens of a document. The adversarial one follows the gradient of the loss
    (Miyato et al. 2017, eq. 5). The virtual adversarial one follows H d, one step of the power method for the dominant
    eigenvector of H, the Hessian of the divergence at the document's embeddings, from a random d (eqs. 7 and 8).

    The divergence has its minimum there, so H = Jᵀ F J, with the Jacobian J of the logits and the Hessian F of the
    divergence by the logits. J d is the difference of the logits for a small step along d, and Jᵀ a backward pass. With
    one output, J d is a number, of which only the sign matters: it is random, and the step is exact without another
    pass.
    """

    def __init__(self, network: Network, loss: Loss, prediction: Prediction, settings: AdversarialSettings) -> None:
        self.network = network
        self.loss = loss
        self.prediction = prediction
        self.settings = settings

    def num_passes(self, has_targets: bool) -> int:
        """P."""
        return 1 + (has_targets and self.settings.adversarial > 0) + (self.settings.vat > 0)

    def __call__(self, part: Part, masks: Masks, targets: Tensor | None) -> Tensor:
        """targets: of the whole batch; None: unlabelled documents, which have no adversarial perturbation.

        Returns (B', P · O): logits, those with adversarial and those with virtual adversarial perturbations.
        """
        clean = self.read(part, masks)
        directions = []
        if targets is not None and self.settings.adversarial:
            directions.append(self.adversarial_direction(clean, targets[part.rows]))
        if self.settings.vat:
            directions.append(self.virtual_direction(part, masks, clean, clean.start))
        norm = self.settings.perturbation_norm * self._std
        perturbed = [self._logits_at(part, masks, norm * direction) for direction in directions]
        is_minimised = targets is not None or self.settings.entropy
        return torch.cat([clean.logits if is_minimised else clean.logits.detach(), *perturbed], dim=1)

    def read(self, part: Part, masks: Masks) -> CleanPass:
        """The pass without perturbations."""
        looked_up: list[tuple[Tensor, Tensor]] = []

        def record(token_ids: Tensor, embedded: Tensor) -> Tensor:
            looked_up.append((token_ids, embedded if embedded.requires_grad else embedded.requires_grad_()))
            return embedded

        with masks():
            with changed_embeddings(record):
                logits = self.network(part.token_ids, part.lengths)  # (B', O)
            ((token_ids, embedded),) = looked_up  # a network looks its tokens up once
            like = (logits if logits.shape[1] == 1 else embedded).detach()
            signs = 2 * keep_mask(like.shape, 0.5, like) - 1
        start = signs if logits.shape[1] == 1 else signs * (token_ids != PAD)[:, :, None]
        return CleanPass(logits, embedded, start)

    def adversarial_direction(self, clean: CleanPass, targets: Tensor) -> Tensor:
        """(B', …) targets → (B', T, E): the direction in which the loss of each document rises most."""
        logits = clean.logits.detach().float().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(logits, targets), logits)
        return clean.direction(gradient)

    def virtual_direction(self, part: Part, masks: Masks, clean: CleanPass, start: Tensor) -> Tensor:
        """(B', T, E) directions d, or (B', 1) signs of J d → (B', T, E): those of H d."""
        changes = self._logit_changes(part, masks, clean, start) if start.ndim == 3 else start
        return clean.direction(self.prediction.curvature_product(clean.logits.detach().float(), changes))

    def _logit_changes(self, part: Part, masks: Masks, clean: CleanPass, start: Tensor) -> Tensor:
        """(B', T, E) directions of any norm → (B', O): J d, up to a positive factor per document.

        In full precision, since half precision would round the differences to zero.
        """
        step = FINITE_DIFFERENCE * self._std * normalized(start)
        logits = clean.logits.detach()
        with torch.no_grad(), torch.autocast(start.device.type, enabled=False):
            if logits.dtype in (torch.bfloat16, torch.float16):
                logits = self._logits_at(part, masks, torch.zeros_like(step))
            return self._logits_at(part, masks, step) - logits

    @property
    def _std(self) -> float:
        """Standard deviation of the embeddings' values, in which norms are measured."""
        std = self.network.embedding.std
        assert std is not None
        return std

    def _logits_at(self, part: Part, masks: Masks, perturbations: Tensor) -> Tensor:
        """(B', O) logits for embeddings with (B', T, E) perturbations."""
        with masks(), changed_embeddings(lambda _, embedded: embedded + perturbations):
            return self.network(part.token_ids, part.lengths)  # type: ignore[no-any-return]


def normalized(directions: Tensor) -> Tensor:
    """(B', T, E) of norm 1 per document; zeros remain."""
    return F.normalize(directions.flatten(1), dim=1).view_as(directions)


class AdditionalLosses:
    """The adversarial, virtual adversarial and entropy losses of a training step.

    The adversarial loss is the log loss of labelled documents with adversarial perturbations. The virtual adversarial
    loss KL(p(document) ‖ p(perturbed document)), without gradients through the former, and the entropy of predictions
    are means over labelled and unlabelled documents.
    """

    def __init__(self, network: Network, runner: MicroBatchRunner, loss: Loss, settings: AdversarialSettings) -> None:
        self.network = network
        self.runner = runner
        self.loss = loss
        self.settings = settings
        self.prediction = Prediction(loss.task, loss.settings.one_vs_rest)
        self.passes = PerturbedPasses(network, loss, self.prediction, settings)

    def __call__(self, batch: Batch, factor: Callable[[Batch], float]) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, O) logits of the labelled documents, and the losses by the names of their settings.

        factor: on the mean of this process's documents of a batch; makes the mean over processes that of the batch.
        """
        settings, batches = self.settings, [batch] if batch.unlabeled is None else [batch, batch.unlabeled]
        passes = [self._logits(each, None if number else each.targets) for number, each in enumerate(batches)]
        total = sum(each.num_documents for each in batches)
        factors = [factor(each) * each.num_documents / total for each in batches]
        losses = {}
        if settings.adversarial:
            losses["adversarial"] = factor(batch) * self.loss(passes[0][1], batch.targets, batch.weights)
        if settings.vat:
            losses["vat"] = sum_of(
                scale * self.prediction.divergence(logits.detach(), others[-1]).mean()
                for scale, (logits, *others) in zip(factors, passes, strict=True)
            )
        if settings.entropy:
            losses["entropy"] = sum_of(
                scale * self.prediction.entropy(logits).mean()
                for scale, (logits, *_) in zip(factors, passes, strict=True)
            )
        return passes[0][0], losses

    def _logits(self, batch: Batch, targets: Tensor | None) -> tuple[Tensor, ...]:
        """(B, O) of each pass."""
        if not self.settings.perturbs:
            return (self.runner(batch.token_ids, batch.lengths).float(),)
        with perturbable(self.network.embedding):
            logits = self.runner(batch.token_ids, batch.lengths, partial(self.passes, targets=targets))
        return logits.float().chunk(self.passes.num_passes(targets is not None), dim=1)


def sum_of(values: Iterator[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum()
