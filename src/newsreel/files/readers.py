"""Tables of the user's documents: CSV, TSV, JSON Lines, Parquet and folders of texts, read so that a fault is located.

Why not by the builders of `datasets`: its CSV builder guesses types, so that the label `01` becomes 1 and the text `NA`
goes missing, and none of them names the line of what it cannot read. Python's csv and json do.
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

CHUNK = 5_000  # documents that are Python objects at a time
SHOWN_PLACES = 5
SHOWN_COLUMNS = 20
SHOWN_CHARACTERS = 60
MAX_CSV_FIELD = 2**31 - 1  # characters; without it the csv module stops at 131,072, and there are longer documents
SCHEMA = {"text": pl.String(), "labels": pl.List(pl.String()), "digest": pl.Binary()}
WHOLE_NUMBER = re.compile(r"(-?\d+)\.0+")

Unit = Literal["line", "row", "file"]
Row = tuple[Any, ...]  # where it stands (a number, or a path in a folder), then the values of the columns asked for
Wanted = Sequence[tuple[str, str]]  # the setting that names a column, and the column


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read, and what divides the labels in a text of several."""

    text: str
    label: str
    separator: str | None

    @property
    def wanted(self) -> Wanted:
        return [("data.text", self.text), ("data.label", self.label)]


@dataclass(frozen=True)
class Table:
    """The documents of one file, folder or split, with where each stands for messages about it."""

    where: str
    unit: Unit  # of the places
    several: bool  # whether a document can have several labels
    documents: pl.DataFrame  # place, text, labels (sorted names) and digest (of labels and text)


def require_there(path: Path, setting: str) -> None:
    """Raise UserError if the file or folder that `setting` names is missing."""
    if not path.exists():
        near = get_close_matches(path.name, [sibling.name for sibling in path.parent.glob("*")], n=1)
        hint = f"; did you mean {path.with_name(near[0])}?" if near else ". Paths start at the folder you are in."
        raise UserError(f"{setting}={path}: there is no such file or folder{hint}")


def read_table(path: Path, columns: Columns) -> Table:
    """The documents of the user's file or folder.

    Raises UserError, with the line or row, for what cannot be read or learned from.
    """
    if path.is_dir():
        return collect(str(path), "file", tree_rows(path), columns)
    name = path.name.lower()
    if name.endswith(".parquet"):
        return collect(str(path), "row", parquet_rows(path, columns.wanted), columns)
    for suffix, rows in TEXT_FORMATS.items():
        if name.endswith((suffix, f"{suffix}.gz")):
            return collect(str(path), "line", rows(path, columns.wanted), columns)
    raise UserError(
        f"{path}: the end of its name is that of no format that can be read. These are {', '.join(TEXT_FORMATS)} (also "
        "followed by .gz) and .parquet: name the file after what it holds."
    )


def collect(where: str, unit: Unit, rows: Iterable[Row], columns: Columns) -> Table:
    """Rows of a text and a label as a table.

    Raises UserError for values of a wrong type, empty texts and missing labels.
    """
    labels = Labels(where, unit, columns)
    without_text: list[int | str] = []
    without_label: list[int | str] = []

    def documents() -> Iterator[tuple[int | str, str, list[str], bytes]]:
        for place, value, label in tqdm(rows, unit=" documents", desc=f"reading {where}", disable=None, leave=False):
            text = document_text(value)
            if text is None:
                raise UserError(
                    f"{where}, {unit} {place}: data.text={columns.text} is {shown(value)} there, and has to be a "
                    "text.\nName the column of the texts, or write this one as a text."
                )
            names = labels.names(place, label)
            if names is None:
                without_label.append(place)
            if not text:
                without_text.append(place)
            if text and names is not None:
                try:
                    yield place, text, names, sha256("\0".join([*names, "", text]).encode()).digest()
                except UnicodeEncodeError as error:
                    raise UserError(
                        f"{where}, {unit} {place}: {error.object[error.start]!a} is half of a character. "
                        "Write the whole character, or leave it out."
                    ) from error

    chunks = []
    remaining = documents()
    while chunk := list(islice(remaining, CHUNK)):
        places, *contents = zip(*chunk, strict=True)
        frame = pl.DataFrame(dict(zip(SCHEMA, contents, strict=True)), schema=SCHEMA)
        chunks.append(frame.with_columns(place=pl.Series(places)))
    problems = [
        f"{len(places):,} {'have' if len(places) > 1 else 'has'} no {what} ({in_words(unit, places)})"
        for what, places in (("text", without_text), ("label", without_label))
        if places
    ]
    if problems:
        raise UserError(
            f"{where}: of its documents {' and '.join(problems)}; data.text={columns.text}, data.label={columns.label}."
            "\nNothing can be learned from them: remove them, fill in what is missing, or name other documents."
        )
    if not chunks:
        raise UserError(f"{where} has no documents. Training, validation and test each need some.")
    return Table(where, unit, labels.several, pl.concat(chunks))


