"""Finished runs, measured: on the documents that they were tested on, or on others with the same labels.

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
from newsreel.config.schema import Settings, check_section
from newsreel.core.dist import gpu_is_there
from newsreel.core.errors import UserError
from newsreel.core.storage import write_atomically
from newsreel.corpora.corpus import Corpus, CorpusReader, Task
from newsreel.evaluation.metrics import HEADLINES, measure, round_metrics
from newsreel.evaluation.predictions import Predictions
from newsreel.inference.eval_data import PathOverrides, encoded, find_documents, read_reader
from newsreel.models.decisions import DecisionRule
from newsreel.runs.environment import default_threads, describe_environment
from newsreel.runs.run_dir import METRICS_FILE, read_json
from newsreel.runs.trained_run import TrainedRun, open_run
from newsreel.training.trainer import build_tester, predictions_of

log = logging.getLogger(__name__)

STAGES = {"train": "train", "validation": "val", "test": "test"}  # split → how the names of its figures begin


@dataclass(frozen=True, kw_only=True)
class Request:
    """What configs/evaluate.yaml holds beside its sections."""

    run: str | Sequence[str] | None
    split: Literal["train", "validation", "test"]
    output: str

    @property
    def folders(self) -> list[Path]:
        """The run folders. Raises UserError if there are none."""
        names = [self.run] if isinstance(self.run, str) else list(self.run or [])
        if not names:
            raise UserError("run is null: name the folder of a finished run, such as run=outputs/imdb/lstm/<time>.")
        return [Path(name).expanduser() for name in names]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The section `trainer`: what the documents are classified on; None: what the run was tested on."""

    accelerator: Literal["auto", "cpu", "gpu"] | None
    threads: Annotated[int, Ge(1), Le(1024)] | None


def evaluate(settings: Settings, folder: Path) -> dict[str, Any]:
    """Measure runs as configs/evaluate.yaml says, into a folder; returns what metrics.json holds. Raises UserError."""
    started = time.perf_counter()
    request, machine, places, reader = read_request(settings)
    if (folder / METRICS_FILE).exists():
        raise UserError(f"{folder} holds results, which would be lost: name another folder with output=…")
    runs = [open_run(run) for run in request.folders]
    require_same_labels(runs)
    corpus = find_documents(runs, request.split, places, reader)
    stage = STAGES[request.split]
    num_documents = len(corpus.targets(request.split))
    log.info(f"documents   {num_documents:,} {request.split}, {corpus.name} from {corpus.source}")

    answers = [answer(run, corpus, request.split, machine) for run in runs]
    joint = together(runs, answers)
    results: dict[str, Any] = {
        **{f"{stage}/{name}": value for name, value in joint.figures.items()},
        f"documents/{request.split}": num_documents,
        "runs": {str(run.run_dir.resolve()): own.figures for run, own in zip(runs, answers, strict=True)},
        "time/total_s": round(time.perf_counter() - started, 3),
        "environment": describe_environment(runs[0].experiment, corpus, joint.device),
    }
    folder.mkdir(parents=True, exist_ok=True)
    joint.predictions.write(folder / "predictions.parquet")
    write_atomically(folder / "labels.csv", joint.predictions.by_label().write_csv(float_precision=9))
    write_atomically(folder / METRICS_FILE, json.dumps(results, indent=2) + "\n")

    rows = [(str(run.run_dir), headline(own, corpus.metric)) for run, own in zip(runs, answers, strict=True)]
    if len(runs) > 1:
        rows.append(("together", headline(joint, corpus.metric)))
    elif reader is None and stage != "train":
        rows += compared(joint.figures, stage, corpus, read_json(runs[0].run_dir / METRICS_FILE))
    rows += [("results", str(folder)), *(("note", note) for note in corpus.notes)]
    log.info(table(rows))
    return results


def read_request(settings: Settings) -> tuple[Request, Machine, PathOverrides, CorpusReader | None]:
    """The checked settings, and the reader of another corpus if there is one. Raises one UserError for all problems."""
    sections = ("data", "trainer", "paths")
    data, trainer, paths = (settings[name] for name in sections)
    asked = {name: value for name, value in settings.items() if name not in sections}
    problems = check_section("", asked, Request)
    problems += check_section("trainer", trainer, Machine) + check_section("paths", paths, PathOverrides)
    reader = read_reader(data, problems)
    if not problems and trainer["accelerator"] == "gpu" and not gpu_is_there():
        problems.append("trainer.accelerator is gpu, and torch finds no GPU here: leave it out, or use trainer=cpu")
    if problems:
        raise UserError("\n".join(problems))
    return Request(**asked), Machine(**trainer), PathOverrides(**paths), reader


