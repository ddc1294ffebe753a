"""The predictions of a classifier on a split.

Axes: N documents, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.sparse import csr_array
from torch import Tensor

from newsreel.core.storage import write_atomically
from newsreel.corpora.corpus import Corpus


@dataclass(frozen=True)
class Predictions:
    """Predictions for the documents of a split, in the corpus's order."""

    corpus: Corpus
    split: str
    probabilities: np.ndarray  # (N, L) float32
    preds: np.ndarray  # (N,) class indices, or (N, L) indicators for `multilabel`
    targets: np.ndarray  # of the same shape
    thresholds: np.ndarray | None  # (L,) if labels are predicted by thresholds

    @classmethod
    def from_loader_order(
        cls,
        corpus: Corpus,
        split: str,
        order: np.ndarray,
        probabilities: Tensor,
        preds: Tensor,
        thresholds: Tensor | None,
    ) -> "Predictions":
        """From rows in a loader's order: row i belongs to the split's document order[i]."""
        rows = np.argsort(order)
        return cls(
            corpus,
            split,
            probabilities.numpy()[rows],
            preds.numpy()[rows],
            corpus.targets(split),
            None if thresholds is None else thresholds.cpu().numpy(),
        )

    @classmethod
    def read(cls, path: Path, corpus: Corpus, split: str = "test") -> "Predictions":
        """Read a file of `write`; its thresholds are not in it. corpus: its labels and task; it needs no documents.

        Raises FileNotFoundError, and one of `core.cache.DAMAGE` for a file that is damaged or has other labels.
        """
        table = pq.read_table(path)
        names = corpus.label_names
        probabilities = np.stack([table[f"p({name})"].to_numpy() for name in names], axis=1)  # (N, L)
        if not np.isfinite(probabilities).all():
            raise ValueError("a probability is not a finite number")

        def numbered(column: str) -> np.ndarray:
            values = table[column].combine_chunks()
            if corpus.task != "multilabel":
                return numbers_of(values, names)
            counts = values.value_lengths().to_numpy(zero_copy_only=False)
            indicators = np.zeros((len(values), len(names)), dtype=np.uint8)
            indicators[np.repeat(np.arange(len(values)), counts), numbers_of(values.flatten(), names)] = 1
            return indicators

        scores = probabilities.astype(np.float32, copy=False)
        return cls(corpus, split, scores, numbered("predicted"), numbered("labels"), None)

    @property
    def titles(self) -> tuple[str, ...]:
        """Display names of the labels."""
        return self.corpus.label_titles or self.corpus.label_names

    @cached_property
    def target_indicators(self) -> np.ndarray:
        """(N, L) bool: the labels of each document."""
        return self._indicators(self.targets)

    @cached_property
    def pred_indicators(self) -> np.ndarray:
        """(N, L) bool: the predicted labels of each document."""
        return self._indicators(self.preds)

    def _indicators(self, labels: np.ndarray) -> np.ndarray:
        if labels.ndim == 2:
            return labels.astype(bool)
        return np.asarray(labels[:, None] == np.arange(self.probabilities.shape[1]))

    def names(self, indicators: np.ndarray) -> list[str]:
        """Display names of the labels in (L,) indicators."""
        return [self.titles[label] for label in np.flatnonzero(indicators)]

    def by_label(self) -> pl.DataFrame:
        """One row per label: number of documents in training (if known) and in this split, metrics and threshold."""
        hits = (self.target_indicators & self.pred_indicators).sum(axis=0)
        support, predicted = self.target_indicators.sum(axis=0), self.pred_indicators.sum(axis=0)
        columns: dict[str, Any] = {
            "label": self.corpus.label_names,
            "title": self.titles,
            **({"training_documents": self.corpus.label_counts("train")} if "train" in self.corpus.splits else {}),
            "documents": support,
            "predicted": predicted,
            "precision": hits / np.maximum(1, predicted),
            "recall": hits / np.maximum(1, support),
            "f1": 2 * hits / np.maximum(1, support + predicted),
        }
        if self.thresholds is not None:
            columns["threshold"] = self.thresholds
        table = pl.DataFrame(columns)
        return table if self.corpus.label_titles else table.drop("title")

    def reliability(self, num_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(K,) mean probability, fraction correct and number of decisions in bins of equal width; 0 for empty bins.

        Each document is one decision, or for `multilabel` each pair of document and label.
        """
        if self.targets.ndim == 1:
            confidence, correct = self.probabilities.max(axis=1), self.preds == self.targets
        else:
            confidence, correct = self.probabilities.ravel(), self.target_indicators.ravel()
        edges = np.linspace(0, 1, num_bins + 1)
        bins = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, num_bins - 1)
        counts = np.bincount(bins, minlength=num_bins)
        sums = (np.bincount(bins, values, minlength=num_bins) for values in (confidence, correct))
        means, accuracies = (bin_sums / np.maximum(1, counts) for bin_sums in sums)
        return means, accuracies, counts

    def confusions(self) -> list[tuple[str, str, int]]:
        """(true label, predicted label, number of documents), the most frequent first.

        For `multilabel`, every missed label of a document is paired with every wrongly predicted one.
        """
        missed, wrong = (
            csr_array(self.target_indicators & ~self.pred_indicators),
            csr_array(self.pred_indicators & ~self.target_indicators),
        )
        counts = (missed.T.astype(np.int64) @ wrong.astype(np.int64)).tocoo()  # (L, L)
        pairs = zip(*counts.coords, counts.data, strict=True)
        ordered = sorted(((int(label), int(predicted), int(count)) for label, predicted, count in pairs),
                         key=lambda pair: (-pair[2], pair[:2]))  # fmt: skip
        return [(self.titles[label], self.titles[predicted], count) for label, predicted, count in ordered]

    def confidently_wrong(self, num_documents: int) -> list[tuple[int, int, float]]:
        """(document, label, probability) of the worst errors, one per document, the most confident first.

        The label is the wrongly predicted one, or for `multilabel` the one whose probability is furthest from its
        target.
        """
        errors = np.where(self.pred_indicators & ~self.target_indicators, self.probabilities, 0)
        if self.corpus.task == "multilabel":
            errors = np.where(self.target_indicators & ~self.pred_indicators, 1 - self.probabilities, errors)
        labels = errors.argmax(axis=1)
        worst = errors[np.arange(len(errors)), labels]
        rows = np.argsort(-worst, kind="stable")[:num_documents]
        return [(int(row), int(labels[row]), float(self.probabilities[row, labels[row]]))
                for row in rows if worst[row] > 0]  # fmt: skip

    def confidently_right(self, num_documents: int) -> list[int]:
        """Documents with all labels correct, sorted by the probability of their least probable label, highest first.

        Documents without labels are excluded.
        """
        correct = (self.pred_indicators == self.target_indicators).all(axis=1) & self.pred_indicators.any(axis=1)
        least = np.where(self.pred_indicators, self.probabilities, np.inf).min(axis=1)
        rows = np.argsort(-np.where(correct, least, -np.inf), kind="stable")[:num_documents]
        return [int(row) for row in rows if correct[row]]

    def write(self, path: Path) -> None:
        """Write a Parquet file with the labels, predicted labels and probabilities of each document."""
        names = pa.array(self.corpus.label_names)

        def named(labels: np.ndarray) -> pa.Array:
            if labels.ndim == 1:
                return names.take(pa.array(labels))
            documents, indices = labels.nonzero()
            offsets = np.searchsorted(documents, np.arange(len(labels) + 1))
            return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names.take(pa.array(indices)))

        table = pa.table(
            {
                "document": np.arange(len(self.targets)),
                "labels": named(self.targets),
                "predicted": named(self.preds),
                **{f"p({name})": self.probabilities[:, label] for label, name in enumerate(self.corpus.label_names)},
            }
        )
        content = BytesIO()
        pq.write_table(table, content, compression="zstd")
        write_atomically(path, content.getvalue())


def numbers_of(values: pa.Array, names: Sequence[str]) -> np.ndarray:
    """The index of each value among the names. Raises ValueError if one is not among them."""
    numbers = pc.index_in(values, value_set=pa.array(names))
    if numbers.null_count:
        raise ValueError("a label is not one of the run's")
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.int64)
