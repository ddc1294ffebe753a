"""Divisions by label, against expectations made by hand."""

import numpy as np
import pytest

from newsreel.corpora.splits import first_of_each_class, stratified_holdout


def test_first_of_each_class_keeps_order() -> None:
    assert first_of_each_class(np.array([1, 0, 1, 1, 0, 0]), 2).tolist() == [0, 1, 2, 4]
    targets = np.array([[1, 0], [1, 1], [1, 0], [0, 1], [0, 0], [0, 1]], dtype=np.uint8)
    # label 0: rows 0, 1; label 1: rows 1, 3; no label: row 4
    assert first_of_each_class(targets, 2).tolist() == [0, 1, 3, 4]


def test_holdout_divides_each_class_in_the_same_proportion_by_the_seed() -> None:
    targets = np.array([0] * 40 + [1] * 20)
    kept, held_out = stratified_holdout(targets, 0.25, seed=0)
    assert np.bincount(targets[held_out]).tolist() == [10, 5]
    assert sorted([*kept, *held_out]) == list(range(60))
    assert np.array_equal(held_out, stratified_holdout(targets, 0.25, seed=0)[1])
    assert not np.array_equal(held_out, stratified_holdout(targets, 0.25, seed=1)[1])


def test_a_class_of_one_document_stays_in_training() -> None:
    kept, held_out = stratified_holdout(np.array([0, 0, 0, 0, 1]), 0.5, seed=0)
    assert 4 in kept
    assert len(held_out) == 2


def test_holdout_of_label_sets_keeps_label_proportions() -> None:
    random = np.random.default_rng(0)
    targets = (random.random((2000, 6)) < np.array([0.5, 0.3, 0.2, 0.1, 0.05, 0.01])).astype(np.uint8)
    kept, held_out = stratified_holdout(targets, 0.2, seed=0)
    assert sorted([*kept, *held_out]) == list(range(2000))
    assert abs(len(held_out) - 400) <= 10
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
