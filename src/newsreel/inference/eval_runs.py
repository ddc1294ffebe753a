"""Measuring single runs, and ensembles of them, on the documents of a split.

Axes: N documents, L labels.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from newsreel.batches.datamodule import TextDataModule
from newsreel.corpora.corpus import Corpus, Task
from newsreel.evaluation.context import ScoreContext
from newsreel.evaluation.metrics import measure, round_metrics
from newsreel.evaluation.predictions import Predictions
from newsreel.inference.eval_data import encode_split
from newsreel.runs.ensemble import Ensemble
from newsreel.runs.environment import default_threads
from newsreel.runs.run_dir import read_metrics
from newsreel.runs.trained_run import Labels, TrainedRun
from newsreel.training.interrupts import stopped_by_signals
from newsreel.training.trainer import build_tester, predictions_of


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The section `trainer`: accelerator and threads; None: those of the run's test."""

    accelerator: Literal["auto", "cpu", "gpu"] | None
    threads: Annotated[int, Ge(1), Le(1024)] | None


@dataclass(frozen=True)
class EvalResult:
    """The result of one run or an ensemble."""

    metrics: dict[str, float]  # rounded as in training
    predictions: Predictions
    device: str


def majority_label(labels: Labels) -> int | None:
    """The label that is most frequent in the training of a run; None if a version before 0.2 has trained it."""
    return int(np.argmax(labels.training_documents)) if labels.training_documents else None


def evaluate_run(run: TrainedRun, corpus: Corpus, split: str, machine: Machine, majority: int | None) -> EvalResult:
    """Evaluate a run with the same test steps as its training.

    majority: the label that is most frequent in training.
    """
    environment = read_metrics(run.run_dir).get("environment", {})
    recorded = environment.get("threads")
    recorded = recorded if isinstance(recorded, int) and recorded > 0 else None
    threads = machine.threads or recorded or run.experiment.trainer.threads or default_threads()
    torch.set_num_threads(min(threads, max(default_threads(), os.cpu_count() or 1)))
    tester = build_tester(
        machine.accelerator or ("cpu" if environment.get("device") == "cpu" else "auto"),
        run.experiment.trainer.precision,
    )
    device = tester.strategy.root_device
    tokenized = encode_split(corpus, split, run.tokenizer)
    data = TextDataModule(
        corpus,
        tokenized,
        run.experiment.batches,
        run.experiment.seed,
        pin_memory=device.type != "cpu",
        bags=run.experiment.takes_counts,
    )
    loader = data.evaluation_dataloader(split)
    with run.classifier.runner.threads(torch.get_num_threads()), stopped_by_signals(tester):
        tester.test(run.classifier, loader, verbose=False)
    metrics = round_metrics(tester.callback_metrics, "test/")
    metrics = {name.removeprefix("test/"): value for name, value in metrics.items()}
    predictions = predictions_of(run.classifier, corpus, split, loader)
    metrics |= context_of(predictions, majority)
    return EvalResult(round_metrics(metrics, ""), predictions, str(device))


def context_of(predictions: Predictions, majority: int | None) -> dict[str, float]:
    """Interval and majority guess of test documents; none of others, by which the run was trained or selected."""
    return ScoreContext.of(predictions, majority).results() if predictions.split == "test" else {}


def combine(ensemble: Ensemble, run_results: Sequence[EvalResult], majority: int | None) -> EvalResult:
    """The result of an ensemble from those of its members on the same documents."""
    if ensemble.is_single_run:
        return run_results[0]
    first, labels, decisions = run_results[0].predictions, ensemble.labels, ensemble.decisions
    scores = ensemble.pool([torch.from_numpy(each.predictions.probabilities) for each in run_results], labels.task)
    preds = decisions(scores)  # (N,) or (N, L)
    targets = torch.from_numpy(first.targets.astype(np.int64))
    metrics = {"loss": log_loss(scores, targets, labels.task)}
    metrics |= measure(scores, preds, targets, labels.task, labels.parents)
    thresholds = decisions.thresholds.numpy() if decisions.by_thresholds else None
    predictions = Predictions(first.corpus, first.split, scores.numpy(), preds.numpy(), first.targets, thresholds)
    metrics |= context_of(predictions, majority)
    return EvalResult(round_metrics(metrics, ""), predictions, run_results[0].device)


def log_loss(scores: Tensor, targets: Tensor, task: Task) -> float:
    """Mean log loss of (N, L) probabilities: categorical, or binary for `multilabel`."""
    if task == "multilabel":
        return float(F.binary_cross_entropy(scores, targets.float()))
    return float(F.nll_loss(scores.clamp(min=torch.finfo(scores.dtype).tiny).log(), targets))
