"""Documents to classify, read piece by piece: from standard input or from a file of any size."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from newsreel.corpora.files import open_bytes
from newsreel.corpora.tables import (
    TEXT_FORMATS,
    Row,
    Unit,
    document_text,
    line_not_utf8,
    opened,
    parquet_rows,
    require_there,
    shown,
)
from newsreel.errors import UserError

MAX_DOCUMENTS = 4_096  # that are held at a time
MAX_CHARACTERS = 2**23  # of theirs, all but the last one's
BLOCK_BYTES = 2**20  # of a file whose lines are counted


class Source(NamedTuple):
    """Where documents come from."""

    where: str  # in messages
    unit: Unit  # of the places
    rows: Iterator[Row]  # place, text, values of the columns that are kept
    path: Path | None = None


def standard_input() -> Source:
    """One document a line."""

    def rows() -> Iterator[Row]:
        for number, line in enumerate(sys.stdin.buffer, start=1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise line_not_utf8("standard input", number, error) from error
            yield number, document_of(text.removeprefix("\ufeff") if number == 1 else text)

    return Source("standard input", "line", rows())


def file_source(path: Path, column: str, keep: Sequence[str]) -> Source:
    """The documents of a file, by the end of its name. Raises UserError here or, for what is in it, while it is read.

    column: that holds the texts of a table; keep: columns whose values come with them.
    """
    require_there(path, "input")
    wanted = [("column", column), *(("keep", name) for name in keep)]
    name = path.name.lower()
    if path.is_file() and name.endswith(".parquet"):
        return Source(str(path), "row", parquet_rows(path, wanted), path)
    name = name.removesuffix(".gz")
    if path.is_file() and name.endswith(".txt"):
        if keep:
            raise UserError(f"keep={keep[0]}: {path} is a text of one document a line, without columns to keep.")
        return Source(str(path), "line", text_rows(path), path)
    for suffix, rows in TEXT_FORMATS.items():
        if path.is_file() and name.endswith(suffix):
            return Source(str(path), "line", rows(path, wanted), path)
    raise UserError(
        f"input={path}: this is no file that can be read. These end in .txt (one document a line), "
        f"{', '.join(TEXT_FORMATS)} (all also followed by .gz) and .parquet: name the file after what it holds."
    )


def text_rows(path: Path) -> Iterator[Row]:
    with opened(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            yield number, document_of(line)


def document_of(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def count_documents(path: Path) -> int | None:
    """How many documents a file has, where that is soon told: for a progress bar."""
    if path.name.lower().endswith(".parquet"):
        return int(pq.read_metadata(path).num_rows)
    if not path.name.lower().endswith((".txt", ".jsonl", ".ndjson")):
        return None
    with open_bytes(path) as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, BLOCK_BYTES), b""))


def chunks(source: Source, num_documents: int) -> Iterator[list[Row]]:
    """Rows of at most `num_documents` at a time, and one chunk at least, if an empty one; missing texts are empty.

    Raises UserError for values that are no text.
    """
    rows = (checked(source, row) for row in source.rows)
    chunk: list[Row] = []
    num_characters = 0
    for row in rows:
        if len(chunk) == num_documents or num_characters > MAX_CHARACTERS:
            yield chunk
            chunk, num_characters = [], 0
        chunk.append(row)
        num_characters += len(row[1])
    yield chunk


def checked(source: Source, row: Row) -> Row:
    """The row with its text as a training would have read it. Raises UserError if that is none."""
    place, value, *kept = row
    text = document_text(value)
    if text is None:
        raise UserError(
            f"{source.where}, {source.unit} {place}: the document is {shown(value)}, and has to be a text.\n"
            "Name the column of the texts with column=…, or write this one as a text."
        )
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{source.where}, {source.unit} {place}: {text[error.start]!a} is half of a character or none. Write the "
            "whole character, or leave it out."
        ) from error
    return (place, text, *kept)
