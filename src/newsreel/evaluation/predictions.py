"""A split's predictions, document by document and label by label.

Axes: N documents, L labels.
"""

from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_array
from torch import Tensor

from newsreel.core.storage import write_atomically
from newsreel.corpora.corpus import Corpus


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of the documents of a split, in the corpus's order."""

    corpus: Corpus
    split: str
    probabilities: np.ndarray  # (N, L) float32
    decided: np.ndarray  # (N,) class numbers, or (N, L) indicators for `multilabel`
    targets: np.ndarray  # of the same shape
    thresholds: np.ndarray | None  # (L,) where labels are decided by thresholds

    @classmethod
    def in_order(
        cls,
        corpus: Corpus,
        split: str,
        order: np.ndarray,
        probabilities: Tensor,
        decided: Tensor,
        thresholds: Tensor | None,
    ) -> "Predictions":
        """From rows that were evaluated in another order: row i is of the split's document order[i]."""
        rows = np.argsort(order)
        return cls(
            corpus,
            split,
            probabilities.numpy()[rows],
            decided.numpy()[rows],
            corpus.targets(split),
            None if thresholds is None else thresholds.cpu().numpy(),
        )

    @property
    def titles(self) -> tuple[str, ...]:
        """What people call the labels."""
        return self.corpus.label_titles or self.corpus.label_names

    @cached_property
    def wanted(self) -> np.ndarray:
        """(N, L) bool: which labels a document has."""
        return self._indicators(self.targets)

    @cached_property
    def given(self) -> np.ndarray:
        """(N, L) bool: which labels it was given."""
        return self._indicators(self.decided)

    def _indicators(self, labels: np.ndarray) -> np.ndarray:
        if labels.ndim == 2:
            return labels.astype(bool)
        return np.asarray(labels[:, None] == np.arange(self.probabilities.shape[1]))

    def names(self, indicators: np.ndarray) -> list[str]:
        """Names of the labels of one document."""
        return [self.titles[label] for label in np.flatnonzero(indicators)]

    def by_label(self) -> pl.DataFrame:
        """One row a label: documents in training (if they are known) and in this split, figures and threshold."""
        hits = (self.wanted & self.given).sum(axis=0)
        support, predicted = self.wanted.sum(axis=0), self.given.sum(axis=0)
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
        """Mean probability, share that is right and number of decisions of each of (K,) bins of equal width.

        A decision is the label given, or each label's yes or no where documents have several. Empty bins have zeros.
        """
        if self.targets.ndim == 1:
            confidence, right = self.probabilities.max(axis=1), self.decided == self.targets
        else:
            confidence, right = self.probabilities.ravel(), self.wanted.ravel()
        edges = np.linspace(0, 1, num_bins + 1)
        bins = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, num_bins - 1)
        counts = np.bincount(bins, minlength=num_bins)
        sums = (np.bincount(bins, values, minlength=num_bins) for values in (confidence, right))
        means, shares = (of_bins / np.maximum(1, counts) for of_bins in sums)
        return means, shares, counts

    def confusions(self) -> list[tuple[str, str, int]]:
        """(label of the document, label given instead, documents), the most frequent first.

        Where documents have several labels: each label that was missed with each that was given wrongly.
        """
        missed, wrong = csr_array(self.wanted & ~self.given), csr_array(self.given & ~self.wanted)
        counts = (missed.T.astype(np.int64) @ wrong.astype(np.int64)).tocoo()  # (L, L)
        pairs = zip(*counts.coords, counts.data, strict=True)
        ordered = sorted(((int(label), int(instead), int(count)) for label, instead, count in pairs),
                         key=lambda pair: (-pair[2], pair[:2]))  # fmt: skip
        return [(self.titles[label], self.titles[instead], count) for label, instead, count in ordered]

    def confidently_wrong(self, num_documents: int) -> list[tuple[int, int, float]]:
        """(document, label, probability) of the worst wrong decisions, one a document, the most confident first.

        Where documents have one label, the label given in its place; where they have several, the label with the
        probability furthest from the truth.
        """
        errors = np.where(self.given & ~self.wanted, self.probabilities, 0)
        if self.corpus.task == "multilabel":
            errors = np.where(self.wanted & ~self.given, 1 - self.probabilities, errors)
        labels = errors.argmax(axis=1)
        worst = errors[np.arange(len(errors)), labels]
        rows = np.argsort(-worst, kind="stable")[:num_documents]
        return [(int(row), int(labels[row]), float(self.probabilities[row, labels[row]]))
                for row in rows if worst[row] > 0]  # fmt: skip

    def confidently_right(self, num_documents: int) -> list[int]:
        """The documents whose labels are all right, by the probability of the least probable, the highest first.

        Those without labels are left out.
        """
        right = (self.given == self.wanted).all(axis=1) & self.given.any(axis=1)
        least = np.where(self.given, self.probabilities, np.inf).min(axis=1)
        rows = np.argsort(-np.where(right, least, -np.inf), kind="stable")[:num_documents]
        return [int(row) for row in rows if right[row]]

    def write(self, path: Path) -> None:
        """A Parquet file: for each document its labels, the predicted ones and all probabilities."""
        names = pa.array(self.corpus.label_names)

        def named(labels: np.ndarray) -> pa.Array:
            if labels.ndim == 1:
                return names.take(pa.array(labels))
            documents, held = labels.nonzero()
            offsets = np.searchsorted(documents, np.arange(len(labels) + 1))
            return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names.take(pa.array(held)))

        table = pa.table(
            {
                "document": np.arange(len(self.targets)),
                "labels": named(self.targets),
                "predicted": named(self.decided),
                **{f"p({name})": self.probabilities[:, label] for label, name in enumerate(self.corpus.label_names)},
            }
        )
        content = BytesIO()
        pq.write_table(table, content, compression="zstd")
        write_atomically(path, content.getvalue())
