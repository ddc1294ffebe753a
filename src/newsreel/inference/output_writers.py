"""Predictions for documents as Python values, JSON Lines, CSV and Parquet.

Axes: N documents, L labels.
"""

import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Task
from newsreel.evaluation.explanations import Explanation
from newsreel.inference.output_files import replacing_output

JSON_ENDINGS = (".jsonl", ".ndjson")
SEPARATOR = ";"  # between labels in a CSV field
FORMULA = "^[=+\\-@\\t\\r\\n\\x00＝＋－＠]"  # beginnings of formulas (OWASP, CSV Injection)

Write = Callable[["PredictionBatch"], None]


@dataclass(frozen=True)
class PredictionBatch:
    """Predictions for documents, in input order."""

    task: Task
    names: Sequence[str]  # of the labels
    probabilities: np.ndarray  # (N, L) float32
    preds: np.ndarray  # (N,) class indices, or (N, L) indicators for `multilabel`
    top_k: int | None = None  # number of labels with probabilities in the output; None: all
    kept_columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # N values each, from the input file
    explanations: Sequence[Explanation] | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One dict per document: label and probability, or labels; probabilities; explanation; kept columns."""
        probabilities = shortest_decimals(self.by_label()).to_dicts()
        if self.top_k is not None:
            best = [[self.names[label] for label in labels] for labels in self.ranking().tolist()]
            probabilities = [
                {name: row[name] for name in names} for row, names in zip(probabilities, best, strict=True)
            ]
        rows = [
            {**prediction, "probabilities": row}
            for prediction, row in zip(
                shortest_decimals(self.predicted_labels()).to_dicts(), probabilities, strict=True
            )
        ]
        if self.explanations is not None:
            rows = [row | explanation.fields() for row, explanation in zip(rows, self.explanations, strict=True)]
        if not self.kept_columns:
            return rows
        return [kept_row | row for kept_row, row in zip(self.kept_rows(), rows, strict=True)]

    def lines(self) -> str:
        """`rows` as JSON Lines."""
        if self.top_k is not None or self.explanations is not None:
            return "".join(f"{dumps(row)}\n" for row in self.rows())
        frame = self.predicted_labels().with_columns(self.by_label().to_struct("probabilities"))
        lines = frame.to_struct().struct.json_encode().to_list()  # the same as `rows`, but many times faster
        if self.kept_columns:
            lines = [f"{dumps(row)[:-1]},{line[1:]}" for row, line in zip(self.kept_rows(), lines, strict=True)]
        return "".join(f"{line}\n" for line in lines)

    def frame(self) -> pl.DataFrame:
        """One row per document: kept columns as text, label or labels, and probabilities."""
        kept_columns = [
            pl.Series(name, [as_text(value) for value in values], dtype=pl.String)
            for name, values in self.kept_columns.items()
        ]
        if self.top_k is None:
            scores = [column.alias(f"p({column.name})") for column in self.by_label()]
        else:
            scores = []
            for rank, labels in enumerate(self.ranking().T, start=1):
                names = [self.names[label] for label in labels.tolist()]
                scores.append(pl.Series(f"label_{rank}", names, dtype=pl.String))
                scores.append(pl.Series(f"probability_{rank}", self.probabilities[np.arange(len(labels)), labels]))
        return pl.DataFrame([*kept_columns, *self.predicted_labels(), *scores])

    def predicted_labels(self) -> pl.DataFrame:
        """The columns `label` and `probability`, or `labels`."""
        names = self.names
        if self.task == "multilabel":
            labels = [[names[label] for label in np.flatnonzero(row).tolist()] for row in self.preds]
            return pl.DataFrame({"labels": labels}, schema={"labels": pl.List(pl.String())})
        return pl.DataFrame(
            {
                "label": pl.Series([names[label] for label in self.preds.tolist()], dtype=pl.String),
                "probability": self.probabilities[np.arange(len(self.preds)), self.preds],
            }
        )

    def by_label(self) -> pl.DataFrame:
        """One column of probabilities per label."""
        return pl.DataFrame(dict(zip(self.names, self.probabilities.T, strict=True)))

    def kept_rows(self) -> list[dict[str, Any]]:
        return [dict(zip(self.kept_columns, row, strict=True)) for row in zip(*self.kept_columns.values(), strict=True)]

    def ranking(self) -> np.ndarray:
        """(N, top_k) the most probable labels; ties go to the label with the lower index."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")[:, : self.top_k]


def shortest_decimals(frame: pl.DataFrame) -> pl.DataFrame:
    """Cast float32 columns to the float64 numbers with the shortest representation: 0.1, not 0.10000000149."""
    return frame.with_columns(pl.col(pl.Float32).cast(pl.String).cast(pl.Float64))


