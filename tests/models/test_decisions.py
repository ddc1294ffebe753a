"""From probabilities to labels."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Task
from newsreel.models.decisions import DecisionRule, EvaluationSettings, best_k, best_thresholds


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


def test_a_closed_hierarchy_has_all_ancestors() -> None:
    rule = decisions("fixed", num_labels=4, hierarchy="close", parents=(-1, 2, 0, -1))  # 1 below 2 below 0
    for a, b, c, d in product([0, 1], repeat=4):
        assert rule(torch.tensor([[a, b, c, d]]).float()).tolist() == [[max(a, b, c), b, max(b, c), d]]


def test_closing_no_hierarchy_is_refused() -> None:
    with pytest.raises(UserError, match=r"have no hierarchy: use evaluation\.hierarchy=none"):
        decisions("fixed", hierarchy="close")


def test_a_checkpoint_has_the_thresholds() -> None:
    rule, other = fitted("per_label", [[0.2, 0.9], [0.7, 0.3]], [[0, 1], [1, 0]]), decisions("per_label", num_labels=2)
    other.load_state_dict(rule.state_dict())
    assert rule.thresholds.tolist() != [0.5, 0.5]
    assert torch.equal(other.thresholds, rule.thresholds)
