"""Streams of text, against steps written by hand."""

import numpy as np
import pytest
import torch

from newsreel.batches.streams import IGNORED, StepSampler, StreamDataset, held_out_documents, join_documents
from newsreel.core.errors import UserError
from newsreel.text.tokens import TokenSequences

TABLE = TokenSequences(np.array([2, 3, 4, 5, 6], dtype=np.int32), np.array([0, 2, 2, 5]))  # [2, 3], [] and [4, 5, 6]


def dataset(num_streams: int, num_steps: int, directions: tuple[bool, ...], seed: int | None = None) -> StreamDataset:
    return StreamDataset([TABLE], [np.array([0, 2])], num_streams, num_steps, directions, seed)


def test_documents_are_joined_by_boundaries() -> None:
    assert join_documents([TABLE[0], TABLE[1], TABLE[2]]).tolist() == [0, 2, 3, 0, 0, 4, 5, 6, 0]


def test_every_token_is_predicted_once_in_either_direction() -> None:
    # forward: 0 2 3 0 | 4 5 6 with targets 2 3 0 4 | 5 6 0; backward: 0 6 5 4 | 0 3 2 with targets 6 5 4 0 | 3 2 0
    steps = dataset(2, 3, (False, True))
    assert len(steps) == 2
    first, second = steps[0, 0], steps[0, 1]
    assert first.token_ids.tolist() == [[[0, 4], [2, 5], [3, 6]], [[0, 0], [6, 3], [5, 2]]]
    assert first.targets.tolist() == [[[2, 5], [3, 6], [0, 0]], [[6, 3], [5, 2], [4, 0]]]
    assert second.token_ids.tolist() == [[[0, 0]], [[4, 0]]]
    assert second.targets.tolist() == [[[4, IGNORED]], [[0, IGNORED]]]
    assert (first.num_tokens, second.num_tokens) == (6, 1)
    assert steps.num_targets == 7


def test_epochs_have_their_own_order_of_the_documents() -> None:
    shuffled = dataset(1, 10, (False,), seed=3)
    texts = {epoch: shuffled.text(epoch).tolist() for epoch in range(8)}
    assert {tuple(text) for text in texts.values()} == {(0, 2, 3, 0, 4, 5, 6, 0), (0, 4, 5, 6, 0, 2, 3, 0)}
    assert torch.equal(shuffled[0, 0].targets, dataset(1, 10, (False,), seed=3)[0, 0].targets)


def test_there_are_no_more_streams_than_tokens() -> None:
    steps = dataset(64, 5, (False,))
    assert steps[0, 0].token_ids.shape == (1, 1, 7)


def test_a_resumed_epoch_starts_at_its_step_and_the_next_one_at_its_first() -> None:
    sampler = StepSampler(3, start=(1, 2))
    assert list(sampler) == [(1, 2)]
    sampler.set_epoch(2)
    assert list(sampler) == [(2, 0), (2, 1), (2, 2)]


def test_some_documents_are_held_out_by_the_seed() -> None:
    training, held_out = held_out_documents(40, 0.1, seed=1)
    assert len(held_out) == 4
    assert sorted([*training, *held_out]) == list(range(40))
    assert held_out_documents(40, 0.1, seed=2)[1].tolist() != held_out.tolist()
    assert [len(part) for part in held_out_documents(2, 0.9, seed=1)] == [1, 1]
    with pytest.raises(UserError, match="at least two documents, one of them held out, and there are 1"):
        held_out_documents(1, 0.1, seed=1)
