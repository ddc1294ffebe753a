"""Batches of token ids: who is in one, and how its tensors are made.

Axes: B documents in a batch, T tokens of its longest document, L labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from newsreel.text.tokens import PAD, TokenSequences

Truncation = Literal["head", "tail", "head_tail"]
POOL_BATCHES = 50  # batches' worth of shuffled documents that are sorted by length together


class Batch(NamedTuple):
    """Documents padded to the longest among them."""

    token_ids: Tensor  # (B, T) int64, padded with <pad> at the end
    lengths: Tensor  # (B,) int64, after truncation; may be 0
    targets: Tensor  # (B,) int64 class numbers, or (B, L) float32 indicators
    num_documents: int  # of the whole batch, of which each of several processes has a share


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """The section `batches` of the config."""

    batch_size: Annotated[int, Ge(1)]  # documents of a step, in all processes together
    max_tokens: Annotated[int, Ge(1)] | None
    truncation: Truncation
    num_workers: Annotated[int, Ge(0)]


class DocumentDataset(Dataset[Batch]):
    """Documents of one split; an index is a list of them and an item is a whole batch.

    Of several processes each gets its `share` of every batch: each size-th document, so that the padding is about the
    same everywhere. A process without any takes part with a stand-in that is not to count (`shard_size`).
    """

    def __init__(
        self,
        sequences: TokenSequences,
        rows: np.ndarray,
        targets: np.ndarray,
        max_tokens: int | None,
        truncation: Truncation,
    ) -> None:
        """rows: (N,) the documents of `sequences` that the split has; targets: (N,) or (N, L) of those documents."""
        self.sequences = sequences
        self.starts = sequences.offsets[rows]
        self.ends = sequences.offsets[rows + 1]
        self.targets = targets
        self.max_tokens = max_tokens
        self.truncation = truncation
        self.shard = (0, 1)  # number of this process, and of all

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of each document after truncation."""
        lengths = self.ends - self.starts
        return np.asarray(lengths if self.max_tokens is None else np.minimum(lengths, self.max_tokens))

    def __getitem__(self, documents: list[int]) -> Batch:
        number, size = self.shard
        held = documents[number::size] or documents[:1]
        bounds = zip(self.starts[held].tolist(), self.ends[held].tolist(), strict=True)
        pieces = [self._tokens(start, end) for start, end in bounds]
        lengths = torch.tensor([len(piece) for piece in pieces])  # (B,)
        token_ids = np.full((len(pieces), max(1, int(lengths.max()))), PAD, dtype=np.int64)  # (B, T)
        for row, piece in zip(token_ids, pieces, strict=True):
            row[: len(piece)] = piece
        kind = np.float32 if self.targets.ndim == 2 else np.int64
        targets = torch.from_numpy(self.targets[held].astype(kind))  # (B,) or (B, L)
        return Batch(torch.from_numpy(token_ids), lengths, targets, len(documents))

    def _tokens(self, start: int, end: int) -> np.ndarray:
        """What is read of the document from `start` to `end`."""
        limit = self.max_tokens
        if limit is None or end - start <= limit:
            return self.sequences.piece(start, end)
        if self.truncation == "head":
            return self.sequences.piece(start, start + limit)
        if self.truncation == "tail":
            return self.sequences.piece(end - limit, end)
        head = (limit + 1) // 2
        return np.concatenate(
            [self.sequences.piece(start, start + head), self.sequences.piece(end - (limit - head), end)]
        )


def shard_size(num_documents: int, number: int, size: int) -> int:
    """How many documents of a batch are those of one process of `size`."""
    return len(range(number, num_documents, size))


class BucketSampler(Sampler[list[int]]):
    """Batches of documents of similar length: little padding, and another order each epoch.

    Documents are shuffled, sorted by length within pools of POOL_BATCHES batches, cut into batches, and the batches
    shuffled. Every document comes once an epoch; the last batch may be smaller and is kept. The order depends on
    `seed` and the epoch alone, so that it can be found again.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, start: tuple[int, int] = (0, 0)) -> None:
        """start: the epoch to begin with, and how many of its batches are left out since they were trained on."""
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.epoch = start[0]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; the trainer calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))
        pool_size = self.batch_size * POOL_BATCHES
        batches = []
        for start in range(0, len(order), pool_size):
            pool = order[start : start + pool_size]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [pool[begin : begin + self.batch_size] for begin in range(0, len(pool), self.batch_size)]
        first_epoch, num_done = self.start
        for number in random.permutation(len(batches))[num_done if self.epoch == first_epoch else 0 :]:
            yield batches[number].tolist()


class SortedSampler(Sampler[list[int]]):
    """Every document once, longest first: for evaluation, where order does not matter and padding costs time."""

    def __init__(self, lengths: np.ndarray, batch_size: int) -> None:
        self.order = np.argsort(-lengths, kind="stable")
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.order), self.batch_size):
            yield self.order[start : start + self.batch_size].tolist()
