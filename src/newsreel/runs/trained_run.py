"""Runs that were trained before, opened from their folders alone."""

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
    """What the documents of a run are classified into."""

    task: Task
    metric: str  # what the run followed while training
    names: Sequence[str]
    titles: Sequence[str]  # what reports call the labels; empty: their names
    parents: Sequence[int]  # of each label the label above it, -1 for none; empty: no hierarchy

    @classmethod
    def of(cls, corpus: Corpus) -> "Labels":
        return cls(corpus.task, corpus.metric, corpus.label_names, corpus.label_titles, corpus.parents)

    def save(self, folder: Path) -> None:
        write_atomically(folder / LABELS_FILE, json.dumps(asdict(self), ensure_ascii=False, indent=1))


@dataclass(frozen=True)
class Command:
    """How a run was asked for."""

    choices: dict[str, str]  # of each group of the config
    overrides: Sequence[str]  # key=value, as typed
    directory: str  # where it was typed: relative paths of the run's config start there
    resumed: Sequence[Sequence[str]] = ()  # of every time that it went on with a limit raised, what was typed

    @property
    def start(self) -> Path:
        """Where the relative paths of the run's config start now: here, if its own directory is gone."""
        directory = Path(self.directory)
        return directory if directory.is_dir() else Path.cwd()

    def save(self, folder: Path) -> None:
        content = {"format": RUN_FORMAT, **asdict(self)}
        write_atomically(folder / COMMAND_FILE, json.dumps(content, ensure_ascii=False, indent=1))


@dataclass(frozen=True)
class TrainedRun:
    """A run folder's content: all that is needed to classify documents as its training did."""

    folder: Path
    experiment: Experiment
    command: Command
    tokenizer: FittedTokenizer
    labels: Labels
    classifier: TextClassifier  # as in the best checkpoint, on the processor, in evaluation mode


def build_classifier(
    experiment: Experiment, network: Network, labels: Labels, counts: Tensor, num_documents: int
) -> TextClassifier:
    """The LightningModule of a network. counts: (L,) training documents with each label, of `num_documents`."""
    return TextClassifier(
        network,
        Loss(labels.task, counts, num_documents, experiment.training),
        DecisionRule(labels.task, len(labels.names), labels.parents, experiment.evaluation),
        partial(measure, task=labels.task, parents=labels.parents),
        labels.metric,
        experiment.training,
        hyperparameters=experiment.config,
    )


def open_run(folder: Path) -> TrainedRun:
    """The run of a folder, wherever that has been moved to. Raises UserError that names what is missing or broken."""
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(f"{folder} is not a run folder: it has no {CONFIG_FILE}. Name the folder of one run.")
    if not (folder / LABELS_FILE).is_file():
        raise UserError(f"{folder} is a run that ended before it began to train. Name one that has trained.")
    check_format(folder)
    experiment = read_experiment_of(folder)
    command = Command(**read_fields(folder / COMMAND_FILE, Command))
    labels = Labels(**read_fields(folder / LABELS_FILE, Labels))
    tokenizer = load_tokenizer(folder)
    checkpoint = folder / BEST_CHECKPOINT
    weights = read_weights(checkpoint)
    tables = [value for name, value in weights.items() if name.endswith(TABLE_KEY_SUFFIX)]
    num_words = len(tokenizer.tokens)
    embedding = experiment.embedding.empty(num_words, tables[0].shape[1] if tables else num_words)
    network = experiment.build_network(embedding, num_outputs(labels.task, len(labels.names)))
    counts = torch.ones(len(labels.names), dtype=torch.long)  # they weigh the training loss alone
    classifier = build_classifier(experiment, network, labels, counts, len(counts))
    try:
        classifier.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{checkpoint} does not fit {folder / CONFIG_FILE}: {error}") from error
    return TrainedRun(folder, experiment, command, tokenizer, labels, classifier.eval())


def read_experiment_of(folder: Path) -> Experiment:
    """The checked config of a run folder, for whatever device is here. Raises UserError."""
    config = read_config(folder, "trainer")
    config["trainer"] |= {"accelerator": "auto", "devices": None}
    try:
        return read_experiment(config)
    except UserError as error:
        raise UserError(
            f"{folder / CONFIG_FILE}, which a run has written, does not fit this version of newsreel:\n{error}"
        ) from error


def read_fields(file: Path, kind: type) -> dict[str, Any]:
    """The fields of a dataclass from a file, those with a default only if they are there. Raises UserError."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
        needed = [name for name in fields if name in content or fields[name].default is MISSING]
        return {name: content[name] for name in needed}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not as a run has written it: {type(error).__name__}: {error}") from error
