"""Which runs can form an ensemble, and the weights of its members."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus
from newsreel.evaluation.pooling import Pool, fit_pool
from newsreel.inference.eval_data import PathOverrides, load_corpus, paths_of, same_documents, with_labels
from newsreel.inference.eval_runs import Machine, combine, evaluate_run
from newsreel.runs.ensemble import Ensemble, can_be_averaged, describe_labels, open_ensemble
from newsreel.runs.run_dir import read_metrics
from newsreel.runs.trained_run import TrainedRun, open_run

Weights = Literal["equal", "fit"] | Sequence[float]


def open_members(run_dirs: Sequence[Path], weights: Weights, save_dir: Path | None) -> Ensemble:
    """The ensemble of runs, with equal weights or those given, or the one that is saved in the only directory.

    Raises UserError if the runs cannot form an ensemble, or if weights do not fit them.
    """
    if len(run_dirs) == 1:
        if weights != "equal" or save_dir is not None:
            setting = f"save={save_dir}" if weights == "equal" else "weights"
            raise UserError(f"{setting} is for several runs, as in run=[one,another], but run has only {run_dirs[0]}.")
        return open_ensemble(run_dirs[0])
    given = None if isinstance(weights, str) else list(weights)
    if given is not None and len(given) != len(run_dirs):
        raise UserError(
            f"weights has {len(given)} numbers, but run has {len(run_dirs)} directories: give one for each."
        )
    if given is not None and (problem := Pool("probabilities", given, [1.0] * len(given)).problem()):
        raise UserError(f"weights is {given}: {problem}. Give numbers of at least 0 with the sum 1, equal or fit.")
    runs = [open_run(run_dir) for run_dir in run_dirs]
    require_same_labels(runs)
    return Ensemble.averaging(runs, save_dir or run_dirs[0], given)


def require_same_labels(runs: Sequence[TrainedRun]) -> None:
    """Raise UserError unless the runs can form an ensemble: the same labels and decision rules of the same kind."""
    first = runs[0]
    for run in runs[1:]:
        if (run.labels.task, run.labels.names) != (first.labels.task, first.labels.names):
            raise UserError(
                f"{run.run_dir} and {first.run_dir} have different labels: "
                f"{describe_labels(run.labels.task, run.labels.names)}, and "
                f"{describe_labels(first.labels.task, first.labels.names)}. An ensemble needs runs with the same "
                "labels."
            )
        if not can_be_averaged([run.classifier.decisions, first.classifier.decisions]):
            raise UserError(
                f"The decision rules of {run.run_dir} and {first.run_dir} cannot be averaged: evaluation.thresholds="
                f"{run.experiment.evaluation.thresholds} with hierarchy={run.experiment.evaluation.hierarchy}, and "
                f"{first.experiment.evaluation.thresholds} with {first.experiment.evaluation.hierarchy}. An ensemble "
                "needs rules of the same kind (top_k or thresholds, and the same hierarchy)."
            )


@dataclass(frozen=True)
class Fit:
    """An ensemble with fitted weights, and the metrics of the documents that they are fitted on."""

    ensemble: Ensemble
    metrics: dict[str, float]
    equal: dict[str, float]  # with equal weights instead

    def results(self, metric: str) -> dict[str, float]:
        """For metrics.json: the validation metrics, and the monitored one and the loss with equal weights."""
        fitted = {f"val/{name}": value for name, value in self.metrics.items()}
        return fitted | {f"val/equal_weights_{name}": self.equal[name] for name in (metric, "loss")}


def fit_weights(equal: Ensemble, machine: Machine, overrides: PathOverrides) -> Fit:
    """Fit weights, temperatures and, for `multilabel`, the first run's decision rule on validation documents.

    equal: the ensemble with equal weights. Raises UserError if a member may have been trained on these documents.
    """
    corpus = validation_documents(equal.members, overrides)
    results = [evaluate_run(run, corpus, "validation", machine, majority=None) for run in equal.members]
    probabilities = [result.predictions.probabilities for result in results]
    targets, task = results[0].predictions.targets, equal.labels.task
    pool = fit_pool(probabilities, targets, task)
    decisions = deepcopy(equal.members[0].classifier.decisions)
    scores = pool([torch.from_numpy(each) for each in probabilities], task)
    decisions.fit(scores, torch.from_numpy(targets.astype("int64")))
    fitted = replace(equal, pool=pool, decisions=decisions)
    metrics, metrics_of_equal = (combine(ensemble, results, majority=None).metrics for ensemble in (fitted, equal))
    return Fit(fitted, metrics, metrics_of_equal)


def validation_documents(runs: Sequence[TrainedRun], overrides: PathOverrides) -> Corpus:
    """The validation documents that all runs share. Raises UserError if a run may have been trained on them."""
    corpora = [load_corpus(run, paths_of(run, overrides)) for run in runs]
    for run, corpus in zip(runs, corpora, strict=True):
        if not same_documents(corpus, corpora[0], "validation"):
            raise UserError(
                f"weights=fit needs runs with the same validation documents, but {run.run_dir} and {runs[0].run_dir} "
                f"have different ones ({corpus.name!r} from {corpus.source} and {corpora[0].name!r} from "
                f"{corpora[0].source}): one may have been trained on those of the other.\nTrain them with the same "
                "data settings, data.split_seed and data.validation_fraction included, or use weights=equal."
            )
        trained_on = read_metrics(run.run_dir).get("environment", {}).get("corpus_fingerprint")
        if trained_on != corpus.fingerprint:
            cause = "was not finished" if trained_on is None else "was trained on other documents than there are now"
            raise UserError(
                f"weights=fit needs documents that no run was trained on, but {run.run_dir} {cause}, so that nothing "
                "tells whether it was trained on those for validation. Restore the documents, train the run again, or "
                "use weights=equal."
            )
    return with_labels(corpora[0], "validation", runs[0].labels)
