"""Trained runs that many tests read."""

import shutil
from pathlib import Path
from typing import Any

from helpers.tiny_runs import train_tiny


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
            results = train_tiny(self.folder, *overrides, folder=f"run{len(self._results)}")
            self._results[overrides] = results
        return self._results[overrides]

    def copy(self, to: Path, *overrides: str) -> Path:
        return Path(shutil.copytree(self.run(*overrides), to))
