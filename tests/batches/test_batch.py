"""Batches and samplers, against expectations made by hand."""

from typing import Any

import numpy as np
import pytest
import torch

from newsreel.batches.batch import BucketSampler, DocumentDataset, SortedSampler
from newsreel.text.tokens import TokenSequences

# Documents 0 … 3: [10 11 12], [], [20 21 22 23 24], [30]; ids are 0 … 8 and the mapping says what they are.
SEQUENCES = TokenSequences(
    ids=np.arange(9, dtype=np.int32),
    offsets=np.array([0, 3, 3, 8, 9]),
    mapping=np.array([10, 11, 12, 20, 21, 22, 23, 24, 30], dtype=np.int32),
)
LENGTHS = np.random.default_rng(0).integers(1, 1000, 4003)


def dataset(max_tokens: int | None = None, truncation: Any = "head") -> DocumentDataset:
    return DocumentDataset(SEQUENCES, np.array([0, 1, 2, 3]), np.array([0, 1, 1, 0]), max_tokens, truncation)


def test_a_batch_is_padded_to_its_longest_document() -> None:
    batch = dataset()[[0, 3, 1]]
    assert batch.token_ids.tolist() == [[10, 11, 12], [30, 0, 0], [0, 0, 0]]
    assert batch.token_ids.dtype == torch.int64
    assert batch.lengths.tolist() == [3, 1, 0]
    assert batch.targets.tolist() == [0, 0, 1]
    assert dataset()[[1]].token_ids.tolist() == [[0]]  # one column, even if there is no word


@pytest.mark.parametrize(
    ("truncation", "expected"), [("head", [20, 21, 22]), ("tail", [22, 23, 24]), ("head_tail", [20, 21, 24])]
)
def test_truncation_keeps_the_named_end(truncation: str, expected: list[int]) -> None:
    assert dataset(3, truncation)[[2, 0]].token_ids.tolist() == [expected, [10, 11, 12]]
    assert dataset(3, truncation).lengths.tolist() == [3, 0, 3, 1]


def test_a_split_is_rows_of_a_table_and_indicators_become_floats() -> None:
    split = DocumentDataset(SEQUENCES, np.array([2, 3]), np.array([[1, 0], [1, 1]], dtype=np.uint8), None, "head")
    assert len(split) == 2
    assert split[[1]].token_ids.tolist() == [[30]]
    assert split[[1, 0]].targets.tolist() == [[1.0, 1.0], [1.0, 0.0]]
    assert split[[1]].targets.dtype == torch.float32


def test_buckets_hold_every_document_once_beside_others_of_its_length() -> None:
    sampler = BucketSampler(LENGTHS, batch_size=32, seed=0)
    batches = list(sampler)
    assert sorted(document for batch in batches for document in batch) == list(range(4003))
    assert len(batches) == len(sampler) == 126
    assert sorted(map(len, batches))[:2] == [3, 32]  # the last batch is kept
    assert sum(len(batch) * LENGTHS[batch].max() for batch in batches) < 1.1 * LENGTHS.sum()


def test_each_epoch_has_its_own_order_which_the_seed_determines() -> None:
    sampler = BucketSampler(LENGTHS[:500], batch_size=8, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    assert sorted(map(sorted, first)) != sorted(map(sorted, sampler))  # other batches, too
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(BucketSampler(LENGTHS[:500], batch_size=8, seed=1)) != first


def test_an_epoch_of_several_passes_holds_every_document_in_each_and_can_be_entered_within() -> None:
    sampler = BucketSampler(LENGTHS[:100], batch_size=8, seed=0, passes=3)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 39
    orders = [batches[start : start + 13] for start in (0, 13, 26)]
    assert all(sorted(document for batch in order for document in batch) == list(range(100)) for order in orders)
    assert orders[0] == list(BucketSampler(LENGTHS[:100], batch_size=8, seed=0))
    assert orders[0] != orders[1] != orders[2]
    assert list(BucketSampler(LENGTHS[:100], batch_size=8, seed=0, passes=3, start=(0, 20))) == batches[20:]


def test_evaluation_goes_from_the_longest_document_down() -> None:
    sampler = SortedSampler(np.array([3, 0, 5, 1, 5]), batch_size=2)
    assert list(sampler) == [[2, 4], [0, 3], [1]]
    assert len(sampler) == 3
