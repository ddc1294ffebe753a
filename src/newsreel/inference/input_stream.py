"""Documents to classify, read piece by piece: from standard input or from a file of any size."""

import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from newsreel.core.errors import UserError
from newsreel.files.archives import open_bytes
from newsreel.files.readers import (
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

MAX_DOCUMENTS = 4_096  # that are held at a time
MAX_CHARACTERS = 2**23  # of theirs, all but the last one's
BLOCK_BYTES = 2**20  # of a file whose lines are counted, and of standard input at most at a time
PATIENCE_SECONDS = 0.2  # that a document on standard input waits for others, at most


class Source(NamedTuple):
    """Where documents come from."""

    where: str  # in messages
    unit: Unit  # of the places
    rows: Iterator[Row]  # place, text, values of the columns that are kept
    path: Path | None = None
    pauses: Callable[[float], bool] | None = None  # whether no row comes within so many seconds; None: never


def standard_input() -> Source:
    """One document a line."""
    lines = StreamLines(sys.stdin.buffer)  # type: ignore[arg-type]

    def rows() -> Iterator[Row]:
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise line_not_utf8("standard input", number, error) from error
            yield number, document_of(text.removeprefix("\ufeff") if number == 1 else text)

    return Source("standard input", "line", rows(), pauses=lines.pause)


class StreamLines:
    """The lines of a stream, read as they come."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self._ready: deque[bytes] = deque()
        self._begun: list[bytes] = []  # parts of a line whose end has not come

    def __iter__(self) -> Iterator[bytes]:
        while self._ready or self._read():
            while self._ready:
                yield self._ready.popleft()

    def _read(self) -> bool:
        """Wait for some bytes. Returns whether the stream goes on."""
        block = self._stream.read1(BLOCK_BYTES)
        if not block:
            if self._begun:
                self._ready.append(b"".join(self._begun))
                self._begun = []
            return bool(self._ready)
        if b"\n" not in block:
            self._begun.append(block)
            return True
        *whole, rest = b"".join([*self._begun, block]).split(b"\n")
        self._ready.extend(whole)
        self._begun = [rest] if rest else []
        return True

    def pause(self, patience: float) -> bool:
        """Whether nothing comes within so many seconds; False where that cannot be told."""
        if self._ready:
            return False
        try:
            return not select.select([self._stream], [], [], max(0.0, patience))[0]
        except (OSError, ValueError):  # no pipe or file of the system
            return False


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

    Fewer where the source pauses, so that those who watch a pipe have their answers. Raises UserError for values that
    are no text.
    """
    chunk: list[Row] = []
    num_characters = 0
    deadline = 0.0  # of the monotonic clock, when those in the chunk are not to wait any longer
    for row in source.rows:
        row = checked(source, row)
        deadline = deadline if chunk else time.monotonic() + PATIENCE_SECONDS
        chunk.append(row)
        num_characters += len(row[1])
        full = len(chunk) == num_documents or num_characters > MAX_CHARACTERS
        if full or (source.pauses is not None and source.pauses(deadline - time.monotonic())):
            yield chunk
            chunk, num_characters = [], 0
    if chunk or not deadline:
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