class Labels:
    """Turns the labels of one table into names, which are the same for the same label in every format."""

    def __init__(self, where: str, unit: Unit, columns: Columns) -> None:
        self.where = where
        self.unit = unit
        self.columns = columns
        self.several = columns.separator is not None
        self.first: dict[str, tuple[int | str, Any, str]] = {}  # aspect → place, value and its kind: the others' too

    def names(self, place: int | str, value: Any) -> list[str] | None:
        """The sorted names of a document's labels; None if the label is missing. Raises UserError."""
        if is_missing(value):
            return None
        self.require_same_kind("form", "a list" if isinstance(value, list) else "a single value", place, value)
        if isinstance(value, list):
            self.several = True
            values = value
        elif isinstance(value, str) and self.columns.separator is not None:
            values = [part for part in value.split(self.columns.separator) if part.strip()]
        else:
            values = [value]
        names = {label_name(item) for item in values if self.is_label(item, place, value)}
        if "" in names and not isinstance(value, list):
            return None
        if "" in names:
            raise self.refusal(place, value, "one label in it is empty: leave that out of the list")
        return sorted(names)

    def is_label(self, item: Any, place: int | str, value: Any) -> bool:
        """True for what can be a label. Raises UserError for anything else."""
        if isinstance(item, bool):
            kind = "true or false"
        elif isinstance(item, str):
            kind = "a text"
        elif isinstance(item, int | float) and not is_missing(item):
            kind = "a number"
        else:
            raise self.refusal(place, value, "labels have to be texts, numbers, true or false, or lists of these")
        self.require_same_kind("type", kind, place, value)
        return True

    def require_same_kind(self, aspect: str, kind: str, place: int | str, value: Any) -> None:
        first_place, first_value, first_kind = self.first.setdefault(aspect, (place, value, kind))
        if kind != first_kind:
            rule = f"that is {kind}, and {shown(first_value)} in {self.unit} {first_place} is {first_kind}"
            raise self.refusal(place, value, f"{rule}. Write all labels alike")

    def refusal(self, place: int | str, value: Any, rule: str) -> UserError:
        return UserError(
            f"{self.where}, {self.unit} {place}: data.label={self.columns.label} is {shown(value)}; {rule}."
        )


def label_name(value: str | bool | float) -> str:
    """A label as it is called: `1` for 1, 1.0, "1" and " 1.0 ", `true` for true and "True"; `01` stays what it is.

    Formats and the programs that write them differ in this: pandas makes whole numbers 1.0 where one of them is
    missing, and writes True in CSV, where JSON has true.
    """
    name = unicodedata.normalize("NFC", str(value)).strip()
    if whole := WHOLE_NUMBER.fullmatch(name):
        return whole.group(1)
    return name.lower() if name in ("True", "False", "TRUE", "FALSE") else name


def document_text(value: Any) -> str | None:
    """A document's text as all formats give it, empty if it is missing; None if the value is no text."""
    if is_missing(value):
        return ""
    if not isinstance(value, str):
        return None
    return (value.replace("\r\n", "\n") if "\r" in value else value).strip()  # one sign is found many times as fast


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def csv_rows(path: Path, wanted: Wanted, *, delimiter: str) -> Iterator[Row]:
    """The rows of a table whose first line names the columns; fields may be quoted, and have line breaks then."""
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
                    places = find_columns(str(path), names, wanted, "The first line has to name the columns.")
                elif len(row) != len(names):
                    raise UserError(
                        f"{path}, line {line}: {len(row)} fields, and the first line names {len(names)} columns "
                        f"({columns_in_words(names)}).\nPut a field that has {delimiter!r} or a line break in it "
                        'between double quotes, and write a double quote in it twice: "".'
                    )
                else:
                    yield line, *[row[place] for place in places]
        except csv.Error as error:
            raise UserError(
                f"{path}, line {begin}: the row that begins there cannot be read: {error} (noticed in line "
                f"{reader.line_num}).\nA field that begins with a double quote has to end with one, and a double quote "
                'in it is written twice: "".'
            ) from error


