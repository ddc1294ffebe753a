"""The labels of documents as the user's files have them, converted to names."""

import ast
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from newsreel.core.errors import UserError

SHOWN_CHARACTERS = 60
WHOLE_NUMBER = re.compile(r"(-?\d+)\.0+")
SEPARATED_INDICATORS = re.compile(r"[01](?:[ ,;|]+[01])+")
NUMBERS_IN_BRACKETS = re.compile(r"\[[\d.\s]+\]")  # how NumPy prints arrays
MAX_LITERAL = 10_000  # characters of a text that Python's parser, which needs much memory, is asked about
INDICATORS = {"0": False, "1": True, "false": False, "true": True}

Unit = Literal["line", "row", "file"]
Position = int | str  # line or row number, or path in a folder
Names = str | int | list[str | int]  # of columns: one or several, or their numbers
NamedColumns = Sequence[tuple[str, str]]  # the setting that names a column, and the column


class MissingLabelsError(UserError):
    """Documents have no label, or a table has no column of labels."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table to read, and what the values of its label column are.

    label: one column, or several with 0 or 1 for each of their names. separator: between several labels in a text.
    label_names: the label of each position, if labels are lists of 0 and 1.
    """

    text: tuple[str, ...]
    label: tuple[str, ...]
    separator: str | None = None
    label_names: tuple[str, ...] | None = None

    @property
    def named(self) -> NamedColumns:
        return [*(("data.text", name) for name in self.text), *(("data.label", name) for name in self.label)]

    @property
    def shown(self) -> str:
        return f"data.text={in_brackets(self.text)}, data.label={in_brackets(self.label)}"


class Labels:
    """Converts the labels of one table to names. The same label gets the same name in every format.

    several: whether a document can have several labels; None as long as the format allows several but no document has.
    """

    def __init__(self, where: str, unit: Unit, columns: Columns) -> None:
        self.where = where
        self.unit = unit
        self.columns = columns
        has_indicators = len(columns.label) > 1 or columns.label_names is not None
        self.several = has_indicators or columns.separator is not None
        self.first: dict[str, tuple[Position, Any, str]] = {}  # aspect → position, value and kind of the first label
        self.known: dict[str, list[str]] = {}  # the names of labels that are texts, so that each is checked once
        self.vector_size: int | None = None  # of the lists so far, if all may be vectors of 0 and 1; -1: they are not

    def names(self, position: Position, value: Any) -> list[str] | None:
        """The sorted names of a document's labels; None if the label is missing. Raises UserError."""
        if isinstance(value, str) and value in self.known:
            return self.known[value]
        names = self.new_names(position, value)
        if isinstance(value, str) and names is not None:
            self.known[value] = names
        return names

    def new_names(self, position: Position, value: Any) -> list[str] | None:
        if len(self.columns.label) > 1:
            return self.indicated(position, value, self.columns.label)
        if is_missing(value):
            return None
        parts = self.separated(value)
        if parts and is_within_brackets(parts):
            raise self.list_as_text(position, value)
        if self.columns.label_names is not None:
            return self.indicated(position, value if parts is None else parts, self.columns.label_names)
        self.require_same_kind("form", "a list" if isinstance(value, list) else "a single value", position, value)
        if isinstance(value, list):
            self.several = True
        values = value if isinstance(value, list) else [value] if parts is None else parts
        if isinstance(value, list) or parts is not None:
            self.watch_for_vectors(values)
        names = [label_name(item) for item in values if self.is_label(item, position, value)]
        if "" in names and not isinstance(value, list):
            return None
        if "" in names:
            raise self.error(position, value, "it contains an empty label: remove that from the list")
        if len(set(names)) < len(names) and (isinstance(value, list) or set(names) <= INDICATORS.keys()):
            name, count = Counter(names).most_common(1)[0]
            raise self.error(position, value, f"it has the label {name!r} {count} times: remove the copies")
        return sorted(set(names))

    def separated(self, value: Any) -> list[str] | None:
        """The labels in a text of several; None if the value is no such text."""
        if self.columns.separator is None or not isinstance(value, str):
            return None
        return [part for part in value.split(self.columns.separator) if part.strip()]

    def indicated(self, position: Position, value: Any, names: Sequence[str]) -> list[str]:
        """The names whose value is 1. value: one 0 or 1 for each name."""
        if not isinstance(value, list) or len(value) != len(names):
            rule = f"it must be a list of {len(names)} values, 0 or 1, for data.labels={in_brackets(names)}"
            raise self.error(position, value, rule)
        present = [indicator(item) for item in value]
        if None in present:
            column = names[present.index(None)]
            rule = f"the value of {column} is {shown(value[present.index(None)])}, but must be 0 or 1"
            raise self.error(position, value, rule)
        return sorted(name for name, is_present in zip(names, present, strict=True) if is_present)

    def watch_for_vectors(self, value: list[Any]) -> None:
        is_vector = len(value) > 1 and all(indicator(item) is not None for item in value)
        if not is_vector or self.vector_size not in (None, len(value)):
            self.vector_size = -1
        elif self.vector_size is None:
            self.vector_size = len(value)

    def require_no_vectors(self) -> None:
        """Raise UserError if all labels are lists of one length that contain only 0 and 1."""
        if self.vector_size is not None and self.vector_size > 0:
            position, value, _ = self.first["form"]
            raise self.error(position, value, f"like all others, it is a list of {self.vector_size} values, 0 or 1")

    def is_label(self, item: Any, position: Position, value: Any) -> bool:
        """True for a valid label. Raises UserError for anything else."""
        if isinstance(item, bool):
            kind = "true or false"
        elif isinstance(item, str):
            kind = "a text"
            if is_list_as_text(item):
                raise self.list_as_text(position, value)
        elif isinstance(item, int | float | Decimal) and not is_missing(item):
            kind = "a number"
            if item in (math.inf, -math.inf):
                raise self.error(position, value, "an infinite number is no label: write another value, or a text")
        else:
            raise self.error(position, value, "labels must be texts, numbers, true or false, or lists of these")
        self.require_same_kind("type", kind, position, value)
        return True

    def require_same_kind(self, aspect: str, kind: str, position: Position, value: Any) -> None:
        first_position, first_value, first_kind = self.first.setdefault(aspect, (position, value, kind))
        if kind != first_kind:
            rule = f"this is {kind}, but {shown(first_value)} in {self.unit} {first_position} is {first_kind}"
            raise self.error(position, value, f"{rule}. Write all labels in the same form")

    def error(self, position: Position, value: Any, rule: str) -> UserError:
        remedy = ""
        items = value if isinstance(value, list) else self.separated(value) or []
        if len(items) > 1 and all(indicator(item) is not None for item in items):
            example = "[a,b]" if len(items) == 2 else "[a,b,…]"
            remedy = (
                f"\nIf each value says whether the document has one of {len(items)} labels, name these in their order: "
                f"data.labels={example}"
            )
        return UserError(f"{self.prefix(position, value)}; {rule}.{remedy}")

    def list_as_text(self, position: Position, value: Any) -> UserError:
        return UserError(
            f"{self.prefix(position, value)}; this is a list that was saved as text.\nSave it as JSON Lines or "
            "Parquet, where a list stays one, or write the labels with a separator, such as good;film, and set "
            "data.separator=';' (and data.labels=[a,b,…] if the items are 0 and 1)."
        )

    def prefix(self, position: Position, value: Any) -> str:
        return f"{self.where}, {self.unit} {position}: data.label={in_brackets(self.columns.label)} is {shown(value)}"


