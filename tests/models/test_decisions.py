"""From probabilities to labels."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from helpers.marks import slow
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Task
from newsreel.models.decisions import DecisionRule, EvaluationSettings, best_k, best_thresholds, fold_thresholds


def decisions(
    rule: Any,
    task: Task = "multilabel",
    num_labels: int = 3,
    hierarchy: Any = "none",
    parents: Any = (),
    **changes: Any,
) -> DecisionRule:
    settings = {"shrinkage": 0.0, "figures": False, **changes}
    return DecisionRule(task, num_labels, parents, EvaluationSettings(thresholds=rule, hierarchy=hierarchy, **settings))


def fitted(rule: str, scores: list[list[float]], targets: list[list[int]], **changes: Any) -> DecisionRule:
    made = decisions(rule, num_labels=len(scores[0]), **changes)
    made.fit(torch.tensor(scores), torch.tensor(targets).bool())
    return made


def test_one_label_is_the_most_probable_and_several_are_above_a_half() -> None:
    assert decisions("per_label", "multiclass")(torch.tensor([[0.2, 0.5, 0.3]])).tolist() == [1]
    assert decisions("per_label", "binary", 2)(torch.tensor([[0.5, 0.5]])).tolist() == [0]
    assert decisions("per_label")(torch.tensor([[0.6, 0.5, 0.9]])).tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_thresholds_are_as_good_as_the_best_found_by_trying_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, 30, (40, 3)) / 30  # with ties
    targets = random.random((40, 3)) < scores
    targets[0] = True
    found = best_thresholds(torch.from_numpy(scores), torch.from_numpy(targets)).numpy()
    for label, right, threshold in zip(scores.T, targets.T, found, strict=True):
        tried = [f1_score(right, label > cut, zero_division=0) for cut in [-1e-9, *np.unique(label)]]
        assert f1_score(right, label > threshold) == pytest.approx(max(tried))


def test_a_threshold_lies_halfway_in_log_odds() -> None:
    odds = torch.tensor([[9.0], [1 / 4]])  # and between them 3/2
    assert best_thresholds(odds / (1 + odds), torch.tensor([[True], [False]])).item() == pytest.approx(0.6)


@pytest.mark.parametrize("scores", [[1.0, 1.0], [0.0, 0.0], [1e-30, 0.0], [1.0, 1 - 6e-8]])
def test_extreme_probabilities_are_still_separated_where_they_differ(scores: list[float]) -> None:
    probabilities = torch.tensor(scores)[:, None]
    found = best_thresholds(probabilities, torch.tensor([[True], [False]]))
    decided = (probabilities > found)[:, 0].tolist()
    assert decided == ([True, False] if scores[0] > scores[1] else [scores[0] > 0] * 2)


def test_the_global_threshold_has_the_highest_micro_f1() -> None:
    scores, targets = [[0.9, 0.2], [0.6, 0.3], [0.1, 0.8]], [[1, 0], [1, 0], [0, 1]]
    rule = fitted("global", scores, targets)
    assert 0.3 <= rule.thresholds[0] == rule.thresholds[1] < 0.6
    assert rule(torch.tensor(scores)).tolist() == targets


def test_labels_without_validation_documents_take_the_global_threshold() -> None:
    scores = [[0.9, 0.2, 0.5], [0.6, 0.3, 0.4], [0.1, 0.8, 0.1]]
    targets = [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    own, overall = (fitted(rule, scores, targets).thresholds for rule in ("per_label", "global"))
    assert own[2] == overall[0]
    assert own[0] != own[1]


@pytest.mark.parametrize(("rule", "told"), [("per_label", 1), ("global", None), ("fixed", None)])
def test_the_rule_is_described_to_the_last_bit(rule: str, told: int | None) -> None:
    made = fitted(rule, [[4e-7, 0.2, 0.5], [3e-7, 0.3, 0.4]], [[1, 0, 0], [0, 1, 0]])
    assert (made.thresholds.tolist() == [0.5, 0.5, 0.5]) == (rule == "fixed")
    described = made.describe(["a", "b", "c"])
    assert torch.equal(torch.tensor([described["thresholds"][name] for name in "abc"]), made.thresholds)
    assert described.get("labels_with_global_threshold") == told


def test_shrinkage_draws_thresholds_of_rare_labels_to_the_global_one() -> None:
    scores, targets = [[0.9, 0.2], [0.6, 0.3], [0.1, 0.8]], [[1, 0], [1, 1], [0, 1]]
    own, overall, half, full = (
        fitted(rule, scores, targets, shrinkage=shrinkage).thresholds.logit()
        for rule, shrinkage in (("per_label", 0), ("global", 0), ("per_label", 2), ("per_label", 1e9))
    )
    assert torch.allclose(half, (own + overall) / 2, atol=1e-5)  # each label has two documents
    assert torch.allclose(full, overall, atol=1e-5)


FOLDS = [  # scores and targets of two labels
    ([[0.8, 0.1], [0.5, 0.4], [0.2, 0.3]], [[1, 0], [0, 0], [0, 1]]),
    ([[0.9, 0.2], [0.5, 0.1]], [[1, 0], [1, 0]]),
]


def fold_tensors(folds: list[Any]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.tensor(scores), torch.tensor(targets).bool()) for scores, targets in folds]


def test_thresholds_of_folds_are_averaged_and_rare_labels_take_the_highest_score() -> None:
    rule = decisions("scut_fbr", num_labels=2, fbr=0.7)
    rule.fit_folds(fold_tensors(FOLDS))
    # label 0: F1 1 between 0.8 and 0.5, whose odds are 4 and 1, and between 0.5 and 0, of odds 1 and the smallest
    # label 1: F1 2/3 between 0.3 and 0.1 is below 0.7, so 0.4; none has the label, so 0.2: odds 2/3 and 1/4
    smallest = 2**-23
    odds = [math.sqrt(2 * math.sqrt(smallest)), math.sqrt(2 / 3 / 4)]
    assert rule.thresholds.tolist() == pytest.approx([ratio / (1 + ratio) for ratio in odds], rel=1e-4)
    rule = decisions("scut_fbr", num_labels=2, fbr=0.66)  # 2/3 is enough: between 0.3 and 0.1, of odds 3/7 and 1/9
    rule.fit_folds(fold_tensors(FOLDS))
    ratio = math.sqrt(math.sqrt(3 / 7 / 9) / 4)
    assert rule.thresholds[1].item() == pytest.approx(ratio / (1 + ratio))


@pytest.mark.parametrize("fbr", [slow(0.0), 0.4, slow(0.8), slow(1.0)])
def test_the_thresholds_of_a_fold_are_those_of_a_loop_over_all(fbr: float) -> None:
    random = np.random.default_rng(int(10 * fbr))
    scores = random.integers(1, 60, (30, 8)) / 60  # with ties
    targets = random.random((30, 8)) < scores * np.linspace(0, 1, 8)
    scores += 0.01 * random.standard_normal((30, 8)).round(1)
    found = fold_thresholds(torch.from_numpy(scores), torch.from_numpy(targets), fbr).numpy()
    raised = 0
    for label, right, threshold in zip(scores.T, targets.T, found, strict=True):
        best = max(f1_score(right, label >= cut, zero_division=0) for cut in label)
        if best < fbr or not right.any():
            raised += 1
            assert threshold == label.max()
        else:
            assert f1_score(right, label > threshold) == pytest.approx(best)
    assert raised == {0.0: 1, 0.4: raised, 0.8: raised, 1.0: 8}[fbr]
    assert raised > 0


def test_one_fold_is_its_own_mean() -> None:
    random = np.random.default_rng(0)
    scores = torch.from_numpy(random.random((50, 40))).float()
    targets = torch.from_numpy(random.random((50, 40)) < 0.1)
    rule = decisions("scut_fbr", num_labels=40, fbr=1.0)
    rule.fit(scores, targets)
    assert torch.equal(rule.thresholds, scores.amax(dim=0))  # to the bit, so that no document exceeds its own score
    assert not rule(scores).any()
    saturated = fitted("scut_fbr", [[1.0, 0.9], [0.2, 0.1]], [[0, 1], [0, 0]], fbr=0.3)
    assert saturated(torch.tensor([[1.0, 0.95]])).tolist() == [[False, True]]


@pytest.mark.parametrize("name", ["per_label", "global", "top_k"])
def test_other_rules_are_fitted_to_the_documents_of_all_folds(name: str) -> None:
    rule = decisions(name, num_labels=2)
    scores, targets = ([row for fold in folds for row in fold] for folds in zip(*FOLDS, strict=True))
    together = fitted(name, scores, targets)
    rule.fit_folds(fold_tensors(FOLDS))
    assert rule.describe(["a", "b"]) == together.describe(["a", "b"])


def test_top_k_takes_the_number_of_labels_with_the_highest_micro_f1() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        scores = random.random((30, 6))
        targets = random.random((30, 6)) < scores**2
        ranks = (-scores).argsort(axis=1).argsort(axis=1)
        tried = [f1_score(targets, ranks < k, average="micro") for k in range(1, 7)]
        assert best_k(torch.from_numpy(scores), torch.from_numpy(targets)) == np.argmax(tried) + 1
    rule = fitted("top_k", [[0.1, 0.3, 0.2]], [[0, 1, 1]])
    assert rule(torch.tensor([[0.9, 0.1, 0.8]])).tolist() == [[1, 0, 1]]
    assert rule.describe(["a", "b", "c"]) == {"rule": "top_k", "k": 2}
    many = decisions("top_k", num_labels=100)
    assert many(torch.ones(1, 100)).nonzero().tolist() == [[0, 0]]  # of equal ones the first, as in an export


def test_a_closed_hierarchy_has_all_ancestors() -> None:
    rule = decisions("fixed", num_labels=4, hierarchy="close", parents=(-1, 2, 0, -1))  # 1 below 2 below 0
    for a, b, c, d in product([0, 1], repeat=4):
        assert rule(torch.tensor([[a, b, c, d]]).float()).tolist() == [[max(a, b, c), b, max(b, c), d]]


def test_closing_no_hierarchy_is_refused() -> None:
    with pytest.raises(UserError, match=r"have no hierarchy: use evaluation\.hierarchy=none"):
        decisions("fixed", hierarchy="close")
