"""Evaluation of finished runs, alone or as an ensemble, on their own documents or others with the same labels.

Axes: N documents, L labels.
"""

import json
import logging
import os
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from newsreel.batches.datamodule import TextDataModule
from newsreel.config.sections import Settings, check_section, read_reader
from newsreel.core.dist import is_gpu_available
from newsreel.core.errors import UserError
from newsreel.core.paths import user_path
from newsreel.core.storage import write_atomically
from newsreel.corpora.corpus import Corpus, CorpusReader, Task
from newsreel.evaluation.context import ScoreContext
from newsreel.evaluation.metrics import HEADLINES, measure, round_metrics
from newsreel.evaluation.predictions import Predictions
from newsreel.inference.eval_data import PathOverrides, encode_split, find_documents
from newsreel.models.decisions import DecisionRule
from newsreel.reporting.caveats import loss_notes, majority_notes
from newsreel.runs.environment import default_threads, describe_environment
from newsreel.runs.run_dir import METRICS_FILE, read_metrics
from newsreel.runs.trained_run import Labels, TrainedRun, open_run
from newsreel.training.interrupts import stopped_by_signals
from newsreel.training.trainer import build_tester, predictions_of

log = logging.getLogger(__name__)

STAGES = {"train": "train", "validation": "val", "test": "test"}  # split → prefix of its metrics


@dataclass(frozen=True, kw_only=True)
class Request:
    """The settings of configs/evaluate.yaml outside its sections."""

    run: str | Sequence[str] | None
    split: Literal["train", "validation", "test"]
    output: str

    @property
    def run_dirs(self) -> list[Path]:
        """The run directories. Raises UserError if there are none."""
        names = [self.run] if isinstance(self.run, str) else list(self.run or [])
        if not names:
            raise UserError("run is null: name the directory of a finished run, such as run=outputs/imdb/lstm/<time>.")
        return [user_path(name, "run") for name in names]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The section `trainer`: accelerator and threads; None: those of the run's test."""

    accelerator: Literal["auto", "cpu", "gpu"] | None
    threads: Annotated[int, Ge(1), Le(1024)] | None


def evaluate(settings: Settings, output_dir: Path) -> dict[str, Any]:
    """Evaluate runs as configs/evaluate.yaml says; returns the content of metrics.json. Raises UserError."""
    started = time.perf_counter()
    request, machine, path_overrides, reader = read_request(settings)
    if (output_dir / METRICS_FILE).exists():
        raise UserError(f"{output_dir} contains results, which would be lost: name another directory with output=…")
    runs = [open_run(run) for run in request.run_dirs]
    require_same_labels(runs)
    corpus = find_documents(runs, request.split, path_overrides, reader)
    stage = STAGES[request.split]
    num_documents = len(corpus.targets(request.split))
    log.info(f"documents   {num_documents:,} {request.split}, {corpus.name} from {corpus.source}")

    majority = majority_label(runs[0].labels) if stage == "test" else None
    run_results = [evaluate_run(run, corpus, request.split, machine, majority) for run in runs]
    ensemble_result = ensemble(runs, run_results, majority)
    results: dict[str, Any] = {
        **{f"{stage}/{name}": value for name, value in ensemble_result.metrics.items()},
        f"documents/{request.split}": num_documents,
        "runs": {str(run.run_dir.resolve()): single.metrics for run, single in zip(runs, run_results, strict=True)},
        "time/total_s": round(time.perf_counter() - started, 3),
        "environment": describe_environment(runs[0].experiment, corpus, ensemble_result.device),
    }
    output_dir.mkdir(parents=True, exist_ok=True)
    ensemble_result.predictions.write(output_dir / "predictions.parquet")
    write_atomically(output_dir / "labels.csv", ensemble_result.predictions.by_label().write_csv(float_precision=9))
    write_atomically(output_dir / METRICS_FILE, json.dumps(results, indent=2) + "\n")

    rows = [(str(run.run_dir), headline(single, corpus.metric)) for run, single in zip(runs, run_results, strict=True)]
    if len(runs) > 1:
        rows.append(("ensemble", headline(ensemble_result, corpus.metric)))
    if (context := ScoreContext.from_results(ensemble_result.metrics, corpus.metric)) is not None:
        rows.append((corpus.metric, str(context)))
    if len(runs) == 1 and reader is None and stage != "train":
        rows += compare_with_training(ensemble_result.metrics, stage, corpus, read_metrics(runs[0].run_dir))
    rows.append(("results", str(output_dir)))
    notes = [
        *corpus.notes,
        *majority_notes(ensemble_result.predictions, majority),
        *loss_notes({request.split: ensemble_result.metrics["loss"]}, corpus.task, corpus.num_labels),
    ]
    rows += [("note", note) for note in notes]
    log.info(table(rows))
    return results


