"""Bags of words: the distinct words of documents and how often each occurs.

Axes: N documents, V words of the vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.utils.data import Dataset

from newsreel.batches.batch import Batch, DocumentDataset
from newsreel.text.tokens import UNK


def count_words(documents: Sequence[np.ndarray], num_words: int) -> csr_array:
    """(N, V) float32 counts of the known words of documents of token ids; <pad> and <unk> are not counted.

    num_words: V. The words of a document are in ascending order.
    """
    ends = np.cumsum([len(document) for document in documents], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    index_type = np.int32 if total < np.iinfo(np.int32).max else np.int64
    ids = np.empty(total, dtype=index_type)
    begins = np.ones(total + 1, dtype=bool)  # of the runs of equal words of a document
    begin = 0
    for document, end in zip(documents, ends.tolist(), strict=True):
        tokens = ids[begin:end]
        tokens[:] = document
        tokens.sort()
        np.not_equal(tokens[1:], tokens[:-1], out=begins[begin + 1 : end])
        begin = end
    starts = np.flatnonzero(begins)  # and the total
    num_runs = np.concatenate([[0], np.searchsorted(starts, ends)])
    run_ids: np.ndarray = ids[starts[:-1]]
    run_lengths = np.diff(starts)
    known = run_ids > UNK
    if not known.all():
        num_runs = np.concatenate([[0], np.cumsum(known)])[num_runs]
        run_ids, run_lengths = run_ids[known], run_lengths[known]
    counts = (run_lengths.astype(np.float32), run_ids, num_runs.astype(index_type))
    return csr_array(counts, shape=(len(documents), num_words))


def pad_rows(counts: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """(N, T) int64 distinct words and (N, T) float32 counts of documents, with zeros after a document's last word.

    T is the largest number of distinct words of a document, at least 1.
    """
    lengths = np.diff(counts.indptr)
    filled = np.arange(max(1, int(lengths.max(initial=0)))) < lengths[:, None]  # (N, T)
    words = np.zeros(filled.shape, dtype=np.int64)
    values = np.zeros(filled.shape, dtype=np.float32)
    words[filled], values[filled] = counts.indices, counts.data
    return words, values


class BagSplit(NamedTuple):
    """All documents of a split, as one batch."""

    counts: csr_array  # (N, V) float32 numbers of occurrences of the known words
    targets: Tensor  # (N,) int64 class indices, or (N, L) float32 indicators or probabilities
    num_documents: int  # N
    weights: Tensor | None = None  # (N,) float32: of the documents in the loss; None: all 1


class BagDataset(DocumentDataset):
    """Documents of one split as bags of words: `Batch.counts` has the counts of distinct words.

    counts: (N, V) of the split, so that words are counted once for all epochs; None: they are counted for each batch.
    """

    num_words: int  # V
    counts: csr_array | None = None

    def __getitem__(self, documents: list[int]) -> Batch:
        local = self.local(documents)
        if self.counts is None:
            rows = count_words(self.tokens(local), self.num_words)
        else:
            rows = self.counts[np.asarray(local)]
        words, counts = pad_rows(rows)
        lengths = torch.from_numpy(self.lengths[local].astype(np.int64))
        return Batch(
            torch.from_numpy(words),
            lengths,
            self.target_tensor(local),
            len(documents),
            torch.from_numpy(counts),
            self.weight_tensor(local),
        )

    def count_all(self) -> csr_array:
        """(N, V) counts of the split, over all processes."""
        return count_words(self.tokens(range(len(self))), self.num_words)


class WholeSplit(Dataset[BagSplit]):
    """A split of bags as the only batch of an epoch."""

    def __init__(self, split: BagSplit) -> None:
        self.split = split

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> BagSplit:
        return self.split
