"""Results of rows: measured, kept in a JSON file, and merged by row."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from newsreel.core.storage import write_atomically

SCORES = ("accuracy", "f1_micro")  # how good a trained model is: of these figures, the first that there is


@dataclass(frozen=True)
class Side:
    """The figures of one side of a row, one per round."""

    values: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)  # empty if it trains nothing
    error: str | None = None  # why there are none

    def add(self, figures: Mapping[str, float], figure: str) -> None:
        self.values.append(figures[figure])
        self.scores.extend([figures[name] for name in SCORES if name in figures][:1])

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def score(self) -> float | None:
        return median(self.scores) if self.scores else None


@dataclass(frozen=True)
class Result:
    """A measured row."""

    row: str
    ours: Side
    peer: Side
    measured: dict[str, Any]  # machine, versions, date and command
    limit: int | None = None  # number of documents of each class: a trial, not a measurement

    @property
    def ratios(self) -> list[float]:
        """Of newsreel's figure to the peer's in each round; empty if one of them failed."""
        if self.ours.error or self.peer.error:
            return []
        return [ours / peer for ours, peer in zip(self.ours.values, self.peer.values, strict=True)]

    @property
    def ratio(self) -> float:
        return median(self.ratios)


def read_results(file: Path) -> dict[str, Result]:
    """The results that `write_results` wrote, by row; none if there is no such file."""
    records = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    results = [
        Result(**{**record, "ours": Side(**record["ours"]), "peer": Side(**record["peer"])}) for record in records
    ]
    return {result.row: result for result in results}


def write_results(file: Path, results: Mapping[str, Result], order: Sequence[str]) -> None:
    """Write a JSON list with one row per line. Rows that are no longer in `order` are left out."""
    lines = [json.dumps(asdict(results[row]), ensure_ascii=False) for row in order if row in results]
    write_atomically(file, "[\n" + ",\n".join(lines) + "\n]\n")