def read_request(settings: Settings) -> tuple[Request, Machine, PathOverrides, CorpusReader | None]:
    """Check the settings; the reader is None unless `data` is set. Raises one UserError that lists all problems."""
    sections = ("data", "trainer", "paths")
    data, trainer, paths = (settings[name] for name in sections)
    top_level = {name: value for name, value in settings.items() if name not in sections}
    problems = check_section("", top_level, Request)
    problems += check_section("trainer", trainer, Machine) + check_section("paths", paths, PathOverrides)
    reader = read_reader(data, problems)
    if not problems and trainer["accelerator"] == "gpu" and not is_gpu_available():
        problems.append("trainer.accelerator is gpu, but torch finds no GPU: leave it out, or use trainer=cpu")
    if problems:
        raise UserError("\n".join(problems))
    return Request(**top_level), Machine(**trainer), PathOverrides(**paths), reader


def require_same_labels(runs: Sequence[TrainedRun]) -> None:
    """Raise UserError unless the runs can form an ensemble: the same labels and decision rules of the same kind."""
    first = runs[0]
    for run in runs[1:]:
        if (run.labels.task, run.labels.names) != (first.labels.task, first.labels.names):
            raise UserError(
                f"{run.run_dir} and {first.run_dir} have different labels: {describe_labels(run)}, and "
                f"{describe_labels(first)}. An ensemble needs runs with the same labels."
            )
        rules = [
            (one.decisions.by_thresholds, one.decisions.ancestor_edges) for one in (run.classifier, first.classifier)
        ]
        if rules[0] != rules[1]:
            raise UserError(
                f"The decision rules of {run.run_dir} and {first.run_dir} cannot be averaged: evaluation.thresholds="
                f"{run.experiment.evaluation.thresholds} with hierarchy={run.experiment.evaluation.hierarchy}, and "
                f"{first.experiment.evaluation.thresholds} with {first.experiment.evaluation.hierarchy}. An ensemble "
                "needs rules of the same kind (top_k or thresholds, and the same hierarchy)."
            )


def describe_labels(run: TrainedRun) -> str:
    names = run.labels.names
    return f"{run.labels.task} with {len(names)} ({', '.join(names[:5])}{' …' if len(names) > 5 else ''})"


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


def ensemble(runs: list[TrainedRun], run_results: list[EvalResult], majority: int | None) -> EvalResult:
    """The ensemble of runs: the mean of their probabilities.

    For `multilabel`, thresholds (or k, for top_k) are averaged too: a label is predicted if the probabilities are above
    the runs' thresholds on average.
    """
    if len(run_results) == 1:
        return run_results[0]
    first = run_results[0].predictions
    scores = torch.stack([torch.from_numpy(one.predictions.probabilities) for one in run_results]).mean(dim=0)  # (N, L)
    decisions = mean_rule([run.classifier.decisions for run in runs])
    preds = decisions(scores)
    targets = torch.from_numpy(first.targets.astype(np.int64))
    labels = runs[0].labels
    metrics = {"loss": log_loss(scores, targets, labels.task)}
    metrics |= measure(scores, preds, targets, labels.task, labels.parents)
    thresholds = decisions.thresholds.numpy() if decisions.by_thresholds else None
    predictions = Predictions(first.corpus, first.split, scores.numpy(), preds.numpy(), first.targets, thresholds)
    metrics |= context_of(predictions, majority)
    return EvalResult(round_metrics(metrics, ""), predictions, run_results[0].device)


def mean_rule(rules: Sequence[DecisionRule]) -> DecisionRule:
    """The rule with the mean thresholds and the mean k of these rules."""
    mean = deepcopy(rules[0])
    mean.thresholds.copy_(torch.stack([rule.thresholds for rule in rules]).mean(dim=0))
    mean.k.copy_(torch.stack([rule.k for rule in rules]).float().mean().round())
    return mean


def log_loss(scores: Tensor, targets: Tensor, task: Task) -> float:
    """Mean log loss of (N, L) probabilities: categorical, or binary for `multilabel`."""
    if task == "multilabel":
        return float(F.binary_cross_entropy(scores, targets.float()))
    return float(F.nll_loss(scores.clamp(min=torch.finfo(scores.dtype).tiny).log(), targets))


def headline(evaluate_run: EvalResult, metric: str) -> str:
    """The metrics of the closing table, the monitored one first."""
    names = [metric, *(name for name in HEADLINES if name != metric)]
    return "  ".join(f"{name} {evaluate_run.metrics[name]:.4f}" for name in names if name in evaluate_run.metrics)


def compare_with_training(
    metrics: dict[str, float], stage: str, corpus: Corpus, training: dict[str, Any]
) -> list[tuple[str, str]]:
    """Lines of the closing table that compare metrics with those of the run's training."""
    if not training:
        return [("note", "The run was stopped before its end: there are no metrics of its training to compare with.")]
    before = {name.partition("/")[2]: value for name, value in training.items() if name.startswith(f"{stage}/")}
    changes = [f"{name} {before[name]:.7g}, now {value:.7g}" for name, value in metrics.items()
              if name in before and before[name] != value]  # fmt: skip
    lines = [("in training", "; ".join(changes) or "the same metrics")]
    if training["environment"].get("corpus_fingerprint") != corpus.fingerprint:
        lines.append(("note", "The documents have changed since the training."))
    return lines


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values in two aligned columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
