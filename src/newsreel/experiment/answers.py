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

from newsreel.corpora.corpus import Task
from newsreel.errors import UserError
from newsreel.experiment.explain import Explanation
from newsreel.storage import replacement

JSON_ENDINGS = (".jsonl", ".ndjson")
KINDS = {"labels": pl.List(pl.String()), "probability": pl.Float32()}  # of columns that are not texts
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
        names, shortest = self.names, shortest_decimals(self.probabilities).tolist()
        listed = self.ranking().tolist() if self.top_k else [range(len(names))] * len(shortest)
        told = [
            {"probabilities": {names[label]: row[label] for label in labels}}
            for row, labels in zip(shortest, listed, strict=True)
        ]
        reasons = [{}] * len(told) if self.explanations is None else [reason.fields() for reason in self.explanations]
        return [head | rest | reason for head, rest, reason in zip(self.heads(), told, reasons, strict=True)]

    def lines(self) -> str:
        """`rows` as JSON Lines."""
        if self.top_k or self.explanations is not None:
            return "".join(f"{dumps(row)}\n" for row in self.rows())
        told = pl.DataFrame(dict(zip(self.names, self.probabilities.T, strict=True))).to_struct().struct.json_encode()
        return "".join(
            f'{dumps(head)[:-1]},"probabilities":{probabilities}}}\n'
            for head, probabilities in zip(self.heads(), told, strict=True)
        )

    def heads(self) -> list[dict[str, Any]]:
        """For each document what is kept of it, and its label or labels."""
        columns = {**self.kept, **self.labels()}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def frame(self) -> pl.DataFrame:
        """A row a document: what is kept of it as text, its label or labels, and the labels' probabilities."""
        columns = {name: [as_text(value) for value in values] for name, values in self.kept.items()} | self.labels()
        kinds = {name: KINDS.get(name, pl.String()) for name in columns}
        if self.top_k is None:
            told = [pl.Series(f"p({name})", self.probabilities[:, label]) for label, name in enumerate(self.names)]
            return pl.DataFrame(columns, schema=kinds).with_columns(told)
        for place, labels in enumerate(self.ranking().T, start=1):
            columns[f"label_{place}"] = [self.names[label] for label in labels.tolist()]
            columns[f"probability_{place}"] = self.probabilities[np.arange(len(labels)), labels]
            kinds |= {f"label_{place}": pl.String(), f"probability_{place}": pl.Float32()}
        return pl.DataFrame(columns, schema=kinds)

    def labels(self) -> dict[str, Sequence[Any]]:
        """The columns that say what is predicted."""
        names = self.names
        if self.task == "multilabel":
            return {"labels": [[names[label] for label in np.flatnonzero(row).tolist()] for row in self.decided]}
        scores = shortest_decimals(self.probabilities[np.arange(len(self.decided)), self.decided])
        return {"label": [names[label] for label in self.decided.tolist()], "probability": scores.tolist()}

    def ranking(self) -> np.ndarray:
        """(N, top_k) the most probable labels, the first among equals first."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")[:, : self.top_k]


def shortest_decimals(numbers: np.ndarray) -> np.ndarray:
    """32-bit numbers as the 64-bit ones that are written with the fewest digits: 0.1, not 0.10000000149."""
    decimals = pl.Series(numbers.ravel()).cast(pl.String).cast(pl.Float64).to_numpy()
    return np.asarray(decimals.reshape(numbers.shape))


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
    with replacement(path) as partial, kinds.get(path.suffix.lower(), json_file)(partial) as write:
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