def dumps(value: Any) -> str:
    """JSON, with null for what is no number."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str, allow_nan=False)
    except ValueError:  # NaN or infinite, perhaps deep inside
        return json.dumps(without_nan(value), ensure_ascii=False, separators=(",", ":"), default=str)


def without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_text(value: Any) -> str | None:
    value = without_nan(value)
    return value if value is None or isinstance(value, str) else dumps(value)


def check_output(path: Path | None, kept: Sequence[str], none: PredictionBatch, explained: bool) -> None:
    """Raise UserError, before any work, if predictions cannot be written to `path`.

    kept: names of the columns to keep. none: predictions of the same kind for no documents.
    """
    reserved = [*none.frame().columns, "probabilities", *Explanation.FIELDS]
    for name in kept:
        if name in reserved or kept.count(name) > 1:
            raise UserError(
                f"keep={name}: predictions have a column of the same name, or it is kept twice. Rename it in the "
                "file, or leave it out."
            )
    if path is None:
        return
    require_writable("output", path)
    ending = path.suffix.lower()
    if path.is_dir() or ending not in (*JSON_ENDINGS, ".csv", ".parquet"):
        raise UserError(
            f"output={path}: this is not a file that can be written. The extension must be {', '.join(JSON_ENDINGS)}, "
            ".csv or .parquet."
        )
    if explained and ending not in JSON_ENDINGS:
        raise UserError(f"output={path}: explanations (explain=true) can only be written as JSON Lines (.jsonl).")
    if (
        ending == ".csv"
        and none.task == "multilabel"
        and (invalid := [name for name in none.names if SEPARATOR in name])
    ):
        raise UserError(
            f"output={path}: {SEPARATOR!r} separates labels in CSV, but the label {invalid[0]!r} contains it. Use "
            ".jsonl or .parquet."
        )


def require_csv(path: Path | None) -> None:
    """Raise UserError if predictions are not written as CSV, the only format whose texts can become formulas."""
    if path is None or path.suffix.lower() != ".csv":
        raise UserError(
            f"escape_formulas=true has an effect on CSV only, but output is {path}: omit it, or write a .csv file."
        )


def require_writable(setting: str, path: Path) -> None:
    """Raise UserError if the directory of the path in `setting` is not writable."""
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{setting}={path}: {path.parent} is not a writable directory. Create it, or name another one.")


@contextmanager
def writing(path: Path | None, escape_formulas: bool = False) -> Iterator[Write]:
    """Context with a function that writes predictions, in the format of the extension; None: standard output.

    The file appears when it is complete. escape_formulas: whether CSV has an apostrophe before texts that a spreadsheet
    would take for formulas.
    """
    if path is None:
        yield to_standard_output
        return
    writers_by_ending: dict[str, Callable[[Path], AbstractContextManager[Write]]]
    writers_by_ending = {".csv": partial(csv_file, escape_formulas=escape_formulas), ".parquet": parquet_file}
    with (
        replacing_output(path) as partial_path,
        writers_by_ending.get(path.suffix.lower(), json_file)(partial_path) as write,
    ):
        yield write


def to_standard_output(predictions: PredictionBatch) -> None:
    sys.stdout.buffer.write(predictions.lines().encode())
    sys.stdout.buffer.flush()


@contextmanager
def json_file(path: Path) -> Iterator[Write]:
    with path.open("wb") as file:

        def write(predictions: PredictionBatch) -> None:
            file.write(predictions.lines().encode())

        yield write


@contextmanager
def csv_file(path: Path, escape_formulas: bool) -> Iterator[Write]:
    with path.open("wb") as file:

        def write(predictions: PredictionBatch) -> None:
            frame = predictions.frame()
            joined = [pl.col(name).list.join(SEPARATOR) for name, kind in frame.schema.items() if kind == pl.List]
            frame = frame.with_columns(joined)
            if escape_formulas:
                frame = without_formulas(frame)
            frame.write_csv(file, include_header=not file.tell())

        yield write


def without_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """The table with an apostrophe before names and texts that a spreadsheet would take for formulas."""
    texts = pl.col(pl.String)
    escaped = frame.with_columns(pl.when(texts.str.contains(FORMULA)).then("'" + texts).otherwise(texts).name.keep())
    return escaped.rename({name: f"'{name}" for name in frame.columns if re.match(FORMULA, name)})


@contextmanager
def parquet_file(path: Path) -> Iterator[Write]:
    with ExitStack() as closing:
        writers: list[pq.ParquetWriter] = []  # one, once the columns are known

        def write(predictions: PredictionBatch) -> None:
            table = predictions.frame().to_arrow()
            if not writers:
                writers.append(closing.enter_context(pq.ParquetWriter(path, table.schema)))
            writers[0].write_table(table)

        yield write
