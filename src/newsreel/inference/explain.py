"""Why a finished run says what it says: what each token of a document contributes to the logit of a label.

Axes: N documents, L labels, T tokens of a document, S steps of an integral.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from newsreel.batches.batch import Batch, DocumentDataset
from newsreel.core.errors import UserError, suggest
from newsreel.core.storage import replacing
from newsreel.models.network import AttributionInputs, Network
from newsreel.text.tokens import PAD, UNK, TokenSequences

COMPLETENESS = 0.01  # share of what is explained that contributions may miss by before more steps are taken
MOST_TIMES_STEPS = 16
MAX_VALUES = 2**23  # of the steps that are computed at a time
PAGE_BEGIN = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Contributions of words</title>
<style>
body { font: 16px/1.7 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; color: #111; background: #fff }
h2 { font-size: 1em; margin: 2em 0 0 } mark { color: inherit; padding: 0 .15em; border-radius: .2em }
</style>
<p>What speaks for the label is <mark style="background:rgb(31 119 180/.5)">blue</mark>, what speaks against it
<mark style="background:rgb(255 127 14/.5)">orange</mark>; the strongest word of each document has the fullest colour.
</p>
"""
FOR, AGAINST = "31 119 180", "255 127 14"  # red, green, blue


@dataclass(frozen=True)
class Explanation:
    """Contributions of a document's tokens to the logit of a label: they sum to `logit - baseline - gap`."""

    FIELDS: ClassVar = ("target", "logit", "baseline", "gap", "attributions")

    target: str  # the label
    logit: float  # its log-odds, or with one of several classes its logit
    baseline: float  # the same without a token: the bias of a linear classifier
    attributions: Sequence[tuple[str, float]]  # the tokens that the network read, in its order

    @property
    def gap(self) -> float:
        """What the contributions miss."""
        return self.logit - self.baseline - sum(value for _, value in self.attributions)

    @property
    def complete(self) -> bool:
        return abs(self.gap) <= tolerance(self.logit - self.baseline)

    def fields(self) -> dict[str, Any]:
        return {name: rounded(getattr(self, name)) for name in self.FIELDS}


def tolerance(difference: float) -> float:
    """How much of a difference of logits contributions may miss."""
    return COMPLETENESS * max(abs(difference), 0.1)


