"""Trained runs, opened from their run directories."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from newsreel.config.schema import Experiment, read_experiment
from newsreel.config.sections import Settings, show
from newsreel.core.errors import UserError
from newsreel.core.json_files import read_json
from newsreel.core.storage import write_atomically
from newsreel.corpora.corpus import Corpus, Task
from newsreel.evaluation.metrics import measure
from newsreel.models.classifier import TextClassifier
from newsreel.models.decisions import DecisionRule
from newsreel.models.functional import num_outputs
from newsreel.models.loss import Loss
from newsreel.models.network import Network
from newsreel.runs.run_dir import (
    BEST_CHECKPOINT,
    COMMAND_FILE,
    CONFIG_FILE,
    ENSEMBLE_FILE,
    FAILED_FILE,
    LABELS_FILE,
    PRETRAIN,
    RUN_FORMAT,
    TABLE_KEY_SUFFIX,
    TRAIN,
    Ending,
    check_format,
    read_best_checkpoint,
    read_config,
    read_script,
)
from newsreel.text.loading import load_tokenizer
from newsreel.text.tokens import FittedTokenizer

T = TypeVar("T")
PREDICTION_SECTIONS = ("tokenizer", "model", "batches", "evaluation")


@dataclass(frozen=True)
class Labels:
    """The labels and the task of a run."""

    task: Task
    metric: str  # monitored in training
    names: Sequence[str]
    titles: Sequence[str]  # display names; empty: the names
    parents: Sequence[int]  # index of each label's parent, -1 for none; empty: no hierarchy
    training_documents: Sequence[int] = ()  # with each label; empty in a run directory of an earlier version

    @classmethod
    def of(cls, corpus: Corpus) -> "Labels":
        counts = corpus.label_counts("train").tolist()
        return cls(corpus.task, corpus.metric, corpus.label_names, corpus.label_titles, corpus.parents, counts)

    def problem(self) -> str:
        """What is wrong with these labels; empty if nothing is."""
        num_labels = len(self.names)
        if num_labels < 2 or len(set(self.names)) < num_labels or "" in self.names:
            return "names has fewer than two labels, or an empty or a repeated one"
        if self.task == "binary" and num_labels != 2:
            return f"the task is binary, with {num_labels} labels"
        if any(len(items) not in (0, num_labels) for items in (self.titles, self.parents, self.training_documents)):
            return "titles, parents or training_documents do not have one item for every label"
        if not all(-1 <= parent < num_labels for parent in self.parents):
            return "a parent is no label"
        if self.parents and is_cyclic(self.parents):
            return "a label is its own ancestor"
        return ""

    def save(self, run_dir: Path) -> None:
        write_atomically(run_dir / LABELS_FILE, json.dumps(asdict(self), ensure_ascii=False, indent=1))


def is_cyclic(parents: Sequence[int]) -> bool:
    """Whether a label is its own ancestor. parents: index of each label's parent, -1 for none."""
    levels = list(parents)
    for _ in parents:  # one step up in each round
        levels = [parents[label] if label >= 0 else label for label in levels]
        if all(label < 0 for label in levels):
            return False
    return True


@dataclass(frozen=True)
class Command:
    """The command line that started a run."""

    choices: Mapping[str, str | None]  # of each config group
    overrides: Sequence[str]  # key=value, as typed
    directory: str  # working directory; relative paths in the run's config start there
    resumed: Sequence[Sequence[str]] = ()  # overrides of every resume that raised a limit
    hydra_overrides: Sequence[str] = ()  # hydra.run.dir=…, if typed
    script: str = TRAIN  # run directories of older versions lack it

    @property
    def start(self) -> Path:
        """The directory that relative paths in the run's config start at; the current one if it no longer exists."""
        directory = Path(self.directory)
        return directory if directory.is_dir() else Path.cwd()

    def save(self, run_dir: Path) -> None:
        content = {"format": RUN_FORMAT, **asdict(self)}
        write_atomically(run_dir / COMMAND_FILE, json.dumps(content, ensure_ascii=False, indent=1))


@dataclass(frozen=True)
class TrainedRun:
    """A trained run, with all that is needed to classify documents as in its training."""

    run_dir: Path
    experiment: Experiment
    command: Command
    tokenizer: FittedTokenizer
    labels: Labels
    classifier: TextClassifier  # with the weights of the best checkpoint, on the CPU, in evaluation mode


def build_classifier(
    experiment: Experiment,
    network: Network,
    labels: Labels,
    counts: Tensor,
    num_documents: float,
    kind: type[TextClassifier] = TextClassifier,
) -> TextClassifier:
    """The LightningModule of a network.

    counts: (L,) number of training documents with each label, out of `num_documents`, or their weights. kind: for
    training, that of the solver.
    """
    return kind(
        network,
        Loss(labels.task, counts, num_documents, experiment.training),
        DecisionRule(labels.task, len(labels.names), labels.parents, experiment.evaluation),
        partial(measure, task=labels.task, parents=labels.parents),
        labels.metric,
        experiment.training,
        hyperparameters=experiment.config,
    )


