"""Batches of continuous text for language models: documents one after another, read in parallel streams.

Axes: D directions, T time steps, S streams, N tokens of all documents with their boundaries.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from newsreel.core.errors import UserError
from newsreel.text.tokens import PAD, TokenSequences

IGNORED = -1  # the target after the last token of a stream that is shorter than the others


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """The section `batches` of the config of a language model."""

    batch_size: Annotated[int, Ge(1), Le(65_536)]  # streams of a step
    num_steps: Annotated[int, Ge(1), Le(65_536)]  # tokens of each stream in a step
    held_out_fraction: Annotated[float, Gt(0), Lt(1)]  # of the documents


class StreamBatch(NamedTuple):
    """Consecutive tokens of all streams, and the token after each."""

    token_ids: Tensor  # (D, T, S) int64
    targets: Tensor  # (D, T, S) int64; IGNORED after the end of a stream

    @property
    def num_tokens(self) -> int:
        """Number of predicted tokens in each direction."""
        return int((self.targets[0] != IGNORED).sum())


def held_out_documents(num_documents: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the documents to train on, and of those held out for perplexity: at least one of each, ascending.

    Raises UserError if there are fewer than two.
    """
    if num_documents < 2:
        raise UserError(
            f"A language model needs at least two documents, one of them held out, and there are {num_documents}."
        )
    num_held_out = min(num_documents - 1, max(1, round(fraction * num_documents)))
    order = np.random.default_rng(seed).permutation(num_documents)
    return np.sort(order[num_held_out:]), np.sort(order[:num_held_out])


def join_documents(documents: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) int32: the tokens of all documents, with <pad> before the first and after each, as their boundaries."""
    boundary = np.full(1, PAD, dtype=np.int32)
    pieces = [boundary]
    for document in documents:
        pieces += [document, boundary]
    return np.concatenate(pieces, dtype=np.int32)


class StreamDataset(Dataset[StreamBatch]):
    """Steps through documents in `num_streams` streams; an item is the batch of an (epoch, step).

    Each direction has streams of its own: the reversed ones divide the reversed text, so that every token but the first
    is predicted once from those before it and, reversed, once from those after it. All streams have the same length, up
    to a few ignored tokens at the ends of the last ones.
    """

    def __init__(
        self,
        documents: Sequence[TokenSequences],
        rows: Sequence[np.ndarray],
        num_streams: int,
        num_steps: int,
        reversed_directions: Sequence[bool],
        seed: int | None,
    ) -> None:
        """rows: of each table of documents. seed: of the order of the documents, new in each epoch; None: as given."""
        self.documents = documents
        self.num_steps = num_steps
        self.reversed_directions = reversed_directions
        self.seed = seed
        self.index = [(table, int(row)) for table, selected in enumerate(rows) for row in selected]
        num_targets = len(self.index) + sum(
            int(table.lengths[selected].sum()) for table, selected in zip(documents, rows, strict=True)
        )
        self.num_targets = num_targets  # predicted tokens in each direction, boundaries included
        self.num_streams = min(num_streams, num_targets)
        self.stream_length = -(-num_targets // self.num_streams)
        self._epoch: int | None = None
        self._tokens = self._targets = np.empty((0, 0, 0), dtype=np.int32)  # (D, S, stream_length) of `_epoch`

    def __len__(self) -> int:
        """Steps in an epoch."""
        return -(-self.stream_length // self.num_steps)

    def __getitem__(self, position: tuple[int, int]) -> StreamBatch:
        epoch, step = position
        if epoch != self._epoch:
            self._tokens, self._targets = self._divide(self.text(epoch))
            self._epoch = epoch
        start = step * self.num_steps
        tokens, targets = (
            torch.from_numpy(streams[:, :, start : start + self.num_steps].transpose(0, 2, 1).astype(np.int64))
            for streams in (self._tokens, self._targets)
        )
        return StreamBatch(tokens, targets)

    def text(self, epoch: int) -> np.ndarray:
        """(N,) int32: the joined documents in the order of an epoch."""
        order = np.arange(len(self.index))
        if self.seed is not None:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.index))
        return join_documents([self.documents[table][row] for table, row in (self.index[number] for number in order)])

    def _divide(self, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(D, S, stream_length) tokens, and the tokens after them."""
        shape = (len(self.reversed_directions), self.num_streams, self.stream_length)
        tokens = np.full(shape, PAD, dtype=np.int32)
        targets = np.full(shape, IGNORED, dtype=np.int32)
        for direction, is_reversed in enumerate(self.reversed_directions):
            directed = text[::-1] if is_reversed else text
            tokens[direction].reshape(-1)[: len(text) - 1] = directed[:-1]
            targets[direction].reshape(-1)[: len(text) - 1] = directed[1:]
        return tokens, targets


class StepSampler(Sampler[tuple[int, int]]):
    """The steps of an epoch, in their order."""

    def __init__(self, num_steps: int, start: tuple[int, int] = (0, 0)) -> None:
        """start: the first epoch, and the number of its steps to skip because a run has been trained on them."""
        self.num_steps = num_steps
        self.start = start
        self.epoch = start[0]

    def set_epoch(self, epoch: int) -> None:
        """Select an epoch; the trainer calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first_epoch, num_done = self.start
        for step in range(num_done if self.epoch == first_epoch else 0, self.num_steps):
            yield self.epoch, step


class StreamDataModule(LightningDataModule):
    """Streams of the documents of a language model: for training in a new order in each epoch, and held out."""

    def __init__(self, training: StreamDataset, held_out: StreamDataset) -> None:
        super().__init__()
        self.training = training
        self.held_out = held_out
        self.start = (0, 0)

    def resume_at(self, epoch: int, num_batches: int) -> None:
        """Start training in `epoch`, counted from 0, after `num_batches` of its steps."""
        self.start = (epoch, num_batches)

    def train_dataloader(self) -> DataLoader[StreamBatch]:
        return self._loader(self.training, StepSampler(len(self.training), self.start))

    def val_dataloader(self) -> DataLoader[StreamBatch]:
        return self._loader(self.held_out, StepSampler(len(self.held_out)))

    def _loader(self, dataset: StreamDataset, sampler: StepSampler) -> DataLoader[StreamBatch]:
        return DataLoader(dataset, sampler=sampler, batch_size=None)
