"""Divisions by label, against expectations made by hand."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from newsreel.corpora.splits import (
    block_folds,
    block_holdout,
    first_of_each_class,
    rounded_holdout,
    stratified_folds,
    stratified_holdout,
    with_total,
)


def test_first_of_each_class_keeps_order() -> None:
    assert first_of_each_class(np.array([1, 0, 1, 1, 0, 0]), 2).tolist() == [0, 1, 2, 4]
    targets = np.array([[1, 0], [1, 1], [1, 0], [0, 1], [0, 0], [0, 1]], dtype=np.uint8)
    # label 0: rows 0, 1; label 1: rows 1, 3; no label: row 4
    assert first_of_each_class(targets, 2).tolist() == [0, 1, 3, 4]


def test_many_small_classes_get_the_total_that_was_asked_for() -> None:
    targets = np.repeat(np.arange(202), [2] * 200 + [50] * 2)
    kept, held_out = stratified_holdout(targets, 0.2, seed=0)
    counts = np.bincount(targets[held_out])
    assert (len(kept), len(held_out)) == (400, 100)
    assert counts[200:].tolist() == [10, 10]
    assert counts[:200].tolist().count(1) == 80  # a quota of 0.4 each: 80 of the 200 are drawn
    other = np.bincount(targets[stratified_holdout(targets, 0.2, seed=1)[1]])
    assert np.sum(counts[:200] != other[:200]) > 0
    drawn = sum(np.bincount(targets[stratified_holdout(targets, 0.2, seed)[1]], minlength=202) for seed in range(200))
    assert drawn[:200].min() > 40  # 80 of 200 draws expected, with a standard deviation of 7
    assert drawn[:200].max() < 120


def test_classes_furthest_from_their_quotas_give_one_more_or_one_less() -> None:
    # quotas 1.4, 2.1, 3.4, 0.7 round to 1, 2, 3, 1, and round(7.6) = 8 are wanted: 1.4 and 3.4 are furthest
    targets = np.repeat(np.arange(4), [14, 21, 34, 7])
    draws = {tuple(np.bincount(targets[stratified_holdout(targets, 0.1, seed)[1]])) for seed in range(20)}
    assert draws == {(2, 2, 3, 1), (1, 2, 4, 1)}
    # quotas 0.6 and 0.7 round to 1 each, but round(1.3) = 1 is wanted: 0.7 is closer to 1
    assert np.bincount(np.repeat([0, 1], [6, 7])[stratified_holdout(np.repeat([0, 1], [6, 7]), 0.1, 0)[1]])[1] == 1


def test_the_only_documents_of_classes_are_made_up_for_by_others() -> None:
    targets = np.repeat(np.arange(11), [1] * 10 + [30])
    kept, held_out = stratified_holdout(targets, 0.5, seed=0)
    assert len(held_out) == 20  # all of the class of 30, since the ten others must stay
    assert set(targets[held_out]) == {10}
    kept, held_out = stratified_holdout(targets, 0.9, seed=0)  # 36 are wanted, and 29 can leave
    assert np.bincount(targets[kept]).tolist() == [1] * 11


def test_a_split_with_the_right_total_is_the_one_that_rounding_each_class_gives() -> None:
    random = np.random.default_rng(0)
    num_compared = 0
    for seed in range(300):
        targets = random.permutation(np.repeat(np.arange(5), random.integers(1, 40, size=5)))
        fraction = float(random.choice([0.1, 0.2, 0.25, 0.5]))
        draws = np.random.default_rng(seed)
        expected: list[int] = []
        for value in range(5):
            rows = draws.permutation(np.flatnonzero(targets == value))
            expected += rows[: min(round(fraction * len(rows)), len(rows) - 1)].tolist()
        _, held_out = stratified_holdout(targets, fraction, seed)
        assert len(held_out) == int(fraction * len(targets) + 0.5)
        if len(expected) == len(held_out):
            assert held_out.tolist() == sorted(expected)
            num_compared += 1
    assert num_compared > 50


def test_published_splits_round_each_class() -> None:
    targets = np.repeat(np.arange(3), [14, 14, 1])  # 1.4 each, and 0.1
    kept, held_out = rounded_holdout(targets, 0.1, seed=0)
    assert np.bincount(targets[held_out]).tolist() == [1, 1]
    assert sorted([*kept, *held_out]) == list(range(29))


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.8])
def test_label_sets_get_the_total_that_was_asked_for(fraction: float) -> None:
    random = np.random.default_rng(1)
    for seed in range(20):
        targets = (random.random((60, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.1]).astype(np.uint8)
        targets[~targets.any(axis=1), 0] = 1  # no document without labels could make up the total
        _, rough = stratified_holdout(targets, fraction, seed)
        assert len(rough) >= fraction * 60
        kept, held_out = stratified_holdout(targets, fraction, seed, exact=True)
        assert len(held_out) == fraction * 60
        assert sorted([*kept, *held_out]) == list(range(60))
        assert targets[kept].any(axis=0).tolist() == targets.any(axis=0).tolist()


def test_the_documents_moved_for_the_total_are_those_that_labels_miss_least() -> None:
    # label 0 has 8 documents and label 1 has 4; of 12 documents, 6 are wanted: 4 and 2 have the labels' proportions
    targets = np.eye(2, dtype=np.uint8)[np.repeat([0, 1], [8, 4])]
    too_many = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0], dtype=bool)  # 4 and 3
    too_few = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0], dtype=bool)  # 3 and 2
    for selection in (too_many, too_few):
        mended = with_total(targets, selection, 0.5, 6, np.random.default_rng(0))
        assert targets[mended].sum(axis=0).tolist() == [4, 2]
        assert np.sum(mended != selection) == 1


def test_many_small_labels_in_lists_are_drawn_too() -> None:
    targets = np.eye(202, dtype=np.uint8)[np.repeat(np.arange(202), [2] * 200 + [50] * 2)]
    _, held_out = stratified_holdout(targets, 0.2, seed=0)
    assert len(held_out) == 100
    assert np.count_nonzero(targets[held_out].sum(axis=0)[:200]) == 80


def test_holdout_of_label_sets_keeps_label_proportions() -> None:
    random = np.random.default_rng(0)
    targets = (random.random((2000, 6)) < np.array([0.5, 0.3, 0.2, 0.1, 0.05, 0.01])).astype(np.uint8)
    kept, held_out = stratified_holdout(targets, 0.2, seed=0)
    assert sorted([*kept, *held_out]) == list(range(2000))
    assert len(held_out) == 400
    totals = targets.sum(axis=0)
    assert np.all(np.abs(targets[held_out].sum(axis=0) - 0.2 * totals) <= np.maximum(2, 0.02 * totals))


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_every_label_keeps_a_document(fraction: float) -> None:
    targets = np.zeros((60, 20), dtype=np.uint8)
    targets[np.arange(20), np.arange(20)] = 1  # every label has a document of its own,
    targets[20:] = np.random.default_rng(0).random((40, 20)) < 0.02  # and few have another
    kept, held_out = stratified_holdout(targets, fraction, seed=0)
    assert targets[kept].any(axis=0).all()
    assert sorted([*kept, *held_out]) == list(range(60))


def test_folds_have_every_label_in_the_same_proportion() -> None:
    random = np.random.default_rng(0)
    targets = (random.random((1000, 5)) < [0.5, 0.3, 0.1, 0.02, 0.01]).astype(np.uint8)
    folds = stratified_folds(targets, 4, seed=0)
    assert np.array_equal(folds, stratified_folds(targets, 4, seed=0))
    assert not np.array_equal(folds, stratified_folds(targets, 4, seed=1))
    assert np.abs(np.bincount(folds) - 250).max() <= 2
    for fold in range(4):
        assert np.all(np.abs(targets[folds == fold].sum(axis=0) - targets.sum(axis=0) / 4) <= 2)


def test_the_few_documents_of_a_label_and_those_without_labels_are_in_different_folds() -> None:
    targets = np.eye(8, 7, dtype=np.uint8)[np.repeat(range(8), [3, 3, 3, 2, 2, 1, 1, 5])]  # the last five have none
    folds = stratified_folds(targets, 5, seed=0)
    assert np.bincount(folds).tolist() == [4] * 5
    for column in targets.T:
        assert len(set(folds[column == 1])) == column.sum()
    only_unlabelled = stratified_folds(np.zeros((7, 2), dtype=np.uint8), 3, seed=0)
    assert sorted(np.bincount(only_unlabelled)) == [2, 2, 3]


@pytest.mark.parametrize("num_blocks", [3, 4, 10])
def test_blocks_are_the_folds_of_a_cross_validation_without_shuffling(num_blocks: int) -> None:
    random = np.random.default_rng(0)
    targets = random.permutation(np.repeat([0, 1, 2], [60, 120, 240]))
    positions = random.permutation(len(targets)) * 7
    order = np.argsort(positions)
    folds = StratifiedKFold(num_blocks).split(order, targets[order])
    for seed, (kept, held_out) in enumerate(folds):
        for same in (seed, seed + num_blocks):
            divided = block_holdout(targets, positions, 1 / num_blocks, same)
            assert [part.tolist() for part in divided] == [sorted(order[kept]), sorted(order[held_out])]


def test_blocks_have_the_size_of_random_splits_and_stay_together() -> None:
    targets = np.repeat(np.arange(5), [1, 2, 7, 33, 58])
    for seed in range(8):
        kept, held_out = block_holdout(targets, np.arange(101), 0.15, seed)
        assert len(held_out) == len(stratified_holdout(targets, 0.15, seed)[1]) == 15
        assert sorted([*kept, *held_out]) == list(range(101))
        assert 0 in kept
        for value in (3, 4):
            of_class = held_out[targets[held_out] == value]
            assert np.ptp(of_class) == len(of_class) - 1
    assert block_holdout(np.zeros(10, dtype=np.int64), np.arange(10), 0.6, 5)[1].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("num_rows", [10, 12, 2])
def test_folds_of_neighbours_follow_the_order_and_have_one_size(num_rows: int) -> None:
    positions = np.random.default_rng(0).permutation(100)[:num_rows]
    folds = block_folds(positions, 4)[np.argsort(positions)]
    assert (np.diff(folds) >= 0).all()
    assert np.ptp(np.bincount(folds, minlength=4)) <= 1


def test_documents_of_several_labels_are_divided_together_and_no_label_vanishes() -> None:
    targets = np.zeros((20, 3), dtype=np.uint8)
    targets[:, 0] = 1
    targets[[5, 6], 1] = 1
    targets[5, 2] = 1
    for seed, block in enumerate([range(5), range(5, 10), range(10, 15), range(15, 20)]):
        kept, held_out = block_holdout(targets, np.arange(20), 0.25, seed)
        assert held_out.tolist() == [row for row in block if row != 5]  # the only document of label 2
        assert targets[kept].any(axis=0).all()
    reversed_order = block_holdout(targets, np.arange(20)[::-1], 0.25, 0)[1]
    assert reversed_order.tolist() == [15, 16, 17, 18, 19]
