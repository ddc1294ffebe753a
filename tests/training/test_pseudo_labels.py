"""Trainings on documents that a finished run has labelled."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import newsreel
from helpers.marks import slow
from helpers.shared_runs import SharedRuns
from helpers.tiny_runs import SMALL_LSTM, evaluated, figures, go_on, read_tiny, train_tiny, without_times
from newsreel.core.errors import UserError
from newsreel.runs import teachers
from newsreel.runs.run_dir import METRICS_FILE, read_metrics, read_weights
from newsreel.training.pseudo_labels import PSEUDO_LABELS_FILE

UNLABELED = "data.num_unlabeled=60"
BOW = ["model=bow", "model.weighting=nb"]
LSTM = [*SMALL_LSTM, "batches.batch_size=16", "embedding.dropout=0.3"]
TOPICS = ["data.num_labels=4", "data.multilabel=true"]
CLASSES = ["data.num_labels=3"]


def labels_of(run_dir: Path) -> dict[str, np.ndarray]:
    with np.load(run_dir / PSEUDO_LABELS_FILE) as arrays:
        return dict(arrays)


def unlabelled_texts(tmp_path: Path, *overrides: str) -> list[str]:
    experiment = read_tiny(tmp_path, *overrides, UNLABELED)
    return list(experiment.reader.load(experiment.paths).tables["unlabeled"]["text"])


@pytest.fixture
def teacher(tmp_path: Path, shared_runs: SharedRuns) -> Path:
    return shared_runs.copy(tmp_path / "teacher", *BOW)


def student(tmp_path: Path, teacher: Path | str, *overrides: str, **more: Any) -> dict[str, Any]:
    return train_tiny(tmp_path, UNLABELED, f"data.pseudo_labels={teacher}", *overrides, **more)


@pytest.mark.parametrize(
    ("task", "targets", "options"),
    [
        slow([], "soft", []),
        ([], "hard", ["training.solver=minibatch", "training.class_balance=1"]),
        (CLASSES, "soft", ["training.one_vs_rest=true", "training.label_smoothing=0.1"]),
        slow(CLASSES, "hard", []),
        slow(TOPICS, "soft", ["training.solver=minibatch", "training.focal_gamma=2"]),
        (TOPICS, "hard", []),
    ],
)
def test_the_unlabelled_documents_have_the_labels_that_the_teacher_predicts(
    tmp_path: Path, shared_runs: SharedRuns, task: list[str], targets: str, options: list[str]
) -> None:
    teacher = shared_runs.run(*BOW, *task)
    results = student(tmp_path, teacher, *BOW, *task, *options, f"data.pseudo_targets={targets}")
    num_labelled = read_metrics(teacher)["documents/train"]
    documents = {name: results[f"documents/{name}"] for name in ("train", "pseudo_labelled", "unlabeled")}
    assert documents == {"train": num_labelled, "pseudo_labelled": 60, "unlabeled": 60}
    saved = labels_of(tmp_path / "run")
    answers = newsreel.load(teacher)(unlabelled_texts(tmp_path, *task))
    expected = [list(answer["probabilities"].values()) for answer in answers]
    assert np.allclose(saved["probabilities"], expected, atol=1e-6)
    names = list(answers[0]["probabilities"])
    if task is TOPICS:
        assert [[names[k] for k in np.flatnonzero(row)] for row in saved["decisions"]] == [
            [one["label"] if isinstance(one, dict) else one for one in answer["labels"]] for answer in answers
        ]
    else:
        assert [names[label] for label in saved["decisions"]] == [answer["label"] for answer in answers]
    report = (tmp_path / "run" / "report.md").read_text()
    assert "60 unlabelled documents are training documents with labels of" in report
    assert f"(trained on {num_labelled} labelled documents)" in report


def test_ratios_count_probabilities_whatever_targets_and_weight(tmp_path: Path, shared_runs: SharedRuns) -> None:
    teacher, ratios = shared_runs.run(*BOW), []
    for number, options in enumerate((["data.pseudo_targets=hard", "data.pseudo_weight=0.3"], [])):
        student(tmp_path, teacher, *BOW, *options, folder=f"{number}")
        ratios.append(read_weights(tmp_path / f"{number}")["network.ratios"])
    assert torch.equal(*ratios)
    assert not torch.equal(ratios[0], read_weights(teacher)["network.ratios"][: len(ratios[0])])


@pytest.mark.slow
def test_everything_but_a_new_training_works_without_the_teacher(tmp_path: Path, teacher: Path) -> None:
    results = student(tmp_path, teacher, *BOW, "training.max_epochs=1")
    whole = student(tmp_path, teacher, *BOW, "training.max_epochs=2", folder="whole")
    shutil.rmtree(teacher)
    shutil.rmtree(tmp_path / "cache")
    again = evaluated(tmp_path / "evaluation", f"run={tmp_path / 'run'}")
    assert figures(again, "test") == figures(results, "test")
    assert "label" in newsreel.load(tmp_path / "run")(["baba"])[0]
    assert without_times(go_on(tmp_path / "run", "training.max_epochs=2")) == without_times(whole)
    second = student(tmp_path, tmp_path / "run", *BOW, folder="second")
    assert second["documents/pseudo_labelled"] == 60
    with pytest.raises(UserError, match=r"data\.pseudo_labels=.*teacher is not the directory of a run"):
        student(tmp_path, teacher, *BOW, folder="third")


def test_a_resumed_run_needs_the_labels_that_it_was_started_with(tmp_path: Path, teacher: Path) -> None:
    student(tmp_path, teacher, *BOW, "training.max_epochs=1")
    file = tmp_path / "run" / PSEUDO_LABELS_FILE
    saved = labels_of(tmp_path / "run")
    np.savez(file, **{**saved, "probabilities": saved["probabilities"][:, ::-1]})
    with pytest.raises(UserError, match="The documents differ from those that"):
        go_on(tmp_path / "run", "training.max_epochs=2")
    np.savez(file, **{name: array[:5] for name, array in saved.items() if array.ndim}, teacher=saved["teacher"])
    with pytest.raises(UserError, match="it has labels of 5 documents, and there are 60"):
        go_on(tmp_path / "run", "training.max_epochs=2")
    file.unlink()
    with pytest.raises(UserError, match=f"{PSEUDO_LABELS_FILE} does not have the labels that this run was started"):
        go_on(tmp_path / "run", "training.max_epochs=2")


def test_the_documents_are_labelled_once(tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = student(tmp_path, teacher, *LSTM)
    assert first["time/sources_s"] == read_metrics(teacher)["time/fit_s"]

    def score(*arguments: object) -> None:
        raise AssertionError("the documents were labelled again")

    monkeypatch.setattr(teachers, "score", score)
    assert without_times(student(tmp_path, teacher, *LSTM, folder="again")) == without_times(first)


def test_the_probabilities_of_several_runs_and_of_ensembles_are_averaged(
    tmp_path: Path, shared_runs: SharedRuns
) -> None:
    runs = [shared_runs.run(*BOW), shared_runs.run("model=bow")]
    listed = ",".join(map(str, runs))
    evaluated(tmp_path / "results", f"run=[{listed}]", "weights=[0.8,0.2]", f"save={tmp_path / 'both'}")
    experiment = read_tiny(tmp_path, UNLABELED)
    corpus = experiment.reader.load(experiment.paths)
    table = corpus.tables["unlabeled"]

    def probabilities(*names: Path) -> np.ndarray:
        named, cache = [str(name) for name in names], experiment.paths.cache
        labels = teachers.label_documents(named, table, corpus, tmp_path / "run", cache, torch.device("cpu"))
        return labels.probabilities

    before = torch.get_rng_state()
    single = [probabilities(run) for run in runs]
    assert np.allclose(probabilities(*runs), (single[0] + single[1]) / 2, atol=1e-6)
    assert np.allclose(probabilities(tmp_path / "both"), 0.8 * single[0] + 0.2 * single[1], atol=1e-6)
    assert torch.equal(torch.get_rng_state(), before)  # opening a run draws weights


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.split_seed=2"], r"split off with data.validation_fraction=0.1, data.split_seed=1"),
        (
            ["data.validation_fraction=0.3"],
            r"may have been trained on documents that .*run validates or tests on: it has",
        ),
        (["data.seed=3"], "the fingerprint of its documents is"),
        (["data.limit=20"], "the fingerprint of its documents is"),
        (CLASSES, r"other labels than .*run is to be trained with: binary with 2 \(label0, label1\), and multiclass"),
        (["data.num_unlabeled=0"], "needs documents without labels"),
    ],
)
def test_a_teacher_of_other_documents_or_labels_is_refused(
    tmp_path: Path, shared_runs: SharedRuns, changes: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        student(tmp_path, shared_runs.run(*BOW), *BOW, *changes)
    assert "num_unlabeled" in changes[0] or str(shared_runs.run(*BOW)) in str(error.value)


def test_a_teacher_may_have_fewer_training_documents(tmp_path: Path, shared_runs: SharedRuns) -> None:
    results = student(tmp_path, shared_runs.run(*BOW), *BOW, "data.train_limit=30")
    assert (results["documents/train"], results["documents/pseudo_labelled"]) == (30, 60)


def test_names_that_are_no_finished_runs_are_refused(tmp_path: Path, teacher: Path) -> None:
    for names, message in (
        ("[]", "is an empty list"),
        (f"[{teacher},{teacher}]", "twice: name each run once"),
        (str(tmp_path), "is not the directory of a run or an ensemble"),
    ):
        with pytest.raises(UserError, match=message):
            student(tmp_path, names, *BOW)
    (teacher / METRICS_FILE).unlink()
    with pytest.raises(UserError, match=rf"teacher was not finished.*resume={teacher}"):
        student(tmp_path, teacher, *BOW)


def test_a_teacher_of_another_seed_or_network_labels_too(
    tmp_path: Path, shared_runs: SharedRuns, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        results = student(tmp_path, shared_runs.run(*LSTM, "seed=4"), *BOW)
    assert "labels 60 documents" in caplog.text
    environment = json.loads((shared_runs.run(*BOW) / METRICS_FILE).read_text())["environment"]
    assert results["environment"]["corpus_fingerprint"] == environment["corpus_fingerprint"]  # of the labelled ones


def test_the_vocabulary_counts_the_unlabelled_documents_as_training_documents(tmp_path: Path, teacher: Path) -> None:
    tokens = []
    for folder, tokenizer in (("one", "words"), ("other", "words_unlabeled")):
        settings = ["model=bow", f"tokenizer={tokenizer}", "tokenizer.max_size=30000"]
        student(tmp_path, teacher, *settings, folder=folder)
        tokens.append((tmp_path / folder / "tokenizer.json").read_text())
    assert tokens[0] == tokens[1]
    with pytest.raises(UserError, match=r"training\.vat is 1, .* with data\.pseudo_labels they are training documents"):
        student(tmp_path, teacher, *LSTM, "training.vat=1", folder="third")


def test_pseudo_labels_are_not_for_evaluations(tmp_path: Path, shared_runs: SharedRuns) -> None:
    chosen = ["data=synthetic", "data.num_documents=100", f"data.pseudo_labels={tmp_path}"]
    with pytest.raises(UserError, match=r"data\.pseudo_labels is for training"):
        evaluated(tmp_path / "evaluation", f"run={shared_runs.run(*BOW)}", *chosen)
