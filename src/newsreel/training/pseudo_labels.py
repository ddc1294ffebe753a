"""Training with pseudo-labels: the teacher's labels for a new run, and those in the directory of a resumed one."""

from pathlib import Path

import numpy as np

from newsreel.config.schema import Experiment
from newsreel.core.cache import DAMAGE
from newsreel.core.dist import device_of
from newsreel.core.errors import UserError, first_line
from newsreel.core.storage import check_zip, replacing
from newsreel.corpora.corpus import Corpus
from newsreel.corpora.pseudo_labels import TeacherLabels, add_pseudo_labels, unlabeled_documents
from newsreel.runs.teachers import label_documents

PSEUDO_LABELS_FILE = "pseudo_labels.npz"


def pseudo_labelled(corpus: Corpus, experiment: Experiment, run_dir: Path, is_resumed: bool) -> Corpus:
    """The corpus with unlabelled documents as training documents, labelled by the runs in data.pseudo_labels, if any.

    A resumed run has kept its labels, and needs no teacher. Raises UserError.
    """
    reader = experiment.reader
    if reader.pseudo_labels is None:
        return corpus
    table, num_left_out = unlabeled_documents(corpus)
    if is_resumed:
        labels = read_labels(run_dir, len(table))
    else:
        device = device_of(experiment.trainer.accelerator)
        labels = label_documents(reader.pseudo_labels, table, corpus, run_dir, experiment.paths.cache, device)
    return add_pseudo_labels(corpus, table, labels, reader.pseudo_targets, reader.pseudo_weight, num_left_out)


def save_labels(run_dir: Path, labels: TeacherLabels) -> None:
    with replacing(run_dir / PSEUDO_LABELS_FILE) as partial, partial.open("wb") as file:
        np.savez(file, **vars(labels))


def read_labels(run_dir: Path, num_documents: int) -> TeacherLabels:
    """The labels that a run was started with. Raises UserError if they are missing or are not of `num_documents`."""
    file = run_dir / PSEUDO_LABELS_FILE
    try:
        check_zip(file)
        with np.load(file) as arrays:
            labels = TeacherLabels(arrays["probabilities"], arrays["decisions"], str(arrays["teacher"]))
        if not len(labels.probabilities) == len(labels.decisions) == num_documents:
            raise ValueError(
                f"it has labels of {len(labels.probabilities):,} documents, and there are {num_documents:,}"
            )
    except DAMAGE as error:
        raise UserError(
            f"{file} does not have the labels that this run was started with: {first_line(error)}. Restore it and the "
            "unlabelled documents, or start a new run."
        ) from error
    return labels
