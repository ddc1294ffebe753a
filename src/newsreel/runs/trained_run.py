"""Trained runs, opened from their run directories."""

import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from newsreel.config.schema import Experiment, read_experiment
from newsreel.core.errors import UserError
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
    LABELS_FILE,
    RUN_FORMAT,
    TABLE_KEY_SUFFIX,
    check_format,
    read_config,
    read_weights,
)
from newsreel.text.loading import load_tokenizer
from newsreel.text.tokens import FittedTokenizer


@dataclass(frozen=True)
class Labels:
    """The labels and the task of a run."""

    task: Task
    metric: str  # monitored in training
    names: Sequence[str]
    titles: Sequence[str]  # display names; empty: the names
    parents: Sequence[int]  # index of each label's parent, -1 for none; empty: no hierarchy

    @classmethod
    def of(cls, corpus: Corpus) -> "Labels":
        return cls(corpus.task, corpus.metric, corpus.label_names, corpus.label_titles, corpus.parents)

    def save(self, run_dir: Path) -> None:
        write_atomically(run_dir / LABELS_FILE, json.dumps(asdict(self), ensure_ascii=False, indent=1))


@dataclass(frozen=True)
class Command:
    """The command line that started a run."""

    choices: dict[str, str]  # of each config group
    overrides: Sequence[str]  # key=value, as typed
    directory: str  # working directory; relative paths in the run's config start there
    resumed: Sequence[Sequence[str]] = ()  # overrides of every resume that raised a limit
    hydra_overrides: Sequence[str] = ()  # hydra.run.dir=…, if typed

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
    experiment: Experiment, network: Network, labels: Labels, counts: Tensor, num_documents: int
) -> TextClassifier:
    """The LightningModule of a network.

    counts: (L,) number of training documents with each label, out of `num_documents`.
    """
    return TextClassifier(
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
    if not (run_dir / CONFIG_FILE).is_file():
        raise UserError(f"{run_dir} is not a run directory: it has no {CONFIG_FILE}. Name the directory of one run.")
    if not (run_dir / LABELS_FILE).is_file():
        raise UserError(f"{run_dir} is a run that ended before training started. Name a trained run.")
    check_format(run_dir)
    experiment = read_experiment_of(run_dir)
    command = Command(**read_fields(run_dir / COMMAND_FILE, Command))
    labels = Labels(**read_fields(run_dir / LABELS_FILE, Labels))
    tokenizer = load_tokenizer(run_dir)
    checkpoint = run_dir / BEST_CHECKPOINT
    weights = read_weights(checkpoint)
    tables = [value for name, value in weights.items() if name.endswith(TABLE_KEY_SUFFIX)]
    num_words = len(tokenizer.tokens)
    embedding = experiment.embedding.empty(num_words, tables[0].shape[1] if tables else num_words)
    network = experiment.build_network(embedding, num_outputs(labels.task, len(labels.names)))
    counts = torch.ones(len(labels.names), dtype=torch.long)  # only used by the training loss
    classifier = build_classifier(experiment, network, labels, counts, len(counts))
    try:
        classifier.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{checkpoint} does not fit {run_dir / CONFIG_FILE}: {error}") from error
    return TrainedRun(run_dir, experiment, command, tokenizer, labels, classifier.eval())


def read_experiment_of(run_dir: Path) -> Experiment:
    """The checked config of a run, for any available device. Raises UserError."""
    config = read_config(run_dir, "trainer")
    config["trainer"] |= {"accelerator": "auto", "devices": None}
    try:
        return read_experiment(config)
    except UserError as error:
        raise UserError(
            f"{run_dir / CONFIG_FILE}, written by a run, does not fit this version of newsreel:\n{error}"
        ) from error


def read_fields(file: Path, dataclass_type: type) -> dict[str, Any]:
    """Read the fields of a dataclass from a JSON file; those with a default may be missing. Raises UserError."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        fields = dataclass_type.__dataclass_fields__  # type: ignore[attr-defined]
        names = [name for name in fields if name in content or fields[name].default is MISSING]
        return {name: content[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a valid file of a run: {type(error).__name__}: {error}") from error
