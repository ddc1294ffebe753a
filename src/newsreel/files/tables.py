"""Tables of the user's documents: checked texts and labels, with the position of each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from newsreel.core.errors import UserError
from newsreel.files.labels import Columns, Labels, MissingLabelsError, Position, Unit, in_brackets, is_missing, shown
from newsreel.files.readers import CHUNK, FOLDER, FORMATS, MAX_DOCUMENT, Document, Layout, Row, find_format, in_words

SCHEMA = {"text": pl.String(), "labels": pl.List(pl.String()), "digest": pl.Binary()}


@dataclass(frozen=True)
class Table:
    """The documents of one file, folder or split, with the position of each for messages."""

    where: str
    unit: Unit  # of the positions
    several: bool | None  # whether a document can have several labels; None: either, and none has
    documents: pl.DataFrame  # position, text, labels (sorted names) and digest (of labels and text)
    notes: tuple[str, ...] = ()


def open_document(path: Path, columns: Columns, layout: Layout) -> Document:
    """A file or folder to read. Raises UserError if its extension does not tell the format."""
    if path.is_dir():
        return Document(path, FOLDER, [], layout)
    name = find_format(path, layout)
    return Document(path, FORMATS[name], columns.named, replace(layout, format=name))


def read_table(path: Path, columns: Columns, layout: Layout) -> Table:
    """The documents of the user's file or folder.

    Raises UserError, with the line or row, for unreadable files and invalid rows.
    """
    document = open_document(path, columns, layout)
    has_columns = document.format not in (FOLDER, FORMATS["fasttext"])
    if not has_columns:  # they have one text, and the labels in one form
        columns = Columns(("text",), ("label",))
    table = collect(str(path), document.format.unit, document.rows(), columns)
    if document.format is FORMATS["fasttext"] and table.documents["labels"].list.len().max() == 1:
        table = replace(table, several=None)
    return replace(table, notes=tuple(document.notes))


def concatenate(tables: list[Table]) -> Table:
    """The documents of several files as one table. Raises UserError if only some have several labels."""
    if len(tables) == 1:
        return tables[0]
    several = {table.several for table in tables if table.several is not None}
    if len(several) > 1:
        lists, others = [table.where for table in tables if table.several], [t.where for t in tables if not t.several]
        raise UserError(
            f"{', '.join(lists)} has lists of labels, but {', '.join(others)} has one label per document: use the same "
            "form in all files."
        )
    frames = [
        table.documents.with_columns(
            position=pl.format("{} of {}", pl.col("position").cast(pl.String), pl.lit(table.where))
        )
        for table in tables
    ]
    where = ", ".join(table.where for table in tables)
    notes = tuple(note for table in tables for note in table.notes)
    return Table(where, tables[0].unit, next(iter(several), None), pl.concat(frames), notes)


def collect(where: str, unit: Unit, rows: Iterable[Row], columns: Columns) -> Table:
    """A table from rows of a position, the values of the text columns and those of the label columns.

    Without label columns, the documents have no labels. Raises UserError for values of the wrong type, empty texts and
    missing labels.
    """
    labels = Labels(where, unit, columns)
    without_text: list[Position] = []
    without_label: list[Position] = []
    num_texts = len(columns.text)

    def documents() -> Iterator[tuple[Position, str, list[str], bytes]]:
        for row in tqdm(rows, unit=" documents", desc=f"reading {where}", disable=None, leave=False):
            position = row[0]
            text = document_text(row[1]) if num_texts == 1 else joined_text(row[1 : num_texts + 1])
            if text is None:
                raise not_a_text(where, unit, row, columns)
            names: list[str] | None = []
            if columns.label:
                names = labels.names(position, row[-1] if len(columns.label) == 1 else list(row[num_texts + 1 :]))
            if names is None:
                without_label.append(position)
            if not text:
                without_text.append(position)
            require_short(where, unit, position, text)
            if text and names is not None:
                try:
                    yield position, text, names, sha256("\0".join([*names, "", text]).encode()).digest()
                except UnicodeEncodeError as error:
                    raise UserError(
                        f"{where}, {unit} {position}: {error.object[error.start]!a} is half of a surrogate pair. "
                        "Write the whole character, or remove it."
                    ) from error

    chunks = []
    remaining = documents()
    while chunk := list(islice(remaining, CHUNK)):
        positions, *contents = zip(*chunk, strict=True)
        frame = pl.DataFrame(dict(zip(SCHEMA, contents, strict=True)), schema=SCHEMA)
        chunks.append(frame.with_columns(position=pl.Series(positions)))
    labels.require_no_vectors()
    require_complete(where, unit, columns, without_text, without_label)
    if not chunks:
        raise UserError(f"{where} has no documents. Training, validation and test need at least one each.")
    return Table(where, unit, labels.several, pl.concat(chunks))


def require_short(where: str, unit: Unit, position: Position, text: str) -> None:
    """Raise UserError if a document is too long."""
    if len(text) > MAX_DOCUMENT:
        raise UserError(
            f"{where}, {unit} {position}: the document has {len(text):,} characters; at most {MAX_DOCUMENT:,} are "
            "possible. Divide it into several documents, or shorten it."
        )


def require_complete(
    where: str, unit: Unit, columns: Columns, without_text: list[Position], without_label: list[Position]
) -> None:
    """Raise UserError if there are documents without text or label."""
    problems = [
        f"{len(positions):,} {'have' if len(positions) > 1 else 'has'} no {what} ({in_words(unit, positions)})"
        for what, positions in (("text", without_text), ("label", without_label))
        if positions
    ]
    if problems:
        raise (MissingLabelsError if without_label else UserError)(
            f"{where}: of its documents, {' and '.join(problems)}; {columns.shown}.\nRemove them, fill in the missing "
            "values, or use other documents."
        )


def not_a_text(where: str, unit: Unit, row: Row, columns: Columns) -> UserError:
    values = dict(zip(columns.text, row[1:], strict=False))
    name = next(name for name, value in values.items() if document_text(value) is None)
    setting = f"data.text={in_brackets(columns.text)}"
    subject = f"{setting} is {shown(values[name])}" if len(columns.text) == 1 else f"{name} is {shown(values[name])}"
    return UserError(
        f"{where}, {unit} {row[0]}: {subject}; it must be a text.\nName the column of the texts, or write this "
        "value as a text."
    )


def document_text(value: Any) -> str | None:
    """A document's text, the same for all formats; empty if it is missing, None if the value is not a text."""
    if is_missing(value):
        return ""
    if not isinstance(value, str):
        return None
    return (value.replace("\r\n", "\n") if "\r" in value else value).strip()  # searching one character is much faster


def joined_or_wrong(values: Sequence[Any]) -> Any:
    """`joined_text`, or the first value that is not a text."""
    text = joined_text(values)
    return next(value for value in values if document_text(value) is None) if text is None else text


def joined_text(values: Iterable[Any]) -> str | None:
    """The texts of several columns, one after the other on lines of their own; missing ones are left out."""
    texts = [document_text(value) for value in values]
    return None if None in texts else "\n".join(text for text in texts if text)
