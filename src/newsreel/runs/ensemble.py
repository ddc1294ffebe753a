"""Trained runs that predict together, in memory and as a directory of their own."""

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge

from newsreel.core.errors import UserError
from newsreel.core.storage import file_digest, write_atomically
from newsreel.corpora.corpus import Task, abbreviated
from newsreel.evaluation.pooling import Pool, weighted_mean
from newsreel.models.decisions import DecisionRule, EvaluationSettings, ThresholdRule
from newsreel.runs.run_dir import BEST_CHECKPOINT, CONFIG_FILE, ENSEMBLE_FILE, METRICS_FILE
from newsreel.runs.trained_run import Labels, TrainedRun, open_run, read_existing, read_labels

ENSEMBLE_FORMAT = 1  # of ensemble.json; raise it when an older version could not read it, or would misread it


@dataclass(frozen=True)
class Ensemble:
    """Trained runs with the same labels, whose probabilities are combined; a single run is an ensemble of one."""

    directory: Path  # of the single run, or where the ensemble is saved
    members: Sequence[TrainedRun]
    pool: Pool
    decisions: DecisionRule

    @classmethod
    def of_one(cls, run: TrainedRun) -> "Ensemble":
        return cls(run.run_dir, [run], Pool.equal(1), run.classifier.decisions)

    @classmethod
    def averaging(
        cls, runs: Sequence[TrainedRun], directory: Path, weights: Sequence[float] | None = None
    ) -> "Ensemble":
        """The weighted mean of probabilities and, for `multilabel`, of thresholds or k. weights: None: equal ones."""
        pool = Pool.equal(len(runs))
        if weights is not None:
            pool = Pool("probabilities", weights, pool.temperatures)
        return cls(directory, runs, pool, mean_rule([run.classifier.decisions for run in runs], pool.weights))

    @property
    def labels(self) -> Labels:
        return self.members[0].labels

    @property
    def is_single_run(self) -> bool:
        return len(self.members) == 1

    @property
    def has_equal_weights(self) -> bool:
        """Whether probabilities are averaged with equal weights."""
        return self.pool == Pool.equal(len(self.members))

    def save(self) -> None:
        """Write ensemble.json and labels.json. Members within the directory may be moved with it."""
        directory = self.directory.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        members = [
            Member(relative_if_inside(run.run_dir, directory), file_digest(run.run_dir / BEST_CHECKPOINT), *numbers)
            for run, *numbers in zip(self.members, self.pool.weights, self.pool.temperatures, strict=True)
        ]
        content = EnsembleContent(self.pool.average, members, Rule.of(self.decisions))
        self.labels.save(directory)
        text = json.dumps({"format": ENSEMBLE_FORMAT, **asdict(content)}, ensure_ascii=False, indent=1)
        write_atomically(directory / ENSEMBLE_FILE, text)


@dataclass(frozen=True)
class Member:
    """A member in ensemble.json."""

    run: str  # its directory: absolute, or relative to that of the ensemble
    checkpoint: str  # digest of its best checkpoint
    weight: float
    temperature: float


@dataclass(frozen=True)
class Rule:
    """A decision rule in ensemble.json."""

    rule: ThresholdRule
    shrinkage: float
    hierarchy: Literal["none", "close"]
    thresholds: list[float]  # (L,)
    k: Annotated[int, Ge(1)]
    labels_with_global_threshold: Annotated[int, Ge(0)]

    @classmethod
    def of(cls, rule: DecisionRule) -> "Rule":
        hierarchy: Literal["none", "close"] = "close" if rule.ancestor_edges else "none"
        thresholds = rule.thresholds.tolist()
        return cls(rule.rule, rule.shrinkage, hierarchy, thresholds, int(rule.k), int(rule.fallbacks))

    def build(self, labels: Labels) -> DecisionRule:
        """Raises ValueError if it does not fit the labels."""
        num_labels = len(labels.names)
        if len(self.thresholds) != num_labels or not 1 <= self.k <= num_labels:
            raise ValueError(f"its decision rule is not one for {num_labels} labels")
        settings = EvaluationSettings(
            thresholds=self.rule, shrinkage=self.shrinkage, hierarchy=self.hierarchy, figures=False
        )
        rule = DecisionRule(labels.task, num_labels, labels.parents, settings)
        rule.thresholds.copy_(torch.tensor(self.thresholds))
        rule.k.fill_(self.k)
        rule.fallbacks.fill_(self.labels_with_global_threshold)
        return rule


