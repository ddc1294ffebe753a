"""Finished runs and ensembles of them as functions of texts.

Axes: N documents, L labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from newsreel.batches.batch import DocumentDataset
from newsreel.core.dist import device_of, is_gpu_available
from newsreel.core.errors import UserError
from newsreel.evaluation.explanations import Explanation, mean_explanation
from newsreel.inference.input_stream import MAX_DOCUMENTS
from newsreel.inference.output_writers import PredictionBatch
from newsreel.models.decisions import DecisionRule
from newsreel.runs.ensemble import Ensemble
from newsreel.runs.scoring import Scorer, require_bounded
from newsreel.runs.trained_run import Labels, TrainedRun

Accelerator = Literal["auto", "cpu", "gpu"]
Documents = Sequence[DocumentDataset]  # the same N documents, tokenized for each network
Explain = Callable[[Sequence[str], Documents, np.ndarray], list[Explanation]]  # of texts with (N, L) probabilities


class Predictor(ABC):
    """Classifies texts."""

    labels: Labels
    decisions: DecisionRule

    def chunks(self, texts: Sequence[str]) -> Iterator[tuple[Sequence[str], Documents]]:
        """Texts in chunks, tokenized. Raises UserError for a single string, what is no text, and too many tokens."""
        if isinstance(texts, str):
            raise UserError(f"Expected a list of texts, got a single string, {texts[:30]!r}: write [text].")
        if not hasattr(texts, "__getitem__"):  # a generator
            texts = list(texts)
        for start in range(0, len(texts), MAX_DOCUMENTS):
            chunk = list(texts[start : start + MAX_DOCUMENTS])
            for number, text in enumerate(chunk, start):
                if not isinstance(text, str):
                    raise UserError(f"texts[{number}] is {text!r}, and must be text: convert it, or leave it out.")
            documents = self.documents(chunk)
            require_bounded(documents, lambda row, start=start: f"texts[{start + row}]")  # type: ignore[misc]
            yield chunk, documents

    def check_top_k(self, top_k: int | None) -> None:
        """Raise UserError if `top_k` is not between 1 and the number of labels."""
        num_labels = len(self.labels.names)
        if top_k is not None and not 1 <= top_k <= num_labels:
            raise UserError(f"top_k is {top_k}: it must be 1 to {num_labels}, the number of labels, or null.")

    def predict_batch(self, documents: Documents, top_k: int | None = None) -> PredictionBatch:
        """Classify tokenized documents."""
        scores = self.scores(documents)
        preds = self.decisions(scores)
        return PredictionBatch(self.labels.task, self.labels.names, scores.numpy(), preds.numpy(), top_k)

    @abstractmethod
    def documents(self, texts: Sequence[str]) -> Documents:
        """Tokenize texts; targets are zeros."""

    @abstractmethod
    def scores(self, documents: Documents) -> Tensor:
        """(N, L) probabilities of tokenized documents. Raises UserError if one is no number."""

    @abstractmethod
    def explainer(self, label: str | None, num_steps: int) -> Explain:
        """A function that explains documents. label: to explain; None: the most probable one of each document.

        num_steps: of integrated gradients. Raises UserError if that is not possible.
        """


class RunPredictor(Predictor):
    """Classifies texts with a finished run."""

    def __init__(self, run: TrainedRun, accelerator: Accelerator = "cpu") -> None:
        """Raises UserError if the accelerator is not available."""
        self.run = run
        self.labels = run.labels
        self.decisions = run.classifier.decisions
        self.scorer = Scorer(run, find_device(accelerator))

    def documents(self, texts: Sequence[str]) -> Documents:
        return [self.scorer.documents(texts)]

    def scores(self, documents: Documents) -> Tensor:
        (dataset,) = documents
        return self.scorer.scores(dataset)

    def explainer(self, label: str | None, num_steps: int) -> Explain:
        explain = self.scorer.explainer(label, num_steps)

        def explain_texts(texts: Sequence[str], documents: Documents, probabilities: np.ndarray) -> list[Explanation]:
            (dataset,) = documents
            return explain(texts, dataset, probabilities)

        return explain_texts


class EnsemblePredictor(Predictor):
    """Classifies texts with several runs."""

    def __init__(self, ensemble: Ensemble, accelerator: Accelerator = "cpu") -> None:
        """Raises UserError if the accelerator is not available."""
        self.members = [RunPredictor(run, accelerator) for run in ensemble.members]
        self.pool = ensemble.pool
        self.labels = ensemble.labels
        self.decisions = ensemble.decisions

    def documents(self, texts: Sequence[str]) -> Documents:
        return [member.documents(texts)[0] for member in self.members]

    def scores(self, documents: Documents) -> Tensor:
        scores = [member.scores([dataset]) for member, dataset in zip(self.members, documents, strict=True)]
        return self.pool(scores, self.labels.task)

    def explainer(self, label: str | None, num_steps: int) -> Explain:
        """The mean of the members' explanations. Raises UserError if their tokens differ."""
        first = self.members[0]
        for member in self.members[1:]:
            if list(member.run.tokenizer.tokens) != list(first.run.tokenizer.tokens):
                raise UserError(
                    f"{member.run.run_dir} and {first.run.run_dir} have different vocabularies, so that their words "
                    "cannot be explained together: explain the members one by one."
                )
        explain_members = [member.explainer(label, num_steps) for member in self.members]

        def explain_texts(texts: Sequence[str], documents: Documents, probabilities: np.ndarray) -> list[Explanation]:
            by_member = [
                explain(texts, [dataset], probabilities)
                for explain, dataset in zip(explain_members, documents, strict=True)
            ]
            return [mean_explanation(each, self.pool.factors) for each in zip(*by_member, strict=True)]

        return explain_texts


def predictor_of(ensemble: Ensemble, accelerator: Accelerator = "cpu") -> Predictor:
    """Raises UserError if the accelerator is not available."""
    if ensemble.is_single_run:
        return RunPredictor(ensemble.members[0], accelerator)
    return EnsemblePredictor(ensemble, accelerator)


def find_device(accelerator: Accelerator) -> torch.device:
    """The device for an accelerator. Raises UserError for `gpu` without a GPU."""
    if accelerator == "gpu" and not is_gpu_available():
        raise UserError("accelerator is gpu, but torch finds no GPU: use accelerator=cpu or accelerator=auto.")
    return device_of(accelerator)
