"""The LightningDataModule: a tokenized corpus as loaders of batches."""

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from newsreel.batches.batch import Batch, BatchSettings, BucketSampler, DocumentDataset, SortedSampler
from newsreel.corpora.corpus import Corpus
from newsreel.text.tokens import TokenizedCorpus


class TextDataModule(LightningDataModule):
    """Batches of a corpus's splits: training in length buckets shuffled by `seed`, the others sorted by length."""

    def __init__(
        self, corpus: Corpus, tokenized: TokenizedCorpus, settings: BatchSettings, seed: int, pin_memory: bool
    ) -> None:
        """pin_memory: True only where batches go on to an accelerator."""
        super().__init__()
        self.corpus = corpus
        self.tokenized = tokenized
        self.batch_settings = settings
        self.seed = seed
        self.pin_memory = pin_memory
        self.start = (0, 0)
        self.shard = (0, 1)

    def resume_at(self, epoch: int, num_batches: int) -> None:
        """Let training begin in an epoch, counted from 0, after so many of its batches."""
        self.start = (epoch, num_batches)

    def set_shard(self, number: int, size: int) -> None:
        """Let loaders give one process of `size` its share of every batch. Their batches stay those of one process."""
        self.shard = (number, size)

    def dataset(self, split: str) -> DocumentDataset:
        rows = self.corpus.splits[split]
        dataset = DocumentDataset(
            self.tokenized.tables[rows.table],
            rows.rows,
            self.corpus.targets(split),
            self.batch_settings.max_tokens,
            self.batch_settings.truncation,
        )
        dataset.shard = self.shard
        return dataset

    def train_dataloader(self) -> DataLoader[Batch]:
        dataset = self.dataset("train")
        sampler = BucketSampler(dataset.lengths, self.batch_settings.batch_size, self.seed, self.start)
        return self._loader(dataset, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_dataloader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: str) -> DataLoader[Batch]:
        """A split's documents, longest first; its sampler's `order` says which document each row is."""
        dataset = self.dataset(split)
        return self._loader(dataset, SortedSampler(dataset.lengths, self.batch_settings.batch_size))

    def _loader(self, dataset: DocumentDataset, sampler: Sampler[list[int]]) -> DataLoader[Batch]:
        num_workers = self.batch_settings.num_workers
        return DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,  # an item of the dataset is a batch already
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self.pin_memory,
            # a loader draws a seed for each set of workers: from the generator of all, a run that was resumed, and has
            # one more set, would go on with other random numbers
            generator=torch.Generator() if num_workers else None,
        )
