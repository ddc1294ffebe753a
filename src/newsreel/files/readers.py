"""Readers of the user's documents, one generator of rows per format, with errors that name the line.

The builders of `datasets` and the CSV reader of Polars are not used: they guess types, so the label `01` becomes 1 and
the text `NA` becomes missing, and they do not name the line that they cannot read. Python's csv and json do.
"""

import codecs
import csv
import io
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from itertools import chain
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from newsreel.core.errors import UserError, typed
from newsreel.files.archives import (
    OPENERS,
    UNREADABLE,
    open_bytes,
    read_file,
    refuse_special,
    require_inside,
    uncompressed_name,
    unreadable,
)
from newsreel.files.labels import MissingLabelsError, NamedColumns, Position, Unit, cut, shown

CHUNK = 5_000  # documents held as Python objects at a time
SHOWN_POSITIONS = 5
SHOWN_COLUMNS = 20
MAX_DOCUMENT = 2**23  # characters, about twice the Bible; tokens need some 24 times as many bytes
MAX_RECORD = 2**25  # characters of a line, or of a row of several lines
MAX_ARRAY = 2**28  # characters of a JSON array, which is read as a whole
MAX_EXCEL_BYTES = 2**32  # of memory to read a workbook
EXCEL_PROGRAM = Path(__file__).with_name("excel_sheet.py")
MAX_COMPARED = 1_000  # names of columns that are compared with the one that is missing
LABEL_MARK = "__label__"  # before each label in fastText's format
MARKED_LABEL = re.compile(rf"{LABEL_MARK}(\S*)\s*")
UNLABELED_FOLDERS = ("unsup", "unlabeled", "unlabelled")  # names of folders beside those of the labels

