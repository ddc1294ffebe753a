"""Trained runs as functions from texts to probabilities.

Axes: N documents, L labels.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from newsreel.batches.batch import MAX_DOCUMENT_TOKENS, DocumentDataset
from newsreel.core.errors import UserError
from newsreel.evaluation.explanations import MAX_STEPS_FACTOR, Explainer, Explanation
from newsreel.models.functional import logits_to_probs, require_finite
from newsreel.runs.trained_run import TrainedRun

LONG_DOCUMENT = 1_000  # tokens; without max_tokens, a batch is as large as `batch_size` documents of this length


class Scorer:
    """Tokenizes and scores texts with a trained run."""

    def __init__(self, run: TrainedRun, device: torch.device) -> None:
        self.run = run
        self.device = device
        self.network = run.classifier.network.to(device)
        batches = run.experiment.batches
        self.batch_tokens = batches.batch_size * (batches.max_tokens or LONG_DOCUMENT)

    def documents(self, texts: Sequence[str]) -> DocumentDataset:
        """Tokenize texts; targets are zeros."""
        settings = self.run.experiment.batches
        sequences = self.run.tokenizer.encode(texts)
        return DocumentDataset.without_targets(sequences, settings.max_tokens, settings.truncation)

    def explainer(
        self, label: str | None, num_steps: int, max_steps_factor: int = MAX_STEPS_FACTOR
    ) -> Callable[[Sequence[str], DocumentDataset, np.ndarray], list[Explanation]]:
        """A function that explains texts, tokenized, with (N, L) probabilities. Arguments: as of Explainer."""
        tokenizer, labels = self.run.tokenizer, self.run.labels.names
        explain = Explainer(self.network, tokenizer.tokens, labels, label, num_steps, max_steps_factor)
        return lambda texts, documents, probabilities: explain.explain_texts(texts, tokenizer, documents, probabilities)

    @torch.inference_mode()
    def scores(self, documents: DocumentDataset) -> Tensor:
        """(N, L) probabilities of tokenized documents. Raises UserError if one is no number."""
        labels, runner = self.run.labels, self.run.classifier.runner
        scores = torch.zeros(len(documents), len(labels.names))  # (N, L)
        with runner.threads(torch.get_num_threads()):
            for rows in batches_of_similar_length(documents.lengths, self.batch_tokens):
                batch = documents[rows]
                logits = runner(batch.token_ids.to(self.device), batch.lengths.to(self.device))
                scores[rows] = logits_to_probs(logits.float(), labels.task).cpu()
        require_finite(scores)
        return scores


def batches_of_similar_length(lengths: np.ndarray, num_tokens: int) -> Iterator[list[int]]:
    """Every document once, longest first, in batches of at most `num_tokens` tokens with padding."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, num_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size].tolist()
        start += size


def require_bounded(documents: Sequence[DocumentDataset], name: Callable[[int], str]) -> None:
    """Raise UserError if a document has too many tokens for the memory of a network.

    documents: the same ones, tokenized for each network. name: of a document, by row.
    """
    lengths = np.max([dataset.lengths for dataset in documents], axis=0)
    too_long = np.flatnonzero(lengths > MAX_DOCUMENT_TOKENS)
    if len(too_long):
        row = int(too_long[0])
        raise UserError(
            f"{name(row)}: the document has {lengths[row]:,} tokens, but at most {MAX_DOCUMENT_TOKENS:,} are "
            "possible, since the run was trained without batches.max_tokens. Divide it into several documents."
        )
