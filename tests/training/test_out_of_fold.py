"""Decision rules fitted on the scores of models that were not trained on the documents."""

import json
import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.configs import composed
from helpers.documents import make_corpus, reader_of
from helpers.marks import slow
from helpers.shared_runs import SharedRuns
from helpers.tiny_runs import (
    MINIBATCH_BOW,
    SMALL_LSTM,
    evaluated,
    figures,
    go_on,
    read_tiny,
    tiny_spec,
    train_tiny,
    without_times,
)
from newsreel.config.schema import read_experiment
from newsreel.core.errors import UserError
from newsreel.core.signals import Stopped, stop_at_sigterm
from newsreel.corpora.corpus import Corpus
from newsreel.models.decisions import fold_thresholds
from newsreel.runs.run_dir import read_weights
from newsreel.training import out_of_fold
from newsreel.training.interrupts import resumable
from newsreel.training.out_of_fold import divide, score_fold
from newsreel.training.run import train_run
from newsreel.training.trainer import StopAfterEpoch

TOPICS = ["data.num_labels=4", "data.multilabel=true"]
FOLDS = ["model=bow", *TOPICS, "evaluation.folds=3", "evaluation.thresholds=scut_fbr"]


def test_documents_are_scored_by_models_that_have_not_seen_them(tmp_path: Path) -> None:
    # A word of its own is all that a document has: without having seen it, a model takes each for an empty one
    documents = [(f"word{number} word{number}", [number % 3]) for number in range(60)]
    corpus = make_corpus(documents, [("word0", [0])], task="multilabel", num_labels=3)
    settings = ["tokenizer.min_document_count=1", "training.l2_path=[0.01]", "evaluation.folds=4"]
    spec = tiny_spec(tmp_path, "model=bow", *settings, reader=reader_of(corpus))
    experiment, loaded = spec.experiment, spec.experiment.reader.load(spec.experiment.paths)
    seen, every_fold = [], list(divide(loaded, experiment))
    for fold in every_fold:
        assert set(fold.splits) == {"train", "validation"}
        seen += fold["validation"]["text"][:]
        (probabilities, targets), _ = score_fold(experiment, fold, num_epochs=1)
        assert len(probabilities) == 15
        assert (probabilities == probabilities[0]).all()
        assert targets.sum(dim=0).tolist() == [5, 5, 5]
    assert sorted(seen) == sorted(text for text, _ in documents)
    fold = every_fold[0]
    memorised = Corpus(**{**vars(fold), "splits": {**fold.splits, "validation": fold.splits["train"]}})
    (probabilities, targets), metrics = score_fold(experiment, memorised, num_epochs=1)
    assert metrics["val/f1_micro"] == 1  # a model recognises the documents that it has seen


def test_neighbours_are_in_one_fold_where_they_are_held_out_together(tmp_path: Path) -> None:
    documents = [(f"word{number}", [number % 3]) for number in range(20)]
    corpus = make_corpus(documents, [("word0", [0])], task="multilabel", num_labels=3)
    spec = tiny_spec(tmp_path, "model=bow", "evaluation.folds=3", reader=reader_of(corpus, split_method="blocks"))
    folds = divide(spec.experiment.reader.load(spec.experiment.paths), spec.experiment)
    texts = [text for text, _ in documents]
    assert [fold["validation"]["text"][:] for fold in folds] == [texts[:7], texts[7:14], texts[14:]]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=bow", "training.l2_path=[4,1,0.2]", "training.max_epochs=3"],
        slow([*MINIBATCH_BOW, "training.max_epochs=3", "training.min_steps_per_epoch=20"]),
        [
            *SMALL_LSTM,
            "embedding.dropout=0",
            "embedding.word_dropout=0",
            "model.dropout=0",
            "training.ema=0.9",
            "training.max_epochs=3",
        ],
    ],
    ids=["newton", "bow", "lstm"],
)
def test_a_fold_is_trained_as_the_run_up_to_the_epoch_it_has_kept(tmp_path: Path, overrides: list[str]) -> None:
    results = train_tiny(tmp_path, *TOPICS, *overrides, "training.patience=null")
    experiment = read_tiny(tmp_path, *TOPICS, *overrides)
    corpus = experiment.reader.load(experiment.paths)
    _, metrics = score_fold(experiment, corpus, results["train/kept_epoch"])
    assert {name: round(value, 7) for name, value in metrics.items()} == figures(results, "val")
    others = {score_fold(experiment, corpus, number)[1]["val/loss"] for number in (1, 2, 3)}
    assert len(others) == 3