Row = tuple[Any, ...]  # Position, then the values of the wanted columns
FormatName = Literal["csv", "tsv", "jsonl", "json", "parquet", "xlsx", "fasttext"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How files are laid out, as far as their content does not show it.

    format: None depends on the extension. delimiter: of CSV files; None is a comma, or a tab in TSV files.
    quoting: whether double quotes enclose fields. header: whether the first line names the columns; else they are
    numbered from 1. prefix: of these settings in messages. Raises UserError for impossible values.
    """

    format: FormatName | None = None
    delimiter: str | None = None
    quoting: bool = True
    header: bool = True
    encoding: str = "utf-8"
    prefix: str = "data."

    @classmethod
    def of(cls, settings: Any, prefix: str) -> "Layout":
        """The layout in an object with these settings."""
        return cls(
            **{each.name: getattr(settings, each.name) for each in fields(cls) if each.name != "prefix"}, prefix=prefix
        )

    def __post_init__(self) -> None:
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", self.delimiter.replace("\\t", "\t"))
            if len(self.delimiter) != 1 or self.delimiter in '"\n\r':
                raise UserError(
                    f"{self.prefix}delimiter is {self.delimiter!r}: it must be one character, such as ';' or '\\t', "
                    "and no quote."
                )
        try:
            "".encode(self.encoding)  # unlike codecs.lookup, it refuses codecs of other things than text
        except (LookupError, ValueError) as error:
            raise UserError(
                f"{self.prefix}encoding={self.encoding} is not an encoding that Python knows, such as utf-8, latin-1, "
                "cp1252 or utf-16."
            ) from error


@dataclass(frozen=True)
class Document:
    """A file to read: its format, and the columns to read from it. `notes` are filled while it is read."""

    path: Path
    format: "Format"
    columns: NamedColumns
    layout: Layout
    notes: list[str] = field(default_factory=list)

    @property
    def num_texts(self) -> int:
        """The number of columns of texts, which come before those of labels."""
        return sum(setting != "data.label" for setting, _ in self.columns)

    def rows(self) -> Iterator[Row]:
        return self.format.rows(self)


@dataclass(frozen=True)
class Format:
    """A format of files: the unit of its positions, and the function that reads rows."""

    unit: Unit
    rows: Callable[[Document], Iterator[Row]]
    is_text: bool = True  # and so may be compressed


def csv_rows(document: Document) -> Iterator[Row]:
    """The rows of a table whose first line names the columns. Quoted fields may contain line breaks."""
    path, layout = document.path, document.layout
    delimiter = layout.delimiter or ("\t" if layout.format == "tsv" else ",")
    csv.field_size_limit(MAX_RECORD)  # the module's default of 131,072 is too short for some documents
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if layout.quoting else csv.QUOTE_NONE
    begin = 1
    labels: set[Any] = set()
    inner_rows: list[tuple[int, Any]] = []  # line and labels of what looks like rows within fields
    with opened(path, layout, newline="") as file:
        # Spaces before a field are stripped anyway, and before a quote they would make it part of the text
        skips_spaces = delimiter not in " \t"
        lines = Lines(path, file, layout)
        reader = csv.reader(lines, delimiter=delimiter, strict=True, quoting=quoting, skipinitialspace=skips_spaces)
        names: list[str] = []
        header: list[str] | None = None
        positions: list[int] = []
        labels_of: Callable[[list[str]], Any] | None = None
        try:
            for row in reader:
                line, begin = begin, reader.line_num + 1
                lines.end_record()
                if not row:  # an empty line
                    continue
                if not names:
                    header = row if layout.header else None
                    names = [name.strip() for name in row] if layout.header else [str(n + 1) for n in range(len(row))]
                    require_delimiter(path, row, document.columns, layout)
                    positions = find_columns(str(path), names, document.columns, header_rule(layout))
                    label_positions = positions[document.num_texts :]
                    labels_of = itemgetter(*label_positions) if label_positions else None
                    if layout.header:
                        continue
                if len(row) != len(names):
                    raise wrong_field_count(path, line, row, names, delimiter, layout)
                if row == header:
                    raise UserError(
                        f"{path}, line {line}: this line repeats the first one, which names the columns: remove it."
                    )
                if labels_of is not None:
                    labels.add(labels_of(row))
                    if begin - line > 1:
                        inner_rows += [(line, found) for found in inner_labels(row, delimiter, labels_of)]
                yield line, *[row[position] for position in positions]
        except csv.Error as error:
            raise UserError(
                f"{path}, line {begin}: the row that begins there cannot be read: {error} (detected in line "
                f"{reader.line_num}).\nA field that begins with a double quote must end with one, and a double quote "
                f'in it must be doubled: "". If double quotes are part of the texts, set {layout.prefix}quoting=false'
            ) from error
    document.notes.extend(swallowed_rows(document, inner_rows, labels))


def swallowed_rows(document: Document, inner_rows: list[tuple[int, Any]], labels: set[Any]) -> list[str]:
    """A note on quoted fields that may have swallowed rows.

    inner_rows: line of each row of several lines, with the labels of each line in it that looks like a row. labels: of
    all rows.
    """
    matches = Counter(line for line, found in inner_rows if found in labels)
    suspects = [line for line, count in matches.items() if count > 1]  # one of them is the row itself
    if not suspects:
        return []
    fields = "fields contain" if len(suspects) > 1 else "field contains"
    return [
        f"{document.path}: {len(suspects):,} quoted {fields} lines that look like rows ({in_words('line', suspects)}). "
        f"If a double quote there is part of the text, set {document.layout.prefix}quoting=false"
    ]


def header_rule(layout: Layout) -> str:
    if not layout.header:
        return f"Without a header ({layout.prefix}header=false), columns are numbered from 1."
    return f"The first line must name the columns; if it is a document, set {layout.prefix}header=false."


def require_delimiter(path: Path, row: list[str], columns: NamedColumns, layout: Layout) -> None:
    """Raise UserError if the first line is one field that contains what is probably the delimiter."""
    if len(row) > 1 or row[0].strip() in {name for _, name in columns}:
        return
    if other := re.search(r"[,;|\t]", row[0]):
        raise UserError(
            f"{path} has the columns {cut(row[0])}: only one, which contains {other[0]!r}. If that separates the "
            f"columns, set {layout.prefix}delimiter={other[0]!r}"
        )


def wrong_field_count(
    path: Path, line: int, row: list[str], names: list[str], delimiter: str, layout: Layout
) -> UserError:
    rule = f"the first line {'names' if layout.header else 'has'} {len(names)} columns ({columns_in_words(names)})"
    quoting = (
        "A field that contains {0!r} or a line break must be enclosed in double quotes, and a double quote in it "
        'doubled: "".'
        if layout.quoting
        else f"With {layout.prefix}quoting=false, no field can contain {{0!r}}."
    )
    return UserError(f"{path}, line {line}: {len(row)} fields, but {rule}.\n{quoting.format(delimiter)}")


def inner_labels(row: list[str], delimiter: str, labels_of: Callable[[list[str]], Any]) -> list[Any]:
    """The labels of the lines of a row of several lines that would be rows themselves if quotes enclosed nothing."""
    lines = [line.split(delimiter) for line in delimiter.join(row).split("\n")]
    labels = [labels_of(line) for line in lines if len(line) == len(row)]
    return [label for label in labels if (label if isinstance(label, str) else all(label))]


def json_rows(document: Document) -> Iterator[Row]:
    """The rows of a file with one JSON object a line, or with one array of objects."""
    path, columns = document.path, document.columns
    names = [name for _, name in columns]
    first = True
    for line, record in json_objects(document):
        if not isinstance(record, dict):
            raise UserError(
                f"{path}, line {line}: {shown(record)} is not an object.\nEach line, or each item of one array, must "
                f"be one, such as {json_example(names)}."
            )
        if first:
            find_columns(str(path), list(record), columns, "The first object must have all columns that are read.")
            first = False
        yield line, *[record.get(name) for name in names]


def json_example(names: Sequence[str]) -> str:
    return json.dumps(dict.fromkeys(names, "…"), ensure_ascii=False)


def json_objects(document: Document) -> Iterator[tuple[int, Any]]:
    """The line and the value of each JSON value of a file."""
    names = [name for _, name in document.columns]
    with opened(document.path, document.layout, newline=None) as file:
        lines = Lines(document.path, file, document.layout, is_whole=lambda line: line.lstrip().startswith("["))
        for number, line in enumerate(lines, start=1):
            lines.end_record()
            if line.isspace():
                continue
            if line.lstrip().startswith("["):
                yield from array_items(document.path, whole_array(document.path, line, file), number, names)
                return
            try:
                value = json.loads(line)
                require_keys_once(line, names)
                yield number, value
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{document.path}, line {number}: invalid JSON: {error}.\nEach line must hold one complete object, "
                    f"such as {json_example(names)}; or the file must be one array of objects."
                ) from error


def require_keys_once(text: str, names: Sequence[str]) -> None:
    """Raise ValueError if an object has one of the keys twice, of which Python would take the last."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in pairs]
        for name in names:
            if keys.count(name) > 1:
                raise ValueError(f"it has the key {name!r} {keys.count(name)} times")

    if any(text.count(f'"{name}"') > 1 for name in names):  # perhaps: it may also be a value, or deeper inside
        json.loads(text, object_pairs_hook=check)


def whole_array(path: Path, begin: str, file: IO[str]) -> str:
    """A JSON array. begin: what has been read of it. Raises UserError if it is too long to be read as a whole."""
    text = begin + file.read(MAX_ARRAY + 1 - len(begin))
    if len(text) > MAX_ARRAY:
        raise UserError(
            f"{path} is a JSON array of more than {MAX_ARRAY:,} characters, the most that is read at once.\nWrite one "
            "object per line (.jsonl), which is read piece by piece."
        )
    return text


def array_items(path: Path, text: str, line: int, names: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """The line and the value of each item of a JSON array.

    line: that of the text's beginning. names: of keys that an object must not have twice.
    """
    decoder = json.JSONDecoder()
    space = re.compile(r"\s*")

    def skip(position: int, start: int) -> int:
        """The position of the next character that is no space; counts the lines from `start`."""
        nonlocal line
        end = space.match(text, position).end()  # type: ignore[union-attr]
        line += text.count("\n", start, end)
        return end

    position = skip(text.index("[") + 1, 0)
    closed = text.startswith("]", position)
    while not closed:
        try:
            value, end = decoder.raw_decode(text, position)
            require_keys_once(text[position:end], names)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise UserError(
                f"{path}, line {line}: invalid JSON: {reason}: {shown(text[position : position + 40])}.\nThe file must "
                "be one array of objects, or have one object per line."
            ) from error
        yield line, value
        end = skip(end, position)
        if text[end : end + 1] not in (",", "]"):
            raise UserError(
                f"{path}, line {line}: invalid JSON: an item of the array must be followed by a comma or ], not by "
                f"{shown(text[end : end + 40])}."
            )
        closed = text[end] == "]"
        position = skip(end + 1, end)
    if text[position + 1 :].strip() and not text[position:].isspace():
        raise UserError(f"{path}, line {line}: {shown(text[position:].strip())} follows the array: remove it.")


def parquet_rows(document: Document) -> Iterator[Row]:
    path, columns = document.path, document.columns
    names = [name for _, name in columns]
    try:
        with pq.ParquetFile(path) as file:
            find_columns(str(path), file.schema_arrow.names, columns)
            begin = 1
            for batch in file.iter_batches(CHUNK, columns=names):
                numbers = range(begin, begin + len(batch))
                yield from zip(numbers, *[parquet_values(path, batch, name, begin) for name in names], strict=True)
                begin += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}.\nWrite the file again."
        ) from error


