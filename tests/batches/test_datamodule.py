"""The DataModule."""

from pathlib import Path

import pytest

from helpers.documents import make_corpus, word_tokenizer
from newsreel.batches import datamodule as datamodule_module
from newsreel.batches.batch import BatchSettings, shard_size
from newsreel.batches.datamodule import TextDataModule
from newsreel.core.errors import UserError

DOCUMENTS = [(" ".join(["word"] * (number % 7)), number % 2) for number in range(60)]


def datamodule(tmp_path: Path, num_workers: int = 0, seed: int = 0) -> TextDataModule:
    corpus = make_corpus(DOCUMENTS, DOCUMENTS[:10]).with_validation(0.2, seed=0)
    settings = BatchSettings(batch_size=4, max_tokens=5, truncation="head", num_workers=num_workers)
    return TextDataModule(corpus, word_tokenizer().fit(corpus, tmp_path), settings, seed, pin_memory=False)


def test_loaders_hold_the_documents_of_their_splits_in_truncated_batches(tmp_path: Path) -> None:
    module = datamodule(tmp_path)
    loaders = [module.train_dataloader(), module.val_dataloader(), module.test_dataloader()]
    assert [sum(len(batch.lengths) for batch in loader) for loader in loaders] == [48, 12, 10]
    batch = next(iter(loaders[2]))
    assert batch.token_ids.shape == (4, 5)
    assert batch.lengths.tolist() == [5, 5, 4, 3]


def test_the_order_of_training_follows_the_seed_and_not_the_workers(tmp_path: Path) -> None:
    alone, helped, other = (
        [batch.token_ids.tolist() for batch in datamodule(tmp_path, num_workers, seed).train_dataloader()]
        for num_workers, seed in ((0, 0), (1, 0), (0, 1))
    )
    assert alone == helped
    assert alone != other


@pytest.mark.parametrize("size", [2, 3, 4])
def test_processes_share_out_the_batches_of_one(tmp_path: Path, size: int) -> None:
    module = datamodule(tmp_path)
    for loader in (module.train_dataloader, module.val_dataloader, module.test_dataloader):
        shards = []
        for rank, world_size in ((0, 1), *((rank, size) for rank in range(size))):
            module.set_shard(rank, world_size)
            shards.append(list(loader()))
        for whole, *parts in zip(*shards, strict=True):
            assert {part.num_documents for part in parts} == {whole.num_documents} == {len(whole.lengths)}
            sizes = [shard_size(whole.num_documents, rank, size) for rank in range(size)]
            assert sum(sizes) == whole.num_documents
            assert max(sizes) - min(sizes) <= 1
            for rank, part in enumerate(parts):
                lengths = whole.lengths[rank::size].tolist() or whole.lengths[:1].tolist()  # a stand-in
                assert part.lengths.tolist() == lengths
                assert part.targets.tolist() == (whole.targets[rank::size].tolist() or whole.targets[:1].tolist())
                assert part.token_ids.shape[1] == max(1, *lengths)
                assert len(part.lengths) == max(1, sizes[rank])


def test_a_batch_that_no_memory_holds_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datamodule_module, "MAX_BATCH_TOKENS", 20)
    assert datamodule(tmp_path)  # 4 documents of at most 5 tokens
    monkeypatch.setattr(datamodule_module, "MAX_BATCH_TOKENS", 19)
    with pytest.raises(UserError, match=r"(?s)the longest train document has 5 tokens, so a batch of 4 .* has 20; at"):
        datamodule(tmp_path)
