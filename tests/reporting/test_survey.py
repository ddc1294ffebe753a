"""Predictions of several models beside those of scikit-learn and of a hand count."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, f1_score

from helpers.tested_runs import LSTM, mistaken, write_tested_run
from newsreel.reporting.survey import agreement, agreements, contrast, read_predictions, survey, suspects
from newsreel.runs.records import read_run

TARGETS = [row % 2 for row in range(20)]


def test_agreement_is_cohens_kappa_of_scikit_learn(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    preds = random.integers(0, 3, (2, 60))
    runs = [
        write_tested_run(tmp_path / str(number), "model=bow", each.tolist(), [0] * 60, names=("a", "b", "c"),
                         training_documents=(1, 1, 1))
        for number, each in enumerate(preds)
    ]  # fmt: skip
    same, kappa = agreement(*runs)
    assert same == (preds[0] == preds[1]).mean()
    assert kappa == pytest.approx(cohen_kappa_score(*preds))


def test_agreement_on_several_labels_is_that_of_all_decisions(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    preds = random.integers(0, 2, (2, 40, 2))
    runs = [
        write_tested_run(tmp_path / str(number), "model=bow", each.tolist(), [[0]] * 40)
        for number, each in enumerate(preds)
    ]
    same, kappa = agreement(*runs)
    assert same == (preds[0] == preds[1]).all(axis=1).mean()
    assert kappa == pytest.approx(cohen_kappa_score(preds[0].ravel(), preds[1].ravel()))


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    one = write_tested_run(tmp_path / "one", "model=bow", mistaken(TARGETS, [3]), TARGETS)
    several = write_tested_run(tmp_path / "several", "model=bow", [[0, 0], [1, 1]], [[1], []])
    for written, folder in ((one, "one"), (several, "several")):
        read = read_predictions(read_run(tmp_path / folder))
        assert read.titles == ("sport", "politics")
        for name in ("probabilities", "preds", "targets"):
            assert np.array_equal(getattr(read, name), getattr(written, name))


def test_who_is_right_where_contrasts_the_best_network_with_the_best_bag(tmp_path: Path) -> None:
    confident = np.full((20, 2), 0.5, dtype=np.float32)
    confident[5] = 0.95, 0.05  # its label is 1
    write_tested_run(tmp_path / "bow", "model=bow", mistaken(TARGETS, [1, 2, 3]), TARGETS)
    write_tested_run(tmp_path / "bow2", "model=bow", mistaken(TARGETS, [7]), TARGETS)
    write_tested_run(tmp_path / "lstm", "model=lstm", mistaken(TARGETS, [3, 4, 5]), TARGETS, probabilities=confident,
                     network=LSTM)  # fmt: skip
    runs = {name: [read_run(tmp_path / name)] for name in ("bow", "bow2", "lstm")}
    surveyed = survey(list(runs.items()))
    assert surveyed is not None
    chosen = contrast(surveyed.surveyed)
    assert chosen is not None
    assert (chosen.one.name, chosen.other.name) == ("lstm", "bow")
    assert chosen.counts == (15, 2, 2, 1)
    assert chosen.only(is_one=True, num_documents=5) == [1, 2]
    assert chosen.only(is_one=False, num_documents=5) == [5, 4]  # the lstm is surest of 5
    assert [(each.one, each.other, each.same) for each in agreements(surveyed.surveyed)] == [
        ("bow", "bow2", 0.8), ("bow", "lstm", 0.8), ("bow2", "lstm", 0.8)
    ]  # fmt: skip
    assert contrast(surveyed.surveyed[:2]) is not None
    assert contrast(surveyed.surveyed[:1]) is None


def test_scores_of_labels_are_means_over_seeds_and_bins_are_pooled(tmp_path: Path) -> None:
    preds = [mistaken(TARGETS, [1, 2, 3]), mistaken(TARGETS, [4])]
    for seed, each in enumerate(preds):
        write_tested_run(tmp_path / str(seed), f"model=bow seed={seed}", each, TARGETS)
    surveyed = survey([("bow", [read_run(tmp_path / "0"), read_run(tmp_path / "1")])])
    assert surveyed is not None
    (bow,) = surveyed.surveyed
    assert bow.f1 == pytest.approx(np.mean([f1_score(TARGETS, each, average=None) for each in preds], axis=0))
    means, correct, counts = bow.reliability
    assert counts[counts > 0].tolist() == [40]
    assert means[counts > 0] == pytest.approx(0.8)
    assert correct[counts > 0] == pytest.approx(36 / 40)


def test_suspects_are_documents_that_every_run_contradicts_with_confidence(tmp_path: Path) -> None:
    sure = np.array([[0.05, 0.95]] * 3 + [[0.95, 0.05]], dtype=np.float32)
    less = np.array([[0.08, 0.92], [0.2, 0.8], [0.3, 0.7], [0.98, 0.02]], dtype=np.float32)
    for name, probabilities in (("a", sure), ("b", less)):
        preds = probabilities.argmax(axis=1).tolist()
        write_tested_run(tmp_path / name, f"model={name}", preds, [0, 0, 1, 1], probabilities=probabilities)
    surveyed = survey([(name, [read_run(tmp_path / name)]) for name in ("a", "b")])
    assert surveyed is not None
    assert suspects(surveyed) == [3, 0]  # 1 only by one of the two
    assert surveyed.contradiction == pytest.approx([0.92, 0.8, 0, 0.95], abs=1e-6)


def test_predictions_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write_tested_run(tmp_path / "a", "model=bow", TARGETS, TARGETS)
    for name, damage in (("b", b"PAR1 and no more"), ("c", None)):
        write_tested_run(tmp_path / name, "model=bow", TARGETS, TARGETS)
        file = tmp_path / name / "predictions.parquet"
        file.unlink() if damage is None else file.write_bytes(damage)
    write_tested_run(tmp_path / "d", "model=bow", TARGETS, TARGETS)
    labels = tmp_path / "d" / "labels.json"
    labels.write_text(labels.read_text().replace("sport", "opera"))
    surveyed = survey([(name, [read_run(tmp_path / name)]) for name in "abcd"])
    assert surveyed is not None
    assert [each.name for each in surveyed.surveyed] == ["a"]
    assert "b/predictions.parquet cannot be read (ArrowInvalid" in surveyed.problems[0]
    assert surveyed.problems[1].endswith("c/predictions.parquet is missing")
    assert "d/predictions.parquet cannot be read (KeyError" in surveyed.problems[2]
    assert survey([("b", [read_run(tmp_path / "b")])]) is None
