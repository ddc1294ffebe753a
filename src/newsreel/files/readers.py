"""Readers of the user's documents (CSV, TSV, JSON Lines, Parquet, folders of texts), with errors that name the line.

The builders of `datasets` are not used: its CSV builder guesses types, so the label `01` becomes 1 and the text `NA`
becomes missing, and none of them names the line that it cannot read. Python's csv and json do.
"""

import codecs
import csv
import io
import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from newsreel.core.errors import UserError
from newsreel.files.archives import open_bytes, read_file

CHUNK = 5_000  # documents held as Python objects at a time
SHOWN_POSITIONS = 5
SHOWN_COLUMNS = 20
SHOWN_CHARACTERS = 60
MAX_CSV_FIELD = 2**31 - 1  # characters; the csv module's default of 131,072 is too short for some documents
SCHEMA = {"text": pl.String(), "labels": pl.List(pl.String()), "digest": pl.Binary()}
WHOLE_NUMBER = re.compile(r"(-?\d+)\.0+")

Unit = Literal["line", "row", "file"]
Row = tuple[Any, ...]  # position (line or row number, or path in the folder), then the values of the wanted columns
NamedColumns = Sequence[tuple[str, str]]  # the setting that names a column, and the column


@dataclass(frozen=True)
class Columns:
    """The columns of a table to read, and the separator between the labels in a text of several."""

    text: str
    label: str
    separator: str | None

    @property
    def named(self) -> NamedColumns:
        return [("data.text", self.text), ("data.label", self.label)]


@dataclass(frozen=True)
class Table:
    """The documents of one file, folder or split, with the position of each for messages."""

    where: str
    unit: Unit  # of the positions
    several: bool  # whether a document can have several labels
    documents: pl.DataFrame  # position, text, labels (sorted names) and digest (of labels and text)


def require_there(path: Path, setting: str) -> None:
    """Raise UserError if the file or folder named by `setting` does not exist."""
    if not path.exists():
        near = get_close_matches(path.name, [sibling.name for sibling in path.parent.glob("*")], n=1)
        hint = f"; did you mean {path.with_name(near[0])}?" if near else ". Paths are relative to the current folder."
        raise UserError(f"{setting}={path}: there is no such file or folder{hint}")


def read_table(path: Path, columns: Columns) -> Table:
    """The documents of the user's file or folder.

    Raises UserError, with the line or row, for unreadable files and invalid rows.
    """
    if path.is_dir():
        return collect(str(path), "file", tree_rows(path), columns)
    name = path.name.lower()
    if name.endswith(".parquet"):
        return collect(str(path), "row", parquet_rows(path, columns.named), columns)
    for suffix, rows in TEXT_FORMATS.items():
        if name.endswith((suffix, f"{suffix}.gz")):
            return collect(str(path), "line", rows(path, columns.named), columns)
    raise unknown_format(path)


def require_known_format(path: Path) -> None:
    """Raise UserError if a file's name has no extension that `read_table` reads; directories have none."""
    known = (".parquet", *(f"{suffix}{packed}" for suffix in TEXT_FORMATS for packed in ("", ".gz")))
    if not path.is_dir() and not path.name.lower().endswith(known):
        raise unknown_format(path)


def unknown_format(path: Path) -> UserError:
    return UserError(
        f"{path}: unknown file extension. Supported are {', '.join(TEXT_FORMATS)} (each also with .gz) and .parquet: "
        "rename the file if it has one of these formats."
    )


def collect(where: str, unit: Unit, rows: Iterable[Row], columns: Columns) -> Table:
    """A table from rows of a position, a text and a label.

    Raises UserError for values of the wrong type, empty texts and missing labels.
    """
    labels = Labels(where, unit, columns)
    without_text: list[int | str] = []
    without_label: list[int | str] = []

    def documents() -> Iterator[tuple[int | str, str, list[str], bytes]]:
        for position, value, label in tqdm(rows, unit=" documents", desc=f"reading {where}", disable=None, leave=False):
            text = document_text(value)
            if text is None:
                raise UserError(
                    f"{where}, {unit} {position}: data.text={columns.text} is {shown(value)}; it must be a text.\n"
                    "Name the column of the texts, or write this value as a text."
                )
            names = labels.names(position, label)
            if names is None:
                without_label.append(position)
            if not text:
                without_text.append(position)
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
    problems = [
        f"{len(positions):,} {'have' if len(positions) > 1 else 'has'} no {what} ({in_words(unit, positions)})"
        for what, positions in (("text", without_text), ("label", without_label))
        if positions
    ]
    if problems:
        raise UserError(
            f"{where}: of its documents, {' and '.join(problems)}; data.text={columns.text}, "
            f"data.label={columns.label}.\nRemove them, fill in the missing values, or use other documents."
        )
    if not chunks:
        raise UserError(f"{where} has no documents. Training, validation and test need at least one each.")
    return Table(where, unit, labels.several, pl.concat(chunks))


