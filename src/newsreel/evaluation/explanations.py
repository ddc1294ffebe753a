"""Explanations: the contribution of each token of a document to the logit of a label.

Axes: N documents, L labels, T tokens of a document, S steps of an integral.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from newsreel.batches.batch import Batch, DocumentDataset
from newsreel.core.errors import UserError, suggest
from newsreel.models.network import AttributionInputs, Network
from newsreel.text.tokens import PAD, UNK, FittedTokenizer, TextSpans, TokenSequences

COMPLETENESS = 0.01  # relative gap of the contributions above which the number of steps is increased
MAX_STEPS_FACTOR = 16
MAX_VALUES = 2**23  # input values computed at a time
FOR, AGAINST = "31 119 180", "255 127 14"  # red, green, blue


@dataclass(frozen=True)
class Explanation:
    """Contributions of the tokens of a document to the logit of a label; they sum to `logit - baseline - gap`."""

    FIELDS: ClassVar = ("target", "logit", "baseline", "gap", "attributions")

    target: str  # the label
    logit: float  # its log-odds, or for `multiclass` its logit
    baseline: float  # the logit without tokens: the bias of a linear classifier
    attributions: Sequence[tuple[str, float]]  # the tokens or spans that the network reads, in reading order

    @property
    def gap(self) -> float:
        """The part of `logit - baseline` that the contributions do not explain."""
        return self.logit - self.baseline - sum(value for _, value in self.attributions)

    @property
    def complete(self) -> bool:
        return abs(self.gap) <= tolerance(self.logit - self.baseline)

    def _repr_html_(self) -> str:
        """The words coloured by their contribution, in notebooks."""
        return section(self)

    def fields(self) -> dict[str, Any]:
        return {name: round_floats(getattr(self, name)) for name in self.FIELDS}


class Explanations(list[Explanation]):
    """The explanations of several documents."""

    def _repr_html_(self) -> str:
        """All documents with coloured words, in notebooks."""
        return "".join(section(explanation, number) for number, explanation in enumerate(self, start=1))


def tolerance(difference: float) -> float:
    """The acceptable gap for a difference of logits."""
    return COMPLETENESS * max(abs(difference), 0.1)


def round_floats(value: Any) -> Any:
    """A number, or tokens with numbers, rounded to the precision of float32."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    return value if isinstance(value, str) else [[token, round_floats(figure)] for token, figure in value]


def mean_explanation(explanations: Sequence[Explanation], factors: Sequence[float]) -> Explanation:
    """The explanation of the sum of several networks' logits, each times a factor: contributions are linear in it.

    Raises UserError if the networks read different tokens of the document.
    """
    first = explanations[0]
    tokens = [token for token, _ in first.attributions]
    if any([token for token, _ in each.attributions] != tokens for each in explanations):
        raise UserError(
            "The members of the ensemble read different tokens of a document, since they truncate it in different ways "
            "(batches.max_tokens, batches.truncation), so that their contributions cannot be averaged: explain the "
            "members one by one."
        )
    values = np.tensordot(factors, [[value for _, value in each.attributions] for each in explanations], axes=1)
    logit, baseline = np.dot(factors, [(each.logit, each.baseline) for each in explanations]).tolist()
    return Explanation(first.target, logit, baseline, list(zip(tokens, values.tolist(), strict=True)))


