"""Batches of token ids: dataset, samplers and tensors.

Axes: B documents in a batch, T tokens of its longest document, L labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from newsreel.text.tokens import PAD, TokenSequences

Truncation = Literal["head", "tail", "head_tail"]
MAX_DOCUMENT_TOKENS = 2**20  # of a document that is not truncated
MAX_BATCH_TOKENS = 2**23  # with padding; an embedding of 128 values needs 4 GB for them
POOL_BATCHES = 50  # size, in batches, of the pools that are sorted by length


class Batch(NamedTuple):
    """Documents padded to the longest one; as bags, each has its distinct known words in place of its tokens."""

    token_ids: Tensor  # (B, T) int64, padded with <pad> at the end
    lengths: Tensor  # (B,) int64 number of tokens, after truncation; can be 0
    targets: Tensor  # (B,) int64 class indices, or (B, L) float32 indicators or probabilities
    num_documents: int  # of the whole batch, over all processes
    counts: Tensor | None = None  # (B, T) float32: how often each word of a bag occurs, 0 for <pad>; None: no bags
    weights: Tensor | None = None  # (B,) float32: of the documents in the loss; None: all 1
    unlabeled: "Batch | None" = None  # of the same training step; its targets are meaningless


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """The section `batches` of the config."""

    batch_size: Annotated[int, Ge(1)]  # documents per step, over all processes
    unlabeled_batch_size: Annotated[int, Ge(1)] | None = None  # older run directories lack it
    max_tokens: Annotated[int, Ge(1)] | None
    truncation: Truncation
    num_workers: Annotated[int, Ge(0), Le(256)]

    @property
    def num_unlabeled(self) -> int:
        """Unlabelled documents per step of a training that reads them."""
        return self.unlabeled_batch_size or self.batch_size


class DocumentDataset(Dataset[Batch]):
    """Documents of one split; an index is a list of documents, and an item is a batch.

    With several processes, each gets a shard of every batch: every `world_size`-th document, so that all have about
    the same padding. If the shard is empty, the batch is a placeholder of one document that must not count
    (`shard_size` is 0).
    """

    def __init__(
        self,
        sequences: TokenSequences,
        rows: np.ndarray,
        targets: np.ndarray,
        max_tokens: int | None,
        truncation: Truncation,
        weights: np.ndarray | None = None,
    ) -> None:
        """rows: (N,) indices into `sequences` of the split's documents; targets: (N,) or (N, L) of these documents;
        weights: (N,) float32 of them in the loss, None for equal ones.
        """
        self.sequences = sequences
        self.starts = sequences.offsets[rows]
        self.ends = sequences.offsets[rows + 1]
        self.targets = targets
        self.weights = weights
        self.max_tokens = max_tokens
        self.truncation = truncation
        self.shard = (0, 1)  # rank, world size

    @classmethod
    def without_targets(
        cls, sequences: TokenSequences, max_tokens: int | None, truncation: Truncation
    ) -> "DocumentDataset":
        """All documents of `sequences`, with zeros for targets."""
        return cls(sequences, np.arange(len(sequences)), np.zeros(len(sequences)), max_tokens, truncation)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) number of tokens of each document after truncation."""
        lengths = self.ends - self.starts
        return np.asarray(lengths if self.max_tokens is None else np.minimum(lengths, self.max_tokens))

    def __getitem__(self, documents: list[int]) -> Batch:
        local = self.local(documents)
        pieces = self.tokens(local)
        lengths = torch.tensor([len(piece) for piece in pieces])  # (B,)
        token_ids = np.full((len(pieces), max(1, int(lengths.max()))), PAD, dtype=np.int64)  # (B, T)
        for row, piece in zip(token_ids, pieces, strict=True):
            row[: len(piece)] = piece
        return Batch(
            torch.from_numpy(token_ids),
            lengths,
            self.target_tensor(local),
            len(documents),
            weights=self.weight_tensor(local),
        )

    def local(self, documents: list[int]) -> list[int]:
        """This process's shard of the documents of a batch."""
        rank, world_size = self.shard
        return documents[rank::world_size] or documents[:1]

    def tokens(self, documents: Sequence[int]) -> list[np.ndarray]:
        """Token ids of each of the documents, truncated."""
        local = np.asarray(documents, dtype=np.int64)
        bounds = zip(self.starts[local].tolist(), self.ends[local].tolist(), strict=True)
        return [self._tokens(start, end) for start, end in bounds]

    def target_tensor(self, documents: Sequence[int]) -> Tensor:
        """(B,) int64 class indices, or (B, L) float32 indicators or probabilities, of the documents."""
        dtype = np.float32 if self.targets.ndim == 2 else np.int64
        return torch.from_numpy(self.targets[np.asarray(documents, dtype=np.int64)].astype(dtype))

    def weight_tensor(self, documents: Sequence[int]) -> Tensor | None:
        """(B,) float32 weights of the documents in the loss; None: all 1."""
        return None if self.weights is None else torch.from_numpy(self.weights[np.asarray(documents, dtype=np.int64)])

    def _tokens(self, start: int, end: int) -> np.ndarray:
        """Token ids of the document from `start` to `end`, truncated."""
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


def shard_size(num_documents: int, rank: int, world_size: int) -> int:
    """Number of documents of a batch in the shard of one process."""
    return len(range(rank, num_documents, world_size))


class BucketSampler(Sampler[list[int]]):
    """Batches of documents of similar length, which need little padding, in a new order every epoch.

    Documents are shuffled, sorted by length within pools of POOL_BATCHES batches and cut into batches, which are then
    shuffled. Every document occurs once per pass, and an epoch consists of `passes` of them, each in its own order; one
    batch per pass may be smaller. The order depends only on `seed` and the epoch, so it is reproducible.
    """

    def __init__(
        self, lengths: np.ndarray, batch_size: int, seed: int, passes: int = 1, start: tuple[int, int] = (0, 0)
    ) -> None:
        """passes: over the documents in an epoch. start: the first epoch, and the number of its batches to skip because
        a run has been trained on them.
        """
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.passes = passes
        self.start = start
        self.epoch = start[0]

    def set_epoch(self, epoch: int) -> None:
        """Select the order of an epoch; the trainer calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.passes * -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        batches = [batch for _ in range(self.passes) for batch in self._one_pass(random)]
        first_epoch, num_done = self.start
        yield from batches[num_done if self.epoch == first_epoch else 0 :]

    def _one_pass(self, random: np.random.Generator) -> list[list[int]]:
        order = random.permutation(len(self.lengths))
        pool_size = self.batch_size * POOL_BATCHES
        batches = []
        for start in range(0, len(order), pool_size):
            pool = order[start : start + pool_size]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [pool[begin : begin + self.batch_size] for begin in range(0, len(pool), self.batch_size)]
        return [batches[number].tolist() for number in random.permutation(len(batches))]


class SortedSampler(Sampler[list[int]]):
    """Every document once, longest first: for evaluation, where the order does not matter and padding costs time."""

    def __init__(self, lengths: np.ndarray, batch_size: int) -> None:
        self.order = np.argsort(-lengths, kind="stable")
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.order), self.batch_size):
            yield self.order[start : start + self.batch_size].tolist()
