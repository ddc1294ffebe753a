"""Batches of labelled documents, each with a batch of unlabelled ones."""

from collections.abc import Iterator
from itertools import count

import numpy as np
from torch.utils.data import Dataset, Sampler

from newsreel.batches.batch import Batch, BucketSampler, DocumentDataset

Pair = tuple[list[int], list[int]]  # labelled and unlabelled documents
OTHER_STREAM = 2**32  # is added to the seed, which is smaller: unlabelled documents have an order of their own


class PairedDataset(Dataset[Batch]):
    """An index is a Pair, and an item is the batch of its labelled documents, with that of the others."""

    def __init__(self, labelled: DocumentDataset, unlabeled: DocumentDataset) -> None:
        self.labelled = labelled
        self.unlabeled = unlabeled

    def __len__(self) -> int:
        return len(self.labelled)

    def __getitem__(self, pair: Pair) -> Batch:
        labelled, unlabeled = pair
        return self.labelled[labelled]._replace(unlabeled=self.unlabeled[unlabeled])


class PairedSampler(Sampler[Pair]):
    """The batches of a BucketSampler, each with the next batch of unlabelled documents.

    The unlabelled documents are read pass after pass, over the epochs: each occurs once before any occurs again. A pass
    has an order of its own, in length buckets, and one of its batches may be smaller. The order depends only on the
    seed and the number of the batch, counted from the start of the training.
    """

    def __init__(self, labelled: BucketSampler, lengths: np.ndarray, batch_size: int) -> None:
        """lengths: (N,) of the unlabelled documents. batch_size: number of them."""
        self.labelled = labelled
        self.unlabeled = BucketSampler(lengths, batch_size, labelled.seed + OTHER_STREAM)

    def set_epoch(self, epoch: int) -> None:
        """Select the order of an epoch; the trainer calls this before every epoch."""
        self.labelled.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.labelled)

    def __iter__(self) -> Iterator[Pair]:
        first_epoch, num_done = self.labelled.start
        epoch = self.labelled.epoch
        number = epoch * len(self.labelled) + (num_done if epoch == first_epoch else 0)
        yield from zip(self.labelled, self._unlabeled_from(number), strict=False)

    def _unlabeled_from(self, number: int) -> Iterator[list[int]]:
        """All batches of unlabelled documents from the one with this number, without end."""
        first_pass, num_done = divmod(number, len(self.unlabeled))
        self.unlabeled.start = (first_pass, num_done)
        for number_of_pass in count(first_pass):
            self.unlabeled.set_epoch(number_of_pass)
            yield from self.unlabeled
