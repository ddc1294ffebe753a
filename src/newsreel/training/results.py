"""The results of a tested run: predictions, figures, report and, last, metrics.json."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from newsreel.batches.batch import Batch, DocumentDataset
from newsreel.batches.datamodule import TextDataModule
from newsreel.core.dist import dist_env
from newsreel.core.errors import UserError, first_line
from newsreel.core.storage import write_atomically
from newsreel.corpora.corpus import Corpus
from newsreel.corpora.overlap import TrainingOverlap, find_training_overlap
from newsreel.embeddings.embedding import Coverage
from newsreel.evaluation.context import ScoreContext
from newsreel.evaluation.explanations import Explainer, Explanation
from newsreel.evaluation.metrics import round_metrics
from newsreel.evaluation.predictions import Predictions
from newsreel.models.classifier import TextClassifier
from newsreel.reporting.caveats import (
    TrainingLoss,
    caveats,
    epochs_notes,
    majority_label,
    majority_notes,
    score_without,
    training_notes,
)
from newsreel.reporting.report import Report, write_report
from newsreel.reporting.run_page import explained_documents, write_run_page
from newsreel.reporting.words import EXPLANATION_STEPS
from newsreel.runs.environment import describe_environment, peak_rss_mb
from newsreel.runs.run_dir import METRICS_FILE
from newsreel.runs.training_time import seconds_of_sources
from newsreel.text.tokens import TokenizedCorpus
from newsreel.training.callbacks.history import History
from newsreel.training.final_logging import log_figures, log_final_metrics, log_page, log_samples
from newsreel.training.profile import time_table
from newsreel.training.spec import RunSpec
from newsreel.training.trainer import predictions_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """`time.perf_counter()` at the ends of a run's phases."""

    started: float
    prepared: float
    fitted: float
    decided: float  # thresholds fitted to out-of-fold scores
    tested: float


@dataclass(frozen=True)
class TrainedParts:
    """The objects of a tested run."""

    corpus: Corpus
    tokenized: TokenizedCorpus
    coverage: Coverage | None  # of the vocabulary by pretrained vectors
    data: TextDataModule
    classifier: TextClassifier
    trainer: Trainer
    history: History
    test_loader: DataLoader[Batch]
    folds: dict[str, float]  # metrics of out-of-fold scores; empty: there are none


def write_results(spec: RunSpec, parts: TrainedParts, timing: Timing) -> dict[str, Any]:
    """Write predictions.parquet, thresholds.json, figures, reports and metrics.json; returns the content of the last.

    metrics.json is written last: its presence marks a finished run.
    """
    corpus, rule = parts.corpus.labelled, parts.classifier.decisions
    predictions = predictions_of(parts.classifier, corpus, "test", parts.test_loader)
    overlap = find_training_overlap(corpus, spec.experiment.paths.cache)
    context = ScoreContext.of(predictions, majority_label(predictions))
    test_metrics = collect_test_metrics(parts.trainer.callback_metrics, predictions, context, overlap)
    predictions.write(spec.run_dir / "predictions.parquet")
    if corpus.task == "multilabel":
        thresholds = json.dumps(rule.describe(corpus.label_names), indent=1)
        write_atomically(spec.run_dir / "thresholds.json", thresholds)
    results = collect_results(spec, parts, timing, test_metrics)
    drawn = draw(spec, parts, predictions)
    log_samples(parts.trainer, predictions)
    if drawn:
        log_page(parts.trainer)
    log_final_metrics(parts.trainer, spec.experiment.config, spec.choices, spec.all_overrides, results)
    report = build_report(spec, parts, predictions, context, overlap, results, drawn)
    write_report(report)
    if drawn:
        write_run_page(report, *explain_documents(parts, predictions))
    write_atomically(spec.run_dir / METRICS_FILE, json.dumps(results, indent=2) + "\n")
    log.info("\n" + report.table())
    if spec.experiment.trainer.profile:
        log.info("\n" + time_table(parts.trainer, results))
    return results


def collect_test_metrics(
    metrics: Mapping[str, Any], predictions: Predictions, context: ScoreContext, overlap: TrainingOverlap
) -> dict[str, float]:
    """The metrics of the test, and what the monitored one is to be read beside. metrics: as the trainer has them."""
    metric = predictions.corpus.metric
    without = score_without(predictions, overlap) if overlap.either.any() else None
    return {
        **round_metrics(metrics, "test/"),
        **round_metrics({f"test/{name}": value for name, value in context.results().items()}, "test/"),
        **({f"test/{metric}_without_overlap": round(without, 7)} if without is not None else {}),
        "overlap/exact": int(overlap.exact.sum()),
        "overlap/near": int(overlap.near.sum()),
    }