def open_run(run_dir: Path) -> TrainedRun:
    """Open a run directory, which may have been moved. Raises UserError that names what is missing or invalid."""
    if (run_dir / ENSEMBLE_FILE).is_file() and not (run_dir / CONFIG_FILE).is_file():
        raise UserError(
            f"{run_dir} is an ensemble of runs, and a single run is needed here: name one of its members, which are in "
            f"its {ENSEMBLE_FILE}."
        )
    is_trained = (run_dir / CONFIG_FILE).is_file() and (run_dir / LABELS_FILE).is_file()
    if not is_trained and (run_dir / FAILED_FILE).is_file():
        ending = read_json(run_dir / FAILED_FILE, Ending)
        raise UserError(f"{run_dir} has no model, since it failed. Its {FAILED_FILE} says: {ending.message}")
    if not (run_dir / CONFIG_FILE).is_file():
        raise UserError(f"{run_dir} is not a run directory: it has no {CONFIG_FILE}. Name the directory of one run.")
    if read_script(run_dir) == PRETRAIN:
        raise UserError(
            f"{run_dir} is a language model, which predicts words and not labels. Train a classifier that starts from "
            f"it: python train.py pretrained={run_dir}."
        )
    if not (run_dir / LABELS_FILE).is_file():
        raise UserError(f"{run_dir} has no {LABELS_FILE}: the run ended before training started. Name a trained run.")
    check_format(run_dir)
    experiment = read_experiment_of(run_dir)
    command, labels = read_command(run_dir), read_labels(run_dir)
    tokenizer = load_tokenizer(run_dir)
    checkpoint = run_dir / BEST_CHECKPOINT
    content = read_best_checkpoint(run_dir)
    weights = content["state_dict"]
    require_same_settings(experiment.config, content.get("hyper_parameters"), run_dir)
    tables = [value for name, value in weights.items() if name.endswith(TABLE_KEY_SUFFIX)]
    num_words = len(tokenizer.tokens)
    counts = torch.ones(len(labels.names), dtype=torch.long)  # only used by the training loss

    def build() -> TextClassifier:
        embedding = experiment.embedding.empty(num_words, tables[0].shape[1] if tables else num_words)
        network = experiment.build_network(embedding, num_outputs(labels.task, len(labels.names)))
        return build_classifier(experiment, network, labels, counts, len(counts))

    try:
        with torch.device("meta"):  # shapes without values: those of the checkpoint decide what is allocated
            expected = build().state_dict()
        require_fit(weights, expected)
        with torch.random.fork_rng(devices=[]):  # initial weights draw random numbers
            classifier = build()
        classifier.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{checkpoint} does not fit {run_dir / CONFIG_FILE}: {error}") from error
    return TrainedRun(run_dir, experiment, command, tokenizer, labels, classifier.eval())


def require_same_settings(config: Settings, trained_with: Any, run_dir: Path) -> None:
    """Raise UserError if a setting that predictions depend on is not the one that the run was trained with.

    trained_with: the settings in the checkpoint.
    """
    for section in PREDICTION_SECTIONS:
        before = trained_with.get(section) if isinstance(trained_with, dict) else None
        for key, value in before.items() if isinstance(before, dict) else ():
            if (now := config[section].get(key, value)) != value:
                raise UserError(
                    f"{run_dir / CONFIG_FILE}: {section}.{key} is {show(now)}, but the run was trained with "
                    f"{show(value)}. Write that value again, or train a new run with the other one."
                )


def require_fit(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise ValueError unless weights are finite and have the names, shapes and types of the expected ones."""
    if missing := sorted(weights.keys() ^ expected.keys()):
        raise ValueError(f"{', '.join(missing[:3])}: in only one of them")
    for name, value in weights.items():
        if value.shape != expected[name].shape or value.dtype != expected[name].dtype:
            shapes = [f"{each.dtype} {list(each.shape)}" for each in (value, expected[name])]
            raise ValueError(f"{name} is {shapes[0]}, not {shapes[1]}")
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{name} has values that are not finite numbers: the training diverged, or it is damaged")


def read_experiment_of(run_dir: Path) -> Experiment:
    """The checked config of a run, for any available device. Raises UserError."""
    config = read_config(run_dir, "trainer")
    config["trainer"] |= {"accelerator": "auto", "devices": None}
    try:
        return read_experiment(config, is_trained=False)
    except UserError as error:
        raise UserError(
            f"{run_dir / CONFIG_FILE}, written by a run, does not fit this version of newsreel:\n{error}"
        ) from error


def read_command(run_dir: Path) -> Command:
    """The command that started a run. Raises UserError."""
    command = read_existing(run_dir / COMMAND_FILE, Command)
    if not Path(command.directory).is_absolute():
        raise UserError(
            f"{run_dir / COMMAND_FILE} is not as a run has written it: its directory is {command.directory!r}, not an "
            "absolute path."
        )
    return command


def read_labels(run_dir: Path) -> Labels:
    """The labels of a run. Raises UserError."""
    labels = read_existing(run_dir / LABELS_FILE, Labels)
    if problem := labels.problem():
        raise UserError(f"{run_dir / LABELS_FILE} is not as a run has written it: {problem}.")
    return labels


def read_existing(file: Path, kind: type[T]) -> T:
    """The content of a JSON file. Raises UserError if it is missing or invalid."""
    try:
        return read_json(file, kind)
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing: name the directory of a run as it was written.") from error