def json_rows(path: Path, wanted: Wanted) -> Iterator[Row]:
    """The rows of a file with one JSON object a line."""
    names = [name for _, name in wanted]
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
                    f"{path}, line {number}: this is no JSON: {error}.\nEach line has to hold one whole object, such "
                    f"as {example}."
                ) from error
            if not isinstance(record, dict):
                raise UserError(
                    f"{path}, line {number}: {shown(record)} is no object.\nEach line has to hold one, such as "
                    f"{example}; an array of objects is not JSON Lines."
                )
            if first:
                find_columns(str(path), list(record), wanted, "The first line has to have all that are read.")
                first = False
            yield number, *[record.get(name) for name in names]


def parquet_rows(path: Path, wanted: Wanted) -> Iterator[Row]:
    names = [name for _, name in wanted]
    try:
        with pq.ParquetFile(path) as file:
            find_columns(str(path), file.schema_arrow.names, wanted)
            begin = 1
            for batch in file.iter_batches(CHUNK, columns=names):
                places = range(begin, begin + len(batch))
                yield from zip(places, *[batch[name].to_pylist() for name in names], strict=True)
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
            f"{folder} has no folders in it. A folder of documents has one folder for each label, and the label's "
            f"documents in that: {folder / '<label>' / '*.txt'}."
        )
    for label in labels:
        files = sorted(child for child in label.iterdir() if not child.name.startswith("."))
        if not files:
            raise UserError(
                f"{label} has no .txt files, and every folder in {folder} stands for a label: put the label's "
                "documents there, or remove it."
            )
        if others := [file for file in files if file.suffix.lower() != ".txt" or not file.is_file()]:
            raise UserError(
                f"{others[0]} is no .txt file, and a label's folder holds its documents only ({len(others):,} of "
                f"{len(files):,} there are something else). Move the others elsewhere."
            )
        for file in files:
            try:
                yield f"{label.name}/{file.name}", read_file(file).decode("utf-8-sig"), label.name
            except UnicodeDecodeError as error:
                raise not_utf8(file) from error


TEXT_FORMATS: dict[str, Callable[[Path, Wanted], Iterator[Row]]] = {
    ".csv": partial(csv_rows, delimiter=","),
    ".tsv": partial(csv_rows, delimiter="\t"),
    ".jsonl": json_rows,
    ".ndjson": json_rows,
}


def find_columns(where: str, found: Sequence[str], wanted: Wanted, rule: str = "") -> list[int]:
    """Positions of the columns. Raises UserError if one is not there, or is there twice."""
    for setting, name in wanted:
        there = f"{where} has the columns {columns_in_words(found)}"
        if name not in found:
            near = get_close_matches(name, found, n=1)
            hint = f"; did you mean {setting}={near[0]}?" if near else f": name one of them with {setting}=…"
            if len(found) == 1 and (delimiter := re.search(r"[,;|\t]", found[0])):
                hint = f": one only, and {delimiter[0]!r} in it. Fields are divided by ',' in .csv and by tabs in .tsv."
            raise UserError(f"{setting}={name}: {there}{hint}" + (f"\n{rule}" if rule else ""))
        if found.count(name) > 1:
            raise UserError(f"{setting}={name}: {there}, {found.count(name)} of them of that name. Rename all but one.")
    return [found.index(name) for _, name in wanted]


@contextmanager
def opened(path: Path, newline: str | None) -> Iterator[IO[str]]:
    """The text of a file, unpacked if its name ends in .gz. Raises UserError if it is damaged or not UTF-8."""
    try:
        with open_bytes(path) as file:
            yield io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline)
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except (EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}.\nIt is cut short or damaged: get the file again.") from error


def not_utf8(path: Path) -> UserError:
    """What to raise about a text file that is not UTF-8: names the first line that is not."""
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return line_not_utf8(str(path), number, error)
    raise AssertionError("some line is not UTF-8, or the file changed meanwhile")


def line_not_utf8(where: str, number: int, error: UnicodeDecodeError) -> UserError:
    """What to raise about the line of a text that is not UTF-8."""
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


def in_words(unit: Unit, places: Sequence[int | str]) -> str:
    """Where documents stand: the first of them."""
    listed = ", ".join(f"{place}" for place in places[:SHOWN_PLACES])
    return f"{unit}{'s' if len(places) > 1 else ''} {listed}{' …' if len(places) > SHOWN_PLACES else ''}"


def shown(value: Any) -> str:
    return cut(json.dumps(value, ensure_ascii=False, default=str))


def cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