def parquet_values(path: Path, batch: pa.RecordBatch, name: str, begin: int) -> list[Any]:
    """The values of a column. begin: number of its first row. Raises UserError for a text that is not UTF-8."""
    try:
        return batch[name].to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        for number, value in enumerate(batch[name], start=begin):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}, row {number}: the column {name} is not UTF-8: {error}.\nWrite the file again, "
                    "with texts in UTF-8."
                ) from error
        raise


def excel_rows(document: Document) -> Iterator[Row]:
    """The rows of the first sheet of an Excel workbook, read with fastexcel, by their numbers in the sheet.

    Its columns begin with the first one that has a value.
    """
    path, layout = document.path, document.layout
    sheet = zip(*[column.to_pylist() for column in excel_sheet(path).columns], strict=True)
    rows = ((number, row) for number, row in enumerate(sheet, start=1) if any(value is not None for value in row))
    first = next(rows, None)
    if first is None:
        return
    names = [str(value or "").strip() if layout.header else str(number) for number, value in enumerate(first[1], 1)]
    positions = find_columns(str(path), names, document.columns, header_rule(layout))
    for number, row in rows if layout.header else chain([first], rows):
        yield number, *[row[position] for position in positions]


def excel_sheet(path: Path) -> pa.Table:
    """The first sheet of a workbook, as texts. Raises UserError for one that is damaged or takes too much memory."""
    if find_spec("fastexcel") is None:
        raise UserError(f"{path}: Excel files need the extra `excel`: pip install 'newsreel[excel]'")
    refuse_special(path)
    with TemporaryDirectory() as folder:
        output = Path(folder) / "sheet.arrow"
        command = [sys.executable, "-P", str(EXCEL_PROGRAM), str(path), str(output), str(MAX_EXCEL_BYTES)]
        process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        if process.returncode < 0:  # it was ended by a signal, such as that of a failed allocation
            raise UserError(
                f"{path} cannot be read as Excel within {MAX_EXCEL_BYTES / 2**30:.0f} GiB of memory. If its first "
                "sheet has a cell far from the table, remove it; or save the table as CSV."
            )
        if process.returncode:
            reason = process.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise UserError(f"{path} cannot be read as Excel: {reason}.\nSave it as .xlsx.")
        return pa.ipc.open_file(output.read_bytes()).read_all()


