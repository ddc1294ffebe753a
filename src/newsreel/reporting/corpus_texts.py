"""The texts of a finished run's test documents, found again through its config."""

from typing import TYPE_CHECKING

import numpy as np

from newsreel.core.errors import EXPECTED_ERRORS, first_line
from newsreel.core.paths import working_directory
from newsreel.corpora.sources import no_downloads
from newsreel.evaluation.predictions import Predictions
from newsreel.runs.records import Run
from newsreel.runs.trained_run import read_command, read_experiment_of

if TYPE_CHECKING:
    from datasets import Dataset


def find_texts(run: Run, predictions: Predictions) -> "tuple[Dataset | None, str]":
    """The test documents that a run predicted, from this machine alone; or None and why they are not found."""
    try:
        experiment, command = read_experiment_of(run.run_dir), read_command(run.run_dir)
        with working_directory(command.start), no_downloads():
            corpus = experiment.reader.load(experiment.paths)
    except EXPECTED_ERRORS as error:
        return None, f"the corpus cannot be read here ({first_line(error)})"
    is_same = corpus.fingerprint == run.environment.get("corpus_fingerprint") and np.array_equal(
        corpus.targets("test"), predictions.targets
    )
    return (corpus["test"], "") if is_same else (None, "the corpus has changed since the run")