def collect_results(
    spec: RunSpec, parts: TrainedParts, timing: Timing, test_metrics: dict[str, float]
) -> dict[str, Any]:
    """The content of metrics.json."""
    corpus, history, rule, trainer = parts.corpus.labelled, parts.history, parts.classifier.decisions, parts.trainer
    best_epoch, pseudo = history.best_epoch, parts.corpus.pseudo
    splits = {f"documents/{split}": len(rows.rows) for split, rows in corpus.splits.items()}
    device = str(trainer.strategy.root_device)
    return {
        **test_metrics,
        **round_metrics(best_epoch, "val/"),
        **parts.folds,
        "train/epochs": len(history.epochs),
        "train/kept_epoch": int(best_epoch["epoch"]),
        **({"train/passes_per_epoch": parts.data.passes} if parts.data.passes > 1 else {}),
        **round_metrics(best_epoch, "train/"),
        "train/steps": trainer.global_step,
        "model/parameters": parts.classifier.num_parameters,
        "model/vocabulary": len(parts.tokenized.tokenizer.tokens),
        **coverage_metrics(parts.coverage),
        **({"labels_with_global_threshold": int(rule.fallbacks)} if rule.falls_back else {}),
        **splits,
        **({} if pseudo is None else {"documents/pseudo_labelled": len(pseudo.weights)}),
        "time/prepare_s": round(timing.prepared - timing.started, 3),
        "time/fit_s": round(history.seconds_before + timing.fitted - timing.prepared, 3),
        **seconds_of_sources(spec.experiment.config),
        **({"time/thresholds_s": round(timing.decided - timing.fitted, 3)} if parts.folds else {}),
        "time/test_s": round(timing.tested - timing.decided, 3),
        **({"time/first_step_s": round(history.first_step - timing.started, 3)} if history.first_step else {}),
        "time/total_s": round(history.seconds_before + time.perf_counter() - timing.started, 3),
        "throughput/train_documents_per_s": round(history.units_per_second, 1),
        "throughput/test_documents_per_s": round(
            splits["documents/test"] / max(1e-9, timing.tested - timing.fitted), 1
        ),
        "memory/peak_rss_mb": round(peak_rss_mb(), 1),
        "environment": describe_environment(spec.experiment, corpus, device, dist_env().world_size),
    }


def draw(spec: RunSpec, parts: TrainedParts, predictions: Predictions) -> list[str]:
    """Draw the figures if evaluation.figures is set; returns their names."""
    if not spec.experiment.evaluation.figures:
        return []
    from newsreel.reporting.figures import draw_figures

    history = parts.history
    drawn = draw_figures(predictions, history.epochs, history.best_epoch["epoch"], parts.corpus.metric)
    log_figures(parts.trainer, drawn, spec.run_dir / "figures")
    return list(drawn)


def explain_documents(parts: TrainedParts, predictions: Predictions) -> tuple[dict[int, Explanation], str]:
    """Explanations of the most probable label of some test documents, by row, and why there are none if so."""
    rows = explained_documents(predictions)
    tokenizer, test = parts.tokenized.tokenizer, parts.data.dataset("test")
    texts = [predictions.corpus.text("test", row) for row in rows]
    documents = DocumentDataset.without_targets(tokenizer.encode(texts), test.max_tokens, test.truncation)
    network, labels = parts.classifier.network.eval(), predictions.titles
    explain = Explainer(network, tokenizer.tokens, labels, None, EXPLANATION_STEPS, max_steps_factor=1)
    try:
        explanations = explain.explain_texts(texts, tokenizer, documents, predictions.probabilities[rows])
    except UserError as error:  # captum is not installed
        return {}, first_line(error)
    return dict(zip(rows, explanations, strict=True)), ""


def build_report(
    spec: RunSpec,
    parts: TrainedParts,
    predictions: Predictions,
    context: ScoreContext,
    overlap: TrainingOverlap,
    results: dict[str, Any],
    figures: list[str],
) -> Report:
    experiment, corpus = spec.experiment, parts.corpus
    losses = {"validation": results["val/loss"], "test": results["test/loss"]}
    training = TrainingLoss(parts.history.epochs[-1]["train/loss"], prior_loss(parts), results["train/steps"])
    learned = training_notes(training, losses, corpus.task, corpus.num_labels)
    if not learned and experiment.training.solver == "minibatch":
        learned = epochs_notes(results, corpus.metric)
    notes = [*corpus.notes, *learned, *majority_notes(predictions, majority_label(predictions))]
    fitted_on = ("train", "validation") if parts.folds else ("validation",)
    test_documents, bags = parts.data.dataset("test"), experiment.tokenizer.produces_bags
    seed = None if experiment.training.solver == "newton" else experiment.seed
    return Report(
        spec.run_dir,
        spec.choices,
        [*spec.hydra_overrides, *spec.overrides],
        notes,
        parts.history.epochs,
        results,
        corpus.metric,
        experiment.training.checkpoint,
        predictions,
        figures,
        caveats(predictions, context, test_documents, overlap, seed, bags, fitted_on),
        published=str(experiment.published),
        view_hint=experiment.logger.view_hint(spec.run_dir),
        resumed=spec.resumed,
    )


def prior_loss(parts: TrainedParts) -> float:
    """The training loss of a classifier that knows only how frequent each label is."""
    counts, total = parts.corpus.weighted_label_counts()
    of_weights = parts.classifier.loss.cpu().of_priors(torch.from_numpy(counts), total)
    return of_weights * total / len(parts.corpus.splits["train"].rows)


def coverage_metrics(coverage: Coverage | None) -> dict[str, float]:
    """Fractions of the vocabulary and of the training tokens with pretrained vectors; empty if there are none."""
    if coverage is None:
        return {}
    return {
        "embedding/coverage_types": round(coverage.known_types / max(1, coverage.types), 7),
        "embedding/coverage_tokens": round(coverage.known_tokens / max(1, coverage.tokens), 7),
        "embedding/from_subwords": round(coverage.from_subwords / max(1, coverage.types), 7),
    }