@dataclass(frozen=True)
class EnsembleContent:
    """The content of ensemble.json."""

    average: Literal["probabilities", "logits"]
    members: list[Member]
    decisions: Rule


@dataclass(frozen=True)
class Format:
    """The format number in ensemble.json."""

    format: int


def describe_labels(task: Task, names: Sequence[str]) -> str:
    return f"{task} with {len(names)} ({abbreviated(names)})"


def can_be_averaged(rules: Sequence[DecisionRule]) -> bool:
    """Whether decision rules are of the same kind: all with thresholds or all with k, on the same hierarchy."""
    return all(
        (rule.by_thresholds, rule.ancestor_edges) == (rules[0].by_thresholds, rules[0].ancestor_edges) for rule in rules
    )


def mean_rule(rules: Sequence[DecisionRule], weights: Sequence[float]) -> DecisionRule:
    """The rule with the weighted mean of the thresholds and of the k of these rules."""
    mean = deepcopy(rules[0])
    mean.thresholds.copy_(weighted_mean([rule.thresholds for rule in rules], weights))
    mean.k.copy_(weighted_mean([rule.k.float() for rule in rules], weights).round().clamp(min=1))
    return mean


def relative_if_inside(run_dir: Path, directory: Path) -> str:
    """An absolute path, or one relative to `directory` if it is inside it."""
    path = run_dir.resolve()
    return path.relative_to(directory).as_posix() if path.is_relative_to(directory) else str(path)


def require_free(directory: Path) -> None:
    """Raise UserError if an ensemble cannot be saved in a directory."""
    names = (CONFIG_FILE, ENSEMBLE_FILE, METRICS_FILE)
    existing = next((name for name in names if (directory / name).exists()), None)
    if existing is not None:
        raise UserError(f"save={directory} has a file {existing}, which would be lost: name another directory.")
    if directory.exists() and not directory.is_dir():
        raise UserError(f"save={directory} is a file: name a directory.")


def open_ensemble(directory: Path) -> Ensemble:
    """Open the directory of an ensemble, or of a run. Raises UserError that names what is missing or has changed."""
    if not (directory / ENSEMBLE_FILE).is_file():
        return Ensemble.of_one(open_run(directory))
    file = directory / ENSEMBLE_FILE
    if (number := read_existing(file, Format).format) != ENSEMBLE_FORMAT:
        raise UserError(
            f"{file} has format {number}, and this version of newsreel opens format {ENSEMBLE_FORMAT}: use the newer "
            "newsreel that wrote it."
        )
    content = read_existing(file, EnsembleContent)
    pool = Pool(
        content.average,
        [member.weight for member in content.members],
        [member.temperature for member in content.members],
    )
    if len(content.members) < 2 or pool.problem():
        raise UserError(f"{file} is not as it was saved: {pool.problem() or 'it has fewer than two members'}.")
    labels = read_labels(directory)
    runs = [open_member(member, directory, labels) for member in content.members]
    try:
        decisions = content.decisions.build(labels)
    except ValueError as error:
        raise UserError(f"{file} is not as it was saved: {error}.") from error
    return Ensemble(directory, runs, pool, decisions)


def open_member(member: Member, directory: Path, labels: Labels) -> TrainedRun:
    """A member of the ensemble in a directory. Raises UserError if it is missing or has changed."""
    run_dir = directory / member.run  # an absolute path stays as it is
    remedy = "Restore it, or make a new ensemble of the runs with evaluate.py and save=…"
    checkpoint = run_dir / BEST_CHECKPOINT
    if not checkpoint.is_file():
        raise UserError(
            f"{run_dir}, a member of the ensemble {directory}, is missing: it has no {BEST_CHECKPOINT}. {remedy}."
        )
    if file_digest(checkpoint) != member.checkpoint:
        raise UserError(f"{checkpoint} has changed since the ensemble {directory} was saved. {remedy}.")
    run = open_run(run_dir)
    if (run.labels.task, list(run.labels.names)) != (labels.task, list(labels.names)):
        raise UserError(f"{run_dir} has other labels than the ensemble {directory} was saved with. {remedy}.")
    return run