def test_the_rule_of_the_folds_is_tested_kept_and_described(
    tmp_path: Path, shared_runs: SharedRuns, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        results = train_tiny(tmp_path, *FOLDS, "evaluation.fbr=0.2")
    experiment = read_tiny(tmp_path, *FOLDS)
    corpus = experiment.reader.load(experiment.paths)
    scores = [score_fold(experiment, fold, results["train/kept_epoch"])[0] for fold in divide(corpus, experiment)]
    thresholds = np.stack([fold_thresholds(*fold, 0.2).double().numpy() for fold in scores])  # (3, L)
    log_odds = np.log(thresholds / (1 - thresholds))
    expected = 1 / (1 + np.exp(-log_odds.mean(axis=0)))
    described = json.loads((tmp_path / "run" / "thresholds.json").read_text())
    assert described["rule"] == "scut_fbr"
    assert list(described["thresholds"].values()) == pytest.approx(expected, rel=1e-6)
    assert read_weights(tmp_path / "run")["decisions.thresholds"].tolist() == pytest.approx(expected, rel=1e-6)
    assert figures(evaluated(tmp_path / "again", f"run={tmp_path / 'run'}"), "test") == figures(results, "test")

    hits = predicted = 0.0
    for number, (probabilities, targets) in enumerate(scores):
        others = 1 / (1 + np.exp(-np.delete(log_odds, number, axis=0).mean(axis=0)))
        preds = probabilities.numpy() > others
        hits += (preds & targets.numpy()).sum()
        predicted += preds.sum() + targets.numpy().sum()
    assert results["folds/f1_micro"] == pytest.approx(float(2 * hits / predicted), abs=1e-6)
    assert 0 < results["time/thresholds_s"] < results["time/total_s"]
    assert [message.split("  ")[0] for message in caplog.messages if message.startswith("fold ")] == [
        f"fold {number}/3" for number in (1, 2, 3)
    ]
    without = shared_runs.results("model=bow", *TOPICS)
    assert without["test/loss"] == results["test/loss"]  # of the same weights
    assert not figures(without, "folds")


@pytest.mark.slow
def test_a_run_that_is_stopped_between_folds_ends_with_the_same_numbers(tmp_path: Path, monkeypatch: Any) -> None:
    expected = train_tiny(tmp_path, *FOLDS, folder="whole")
    original, calls = score_fold, []

    def score_until_stopped(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(out_of_fold, "score_fold", score_until_stopped)
    with pytest.raises(KeyboardInterrupt):
        train_run(tiny_spec(tmp_path, *FOLDS))
    assert without_times(go_on(tmp_path / "run")) == without_times(expected)
    assert len(calls) == 2 + 3


@pytest.mark.parametrize(
    ("owner", "name"), [(out_of_fold, "build_model"), (StopAfterEpoch, "on_train_epoch_end")], ids=["before", "within"]
)
def test_a_signal_in_a_fold_ends_with_its_status(tmp_path: Path, monkeypatch: Any, owner: Any, name: str) -> None:
    monkeypatch.setattr(owner, name, lambda *_: signal.raise_signal(signal.SIGTERM))
    with stop_at_sigterm(), pytest.raises(Stopped) as stopped, resumable(tmp_path / "run"):
        train_run(tiny_spec(tmp_path, *FOLDS))
    assert stopped.value.code == 128 + signal.SIGTERM
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    "overrides", [["model=bow", "evaluation.folds=3"], ["model=bow", *TOPICS, "evaluation.thresholds=fixed"]]
)
def test_where_nothing_is_fitted_no_fold_is_trained(tmp_path: Path, overrides: Sequence[str]) -> None:
    assert not figures(train_tiny(tmp_path, *overrides, "evaluation.folds=3"), "folds")


def test_more_folds_than_documents_and_several_processes_are_refused(tmp_path: Path) -> None:
    documents = [(f"a film {number}", [number % 2]) for number in range(8)]
    corpus = make_corpus(documents, [("a film", [0])], task="multilabel")
    with pytest.raises(UserError, match=r"evaluation\.folds is 9, but .* only 8 .* for training and validation: lower"):
        train_tiny(tmp_path, "model=bow", "evaluation.folds=9", reader=reader_of(corpus))
    assert not (tmp_path / "run" / "checkpoints").exists()  # before any work
    with pytest.raises(UserError, match=r"evaluation\.folds is 3, but 2 processes share the training"):
        read_experiment(composed("evaluation.folds=3", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"))