def require_same_labels(runs: Sequence[TrainedRun]) -> None:
    """Raise UserError unless the runs can answer together: the same labels, decided by rules of the same kind."""
    first = runs[0]
    for run in runs[1:]:
        if (run.labels.task, run.labels.names) != (first.labels.task, first.labels.names):
            raise UserError(
                f"{run.run_dir} and {first.run_dir} do not have the same labels: {in_words(run)}, and "
                f"{in_words(first)}. Only runs with the same ones can answer together."
            )
        rules = [
            (one.decisions.by_thresholds, one.decisions.ancestor_edges) for one in (run.classifier, first.classifier)
        ]
        if rules[0] != rules[1]:
            raise UserError(
                f"{run.run_dir} and {first.run_dir} decide by rules that have no mean: evaluation.thresholds="
                f"{run.experiment.evaluation.thresholds} with hierarchy={run.experiment.evaluation.hierarchy}, and "
                f"{first.experiment.evaluation.thresholds} with {first.experiment.evaluation.hierarchy}. Only runs "
                "with rules of the same kind (top_k or thresholds, closed or not) can answer together."
            )


def in_words(run: TrainedRun) -> str:
    names = run.labels.names
    return f"{run.labels.task} with {len(names)} ({', '.join(names[:5])}{' …' if len(names) > 5 else ''})"


@dataclass(frozen=True)
class Answer:
    """What one run, or several together, say of the documents."""

    figures: dict[str, float]  # by name, as training rounds them
    predictions: Predictions
    device: str


def answer(run: TrainedRun, corpus: Corpus, split: str, machine: Machine) -> Answer:
    """What a run says, by the steps that end its training."""
    environment = read_json(run.run_dir / METRICS_FILE).get("environment", {})
    threads = machine.threads or environment.get("threads") or run.experiment.trainer.threads or default_threads()
    torch.set_num_threads(min(threads, max(default_threads(), os.cpu_count() or 1)))
    tester = build_tester(
        machine.accelerator or ("cpu" if environment.get("device") == "cpu" else "auto"),
        run.experiment.trainer.precision,
    )
    device = tester.strategy.root_device
    tokenized = encoded(corpus, split, run.tokenizer)
    data = TextDataModule(
        corpus, tokenized, run.experiment.batches, run.experiment.seed, pin_memory=device.type != "cpu"
    )
    loader = data.evaluation_dataloader(split)
    tester.test(run.classifier, loader, verbose=False)
    figures = round_metrics(tester.callback_metrics, "test/")
    predictions = predictions_of(run.classifier, corpus, split, loader)
    return Answer({name.removeprefix("test/"): value for name, value in figures.items()}, predictions, str(device))


def together(runs: list[TrainedRun], answers: list[Answer]) -> Answer:
    """What runs say by the mean of their probabilities.

    Where documents can have several labels, the mean of the runs' thresholds decides (of their k, if that is the rule):
    a label is given if probabilities are above their run's own threshold on average.
    """
    if len(answers) == 1:
        return answers[0]
    given = answers[0].predictions
    scores = torch.stack([torch.from_numpy(one.predictions.probabilities) for one in answers]).mean(dim=0)  # (N, L)
    decisions = mean_decisions([run.classifier.decisions for run in runs])
    decided = decisions(scores)
    targets = torch.from_numpy(given.targets.astype(np.int64))
    labels = runs[0].labels
    figures = {"loss": log_loss(scores, targets, labels.task)}
    figures |= measure(scores, decided, targets, labels.task, labels.parents)
    thresholds = decisions.thresholds.numpy() if decisions.by_thresholds else None
    predictions = Predictions(given.corpus, given.split, scores.numpy(), decided.numpy(), given.targets, thresholds)
    return Answer(round_metrics(figures, ""), predictions, answers[0].device)


def mean_decisions(rules: Sequence[DecisionRule]) -> DecisionRule:
    """The rule of all of them, with the means of their numbers."""
    mean = deepcopy(rules[0])
    mean.thresholds.copy_(torch.stack([rule.thresholds for rule in rules]).mean(dim=0))
    mean.k.copy_(torch.stack([rule.k for rule in rules]).float().mean().round())
    return mean


def log_loss(scores: Tensor, targets: Tensor, task: Task) -> float:
    """Mean log loss of (N, L) probabilities: of the right class, or of each yes-or-no decision."""
    if task == "multilabel":
        return float(F.binary_cross_entropy(scores, targets.float()))
    return float(F.nll_loss(scores.clamp(min=torch.finfo(scores.dtype).tiny).log(), targets))


def headline(answer: Answer, metric: str) -> str:
    """The figures that closing tables show, the one that training followed first."""
    names = [metric, *(name for name in HEADLINES if name != metric)]
    return "  ".join(f"{name} {answer.figures[name]:.4f}" for name in names if name in answer.figures)


def compared(figures: dict[str, float], stage: str, corpus: Corpus, training: dict[str, Any]) -> list[tuple[str, str]]:
    """Lines that say whether figures are those that the training of the run had."""
    if not training:
        return [("note", "The run was stopped before its end: there are no figures of its training to compare.")]
    then = {name.partition("/")[2]: value for name, value in training.items() if name.startswith(f"{stage}/")}
    others = [f"{name} {then[name]:.7g}, now {value:.7g}" for name, value in figures.items()
              if name in then and then[name] != value]  # fmt: skip
    lines = [("in training", "; ".join(others) or "the same figures")]
    if training["environment"]["corpus_fingerprint"] != corpus.fingerprint:
        lines.append(("note", "The documents are not those of the training: they were changed since."))
    return lines


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, side by side."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
