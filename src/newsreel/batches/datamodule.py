"""The LightningDataModule: data loaders for a tokenized corpus."""

import torch
from lightning.pytorch import LightningDataModule
from scipy.sparse import csr_array
from torch.utils.data import DataLoader, Sampler

from newsreel.batches.bags import BagDataset, BagSplit, WholeSplit
from newsreel.batches.batch import (
    MAX_BATCH_TOKENS,
    Batch,
    BatchSettings,
    BucketSampler,
    DocumentDataset,
    SortedSampler,
)
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
    ) -> None:
        """Raises UserError if a batch would be too large.

        pin_memory: whether batches are copied to an accelerator. passes: over the training documents in an epoch. bags:
        whether batches have distinct words and their counts. whole_split: whether an epoch is one BagSplit.
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
        self._counts: dict[str, csr_array] = {}  # of the splits that are read several times, as bags
        self.start = (0, 0)
        self.shard = (0, 1)
        for split, rows in corpus.splits.items():
            if rows.table in tokenized.tables:  # unlabelled documents are not
                self.require_bounded(split)

    def require_bounded(self, split: str) -> None:
        """Raise UserError if a batch that is padded to the longest document of a split would not fit into memory."""
        lengths = self.dataset(split).lengths
        longest, batch_size = int(lengths.max(initial=0)), min(len(lengths), self.batch_settings.batch_size)
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
            self.corpus.targets(split),
            self.batch_settings.max_tokens,
            self.batch_settings.truncation,
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
        return self._train_loader(self.passes)

    def training_bags(self) -> BagSplit:
        """All training documents, for all processes."""
        self.count_words("train")
        dataset = self.dataset("train")
        return BagSplit(self._counts["train"], dataset.target_tensor(range(len(dataset))), len(dataset))

    def single_pass(self) -> DataLoader[Batch]:
        """Every training document once, in the order of the first pass of the first epoch."""
        return self._train_loader(passes=1)

    def _train_loader(self, passes: int) -> DataLoader[Batch]:
        self.count_words("train")
        dataset = self.dataset("train")
        sampler = BucketSampler(dataset.lengths, self.batch_settings.batch_size, self.seed, passes, self.start)
        return self._loader(dataset, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        self.count_words("validation")
        return self.evaluation_dataloader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: str) -> DataLoader[Batch]:
        """Documents of a split, longest first; the sampler's `order` has the document of each row."""
        dataset = self.dataset(split)
        return self._loader(dataset, SortedSampler(dataset.lengths, self.batch_settings.batch_size))

    def _loader(self, dataset: DocumentDataset, sampler: Sampler[list[int]]) -> DataLoader[Batch]:
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
