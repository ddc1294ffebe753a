"""Trained runs that many tests read."""

import shutil
from pathlib import Path
from typing import Any

from helpers.tiny_runs import SMALL_LSTM, train_tiny

LSTM = [*SMALL_LSTM, "batches.max_tokens=9", "batches.batch_size=8"]
TOPICS = ["model=bow", "data.num_labels=4", "data.multilabel=true"]
CLASSES = ["model=bow", "model.weighting=nb", "tokenizer=ngrams", "data.num_labels=3"]
SUBWORDS = ["model=cnn", "model.num_filters=4", "embedding.dimension=8", "tokenizer=subwords"]
RUNS = {"lstm": LSTM, "topics": TOPICS, "classes": CLASSES, "subwords": SUBWORDS}
EASY = ["data.difficulty=0", "data.num_documents=500", "data.mean_length=30", "embedding.word_dropout=0"]
LEARNABLE = [*SMALL_LSTM, *EASY, "training.learning_rate=0.02", "training.max_epochs=4"]


class SharedRuns:
    """Trains each run once a session and worker. A test that changes a run's folder takes a copy of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._results: dict[tuple[str, ...], dict[str, Any]] = {}

    def run(self, *overrides: str) -> Path:
        """The folder of the run with these settings."""
        self.results(*overrides)
        return self.folder / f"run{list(self._results).index(overrides)}"

    def results(self, *overrides: str) -> dict[str, Any]:
        """metrics.json of that run."""
        if overrides not in self._results:
            self._results[overrides] = train_tiny(self.folder, *overrides, folder=f"run{len(self._results)}")
        return self._results[overrides]

    def copy(self, to: Path, *overrides: str) -> Path:
        return Path(shutil.copytree(self.run(*overrides), to))