def fasttext_rows(document: Document) -> Iterator[Row]:
    """The lines of fastText's format: labels, each with the prefix `__label__`, before the text."""
    path = document.path
    for number, labels, text in marked_lines(document):
        if not labels and text:
            raise UserError(
                f"{path}, line {number}: {shown(text.strip())} has no label.\nA text file must have the format of "
                f"fastText: {LABEL_MARK}<label> before the text, once for each of its labels. Tables are .csv, "
                f".tsv, .jsonl or .parquet (see {document.layout.prefix}format)."
            )
        if labels:
            yield number, text, labels


def unlabeled_lines(document: Document) -> Iterator[Row]:
    """The texts of the lines of a text file, without empty ones; what fastText marks as a label is left out."""
    for number, _, text in marked_lines(document):
        if text:
            yield number, text


def marked_lines(document: Document) -> Iterator[tuple[int, list[str], str]]:
    """The number of each line, the labels at its beginning, and the rest."""
    with opened(document.path, document.layout, newline=None) as file:
        lines = Lines(document.path, file, document.layout)
        for number, line in enumerate(lines, start=1):
            lines.end_record()
            labels = []
            rest = line.lstrip()
            begin = 0
            while label := MARKED_LABEL.match(rest, begin):
                labels.append(label[1])
                begin = label.end()
            yield number, labels, rest[begin:]