class Labels:
    """Converts the labels of one table to names. The same label gets the same name in every format."""

    def __init__(self, where: str, unit: Unit, columns: Columns) -> None:
        self.where = where
        self.unit = unit
        self.columns = columns
        self.several = columns.separator is not None
        self.first: dict[str, tuple[int | str, Any, str]] = {}  # aspect → position, value and kind of the first label

    def names(self, position: int | str, value: Any) -> list[str] | None:
        """The sorted names of a document's labels; None if the label is missing. Raises UserError."""
        if is_missing(value):
            return None
        self.require_same_kind("form", "a list" if isinstance(value, list) else "a single value", position, value)
        if isinstance(value, list):
            self.several = True
            values = value
        elif isinstance(value, str) and self.columns.separator is not None:
            values = [part for part in value.split(self.columns.separator) if part.strip()]
        else:
            values = [value]
        names = {label_name(item) for item in values if self.is_label(item, position, value)}
        if "" in names and not isinstance(value, list):
            return None
        if "" in names:
            raise self.error(position, value, "it contains an empty label: remove that from the list")
        return sorted(names)

    def is_label(self, item: Any, position: int | str, value: Any) -> bool:
        """True for a valid label. Raises UserError for anything else."""
        if isinstance(item, bool):
            kind = "true or false"
        elif isinstance(item, str):
            kind = "a text"
        elif isinstance(item, int | float) and not is_missing(item):
            kind = "a number"
        else:
            raise self.error(position, value, "labels must be texts, numbers, true or false, or lists of these")
        self.require_same_kind("type", kind, position, value)
        return True

    def require_same_kind(self, aspect: str, kind: str, position: int | str, value: Any) -> None:
        first_position, first_value, first_kind = self.first.setdefault(aspect, (position, value, kind))
        if kind != first_kind:
            rule = f"this is {kind}, but {shown(first_value)} in {self.unit} {first_position} is {first_kind}"
            raise self.error(position, value, f"{rule}. Write all labels in the same form")

    def error(self, position: int | str, value: Any, rule: str) -> UserError:
        return UserError(
            f"{self.where}, {self.unit} {position}: data.label={self.columns.label} is {shown(value)}; {rule}."
        )


def label_name(value: str | bool | float) -> str:
    """The name of a label: `1` for 1, 1.0, "1" and " 1.0 ", `true` for true and "True"; `01` stays `01`.

    File formats, and the programs that write them, differ: pandas writes integers as 1.0 if one of them is missing,
    and True in CSV, where JSON has true.
    """
    name = unicodedata.normalize("NFC", str(value)).strip()
    if whole := WHOLE_NUMBER.fullmatch(name):
        return whole.group(1)
    return name.lower() if name in ("True", "False", "TRUE", "FALSE") else name


def document_text(value: Any) -> str | None:
    """A document's text, the same for all formats; empty if it is missing, None if the value is not a text."""
    if is_missing(value):
        return ""
    if not isinstance(value, str):
        return None
    return (value.replace("\r\n", "\n") if "\r" in value else value).strip()  # searching one character is much faster


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def csv_rows(path: Path, columns: NamedColumns, *, delimiter: str) -> Iterator[Row]:
    """The rows of a table whose first line names the columns. Quoted fields may contain line breaks."""
    csv.field_size_limit(MAX_CSV_FIELD)
    begin = 1
    with opened(path, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        names: list[str] = []
        try:
            for row in reader:
                line, begin = begin, reader.line_num + 1
                if not row:  # an empty line
                    continue
                if not names:
                    names = [name.strip() for name in row]
                    positions = find_columns(str(path), names, columns, "The first line must name the columns.")
                elif len(row) != len(names):
                    raise UserError(
                        f"{path}, line {line}: {len(row)} fields, but the first line names {len(names)} columns "
                        f"({columns_in_words(names)}).\nA field that contains {delimiter!r} or a line break must be "
                        'enclosed in double quotes, and a double quote in it doubled: "".'
                    )
                else:
                    yield line, *[row[position] for position in positions]
        except csv.Error as error:
            raise UserError(
                f"{path}, line {begin}: the row that begins there cannot be read: {error} (detected in line "
                f"{reader.line_num}).\nA field that begins with a double quote must end with one, and a double quote "
                'in it must be doubled: "".'
            ) from error


def json_rows(path: Path, columns: NamedColumns) -> Iterator[Row]:
    """The rows of a file with one JSON object a line."""
    names = [name for _, name in columns]
    example = json.dumps(dict.fromkeys(names, "…"), ensure_ascii=False)
    first = True
    with opened(path, newline=None) as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{path}, line {number}: invalid JSON: {error}.\nEach line must hold one complete object, such as "
                    f"{example}."
                ) from error
            if not isinstance(record, dict):
                raise UserError(
                    f"{path}, line {number}: {shown(record)} is not an object.\nEach line must hold one, such as "
                    f"{example}; an array of objects is not JSON Lines."
                )
            if first:
                find_columns(str(path), list(record), columns, "The first line must have all columns that are read.")
                first = False
            yield number, *[record.get(name) for name in names]


