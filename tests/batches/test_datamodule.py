"""The DataModule."""

from pathlib import Path

import pytest

from helpers.documents import make_corpus, word_tokenizer
from newsreel.batches.batch import BatchSettings, shard_size
from newsreel.batches.datamodule import TextDataModule

DOCUMENTS = [(" ".join(["word"] * (number % 7)), number % 2) for number in range(60)]


def datamodule(tmp_path: Path, num_workers: int = 0, seed: int = 0) -> TextDataModule:
    corpus = make_corpus(DOCUMENTS, DOCUMENTS[:10]).with_validation(0.2, seed=0)
    settings = BatchSettings(batch_size=4, max_tokens=5, truncation="head", num_workers=num_workers)
    return TextDataModule(corpus, word_tokenizer().fit(corpus, tmp_path), settings, seed, pin_memory=False)


def test_loaders_hold_the_documents_of_their_splits(tmp_path: Path) -> None:
    module = datamodule(tmp_path)
    sizes = [
        sum(len(batch.lengths) for batch in loader)
        for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    ]
    assert sizes == [48, 12, 10]


def test_a_loader_of_batches_takes_them_whole_and_truncated(tmp_path: Path) -> None:
    batch = next(iter(datamodule(tmp_path).test_dataloader()))
    assert batch.token_ids.shape == (4, 5)
    assert batch.lengths.tolist() == [5, 5, 4, 3]


def test_worker_processes_give_the_same_batches(tmp_path: Path) -> None:
    alone = [batch.token_ids.tolist() for batch in datamodule(tmp_path).train_dataloader()]
    helped = [batch.token_ids.tolist() for batch in datamodule(tmp_path, num_workers=1).train_dataloader()]
    assert alone == helped


def test_the_order_of_training_follows_the_seed(tmp_path: Path) -> None:
    first = [batch.lengths.tolist() for batch in datamodule(tmp_path, seed=0).train_dataloader()]
    second = [batch.lengths.tolist() for batch in datamodule(tmp_path, seed=1).train_dataloader()]
    assert first != second


@pytest.mark.parametrize("size", [2, 3, 4])
def test_processes_share_out_the_batches_of_one(tmp_path: Path, size: int) -> None:
    module = datamodule(tmp_path)
    loaders = (module.train_dataloader, module.val_dataloader, module.test_dataloader)
    for loader in loaders:
        module.set_shard(0, 1)
        alone = list(loader())
        shares = []
        for number in range(size):
            module.set_shard(number, size)
            shares.append(list(loader()))
        for whole, *parts in zip(alone, *shares, strict=True):
            assert {part.num_documents for part in parts} == {whole.num_documents} == {len(whole.lengths)}
            held = [shard_size(whole.num_documents, number, size) for number in range(size)]
            assert sum(held) == whole.num_documents
            assert max(held) - min(held) <= 1
            for number, part in enumerate(parts):
                rows = whole.lengths[number::size].tolist() or whole.lengths[:1].tolist()  # a stand-in
                assert part.lengths.tolist() == rows
                assert part.targets.tolist() == (whole.targets[number::size].tolist() or whole.targets[:1].tolist())
                assert part.token_ids.shape[1] == max(1, *rows)
                assert len(part.lengths) == max(1, held[number])
