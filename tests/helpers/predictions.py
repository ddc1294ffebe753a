"""Predictions on made-up test documents."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from helpers.documents import make_corpus
from newsreel.corpora.corpus import Task
from newsreel.evaluation.predictions import Predictions


def predictions(
    test: Sequence[tuple[str, Any]],
    preds: Any,
    probabilities: Any = None,
    task: Task = "multiclass",
    train: Sequence[tuple[str, Any]] = (),
    thresholds: Any = None,
) -> Predictions:
    """test: (text, labels) of each document. probabilities: (N, L), even ones if there are none."""
    scores = np.full((len(test), 3), 1 / 3, np.float32) if probabilities is None else np.asarray(probabilities)
    corpus = make_corpus(train or test[:1], test, task, num_labels=scores.shape[1])
    return Predictions(corpus, "test", scores, np.asarray(preds), corpus.targets("test"), thresholds)