def parquet_rows(path: Path, columns: NamedColumns) -> Iterator[Row]:
    names = [name for _, name in columns]
    try:
        with pq.ParquetFile(path) as file:
            find_columns(str(path), file.schema_arrow.names, columns)
            begin = 1
            for batch in file.iter_batches(CHUNK, columns=names):
                numbers = range(begin, begin + len(batch))
                yield from zip(numbers, *[batch[name].to_pylist() for name in names], strict=True)
                begin += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}.\nWrite the file again."
        ) from error


def tree_rows(folder: Path) -> Iterator[Row]:
    """The documents of a folder with one folder of .txt files for each label."""
    labels = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not labels:
        raise UserError(
            f"{folder} has no subfolders. It must have one for each label, with the label's documents: "
            f"{folder / '<label>' / '*.txt'}."
        )
    for label in labels:
        files = sorted(child for child in label.iterdir() if not child.name.startswith("."))
        if not files:
            raise UserError(
                f"{label} has no .txt files, but every folder in {folder} is a label: put the label's documents there, "
                "or remove the folder."
            )
        if others := [file for file in files if file.suffix.lower() != ".txt" or not file.is_file()]:
            raise UserError(
                f"{others[0]} is not a .txt file, but a label's folder must contain nothing else ({len(others):,} of "
                f"{len(files):,} are not .txt files). Move them elsewhere."
            )
        for file in files:
            try:
                yield f"{label.name}/{file.name}", read_file(file).decode("utf-8-sig"), label.name
            except UnicodeDecodeError as error:
                raise not_utf8(file) from error


TEXT_FORMATS: dict[str, Callable[[Path, NamedColumns], Iterator[Row]]] = {
    ".csv": partial(csv_rows, delimiter=","),
    ".tsv": partial(csv_rows, delimiter="\t"),
    ".jsonl": json_rows,
    ".ndjson": json_rows,
}


def find_columns(where: str, names: Sequence[str], columns: NamedColumns, rule: str = "") -> list[int]:
    """Positions of the columns among `names`. Raises UserError if one is missing or occurs twice."""
    for setting, name in columns:
        existing = f"{where} has the columns {columns_in_words(names)}"
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean {setting}={near[0]}?" if near else f": name one of them with {setting}=…"
            if len(names) == 1 and (delimiter := re.search(r"[,;|\t]", names[0])):
                hint = (
                    f": only one, which contains {delimiter[0]!r}. Fields are separated by ',' in .csv, tabs in .tsv."
                )
            raise UserError(f"{setting}={name}: {existing}{hint}" + (f"\n{rule}" if rule else ""))
        if names.count(name) > 1:
            raise UserError(f"{setting}={name}: {existing}; {names.count(name)} have this name. Rename all but one.")
    return [names.index(name) for _, name in columns]


@contextmanager
def opened(path: Path, newline: str | None) -> Iterator[IO[str]]:
    """A file opened as text, decompressed if its name ends in .gz. Raises UserError if it is damaged or not UTF-8."""
    try:
        with open_bytes(path) as file:
            yield io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline)
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except (EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}.\nIt is incomplete or damaged: get a new copy.") from error


def not_utf8(path: Path) -> UserError:
    """The error for a text file that is not UTF-8, which names the first invalid line."""
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return line_not_utf8(str(path), number, error)
    raise AssertionError("all lines are UTF-8: the file has changed meanwhile")


def line_not_utf8(where: str, number: int, error: UnicodeDecodeError) -> UserError:
    """The error for a line of a text that is not UTF-8."""
    line, byte = error.object, error.start
    is_utf16 = number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "UTF-16" if is_utf16 else "LATIN1"
    return UserError(
        f"{where}, line {number}: byte 0x{line[byte]:02x} at {byte + 1} is not UTF-8.\nSave the text as UTF-8. "
        f"If it is {encoding}: iconv -f {encoding} -t UTF-8 <old file> > <new file>"
    )


def columns_in_words(names: Sequence[str]) -> str:
    listed = ", ".join(cut(name) for name in names[:SHOWN_COLUMNS])
    return listed + (f" … ({len(names)})" if len(names) > SHOWN_COLUMNS else "")


def in_words(unit: Unit, positions: Sequence[int | str]) -> str:
    """The positions of documents, such as `lines 2, 7`; only the first SHOWN_POSITIONS of them."""
    listed = ", ".join(f"{position}" for position in positions[:SHOWN_POSITIONS])
    return f"{unit}{'s' if len(positions) > 1 else ''} {listed}{' …' if len(positions) > SHOWN_POSITIONS else ''}"


def shown(value: Any) -> str:
    return cut(json.dumps(value, ensure_ascii=False, default=str))


def cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
