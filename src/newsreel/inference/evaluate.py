"""Evaluation of finished runs, alone or as an ensemble, on their own documents or others with the same labels.

Axes: N documents, L labels.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from newsreel.config.sections import Settings, check_section, read_reader
from newsreel.core.dist import is_gpu_available
from newsreel.core.errors import UserError
from newsreel.core.paths import user_path
from newsreel.core.storage import write_atomically
from newsreel.corpora.corpus import Corpus, CorpusReader
from newsreel.evaluation.context import ScoreContext
from newsreel.evaluation.metrics import HEADLINES
from newsreel.inference.eval_data import PathOverrides, find_documents
from newsreel.inference.eval_runs import EvalResult, Machine, combine, evaluate_run, majority_label
from newsreel.inference.weighting import Fit, Weights, fit_weights, open_members
from newsreel.reporting.caveats import loss_notes, majority_notes
from newsreel.runs.ensemble import Ensemble, require_free
from newsreel.runs.environment import describe_environment
from newsreel.runs.run_dir import FIT_TIME, METRICS_FILE, SOURCES_TIME, read_metrics
from newsreel.runs.trained_run import TrainedRun
from newsreel.runs.training_time import total_fit_seconds

log = logging.getLogger(__name__)

STAGES = {"train": "train", "validation": "val", "test": "test"}  # split → prefix of its metrics


@dataclass(frozen=True, kw_only=True)
class Request:
    """The settings of configs/evaluate.yaml outside its sections."""

    run: str | Sequence[str] | None
    weights: Weights
    split: Literal["train", "validation", "test"]
    output: str
    save: str | None

    @property
    def run_dirs(self) -> list[Path]:
        """The run directories. Raises UserError if there are none."""
        names = [self.run] if isinstance(self.run, str) else list(self.run or [])
        if not names:
            raise UserError("run is null: name the directory of a finished run, such as run=outputs/imdb/lstm/<time>.")
        return [user_path(name, "run") for name in names]

    def save_dir(self, has_reader: bool) -> Path | None:
        """Where to save the ensemble; None: nowhere. has_reader: whether other documents are named.

        Raises UserError if that is not possible.
        """
        if self.save is None:
            return None
        if has_reader or self.split != "test":
            raise UserError(
                f"save={self.save} keeps the metrics of the runs' own test documents: leave out data and split."
            )
        directory = user_path(self.save, "save")
        require_free(directory)
        return directory


def evaluate(settings: Settings, output_dir: Path) -> dict[str, Any]:
    """Evaluate runs as configs/evaluate.yaml says; returns the content of metrics.json. Raises UserError."""
    started = time.perf_counter()
    request, machine, path_overrides, reader = read_request(settings)
    if (output_dir / METRICS_FILE).exists():
        raise UserError(f"{output_dir} contains results, which would be lost: name another directory with output=…")
    save_dir = request.save_dir(has_reader=reader is not None)
    ensemble = open_members(request.run_dirs, request.weights, save_dir)
    fit = fit_weights(ensemble, machine, path_overrides) if request.weights == "fit" else None
    ensemble = ensemble if fit is None else fit.ensemble
    runs = ensemble.members
    corpus = find_documents(runs, request.split, path_overrides, reader)
    stage = STAGES[request.split]
    num_documents = len(corpus.targets(request.split))
    log.info(f"documents   {num_documents:,} {request.split}, {corpus.name} from {corpus.source}")

    majority = majority_label(ensemble.labels) if stage == "test" else None
    run_results = [evaluate_run(run, corpus, request.split, machine, majority) for run in runs]
    combined = combine(ensemble, run_results, majority)
    results: dict[str, Any] = {
        **{f"{stage}/{name}": value for name, value in combined.metrics.items()},
        **({} if fit is None else fit.results(corpus.metric)),
        f"documents/{request.split}": num_documents,
        "runs": results_of_members(ensemble, run_results),
        "time/total_s": round(time.perf_counter() - started, 3),
        "environment": describe_environment(runs[0].experiment, corpus, combined.device),
    }
    write_results(output_dir, combined, results)
    if save_dir is not None:
        ensemble.save()
        write_results(save_dir, combined, {**results, **totals_of_training(ensemble)})

    rows = [(str(run.run_dir), headline(single, corpus.metric)) for run, single in zip(runs, run_results, strict=True)]
    if not ensemble.is_single_run:
        rows.append(("ensemble", headline(combined, corpus.metric)))
    rows += weight_rows(ensemble, fit, corpus.metric)
    if (context := ScoreContext.from_results(combined.metrics, corpus.metric)) is not None:
        rows.append((corpus.metric, str(context)))
    if len(request.run_dirs) == 1 and reader is None and stage != "train":
        rows += compare_with_training(combined.metrics, stage, corpus, ensemble)
    rows += [("results", str(output_dir)), *([] if save_dir is None else [("ensemble dir", str(save_dir))])]
    notes = [
        *([] if reader is not None or stage == "train" else changed_documents_notes(runs, corpus, request.split)),
        *corpus.notes,
        *majority_notes(combined.predictions, majority),
        *loss_notes({request.split: combined.metrics["loss"]}, corpus.task, corpus.num_labels),
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
    if reader is not None and reader.pseudo_labels is not None:
        problems.append("data.pseudo_labels is for training, and has no effect on an evaluation: leave it out")
    if problems:
        raise UserError("\n".join(problems))
    return Request(**top_level), Machine(**trainer), PathOverrides(**paths), reader


def results_of_members(ensemble: Ensemble, results: Sequence[EvalResult]) -> dict[str, Any]:
    """The metrics of each run, by its directory; also its weight and temperature, unless weights are equal."""
    members: dict[str, Any] = {}
    for number, (run, result) in enumerate(zip(ensemble.members, results, strict=True)):
        metrics = dict(result.metrics)
        if not ensemble.has_equal_weights:
            metrics["weight"] = round(ensemble.pool.weights[number], 7)
            metrics["temperature"] = float(f"{ensemble.pool.temperatures[number]:.7g}")
        members[str(run.run_dir.resolve())] = metrics
    return members


def totals_of_training(ensemble: Ensemble) -> dict[str, float]:
    """Sums over the members, for tables of runs: the time of their trainings and of what they learned from, and their
    parameters.
    """
    members = [read_metrics(run.run_dir) for run in ensemble.members]
    names = [name for name in (FIT_TIME, "model/parameters") if all(name in metrics for metrics in members)]
    totals = {name: round(sum(metrics[name] for metrics in members), 3) for name in names}
    everything = total_fit_seconds(run.run_dir for run in ensemble.members) if FIT_TIME in totals else None
    if everything is not None:
        totals[SOURCES_TIME] = round(everything - totals[FIT_TIME], 3)
    return {name: total for name, total in totals.items() if total > 0}


def write_results(directory: Path, result: EvalResult, results: dict[str, Any]) -> None:
    """Write predictions.parquet, labels.csv and, last, metrics.json."""
    directory.mkdir(parents=True, exist_ok=True)
    result.predictions.write(directory / "predictions.parquet")
    write_atomically(directory / "labels.csv", result.predictions.by_label().write_csv(float_precision=9))
    write_atomically(directory / METRICS_FILE, json.dumps(results, indent=2) + "\n")


def weight_rows(ensemble: Ensemble, fit: Fit | None, metric: str) -> list[tuple[str, str]]:
    """Lines of the closing table: the weight of each member, and what fitted weights change on validation documents."""
    if ensemble.has_equal_weights:
        return []
    names = [run.run_dir.name for run in ensemble.members]
    uses_temperatures = ensemble.pool.average == "logits"
    weights = [
        f"{name} {weight:.4f}" + (f" (temperature {temperature:.3f})" if uses_temperatures else "")
        for name, weight, temperature in zip(names, ensemble.pool.weights, ensemble.pool.temperatures, strict=True)
    ]
    rows = [("weights", "  ".join(weights))]
    if fit is not None:
        scores = [f"{metric} {values[metric]:.4f}, loss {values['loss']:.4f}" for values in (fit.metrics, fit.equal)]
        rows.append(("validation", f"{scores[0]}; with equal weights {scores[1]}"))
    return rows


def headline(result: EvalResult, metric: str) -> str:
    """The metrics of the closing table, the monitored one first."""
    names = [metric, *(name for name in HEADLINES if name != metric)]
    return "  ".join(f"{name} {result.metrics[name]:.4f}" for name in names if name in result.metrics)


def compare_with_training(
    metrics: dict[str, float], stage: str, corpus: Corpus, ensemble: Ensemble
) -> list[tuple[str, str]]:
    """Lines of the closing table that compare metrics with those of the run's training, or of the saved ensemble."""
    training = read_metrics(ensemble.directory)
    if not training and not ensemble.is_single_run:
        return []
    if not training:
        return [("note", "The run was stopped before its end: there are no metrics of its training to compare with.")]
    before = {name.partition("/")[2]: value for name, value in training.items() if name.startswith(f"{stage}/")}
    changes = [f"{name} {before[name]:.7g}, now {value:.7g}" for name, value in metrics.items()
              if name in before and before[name] != value]  # fmt: skip
    return [("in training" if ensemble.is_single_run else "when saved", "; ".join(changes) or "the same metrics")]


def changed_documents_notes(runs: Sequence[TrainedRun], corpus: Corpus, split: str) -> list[str]:
    """A note for each run that was trained on other documents of its own corpus, as far as that is known."""
    notes = []
    for run in runs:
        known = read_metrics(run.run_dir).get("environment", {}).get("corpus_fingerprint")
        if known not in (None, corpus.fingerprint):
            of_run = "" if len(runs) == 1 else f" of {run.run_dir}"
            notes.append(
                f"The documents have changed since the training{of_run}: {split} documents that are split off may be "
                "others now, and stand among those that it was trained on, which makes scores too good. Restore the "
                "documents, or name others with data=…"
            )
    return notes


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values in two aligned columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
