"""Documents to classify, streamed from standard input or from a file of any size."""

import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from newsreel.core.errors import UserError
from newsreel.files.archives import OPENERS, open_bytes, uncompressed_name
from newsreel.files.labels import Unit, shown
from newsreel.files.readers import (
    EXTENSIONS,
    FORMATS,
    LINES,
    MAX_RECORD,
    Document,
    Layout,
    Row,
    find_format,
    line_not_utf8,
    require_there,
    strip_newline,
)
from newsreel.files.tables import document_text, joined_or_wrong, require_short
from newsreel.inference.output_writers import dumps

MAX_DOCUMENTS = 4_096  # per chunk
MAX_CHARACTERS = 2**23  # per chunk, without its last document
BLOCK_BYTES = 2**20  # read at a time
PATIENCE_SECONDS = 0.2  # maximum time that a document on standard input waits for others


class Source(NamedTuple):
    """A source of documents."""

    where: str  # in messages
    unit: Unit  # line or row, in messages
    rows: Iterator[Row]  # (line or row number, text, values of the kept columns)
    path: Path | None = None
    pauses: Callable[[float], bool] | None = None  # whether no row arrives within this many seconds; None: never


def standard_input() -> Source:
    """Standard input, with one document per line."""
    lines = StreamLines(sys.stdin.buffer)  # type: ignore[arg-type]

    def rows() -> Iterator[Row]:
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise line_not_utf8("standard input", number, error, layout=None) from error
            yield number, strip_newline(text.removeprefix("\ufeff") if number == 1 else text)

    return Source("standard input", "line", rows(), pauses=lines.pause)


class StreamLines:
    """The lines of a stream, as they arrive. Raises UserError for a line of more than MAX_RECORD bytes."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self._ready: deque[bytes] = deque()
        self._incomplete: list[bytes] = []  # parts of an incomplete line
        self._size = 0  # bytes of these parts

    def __iter__(self) -> Iterator[bytes]:
        while self._ready or self._read():
            while self._ready:
                yield self._ready.popleft()

    def _read(self) -> bool:
        """Read the next block; returns False at the end of the stream."""
        block = self._stream.read1(BLOCK_BYTES)
        if not block:
            if self._incomplete:
                self._ready.append(b"".join(self._incomplete))
                self._incomplete = []
            return bool(self._ready)
        if b"\n" not in block:
            self._incomplete.append(block)
            self._size += len(block)
            if self._size > MAX_RECORD:
                raise UserError(
                    f"standard input has a line of more than {MAX_RECORD:,} bytes: it must have one document per line. "
                    "Divide larger documents into several."
                )
            return True
        *lines, rest = b"".join([*self._incomplete, block]).split(b"\n")
        self._ready.extend(lines)
        self._incomplete = [rest] if rest else []
        self._size = len(rest)
        return True

    def pause(self, patience: float) -> bool:
        """Whether nothing arrives within `patience` seconds; False if that cannot be determined."""
        if self._ready:
            return False
        try:
            return not select.select([self._stream], [], [], max(0.0, patience))[0]
        except (OSError, ValueError):  # without a file descriptor
            return False


def file_source(path: Path, text: Sequence[str], keep: Sequence[str], layout: Layout) -> Source:
    """The documents of a file, whose format depends on its extension unless `layout` says.

    text: the columns with the texts, joined as in training. keep: further columns to read.
    Raises UserError, for invalid content while reading.
    """
    require_there(path, "input")
    unpacked = uncompressed_name(path) if path.is_file() else ""
    if not path.is_file() or (layout.format is None and not unpacked.endswith(tuple(EXTENSIONS))):
        raise UserError(
            f"input={path}: this is not a readable file. The extension must be .txt (one document per line), "
            f"{', '.join(suffix for suffix in EXTENSIONS if suffix != '.txt')} (those of texts also with "
            f"{', '.join(OPENERS)}), and match the format; or set format=csv, for example."
        )
    columns = [*(("column", name) for name in text), *(("keep", name) for name in keep)]
    if layout.format is None and unpacked.endswith(".txt"):
        if keep:
            raise UserError(f"keep={keep[0]}: {path} is a text file with one document per line, without columns.")
        return Source(str(path), LINES.unit, Document(path, LINES, [], layout).rows(), path)
    name = find_format(path, layout)
    document = Document(path, FORMATS[name], columns, replace(layout, format=name))
    rows = document.rows()
    if len(text) > 1:
        rows = ((row[0], joined_or_wrong(row[1 : len(text) + 1]), *row[len(text) + 1 :]) for row in rows)
    return Source(str(path), document.format.unit, rows, path)


def count_documents(path: Path) -> int | None:
    """Number of documents in a file, for a progress bar; None if counting is slow."""
    if path.name.lower().endswith(".parquet"):
        try:
            return int(pq.read_metadata(path).num_rows)
        except (pa.ArrowException, OSError):  # damaged: the reader says so
            return None
    if not path.name.lower().endswith((".txt", ".jsonl", ".ndjson")):
        return None
    with open_bytes(path) as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, BLOCK_BYTES), b""))


def chunks(source: Source, num_documents: int) -> Iterator[list[Row]]:
    """Chunks of at most `num_documents` rows, with at least one chunk, which may be empty; missing texts become empty.

    A chunk ends early if the source pauses, so that a pipe gets its predictions soon. Raises UserError for values that
    are not text.
    """
    chunk: list[Row] = []
    num_characters = 0
    deadline = 0.0  # on the monotonic clock, for the rows in the chunk
    for row in source.rows:
        row = check_row(source, row)
        deadline = deadline if chunk else time.monotonic() + PATIENCE_SECONDS
        chunk.append(row)
        num_characters += len(row[1])
        full = len(chunk) == num_documents or num_characters > MAX_CHARACTERS
        if full or (source.pauses is not None and source.pauses(deadline - time.monotonic())):
            yield chunk
            chunk, num_characters = [], 0
    if chunk or not deadline:
        yield chunk


def check_row(source: Source, row: Row) -> Row:
    """The row with its text as read in training. Raises UserError if it is not text, or has incomplete characters."""
    number, value, *kept_values = row
    text = document_text(value)
    if text is None:
        raise UserError(
            f"{source.where}, {source.unit} {number}: the document is {shown(value)}, but must be text.\n"
            "Set column=… to the column with the texts, or convert this value to text."
        )
    require_short(source.where, source.unit, number, text)
    for each in (text, *kept_values):
        try:
            if isinstance(each, str) and not each.isascii():
                each.encode()
            elif isinstance(each, dict | list):
                dumps(each).encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{source.where}, {source.unit} {number}: {error.object[error.start]!a} is not a complete character. "
                "Write the complete character, or remove it."
            ) from error
    return (number, text, *kept_values)
