"""Batches with unlabelled documents beside the labelled ones."""

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from helpers.documents import make_corpus, make_table, with_tables, word_tokenizer
from newsreel.batches import datamodule as datamodule_module
from newsreel.batches.batch import BatchSettings, BucketSampler
from newsreel.batches.datamodule import TextDataModule
from newsreel.batches.unlabeled import PairedSampler
from newsreel.core.errors import UserError
from newsreel.text.unlabeled import encode_unlabeled

LENGTHS = np.random.default_rng(0).integers(0, 30, 50)
OTHERS = np.random.default_rng(1).integers(0, 30, 23)
LABELLED = [(" ".join(["word"] * (1 + number % 6)), number % 2) for number in range(48)]
UNLABELED = [(f"other{number % 3} word " * (number % 4), -1) for number in range(10)]


def paired(start: tuple[int, int] = (0, 0), seed: int = 0) -> PairedSampler:
    return PairedSampler(BucketSampler(LENGTHS, batch_size=8, seed=seed, start=start), OTHERS, batch_size=5)


def epochs(sampler: PairedSampler, first: int, number: int) -> list[tuple[list[int], list[int]]]:
    pairs = []
    for epoch in range(first, first + number):
        sampler.set_epoch(epoch)
        pairs += list(sampler)
    return pairs


def test_every_unlabelled_document_comes_once_before_any_comes_again_over_the_epochs() -> None:
    pairs = epochs(paired(), 0, 5)
    assert len(paired()) == 7
    assert len(pairs) == 35
    unlabeled = [batch for _, batch in pairs]
    for number in range(0, 35, 5):  # 23 documents are 5 batches
        assert sorted(chain(*unlabeled[number : number + 5])) == list(range(23))
        assert sorted(map(len, unlabeled[number : number + 5])) == [3, 5, 5, 5, 5]
    assert unlabeled[:5] != unlabeled[5:10]  # each pass has its own order


def test_labelled_documents_come_as_without_the_others_which_have_an_order_of_their_own() -> None:
    alone = BucketSampler(LENGTHS, batch_size=8, seed=0)
    alone.set_epoch(1)
    assert [labelled for labelled, _ in epochs(paired(), 1, 1)] == list(alone)
    sampler = PairedSampler(BucketSampler(LENGTHS, batch_size=8, seed=0), LENGTHS, batch_size=8)
    assert all(labelled != unlabeled for labelled, unlabeled in sampler)
    assert epochs(paired(seed=1), 0, 1) != epochs(paired(), 0, 1)


@pytest.mark.parametrize(("epoch", "num_batches"), [(0, 3), (1, 0), (2, 6)])
def test_a_resumed_training_gets_the_batches_that_it_would_have_had(epoch: int, num_batches: int) -> None:
    expected = epochs(paired(), 0, 4)[7 * epoch + num_batches :]
    assert epochs(paired(start=(epoch, num_batches)), epoch, 4 - epoch) == expected


def datamodule(tmp_path: Path, shard: tuple[int, int] = (0, 1), unlabeled_batch_size: int | None = 3) -> TextDataModule:
    labelled = make_corpus(LABELLED, LABELLED[:10]).with_validation(0.25, seed=0)
    rows = labelled.splits
    corpus = with_tables(labelled, unlabeled=make_table(UNLABELED)).with_validation(0.25, seed=0)
    assert {name: list(rows[name].rows) for name in rows} == {name: list(corpus.splits[name].rows) for name in rows}
    tokenized = encode_unlabeled(word_tokenizer().fit(corpus, tmp_path), corpus, tmp_path)
    settings = BatchSettings(
        batch_size=4, max_tokens=5, truncation="head", num_workers=0, unlabeled_batch_size=unlabeled_batch_size
    )
    module = TextDataModule(corpus, tokenized, settings, 0, pin_memory=False, with_unlabeled=True)
    module.set_shard(*shard)
    return module


def test_training_batches_have_unlabelled_documents_and_others_have_none(tmp_path: Path) -> None:
    module = datamodule(tmp_path)
    batches = list(module.train_dataloader())
    assert len(batches) == 9
    assert [len(batch.lengths) for batch in batches] == [4] * 9
    sizes = [len(batch.unlabeled.lengths) for batch in batches if batch.unlabeled is not None]
    assert sorted(sizes[:4]) == [1, 3, 3, 3]
    assert sum(sizes) == 10 + 10 + min(sizes[8], 3)
    assert all(batch.unlabeled.token_ids.shape[1] <= 5 for batch in batches if batch.unlabeled is not None)
    for loader in (module.val_dataloader(), module.test_dataloader(), module.single_pass()):
        assert all(batch.unlabeled is None for batch in loader)
    first = next(iter(datamodule(tmp_path, unlabeled_batch_size=None).train_dataloader())).unlabeled
    assert first is not None
    assert first.num_documents in (2, 4)  # as many as of the labelled ones


def test_processes_share_both_kinds_of_documents(tmp_path: Path) -> None:
    whole = list(datamodule(tmp_path).train_dataloader())
    shards = [list(datamodule(tmp_path, (rank, 2)).train_dataloader()) for rank in (0, 1)]
    for number, batch in enumerate(whole):
        assert batch.unlabeled is not None
        parts = [shard[number].unlabeled for shard in shards]
        assert all(part is not None and part.num_documents == batch.unlabeled.num_documents for part in parts)
        if batch.unlabeled.num_documents == 3:
            lengths = [part.lengths.tolist() for part in parts if part is not None]
            assert Counter(lengths[0] + lengths[1]) == Counter(batch.unlabeled.lengths.tolist())


def test_tokens_are_counted_in_all_documents_that_training_reads(tmp_path: Path) -> None:
    module = datamodule(tmp_path)
    tokens = module.tokenized.tokenizer.tokens
    training = sum(len(text.split()) for text in module.corpus["train"]["text"])
    assert list(tokens) == ["<pad>", "<unk>", "word"]
    assert module.count_tokens().tolist() == [0, 13, training + 13]
    module.with_unlabeled = False
    assert module.count_tokens().tolist() == [0, 0, training]


def test_batches_of_unlabelled_documents_that_do_not_fit_into_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datamodule_module, "MAX_BATCH_TOKENS", 30)
    with pytest.raises(UserError, match=r"the longest unlabeled document has 5 tokens, so a batch of 10 documents"):
        datamodule(tmp_path, unlabeled_batch_size=20)
