"""From probabilities to labels."""

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Task
from newsreel.models.decisions import DecisionRule, EvaluationSettings, best_k, best_thresholds


def decisions(
    rule: str, task: Task = "multilabel", num_labels: int = 3, shrinkage: float = 0.0, parents: tuple[int, ...] = ()
) -> DecisionRule:
    hierarchy = "close" if parents else "none"
    settings = EvaluationSettings(thresholds=rule, shrinkage=shrinkage, hierarchy=hierarchy, figures=False)  # type: ignore[arg-type]
    return DecisionRule(task, num_labels, parents, settings)


def test_one_label_is_the_most_probable_one() -> None:
    assert decisions("per_label", "multiclass")(torch.tensor([[0.2, 0.5, 0.3]])).tolist() == [1]
    assert decisions("per_label", "binary", 2)(torch.tensor([[0.5, 0.5]])).tolist() == [0]


def test_before_they_are_fitted_labels_need_more_than_a_half() -> None:
    assert decisions("per_label")(torch.tensor([[0.6, 0.5, 0.9]])).tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_thresholds_are_as_good_as_the_best_found_by_trying_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, 30, (40, 3)) / 30  # with ties
    targets = random.random((40, 3)) < scores
    targets[0] = True
    found = best_thresholds(torch.from_numpy(scores), torch.from_numpy(targets)).numpy()
    for label in range(3):
        reached = f1_score(targets[:, label], scores[:, label] > found[label])
        tried = [f1_score(targets[:, label], scores[:, label] > cut, zero_division=0)
                 for cut in [-1e-9, *np.unique(scores[:, label])]]  # fmt: skip
        assert reached == pytest.approx(max(tried))


def test_a_threshold_lies_halfway_in_log_odds() -> None:
    odds = torch.tensor([[9.0], [1 / 4]])  # and between them 3/2
    found = best_thresholds(odds / (1 + odds), torch.tensor([[True], [False]]))
    assert found.item() == pytest.approx(0.6)


@pytest.mark.parametrize("scores", [[1.0, 1.0], [0.0, 0.0], [1e-30, 0.0], [1.0, 1 - 6e-8]])
def test_extreme_probabilities_are_still_separated_where_they_differ(scores: list[float]) -> None:
    probabilities = torch.tensor(scores)[:, None]
    found = best_thresholds(probabilities, torch.tensor([[True], [False]]))
    decided = (probabilities > found)[:, 0].tolist()
    assert decided == ([True, False] if scores[0] > scores[1] else [scores[0] > 0] * 2)


def test_the_global_threshold_has_the_highest_micro_f1() -> None:
    scores = torch.tensor([[0.9, 0.2], [0.6, 0.3], [0.1, 0.8]])
    targets = torch.tensor([[1, 0], [1, 0], [0, 1]]).bool()
    rule = decisions("global", num_labels=2)
    rule.fit(scores, targets)
    assert 0.3 <= rule.thresholds[0] == rule.thresholds[1] < 0.6
    assert rule(scores).tolist() == targets.long().tolist()


def test_labels_without_validation_documents_take_the_global_threshold() -> None:
    scores = torch.tensor([[0.9, 0.2, 0.5], [0.6, 0.3, 0.4], [0.1, 0.8, 0.1]])
    targets = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0]]).bool()
    rule, overall = decisions("per_label"), decisions("global")
    rule.fit(scores, targets)
    overall.fit(scores, targets)
    assert rule.thresholds[2] == overall.thresholds[0]
    assert rule.thresholds[0] != rule.thresholds[1]
    described = rule.describe(["a", "b", "c"])
    assert described["labels_with_global_threshold"] == 1
    assert described["thresholds"]["c"] == pytest.approx(overall.thresholds[0].item())


@pytest.mark.parametrize(("rule", "told"), [("per_label", 1), ("global", None), ("fixed", None)])
def test_the_rule_is_told_to_the_last_bit(rule: str, told: int | None) -> None:
    made = decisions(rule)
    made.fit(torch.tensor([[4e-7, 0.2, 0.5], [3e-7, 0.3, 0.4]]), torch.tensor([[1, 0, 0], [0, 1, 0]]).bool())
    described = made.describe(["a", "b", "c"])
    kept = torch.tensor([described["thresholds"][name] for name in "abc"])
    assert torch.equal(kept, made.thresholds)
    assert described.get("labels_with_global_threshold") == told


def test_shrinkage_draws_thresholds_of_rare_labels_to_the_global_one() -> None:
    scores = torch.tensor([[0.9, 0.2], [0.6, 0.3], [0.1, 0.8]])
    targets = torch.tensor([[1, 0], [1, 1], [0, 1]]).bool()

    def fitted(rule: str, shrinkage: float) -> torch.Tensor:
        made = decisions(rule, num_labels=2, shrinkage=shrinkage)
        made.fit(scores, targets)
        return made.thresholds.logit()

    own, overall = fitted("per_label", 0), fitted("global", 0)
    assert torch.allclose(fitted("per_label", 2), (own + overall) / 2, atol=1e-5)  # each label has two documents
    assert torch.allclose(fitted("per_label", 1e9), overall, atol=1e-5)


def test_top_k_takes_the_number_of_labels_with_the_highest_micro_f1() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        scores = random.random((30, 6))
        targets = random.random((30, 6)) < scores**2
        ranks = (-scores).argsort(axis=1).argsort(axis=1)
        tried = [f1_score(targets, ranks < k, average="micro") for k in range(1, 7)]
        assert best_k(torch.from_numpy(scores), torch.from_numpy(targets)) == np.argmax(tried) + 1
    rule = decisions("top_k")
    rule.fit(torch.tensor([[0.1, 0.3, 0.2]]), torch.tensor([[False, True, True]]))
    assert rule(torch.tensor([[0.9, 0.1, 0.8]])).tolist() == [[1, 0, 1]]
    assert rule.describe(["a", "b", "c"]) == {"rule": "top_k", "k": 2}


def test_fixed_thresholds_are_not_fitted() -> None:
    rule = decisions("fixed")
    rule.fit(torch.rand(5, 3), torch.ones(5, 3).bool())
    assert rule.thresholds.tolist() == [0.5, 0.5, 0.5]


def test_a_closed_hierarchy_has_all_ancestors() -> None:
    parents = (-1, 2, 0, -1)  # 1 below 2 below 0
    rule = decisions("fixed", num_labels=4, parents=parents)
    for row in product([0.0, 1.0], repeat=4):
        (decided,) = rule(torch.tensor([row])).tolist()
        expected = list(map(int, row))
        expected[2] = max(expected[2], expected[1])
        expected[0] = max(expected[0], expected[2])
        assert decided == expected


def test_closing_no_hierarchy_is_refused() -> None:
    settings = EvaluationSettings(thresholds="fixed", shrinkage=0.0, hierarchy="close", figures=False)
    with pytest.raises(UserError, match=r"have no hierarchy: use evaluation\.hierarchy=none"):
        DecisionRule("multilabel", 3, (), settings)


def test_a_checkpoint_has_the_thresholds() -> None:
    rule = decisions("per_label")
    rule.fit(torch.rand(20, 3), torch.rand(20, 3) < 0.4)
    other = decisions("per_label")
    other.load_state_dict(rule.state_dict())
    assert torch.equal(other.thresholds, rule.thresholds)
