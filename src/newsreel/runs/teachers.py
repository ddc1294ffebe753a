"""Finished runs and ensembles that label documents for another training.

Axes: M unlabelled documents, L labels.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from newsreel.core.cache import Cache
from newsreel.core.errors import UserError
from newsreel.core.paths import user_path
from newsreel.core.storage import file_digest
from newsreel.corpora.corpus import Corpus
from newsreel.corpora.pseudo_labels import TeacherLabels, text_chunks, texts_digest
from newsreel.models.decisions import DecisionRule
from newsreel.runs.ensemble import Ensemble, can_be_averaged, describe_labels, mean_rule, open_ensemble
from newsreel.runs.run_dir import BEST_CHECKPOINT, CONFIG_FILE, ENSEMBLE_FILE, read_metrics
from newsreel.runs.scoring import Scorer, require_bounded
from newsreel.runs.trained_run import TrainedRun

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

SCORES_VERSION = 1  # raise it when the same run gives the same documents other probabilities
SCORES_FILE = "probabilities.npy"
DIVIDING_SETTINGS = ("validation_fraction", "test_fraction", "split_seed", "split_method")
REMEDY = "Train the teacher with the same settings of data, or name another one"


@dataclass(frozen=True)
class Teacher:
    """Runs and ensembles whose probabilities are averaged, and their decision rule."""

    ensembles: Sequence[Ensemble]
    decisions: DecisionRule
    words: str  # for notes


def teacher_dirs(names: str | Sequence[str]) -> list[Path]:
    """The directories in data.pseudo_labels. Raises UserError if one is missing, or named twice."""
    dirs = [user_path(name, "data.pseudo_labels") for name in ([names] if isinstance(names, str) else names)]
    if not dirs:
        raise UserError("data.pseudo_labels is an empty list: name a finished run, or null for no pseudo-labels.")
    for number, directory in enumerate(dirs):
        if not any((directory / name).is_file() for name in (CONFIG_FILE, ENSEMBLE_FILE)):
            raise UserError(
                f"data.pseudo_labels={directory} is not the directory of a run or an ensemble: it has neither "
                f"{CONFIG_FILE} nor {ENSEMBLE_FILE}. Name the directory of a finished run, such as outputs/imdb/bow/…"
            )
        if directory.resolve() in [other.resolve() for other in dirs[:number]]:
            raise UserError(f"data.pseudo_labels names {directory} twice: name each run once.")
    return dirs


def label_documents(
    names: str | Sequence[str], table: "Dataset", corpus: Corpus, run_dir: Path, cache: Path, device: torch.device
) -> TeacherLabels:
    """What the runs and ensembles with these names say about the documents of a table, for the training of `run_dir`.

    Random generators stay as they are. Raises UserError if a run cannot be the teacher.
    """
    return ask_teacher(open_teacher(names, corpus, run_dir), table, corpus, cache, device)


def open_teacher(names: str | Sequence[str], corpus: Corpus, run_dir: Path) -> Teacher:
    """The teacher for the training of `run_dir` on a corpus.

    Raises UserError unless each run has the labels of the corpus and its validation and test documents.
    """
    dirs = teacher_dirs(names)
    ensembles = [open_ensemble(directory) for directory in dirs]
    for ensemble in ensembles:
        for run in ensemble.members:
            require_same_labels(run, corpus, run_dir)
            require_same_held_out(run, corpus, run_dir)
    rules = [ensemble.decisions for ensemble in ensembles]
    if not can_be_averaged(rules):
        raise UserError(
            f"data.pseudo_labels: the decision rules of {' and '.join(map(str, dirs))} cannot be averaged: some have "
            "thresholds and others top_k, or only some close the hierarchy. Name runs with the same "
            "evaluation.thresholds and evaluation.hierarchy."
        )
    rule = rules[0] if len(rules) == 1 else mean_rule(rules, [1 / len(rules)] * len(rules))
    return Teacher(ensembles, rule, describe(dirs, ensembles))


def describe(dirs: Sequence[Path], ensembles: Sequence[Ensemble]) -> str:
    """Directories, and on how many labelled documents they were trained."""
    sizes = {read_metrics(run.run_dir).get("documents/train") for ensemble in ensembles for run in ensemble.members}
    known = sorted(size for size in sizes if isinstance(size, int))
    trained = f" (trained on {' and '.join(f'{size:,}' for size in known)} labelled documents)" if known else ""
    return f"{' and '.join(map(str, dirs))}{trained}"


def require_same_labels(run: TrainedRun, corpus: Corpus, run_dir: Path) -> None:
    labels = run.labels
    if (labels.task, list(labels.names)) != (corpus.task, list(corpus.label_names)):
        raise UserError(
            f"data.pseudo_labels: {run.run_dir} has other labels than {run_dir} is to be trained with: "
            f"{describe_labels(labels.task, labels.names)}, and {describe_labels(corpus.task, corpus.label_names)}. "
            f"{REMEDY}."
        )


def require_same_held_out(run: TrainedRun, corpus: Corpus, run_dir: Path) -> None:
    """Raise UserError unless a run has the same documents as a corpus, and the same of them for validation and test."""
    trained_on = read_metrics(run.run_dir).get("environment", {}).get("corpus_fingerprint")
    if trained_on is None:
        raise UserError(
            f"data.pseudo_labels: {run.run_dir} was not finished, so that nothing tells whether it was trained on "
            f"documents that {run_dir} validates on. Finish it with resume={run.run_dir}, or name another run."
        )
    problem = f"may have been trained on documents that {run_dir} validates or tests on"
    if trained_on != corpus.fingerprint:
        raise UserError(
            f"data.pseudo_labels: {run.run_dir} {problem}: the fingerprint of its documents is {trained_on}, and of "
            f"these {corpus.fingerprint}. {REMEDY}."
        )
    theirs = run.experiment.reader.divided(replace(corpus, splits={}))
    for split in ("validation", "test"):
        one, other = theirs.splits[split], corpus.splits[split]
        if one.table != other.table or not np.array_equal(one.rows, other.rows):
            settings = {name: run.experiment.config["data"].get(name) for name in DIVIDING_SETTINGS}
            given = ", ".join(f"data.{name}={value}" for name, value in settings.items() if value is not None)
            raise UserError(
                f"data.pseudo_labels: {run.run_dir} {problem}: it has other {split} documents, split off with {given}. "
                f"{REMEDY}."
            )


def ask_teacher(teacher: Teacher, table: "Dataset", corpus: Corpus, cache: Path, device: torch.device) -> TeacherLabels:
    """What a teacher says about the documents of a table. Probabilities of each run are kept in the cache."""
    texts = texts_digest(table)
    pooled = []
    for ensemble in teacher.ensembles:
        scores = [cached_scores(run, table, texts, corpus.name, cache, device) for run in ensemble.members]
        pooled.append(ensemble.pool(scores, corpus.task) if len(scores) > 1 else scores[0])
    probabilities = torch.stack(pooled).mean(dim=0)
    decisions = teacher.decisions(probabilities).numpy()
    kind = np.uint8 if corpus.task == "multilabel" else np.int64
    return TeacherLabels(probabilities.numpy(), decisions.astype(kind), teacher.words)


def cached_scores(
    run: TrainedRun, table: "Dataset", texts: str, name: str, cache: Path, device: torch.device
) -> Tensor:
    """(M, L) probabilities of a table's documents. texts: their digest."""

    def build(folder: Path) -> None:
        log.info(f"teacher     {run.run_dir} labels {len(table):,} documents")
        np.save(folder / SCORES_FILE, score(run, table, device))

    def load(folder: Path) -> np.ndarray:
        return np.asarray(np.load(folder / SCORES_FILE))

    identity = (SCORES_VERSION, file_digest(run.run_dir / BEST_CHECKPOINT), texts, device.type)
    what = f"the labels of {run.run_dir} for documents of {name!r}"
    return torch.from_numpy(Cache(cache).get_or_build("pseudo_labels", name, identity, build, load, what))


def score(run: TrainedRun, table: "Dataset", device: torch.device) -> np.ndarray:
    """(M, L) float32 probabilities of a table's documents."""
    scorer = Scorer(run, device)
    parts = [np.empty((0, len(run.labels.names)), np.float32)]
    with tqdm(total=len(table), unit=" documents", desc="labelling", disable=None) as bar:
        for texts in text_chunks(table):
            documents = scorer.documents(texts)
            require_bounded([documents], lambda row, before=bar.n: f"unlabelled document {before + row + 1:,}")  # type: ignore[misc]
            parts.append(scorer.scores(documents).numpy())
            bar.update(len(texts))
    return np.concatenate(parts)
