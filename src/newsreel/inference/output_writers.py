"""What a finished run says of documents, as Python values, lines of JSON, and tables in files.

Axes: N documents, L labels.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from newsreel.core.errors import UserError
from newsreel.core.storage import replacing
from newsreel.corpora.corpus import Task
from newsreel.inference.explain import Explanation

JSON_ENDINGS = (".jsonl", ".ndjson")
SEPARATOR = ";"  # of several labels in a field of CSV

Write = Callable[["Answers"], None]


@dataclass(frozen=True)
class Answers:
    """The labels of documents, in the documents' order."""

    task: Task
    names: Sequence[str]  # of the labels
    probabilities: np.ndarray  # (N, L) float32
    decided: np.ndarray  # (N,) class numbers, or (N, L) indicators for `multilabel`
    top_k: int | None = None  # how many labels are told with their probabilities; None: all
    kept: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # N values each, from the documents' file
    explanations: Sequence[Explanation] | None = None

    def rows(self) -> list[dict[str, Any]]:
        """For each document its label with the label's probability, or its labels; and the labels' probabilities."""
        probabilities = shortest_decimals(self.by_label()).to_dicts()
        if self.top_k is not None:
            best = [[self.names[label] for label in labels] for labels in self.ranking().tolist()]
            probabilities = [
                {name: row[name] for name in names} for row, names in zip(probabilities, best, strict=True)
            ]
        rows = [
            {**decided, "probabilities": row}
            for decided, row in zip(shortest_decimals(self.verdicts()).to_dicts(), probabilities, strict=True)
        ]
        if self.explanations is not None:
            rows = [row | reason.fields() for row, reason in zip(rows, self.explanations, strict=True)]
        return [kept | row for kept, row in zip(self.kept_rows(), rows, strict=True)] if self.kept else rows

    def lines(self) -> str:
        """`rows` as JSON Lines."""
        if self.top_k is not None or self.explanations is not None:
            return "".join(f"{dumps(row)}\n" for row in self.rows())
        told = self.verdicts().with_columns(self.by_label().to_struct("probabilities"))
        lines = told.to_struct().struct.json_encode().to_list()  # the same, many times as fast
        if self.kept:
            lines = [f"{dumps(kept)[:-1]},{line[1:]}" for kept, line in zip(self.kept_rows(), lines, strict=True)]
        return "".join(f"{line}\n" for line in lines)

    def frame(self) -> pl.DataFrame:
        """A row a document: what is kept of it as text, its label or labels, and the labels' probabilities."""
        kept = [
            pl.Series(name, [as_text(value) for value in values], dtype=pl.String) for name, values in self.kept.items()
        ]
        if self.top_k is None:
            told = [column.alias(f"p({column.name})") for column in self.by_label()]
        else:
            told = []
            for place, labels in enumerate(self.ranking().T, start=1):
                names = [self.names[label] for label in labels.tolist()]
                told.append(pl.Series(f"label_{place}", names, dtype=pl.String))
                told.append(pl.Series(f"probability_{place}", self.probabilities[np.arange(len(labels)), labels]))
        return pl.DataFrame([*kept, *self.verdicts(), *told])

    def verdicts(self) -> pl.DataFrame:
        """What is predicted: the columns `label` and `probability`, or `labels`."""
        names = self.names
        if self.task == "multilabel":
            labels = [[names[label] for label in np.flatnonzero(row).tolist()] for row in self.decided]
            return pl.DataFrame({"labels": labels}, schema={"labels": pl.List(pl.String())})
        return pl.DataFrame(
            {
                "label": pl.Series([names[label] for label in self.decided.tolist()], dtype=pl.String),
                "probability": self.probabilities[np.arange(len(self.decided)), self.decided],
            }
        )

    def by_label(self) -> pl.DataFrame:
        """The probabilities of each label as a column."""
        return pl.DataFrame(dict(zip(self.names, self.probabilities.T, strict=True)))

    def kept_rows(self) -> list[dict[str, Any]]:
        return [dict(zip(self.kept, values, strict=True)) for values in zip(*self.kept.values(), strict=True)]

    def ranking(self) -> np.ndarray:
        """(N, top_k) the most probable labels, the first among equals first."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")[:, : self.top_k]


def shortest_decimals(frame: pl.DataFrame) -> pl.DataFrame:
    """With 32-bit numbers as the 64-bit ones that are written with the fewest digits: 0.1, not 0.10000000149."""
    return frame.with_columns(pl.col(pl.Float32).cast(pl.String).cast(pl.Float64))


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else dumps(value)


def check_output(path: Path | None, kept: Sequence[str], none: Answers, explained: bool) -> None:
    """Raise UserError before any work if answers cannot be written there.

    kept: columns that are to stand beside them. none: answers of the same kind about no document.
    """
    told = [*none.frame().columns, "probabilities", *Explanation.FIELDS]
    for name in kept:
        if name in told or kept.count(name) > 1:
            raise UserError(
                f"keep={name}: predictions have a column of this name themselves, or it is kept twice. Rename it in "
                "the file, or leave it out."
            )
    if path is None:
        return
    require_writable("output", path)
    ending = path.suffix.lower()
    if path.is_dir() or ending not in (*JSON_ENDINGS, ".csv", ".parquet"):
        raise UserError(
            f"output={path}: this is no file that can be written. Its name has to end in {', '.join(JSON_ENDINGS)}, "
            ".csv or .parquet."
        )
    if explained and ending not in JSON_ENDINGS:
        raise UserError(f"output={path}: contributions of tokens (explain=true) are written as JSON Lines alone.")
    if ending == ".csv" and none.task == "multilabel" and (odd := [name for name in none.names if SEPARATOR in name]):
        raise UserError(
            f"output={path}: {SEPARATOR!r} stands between the labels of a document in CSV, and in the label {odd[0]!r} "
            "itself. Use .jsonl or .parquet."
        )


def require_writable(setting: str, path: Path) -> None:
    """Raise UserError if a file cannot be written where `setting` wants it."""
    if not os.access(path.parent, os.W_OK):
        raise UserError(
            f"{setting}={path}: {path.parent} is no folder that can be written to. Make it, or name another."
        )


@contextmanager
def writing(path: Path | None) -> Iterator[Write]:
    """Where answers go, in the format of the file's name; None: standard output. A file is there when it is whole."""
    if path is None:
        yield to_standard_output
        return
    kinds = {".csv": csv_file, ".parquet": parquet_file}
    with replacing(path) as partial, kinds.get(path.suffix.lower(), json_file)(partial) as write:
        yield write


def to_standard_output(answers: Answers) -> None:
    sys.stdout.buffer.write(answers.lines().encode())
    sys.stdout.buffer.flush()


@contextmanager
def json_file(path: Path) -> Iterator[Write]:
    with path.open("wb") as file:

        def write(answers: Answers) -> None:
            file.write(answers.lines().encode())

        yield write


@contextmanager
def csv_file(path: Path) -> Iterator[Write]:
    with path.open("wb") as file:

        def write(answers: Answers) -> None:
            frame = answers.frame()
            joined = [pl.col(name).list.join(SEPARATOR) for name, kind in frame.schema.items() if kind == pl.List]
            frame.with_columns(joined).write_csv(file, include_header=not file.tell())

        yield write


@contextmanager
def parquet_file(path: Path) -> Iterator[Write]:
    with ExitStack() as closing:
        writers: list[pq.ParquetWriter] = []  # one, once the columns are known

        def write(answers: Answers) -> None:
            table = answers.frame().to_arrow()
            if not writers:
                writers.append(closing.enter_context(pq.ParquetWriter(path, table.schema)))
            writers[0].write_table(table)

        yield write