def label_name(value: str | bool | float | Decimal) -> str:
    """The name of a label: `1` for 1, 1.0, "1" and " 1.0 ", `true` for true and "True"; `01` stays `01`.

    File formats, and the programs that write them, differ: pandas writes integers as 1.0 if one of them is missing,
    and True in CSV, where JSON has true.
    """
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    name = unicodedata.normalize("NFC", text).strip()
    if whole := WHOLE_NUMBER.fullmatch(name):
        return whole.group(1)
    return name.lower() if name in ("True", "False", "TRUE", "FALSE") else name


def indicator(value: Any) -> bool | None:
    """Whether a 0 or 1 is 1, in any spelling of `label_name`; None for other values."""
    if isinstance(value, str | bool | int | float | Decimal) and not is_missing(value):
        return INDICATORS.get(label_name(value))
    return None


def is_list_as_text(text: str) -> bool:
    """Whether a text is a list, tuple, set or dictionary of Python, an array as NumPy prints it, or zeros and ones."""
    text = text.strip()
    if SEPARATED_INDICATORS.fullmatch(text):
        return True
    if not text or text[0] not in "[({" or text[-1] not in "])}":
        return False
    if NUMBERS_IN_BRACKETS.fullmatch(text) or (text[0] == "[" and text[-1] == "]" and "," in text):
        return True
    if len(text) > MAX_LITERAL:
        return False
    try:
        return isinstance(ast.literal_eval(text), list | tuple | set | dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def is_within_brackets(parts: Sequence[str]) -> bool:
    """Whether brackets open in the first part of a text and close in the last: the text is a list, and they are not."""
    first, last = parts[0].strip(), parts[-1].strip()
    return len(parts) > 1 and any(
        first[0] == begin and end not in first and last[-1] == end and begin not in last
        for begin, end in ("[]", "()", "{}")
    )


def is_missing(value: Any) -> bool:
    if isinstance(value, Decimal):  # a signaling NaN cannot be compared
        return value.is_nan()
    return value is None or (isinstance(value, float) and value != value)


def as_names(value: Names) -> tuple[str, ...]:
    """The names in a setting that is one of them, or a list."""
    return (
        tuple(str(name) for name in value)
        if isinstance(value, Sequence) and not isinstance(value, str)
        else (str(value),)
    )


def in_brackets(names: Sequence[str]) -> str:
    """Names as a setting has them: alone, or as a list."""
    return names[0] if len(names) == 1 else f"[{','.join(names)}]"


def shown(value: Any) -> str:
    """The beginning of a value, for messages."""
    start = value[: SHOWN_CHARACTERS + 1] if isinstance(value, str | list) else value
    try:
        return cut(json.dumps(start, ensure_ascii=False, default=str))
    except RecursionError:
        return f"a {type(value).__name__} of many levels"


def cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