def line_rows(document: Document) -> Iterator[Row]:
    """One document per line."""
    with opened(document.path, document.layout, newline="\n") as file:
        lines = Lines(document.path, file, document.layout)
        for number, line in enumerate(lines, start=1):
            lines.end_record()
            yield number, strip_newline(line)


def strip_newline(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def tree_rows(document: Document) -> Iterator[Row]:
    """The documents of a folder with one folder of text files for each label."""
    folder = document.path
    unlabeled = unlabeled_subfolders(folder)
    labels = [child for child in subfolders(folder) if child not in unlabeled]
    document.notes.extend(
        f"{child} is no label: a folder of this name has documents without labels" for child in unlabeled
    )
    if not labels:
        raise UserError(
            f"{folder} has no subfolders. It must have one for each label, with the label's documents: "
            f"{folder / '<label>' / '*.txt'}."
        )
    files = [(label, file) for label in labels for file in files_of_label(label, folder)]
    require_one_extension(folder, [file for _, file in files])
    for label, file in files:
        yield f"{label.name}/{file.name}", decoded(file, document.layout), label.name


def unlabeled_tree_rows(folder: Path, layout: Layout, root: Path) -> Iterator[Row]:
    """The documents of a folder of text files, without labels. root: the folder that links must not leave."""
    for file in files_of_label(folder, root):
        yield f"{folder.name}/{file.name}", decoded(file, layout)


def unlabeled_subfolders(folder: Path) -> list[Path]:
    """The folders beside those of the labels whose names say that their documents have none."""
    return [child for child in subfolders(folder) if child.name.lower() in UNLABELED_FOLDERS]


def subfolders(folder: Path) -> list[Path]:
    children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    require_inside(folder, children)
    return children


def files_of_label(label: Path, root: Path) -> list[Path]:
    """The files of a label's folder, sorted. Raises UserError if it has none, or folders, or links out of `root`."""
    children = sorted(child for child in label.iterdir() if not child.name.startswith("."))
    if not children:
        raise UserError(
            f"{label} has no files, but every folder in {label.parent} is a label: put the label's documents there, or "
            "remove the folder."
        )
    if others := [child for child in children if not child.is_file()]:
        raise UserError(
            f"{others[0]} is not a file, but a label's folder must contain nothing else: name the folder above the "
            f"labels, such as {label}, or move it elsewhere."
        )
    require_inside(root, children)
    return children


def require_one_extension(folder: Path, files: Sequence[Path]) -> None:
    """Raise UserError if the files of a folder have several extensions."""
    extensions = Counter(extension(file) for file in files)
    if len(extensions) < 2:
        return
    usual, rarest = extensions.most_common()[0][0], extensions.most_common()[-1][0]
    odd = next(file for file in files if extension(file) == rarest)
    like = f"a {usual} file like" if usual else "without extension like"
    raise UserError(
        f"{odd} is not {like} {extensions[usual]:,} of the {len(files):,} files in the folders of {folder}: all "
        "documents must have the same extension. Move the others elsewhere."
    )


def extension(file: Path) -> str:
    """The extension of a file; none if it is a number, as in the names of newsgroup articles such as 1.23."""
    return "" if file.suffix[1:].isdigit() else file.suffix.lower()


FORMATS: dict[FormatName, Format] = {
    "csv": Format("line", csv_rows),
    "tsv": Format("line", csv_rows),
    "jsonl": Format("line", json_rows),
    "json": Format("line", json_rows),
    "parquet": Format("row", parquet_rows, is_text=False),
    "xlsx": Format("row", excel_rows, is_text=False),
    "fasttext": Format("line", fasttext_rows),
}
FOLDER = Format("file", tree_rows)
LINES = Format("line", line_rows)  # of documents to classify, and without labels
EXTENSIONS: dict[str, FormatName] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
    ".txt": "fasttext",
}