def rounded(value: Any) -> Any:
    """A figure, or tokens with figures, without the digits that a 32-bit number does not have."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    return value if isinstance(value, str) else [[token, rounded(figure)] for token, figure in value]


class Explainer:
    """Explains single documents.

    A linear bag of words is its own explanation: a word contributes its weight in the document times its value in the
    classifier. For other networks the contributions are integrated gradients (Sundararajan et al. 2017) along the
    straight line from zeros to the rows of the document's tokens, or for bags to the tokens' weights.
    """

    def __init__(
        self, network: Network, tokens: Sequence[str], labels: Sequence[str], label: str | None, steps: int
    ) -> None:
        """tokens: by id. label: to explain; None: the most probable one. steps: S, to begin with.

        Raises UserError if there is no such label.
        """
        if label is not None and label not in labels:
            raise UserError(f"explain_label={label} is no label of this run{suggest(label, labels)}")
        self.network = network.requires_grad_(False)
        self.tokens = tokens
        self.labels = labels
        self.label = label
        self.steps = steps

    def __call__(
        self, documents: DocumentDataset, probabilities: np.ndarray, spelled: Sequence[Sequence[str] | None]
    ) -> list[Explanation]:
        """Explain documents one by one, by their (N, L) probabilities. Raises UserError if captum is missing.

        spelled: of each document its own spelling of its tokens, before truncation; None: not known.
        """
        if self.label is None:
            targets = probabilities.argmax(axis=1).tolist()
        else:
            targets = [list(self.labels).index(self.label)] * len(documents)
        return [
            self.explain(documents[[number]], target, None if words is None else those_read(words, documents))
            for number, (target, words) in enumerate(zip(targets, spelled, strict=True))
        ]

    def explain(self, batch: Batch, target: int, words: Sequence[str] | None = None) -> Explanation:
        """Explain the logit of the label `target` in a batch of one document.

        words: the document's own spelling of its tokens; None: tokens are told as the vocabulary has them.
        """
        device = next(self.network.parameters()).device
        token_ids, lengths = batch.token_ids.to(device), batch.lengths.to(device)
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN has no gradients in evaluation
            reading = self.network.attribution_inputs(token_ids, lengths)

            def logit(values: Tensor) -> Tensor:
                logits = reading.logits(values)  # (S, num_outputs)
                if logits.shape[1] == 1:  # it speaks for the second of two labels
                    return logits[:, 0] if target else -logits[:, 0]
                return logits[:, target]

            ends = torch.cat([torch.zeros_like(reading.values), reading.values])
            baseline, whole = logit(ends).tolist()
            contributions = self.contributions(reading, logit, whole - baseline)
        read = [
            (token, value)
            for token, value in zip(reading.token_ids.tolist(), contributions.tolist(), strict=True)
            if token != PAD
        ]
        own = [None] * len(read) if words is None else words[len(words) - len(read) :]  # some networks read the last
        attributions = [
            (f"{word} {self.tokens[token]}" if token == UNK and word else self.tokens[token], value)
            for (token, value), word in zip(read, own, strict=True)
        ]
        return Explanation(self.labels[target], whole, baseline, attributions)

    def contributions(self, reading: AttributionInputs, logit: Callable[[Tensor], Tensor], difference: float) -> Tensor:
        """(T,) contributions, which sum to the difference that all tokens make."""
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
            found = sum_by_token(attributions)
            missed = abs(difference - float(found.sum()))
            if missed <= tolerance(difference) or steps >= MOST_TIMES_STEPS * self.steps:
                return found
            steps *= 4


def those_read(words: Sequence[str], documents: DocumentDataset) -> list[str]:
    """The words of a document that truncation leaves of it."""
    if not words:
        return []
    places = TokenSequences(np.arange(len(words)), np.array([0, len(words)]))
    document = DocumentDataset(places, np.array([0]), np.zeros(1), documents.max_tokens, documents.truncation)
    return [words[place] for place in document[[0]].token_ids[0].tolist()]


def sum_by_token(contributions: Tensor) -> Tensor:
    """(1, T, …) → (T,)"""
    return contributions.detach()[0].flatten(1).sum(dim=1) if contributions.ndim > 2 else contributions.detach()[0]


def integrated_gradients(logit: Callable[[Tensor], Tensor]) -> Any:
    """captum's integral of a function's gradients. Raises UserError if it is not installed."""
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise UserError(
            "explain=true needs the Python package captum for every model but linear bags of words, and it is not "
            "installed: pip install captum, or, in the project's folder, pip install --editable '.[explain]'."
        ) from error
    return IntegratedGradients(logit)


@contextmanager
def page(path: Path | None) -> Iterator[Callable[[Iterable[Explanation]], None]]:
    """A page of documents with their tokens highlighted, written one by one; None: no page."""
    if path is None:
        yield lambda explanations: None
        return
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(PAGE_BEGIN)
        numbers = count(1)

        def write(explanations: Iterable[Explanation]) -> None:
            for explanation in explanations:
                file.write(section(next(numbers), explanation))

        yield write
        file.write("</html>\n")


def section(number: int, explanation: Explanation) -> str:
    """The part of a page about one document."""
    strongest = max((abs(value) for _, value in explanation.attributions), default=0) or 1
    marks = " ".join(
        f'<mark style="background:rgb({FOR if value > 0 else AGAINST}/{abs(value) / strongest:.2f})" '
        f'title="{value:+.4g}">{escape(token)}</mark>'
        for token, value in explanation.attributions
    )
    sums = f"logit {explanation.logit:.4g}, without words {explanation.baseline:.4g}"
    return f'<h2>{number}. {escape(explanation.target)}: {sums}</h2>\n<p dir="auto">{marks}</p>\n'
