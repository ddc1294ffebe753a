"""Finished runs and ensembles of them as functions of texts.

Axes: N documents, L labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from newsreel.batches.batch import MAX_DOCUMENT_TOKENS, DocumentDataset
from newsreel.core.dist import device_of, is_gpu_available
from newsreel.core.errors import UserError
from newsreel.inference.explain import Explainer, Explanation, mean_explanation
from newsreel.inference.input_stream import MAX_DOCUMENTS
from newsreel.inference.output_writers import PredictionBatch
from newsreel.models.decisions import DecisionRule
from newsreel.models.functional import logits_to_probs, require_finite
from newsreel.runs.ensemble import Ensemble
from newsreel.runs.trained_run import Labels, TrainedRun

Accelerator = Literal["auto", "cpu", "gpu"]
Documents = Sequence[DocumentDataset]  # the same N documents, tokenized for each network
Explain = Callable[[Sequence[str], Documents, np.ndarray], list[Explanation]]  # of texts with (N, L) probabilities
LONG_DOCUMENT = 1_000  # tokens; without max_tokens, a batch is as large as `batch_size` documents of this length


class Predictor(ABC):
    """Classifies texts."""

    labels: Labels
    decisions: DecisionRule

    def __call__(self, texts: Sequence[str], top_k: int | None = None) -> list[dict[str, Any]]:
        """Classify texts; returns one dict per text, in order.

        It has `label` and `probability`, or `labels` for `multilabel`, and `probabilities` by label: all of them, or
        the `top_k` highest. Raises UserError for a single string and for a `top_k` out of range.
        """
        if isinstance(texts, str):
            raise UserError(f"Expected a list of texts, got a single string, {texts[:30]!r}: write [text].")
        self.check_top_k(top_k)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(texts), MAX_DOCUMENTS):
            documents = self.documents(texts[start : start + MAX_DOCUMENTS])
            require_bounded(documents, lambda row, start=start: f"texts[{start + row}]")  # type: ignore[misc]
            rows += self.predict_batch(documents, top_k).rows()
        return rows

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
        self.device = find_device(accelerator)
        self.network = run.classifier.network.to(self.device)
        self.runner = run.classifier.runner
        batches = run.experiment.batches
        self.batch_tokens = batches.batch_size * (batches.max_tokens or LONG_DOCUMENT)

    def documents(self, texts: Sequence[str]) -> Documents:
        settings = self.run.experiment.batches
        sequences = self.run.tokenizer.encode(texts)
        rows = np.arange(len(texts))
        return [DocumentDataset(sequences, rows, np.zeros(len(texts)), settings.max_tokens, settings.truncation)]

    @torch.inference_mode()
    def scores(self, documents: Documents) -> Tensor:
        (dataset,) = documents
        scores = torch.zeros(len(dataset), len(self.labels.names))  # (N, L)
        with self.runner.threads(torch.get_num_threads()):
            for rows in batches_of_similar_length(dataset.lengths, self.batch_tokens):
                batch = dataset[rows]
                logits = self.runner(batch.token_ids.to(self.device), batch.lengths.to(self.device))
                scores[rows] = logits_to_probs(logits.float(), self.labels.task).cpu()
        require_finite(scores)
        return scores

    def explainer(self, label: str | None, num_steps: int) -> Explain:
        tokenizer = self.run.tokenizer
        explain = Explainer(self.network, tokenizer.tokens, self.labels.names, label, num_steps)

        def explain_texts(texts: Sequence[str], documents: Documents, probabilities: np.ndarray) -> list[Explanation]:
            (dataset,) = documents
            surface_forms = [tokenizer.surface_forms(text) for text in texts]
            spans = [tokenizer.spans(text) for text in texts]
            return explain(dataset, probabilities, surface_forms, spans)

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


def batches_of_similar_length(lengths: np.ndarray, num_tokens: int) -> Iterator[list[int]]:
    """Every document once, longest first, in batches of at most `num_tokens` tokens with padding."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, num_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size].tolist()
        start += size


def require_bounded(documents: Documents, name: Callable[[int], str]) -> None:
    """Raise UserError if a document has too many tokens for the memory of a network. name: of a document, by row."""
    lengths = np.max([dataset.lengths for dataset in documents], axis=0)
    too_long = np.flatnonzero(lengths > MAX_DOCUMENT_TOKENS)
    if len(too_long):
        row = int(too_long[0])
        raise UserError(
            f"{name(row)}: the document has {lengths[row]:,} tokens, but at most {MAX_DOCUMENT_TOKENS:,} are "
            "possible, since the run was trained without batches.max_tokens. Divide it into several documents."
        )


def find_device(accelerator: Accelerator) -> torch.device:
    """The device for an accelerator. Raises UserError for `gpu` without a GPU."""
    if accelerator == "gpu" and not is_gpu_available():
        raise UserError("accelerator is gpu, but torch finds no GPU: use accelerator=cpu or accelerator=auto.")
    return device_of(accelerator)