def find_format(path: Path, layout: Layout) -> FormatName:
    """The format of a file. Raises UserError if its extension does not tell."""
    if layout.format is not None:
        return layout.format
    name = uncompressed_name(path)
    for suffix, format_name in EXTENSIONS.items():
        if name.endswith(suffix) and (FORMATS[format_name].is_text or name == path.name.lower()):
            return format_name
    raise UserError(
        f"{path}: unknown file extension. Supported are {', '.join(EXTENSIONS)}; files of text also with "
        f"{', '.join(OPENERS)}. Rename the file, or name its format: {layout.prefix}format=csv"
    )


def require_there(path: Path, setting: str) -> None:
    """Raise UserError if the file or folder named by `setting` does not exist, or is a pipe, a socket or a device."""
    if not path.exists():
        near = get_close_matches(path.name, [sibling.name for sibling in path.parent.glob("*")], n=1)
        hint = f"; did you mean {path.with_name(near[0])}?" if near else ". Paths are relative to the current folder."
        raise UserError(f"{setting}={path}: there is no such file or folder{hint}")
    refuse_special(path)


def find_columns(where: str, names: Sequence[str], columns: NamedColumns, rule: str = "") -> list[int]:
    """Positions of the columns among `names`. Raises UserError if one is missing or occurs twice."""
    for setting, name in columns:
        existing = f"{where} has the columns {columns_in_words(names)}"
        if name not in names:
            near = get_close_matches(name, [one for one in names[:MAX_COMPARED] if len(one) < MAX_COMPARED], n=1)
            hint = (
                f"; did you mean {typed(setting, near[0])}?"
                if near
                else f": name one of them, or a list, with {setting}=…"
            )
            kind = MissingLabelsError if setting == "data.label" else UserError
            raise kind(f"{setting}={name}: {existing}{hint}" + (f"\n{rule}" if rule else ""))
        if names.count(name) > 1:
            raise UserError(f"{setting}={name}: {existing}; {names.count(name)} have this name. Rename all but one.")
    return [names.index(name) for _, name in columns]


class Lines:
    """The lines of a text file, without a byte order mark.

    Raises UserError if a record, which may have several lines, is too long, or for the mark of another encoding.
    is_whole: whether a line is read to its end whatever its length.
    """

    def __init__(
        self, path: Path, file: IO[str], layout: Layout, is_whole: Callable[[str], bool] = lambda line: False
    ) -> None:
        self.path = path
        self.file = file
        self.layout = layout
        self.is_whole = is_whole
        self.number = 0  # of the last line
        self.begin = 1  # first line of the record
        self.size = 0  # characters of the record's lines

    def end_record(self) -> None:
        """Begin a new record after the last line."""
        self.begin = self.number + 1
        self.size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.file.readline(MAX_RECORD + 1 - self.size)
        if not line:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            line = without_mark(self.path, line, self.layout)
        self.size += len(line)
        if self.size > MAX_RECORD and not self.is_whole(line):
            raise UserError(
                f"{self.path}, line {self.begin}: the row that begins there has more than {MAX_RECORD:,} characters. "
                "Is the file what its extension says, and are its line breaks and quotes complete? Divide larger "
                "documents into several."
            )
        return line