class Explainer:
    """Explains single documents.

    In a linear bag of words, a word contributes its weight in the document times its coefficient. For other networks,
    contributions are integrated gradients (Sundararajan et al. 2017) along the straight line from zeros to the
    embeddings of the document's tokens, or to the token weights of a bag.
    """

    def __init__(
        self,
        network: Network,
        tokens: Sequence[str],
        labels: Sequence[str],
        label: str | None,
        steps: int,
        max_steps_factor: int = MAX_STEPS_FACTOR,
    ) -> None:
        """tokens: by id. label: to explain; None: the most probable one. steps: initial S, which is raised up to
        `max_steps_factor` times while the contributions are incomplete.

        Raises UserError if the label is unknown.
        """
        if label is not None and label not in labels:
            raise UserError(f"explain_label={label} is not a label of this run{suggest(label, labels)}")
        self.network = network.requires_grad_(False)
        self.tokens = tokens
        self.labels = labels
        self.label = label
        self.steps = steps
        self.max_steps = max_steps_factor * steps

    def __call__(
        self,
        documents: DocumentDataset,
        probabilities: np.ndarray,
        surface_forms: Sequence[Sequence[str] | None],
        spans: Sequence[TextSpans | None] | None = None,
    ) -> list[Explanation]:
        """Explain documents with (N, L) probabilities. Raises UserError if captum is not installed.

        surface_forms: of the tokens of each document, before truncation; None: unknown. spans: the parts of each
        document that are shown instead of its tokens; None: the tokens are shown.
        """
        if self.label is None:
            targets = probabilities.argmax(axis=1).tolist()
        else:
            targets = [list(self.labels).index(self.label)] * len(documents)
        explanations = []
        all_spans = [None] * len(documents) if spans is None else spans
        for number, (target, words, parts) in enumerate(zip(targets, surface_forms, all_spans, strict=True)):
            forms = None if words is None else truncate_words(words, documents)
            explanation = self.explain(documents[[number]], target, forms)
            explanations.append(explanation if parts is None else by_span(explanation, parts, documents))
        return explanations

    def explain_texts(
        self, texts: Sequence[str], tokenizer: FittedTokenizer, documents: DocumentDataset, probabilities: np.ndarray
    ) -> list[Explanation]:
        """Explain documents by the spelling and the spans of their texts."""
        forms = [tokenizer.surface_forms(text) for text in texts]
        return self(documents, probabilities, forms, [tokenizer.spans(text) for text in texts])

    def explain(self, batch: Batch, target: int, words: Sequence[str] | None = None) -> Explanation:
        """Explain the logit of the label `target` in a batch of one document.

        words: surface forms of the document's tokens; None: use the vocabulary.
        """
        device = next(self.network.parameters()).device
        token_ids, lengths = batch.token_ids.to(device), batch.lengths.to(device)
        with (
            torch.enable_grad(),
            torch.backends.cudnn.flags(enabled=False),
        ):  # cuDNN has no gradients of RNNs in evaluation mode
            reading = self.network.attribution_inputs(token_ids, lengths)

            def logit(values: Tensor) -> Tensor:
                logits = reading.logits(values)  # (S, num_outputs)
                if logits.shape[1] == 1:  # it is that of the second of two labels
                    return logits[:, 0] if target else -logits[:, 0]
                return logits[:, target]

            ends = torch.cat([torch.zeros_like(reading.values), reading.values])
            baseline, full = logit(ends).tolist()
            contributions = self.contributions(reading, logit, full - baseline)
        read = [
            (token, value)
            for token, value in zip(reading.token_ids.tolist(), contributions.tolist(), strict=True)
            if token != PAD
        ]
        # some networks read only the last tokens
        forms = [None] * len(read) if words is None else words[len(words) - len(read) :]
        attributions = [
            (f"{word} {self.tokens[token]}" if token == UNK and word else self.tokens[token], value)
            for (token, value), word in zip(read, forms, strict=True)
        ]
        return Explanation(self.labels[target], full, baseline, attributions)

    def contributions(self, reading: AttributionInputs, logit: Callable[[Tensor], Tensor], difference: float) -> Tensor:
        """(T,) contributions, which sum to `difference` up to the gap."""
        values = reading.values
        if reading.linear:
            values = values.requires_grad_()
            (gradients,) = torch.autograd.grad(logit(values).sum(), values)
            return sum_by_token(gradients * values.detach())
        integrated = integrated_gradients(logit)
        steps_at_a_time = max(1, MAX_VALUES // values.numel())
        steps = self.steps
        while True:
            attributions = integrated.attribute(values, n_steps=steps, internal_batch_size=steps_at_a_time)
            by_token = sum_by_token(attributions)
            gap = abs(difference - float(by_token.sum()))
            if gap <= tolerance(difference) or steps >= self.max_steps:
                return by_token
            steps *= 4


def truncate_words(words: Sequence[str], documents: DocumentDataset) -> list[str]:
    """The words of a document after truncation."""
    return [words[index] for index in truncated_indices(len(words), documents)]


def truncated_indices(num_tokens: int, documents: DocumentDataset) -> list[int]:
    """The indices of a document's tokens after truncation."""
    if not num_tokens:
        return []
    indices = TokenSequences(np.arange(num_tokens), np.array([0, num_tokens]))
    document = DocumentDataset.without_targets(indices, documents.max_tokens, documents.truncation)
    return list(document[[0]].token_ids[0].tolist())


def by_span(explanation: Explanation, spans: TextSpans, documents: DocumentDataset) -> Explanation:
    """The explanation with the contributions of its tokens summed by span; spans without a token that is read are left
    out."""
    after_truncation = truncated_indices(spans.weights.shape[0], documents)
    num_read = len(explanation.attributions)
    weights = spans.weights[after_truncation[len(after_truncation) - num_read :]]  # (T, P)
    contributions = weights.T @ np.array([value for _, value in explanation.attributions])  # (P,)
    read = np.unique(weights.nonzero()[1]).tolist()
    return replace(explanation, attributions=[(spans.texts[part], float(contributions[part])) for part in read])


def sum_by_token(contributions: Tensor) -> Tensor:
    """(1, T, …) → (T,)"""
    return contributions.detach()[0].flatten(1).sum(dim=1) if contributions.ndim > 2 else contributions.detach()[0]


def integrated_gradients(logit: Callable[[Tensor], Tensor]) -> Any:
    """captum's IntegratedGradients. Raises UserError if captum is not installed."""
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise UserError(
            "For models other than linear bags of words, explain=true needs the Python package captum, which is not "
            "installed: pip install captum, or, in the project's directory, pip install --editable '.[explain]'."
        ) from error
    return IntegratedGradients(logit)


def section(explanation: Explanation, number: int | None = None) -> str:
    """The HTML of one document. number: before its heading; None: none."""
    strongest = max((abs(value) for _, value in explanation.attributions), default=0) or 1
    marks = " ".join(
        f'<mark style="background:rgb({FOR if value > 0 else AGAINST}/{abs(value) / strongest:.2f})" '
        f'title="{value:+.4g}">{escape(token)}</mark>'
        for token, value in explanation.attributions
    )
    sums = f"logit {explanation.logit:.4g}, without words {explanation.baseline:.4g}"
    before = "" if number is None else f"{number}. "
    return f'<h2>{before}{escape(explanation.target)}: {sums}</h2>\n<p dir="auto">{marks}</p>\n'
