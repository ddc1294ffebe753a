"""The LightningDataModule: a tokenized corpus as loaders of batches."""

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

    def dataset(self, split: str) -> DocumentDataset:
        rows = self.corpus.splits[split]
        return DocumentDataset(
            self.tokenized.tables[rows.table],
            rows.rows,
            self.corpus.targets(split),
            self.batch_settings.max_tokens,
            self.batch_settings.truncation,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        dataset = self.dataset("train")
        return self._loader(dataset, BucketSampler(dataset.lengths, self.batch_settings.batch_size, self.seed))

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_dataloader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: str) -> DataLoader[Batch]:
        """A split's documents, longest first; its sampler's `order` says which document each row is."""
        dataset = self.dataset(split)
        return self._loader(dataset, SortedSampler(dataset.lengths, self.batch_settings.batch_size))

    def _loader(self, dataset: DocumentDataset, sampler: Sampler[list[int]]) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,  # an item of the dataset is a batch already
            num_workers=self.batch_settings.num_workers,
            persistent_workers=self.batch_settings.num_workers > 0,
            pin_memory=self.pin_memory,
        )