@contextmanager
def opened(path: Path, layout: Layout, newline: str | None) -> Iterator[IO[str]]:
    """A file opened as text, decompressed as its name says.

    Raises UserError if it is damaged or in another encoding.
    """
    try:
        with open_bytes(path) as file:
            yield io.TextIOWrapper(file, encoding=with_mark(layout.encoding), newline=newline)
    except UnicodeDecodeError as error:
        raise undecodable(path, layout, error) from error
    except UnicodeError as error:  # of codecs that need a byte order mark
        raise wrong_encoding(path, layout, error) from error
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def with_mark(encoding: str) -> str:
    """The encoding, with a byte order mark left out of UTF-8."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def without_mark(path: Path, text: str, layout: Layout) -> str:
    """The beginning of a file without a byte order mark. Raises UserError for the mark of another encoding."""
    for encoding, mark in (("utf-8", "".join(map(chr, codecs.BOM_UTF8))), ("utf-16", "\ufffe")):
        if text.startswith(mark):
            raise UserError(
                f"{path} is not {layout.encoding}: it begins with the byte order mark of {encoding}. Set "
                f"{layout.prefix}encoding={encoding}"
            )
    return text.removeprefix("\ufeff")


def decoded(file: Path, layout: Layout) -> str:
    """The text of a whole file. Raises UserError."""
    content = io.BytesIO(read_file(file, 4 * MAX_DOCUMENT))
    try:
        text = io.TextIOWrapper(content, encoding=with_mark(layout.encoding), newline="").read()
    except UnicodeDecodeError as error:
        raise undecodable(file, layout, error) from error
    except UnicodeError as error:  # of codecs that need a byte order mark
        raise wrong_encoding(file, layout, error) from error
    return without_mark(file, text, layout)


def undecodable(path: Path, layout: Layout, error: UnicodeDecodeError) -> UserError:
    """The error for a text file in another encoding; for UTF-8, it names the first invalid line."""
    if codecs.lookup(layout.encoding).name == "utf-8":
        try:
            with open_bytes(path) as file:
                for number, line in enumerate(iter(partial(file.readline, MAX_RECORD), b""), start=1):
                    try:
                        line.decode("utf-8")
                    except UnicodeDecodeError as line_error:
                        return line_not_utf8(str(path), number, line_error, layout)
        except UNREADABLE as unpacking_error:
            return unreadable(path, unpacking_error)
    return wrong_encoding(path, layout, error)


def wrong_encoding(path: Path, layout: Layout, error: UnicodeError) -> UserError:
    return UserError(
        f"{path} is not {layout.encoding}: {error}. Set {layout.prefix}encoding to the encoding of the file."
    )


def line_not_utf8(where: str, number: int, error: UnicodeDecodeError, layout: Layout | None) -> UserError:
    """The error for a line of a text that is not UTF-8. layout: of a file, whose encoding can be set."""
    line, byte = error.object, error.start
    is_utf16 = number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "UTF-16" if is_utf16 else "LATIN1"
    setting = "" if layout is None else f", or set {layout.prefix}encoding={encoding.lower()}"
    return UserError(
        f"{where}, line {number}: byte 0x{line[byte]:02x} at {byte + 1} is not UTF-8.\nSave the text as UTF-8. "
        f"If it is {encoding}: iconv -f {encoding} -t UTF-8 <old file> > <new file>{setting}"
    )


def columns_in_words(names: Sequence[str]) -> str:
    listed = ", ".join(cut(name) for name in names[:SHOWN_COLUMNS])
    return listed + (f" … ({len(names)})" if len(names) > SHOWN_COLUMNS else "")


def in_words(unit: Unit, positions: Sequence[Position]) -> str:
    """The positions of documents, such as `lines 2, 7`; only the first SHOWN_POSITIONS of them."""
    listed = ", ".join(f"{position}" for position in positions[:SHOWN_POSITIONS])
    return f"{unit}{'s' if len(positions) > 1 else ''} {listed}{' …' if len(positions) > SHOWN_POSITIONS else ''}"
