"""The LightningDataModule: data loaders for a tokenized corpus."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from scipy.sparse import csr_array
from torch.utils.data import DataLoader, Dataset, Sampler

from newsreel.batches.bags import BagDataset, BagSplit, WholeSplit
from newsreel.batches.batch import (
    MAX_BATCH_TOKENS,
    Batch,
    BatchSettings,
    BucketSampler,
    DocumentDataset,
    SortedSampler,
)
from newsreel.batches.unlabeled import PairedDataset, PairedSampler
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus
from newsreel.text.tokens import TokenizedCorpus


class TextDataModule(LightningDataModule):
    """Batches of a corpus's splits: training in length buckets shuffled by `seed`, the others sorted by length."""

    def __init__(
        self,
        corpus: Corpus,
        tokenized: TokenizedCorpus,
        settings: BatchSettings,
        seed: int,
        pin_memory: bool,
        passes: int = 1,
        bags: bool = False,
        whole_split: bool = False,
        with_unlabeled: bool = False,
    ) -> None:
        """Raises UserError if a batch would be too large.

        pin_memory: whether batches are copied to an accelerator. passes: over the training documents in an epoch. bags:
        whether batches have distinct words and their counts. whole_split: whether an epoch is one BagSplit.
        with_unlabeled: whether training batches have unlabelled documents too.
        """
        super().__init__()
        self.corpus = corpus
        self.tokenized = tokenized
        self.batch_settings = settings
        self.seed = seed
        self.pin_memory = pin_memory
        self.passes = passes
        self.bags = bags
        self.whole_split = whole_split
        self.with_unlabeled = with_unlabeled
        self._counts: dict[str, csr_array] = {}  # of the splits that are read several times, as bags
        self.start = (0, 0)
        self.shard = (0, 1)
        for split in corpus.splits:
            if split != "unlabeled":
                self.require_bounded(split, settings.batch_size)
        if with_unlabeled:
            self.require_bounded("unlabeled", settings.num_unlabeled)

    def require_bounded(self, split: str, batch_size: int) -> None:
        """Raise UserError if a batch that is padded to the longest document of a split would not fit into memory."""
        lengths = self.dataset(split).lengths
        longest, batch_size = int(lengths.max(initial=0)), min(len(lengths), batch_size)
        if longest * batch_size > MAX_BATCH_TOKENS:
            raise UserError(
                f"{self.corpus.name}: the longest {split} document has {longest:,} tokens, so a batch of {batch_size} "
                f"documents padded to it has {longest * batch_size:,}; at most {MAX_BATCH_TOKENS:,} are possible.\n"
                "Truncate documents with batches.max_tokens=…, lower batches.batch_size, or divide long documents."
            )

    def resume_at(self, epoch: int, num_batches: int) -> None:
        """Start training in `epoch`, counted from 0, after `num_batches` of its batches."""
        self.start = (epoch, num_batches)

    def set_shard(self, rank: int, world_size: int) -> None:
        """Load only this process's shard of every batch. The batches are the same for every world size."""
        self.shard = (rank, world_size)

    def dataset(self, split: str) -> DocumentDataset:
        rows = self.corpus.splits[split]
        dataset = (BagDataset if self.bags else DocumentDataset)(
            self.tokenized.tables[rows.table],
            rows.rows,
            self.corpus.loss_targets(split),
            self.batch_settings.max_tokens,
            self.batch_settings.truncation,
            self.corpus.loss_weights(split),
        )
        dataset.shard = self.shard
        if isinstance(dataset, BagDataset):
            dataset.num_words = len(self.tokenized.tokenizer.tokens)
            dataset.counts = self._counts.get(split)
        return dataset

    def count_words(self, split: str) -> None:
        """Count the words of a split's documents once, for all loaders of bags from now on."""
        dataset = self.dataset(split)
        if isinstance(dataset, BagDataset) and split not in self._counts:
            self._counts[split] = dataset.count_all()

    def train_dataloader(self) -> DataLoader[Batch] | DataLoader[BagSplit]:
        if self.whole_split:
            return DataLoader(WholeSplit(self.training_bags()), batch_size=None)
        dataset, sampler = self._training(self.passes)
        if not self.with_unlabeled:
            return self._loader(dataset, sampler)
        unlabeled = self.dataset("unlabeled")
        paired = PairedSampler(sampler, unlabeled.lengths, self.batch_settings.num_unlabeled)
        return self._loader(PairedDataset(dataset, unlabeled), paired)

    def training_bags(self) -> BagSplit:
        """All training documents, for all processes."""
        self.count_words("train")
        dataset = self.dataset("train")
        rows = range(len(dataset))
        return BagSplit(self._counts["train"], dataset.target_tensor(rows), len(dataset), dataset.weight_tensor(rows))

    def single_pass(self) -> DataLoader[Batch]:
        """Every training document once, in the order of the first pass of the first epoch."""
        return self._loader(*self._training(passes=1))

    def _training(self, passes: int) -> tuple[DocumentDataset, BucketSampler]:
        self.count_words("train")
        dataset = self.dataset("train")
        return dataset, BucketSampler(dataset.lengths, self.batch_settings.batch_size, self.seed, passes, self.start)

    def count_tokens(self) -> np.ndarray:
        """(V,) int64: how often each token occurs in the documents of training, including unlabelled ones it reads."""
        counts = np.zeros(len(self.tokenized.tokenizer.tokens), dtype=np.int64)
        for split in ("train", "unlabeled") if self.with_unlabeled else ("train",):
            rows = self.corpus.splits[split]
            counts += self.tokenized.tables[rows.table].count_tokens(rows.rows, len(counts))
        return counts

    def val_dataloader(self) -> DataLoader[Batch]:
        self.count_words("validation")
        return self.evaluation_dataloader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: str) -> DataLoader[Batch]:
        """Documents of a split, longest first; the sampler's `order` has the document of each row."""
        dataset = self.dataset(split)
        return self._loader(dataset, SortedSampler(dataset.lengths, self.batch_settings.batch_size))

    def _loader(self, dataset: Dataset[Batch], sampler: Sampler[Any]) -> DataLoader[Batch]:
        num_workers = self.batch_settings.num_workers
        return DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,  # items of the dataset are batches
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self.pin_memory,
            # A loader draws a seed when it starts workers. From the global generator, that would change the random
            # numbers of a resumed run, which starts workers once more.
            generator=torch.Generator() if num_workers else None,
        )
