"""Parsers for the stories of RCV1-v2 (Lewis et al. 2004), from the licensed discs or the public token files.

The text of a story is its headline and its paragraphs, one per line; in the token files, the same without stop words
and stemmed. Its labels are its topics and their ancestors.
"""

import csv
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

import numpy as np
import polars as pl

from newsreel.core.errors import UserError
from newsreel.files.archives import open_bytes, read_bounded

TOPICS = Path(__file__).with_name("rcv1_topics.csv")
ROOT = "Root"
# Reuters had 126 codes. The 23 that RCV1-v2 lacks are ignored, like all codes other than the 103: 1POL
# 2ECO 3SPO 4GEN 6INS 7RSK 8YDB 9BNX ADS10 BNW14 BRP11 ENT12 PRB13 G11 G111 G112 G113 G12 G13 G131 G14 GEDU MEUR.

TOPIC_CODES, REGION_CODES = "bip:topics:1.0", "bip:countries:1.0"
MAX_STORY_BYTES = 10_000_000  # of an XML file; stories have a few thousand
CLIMBS = re.compile(r"[/\\]|[A-Za-z]:|(?:.*[/\\])?\.\.(?:[/\\]|\Z)", re.DOTALL)  # absolute paths, and paths with ..
ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, UnicodeDecodeError)
CONTROL_CODES = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
QREL = {"code": pl.String, "id": pl.Int64, "relevant": pl.Int64}


class Topics(NamedTuple):
    """The 103 topics, in alphabetical order of their codes."""

    codes: tuple[str, ...]
    parents: tuple[int, ...]  # number of the parent, -1 for the four roots
    titles: tuple[str, ...]


class Story(NamedTuple):
    """One document."""

    id: int
    labels: list[int]  # numbers of its topics and their ancestors, ascending
    text: str


class BadFile(Exception):  # noqa: N818  (the caller counts them before it raises an error)
    """A file cannot be read. The message gives the reason, as a continuation of its name."""


@cache
def topics() -> Topics:
    with TOPICS.open(encoding="ascii", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["code"])
    codes = tuple(row["code"] for row in rows)
    parents = tuple(-1 if row["parent"] == ROOT else codes.index(row["parent"]) for row in rows)
    return Topics(codes, parents, tuple(row["description"] for row in rows))


@cache
def closures() -> dict[str, frozenset[int]]:
    """The numbers of each code's topic and its ancestors."""
    codes, parents, _ = topics()
    result = {}
    for number, code in enumerate(codes):
        closure = set()
        while number >= 0:
            closure.add(number)
            number = parents[number]
        result[code] = frozenset(closure)
    return result


def labels_of(codes: Iterable[str]) -> list[int]:
    """The labels of a story with these topic codes; codes other than the 103 are ignored."""
    return sorted(frozenset().union(*(closures().get(code, ()) for code in codes)))


@dataclass(frozen=True)
class ZipFile:
    """A zip file of the discs with the stories of a day, one XML file each; read without unpacking it to disk."""

    folder: str
    name: str  # in the folder

    def stories(self, bad_files: list[str]) -> Iterator[Story]:
        """The stories. Unreadable XML files are appended to `bad_files`. Raises BadFile for an unreadable zip file."""
        try:
            archive = zipfile.ZipFile(Path(self.folder, self.name))
        except ZIP_DAMAGE as error:
            raise BadFile(f"cannot be read as a zip file: {reason_of(error)}") from error
        with archive:
            members = archive.infolist()
            for member in members:
                if CLIMBS.match(member.filename):
                    raise BadFile(f"has a file with the path {member.filename}, which is outside its folder")
            files = (
                (f"{self.name}, {member.filename}", partial(member_content, archive, member))
                for member in members
                if member.filename.lower().endswith(".xml")
            )
            yield from newsml_stories(files, bad_files)


@dataclass(frozen=True)
class XmlFiles:
    """Some of the discs' unpacked XML files."""

    folder: str
    names: list[str]  # in the folder

    @property
    def name(self) -> str:
        return f"{self.names[0]} …"

    def stories(self, bad_files: list[str]) -> Iterator[Story]:
        """The stories. Unreadable files are appended to `bad_files`."""
        files = ((name, partial(file_content, Path(self.folder, name))) for name in self.names)
        yield from newsml_stories(files, bad_files)


@dataclass(frozen=True)
class TokenFile:
    """One of the public token files, with the file of topics."""

    folder: str
    name: str  # in the folder
    qrels: str  # in the folder

    def stories(self, bad_files: list[str]) -> Iterator[Story]:
        """The stories with a topic. Raises BadFile for the token file and UserError for the file of topics."""
        topics_by_id = read_qrels(Path(self.folder, self.qrels))
        try:
            with open_bytes(Path(self.folder, self.name)) as lines:
                for story_id, text in token_documents(iter(partial(lines.readline, MAX_STORY_BYTES), b"")):
                    if labels := topics_by_id.labels(story_id):
                        yield Story(story_id, labels, text)
        except (EOFError, zlib.error, OSError) as error:
            raise BadFile(f"cannot be read: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def member_content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The content of a file in the zip file. Raises BadFile."""
    check_size(member.file_size)
    try:
        return archive.read(member)
    except ZIP_DAMAGE as error:
        raise BadFile(f"cannot be read: {reason_of(error)}") from error


def file_content(file: Path) -> bytes:
    """The content of an unpacked file. Raises BadFile or OSError."""
    check_size(file.stat().st_size)
    return file.read_bytes()


def check_size(num_bytes: int) -> None:
    """Raise BadFile if a file is too large for a story."""
    if num_bytes > MAX_STORY_BYTES:
        raise BadFile(f"has {num_bytes:,} bytes; no story has more than {MAX_STORY_BYTES:,}")


def newsml_stories(files: Iterable[tuple[str, Callable[[], bytes]]], bad_files: list[str]) -> Iterator[Story]:
    """The stories of XML files, as pairs of name and reader. Unreadable files are appended to `bad_files`."""
    for name, content in files:
        try:
            story = newsml_story(content())
        except (BadFile, OSError) as error:
            bad_files.append(f"{name}: {reason_of(error)}")
            continue
        if story is not None:
            yield story


def newsml_story(content: bytes) -> Story | None:
    """The story of an XML file; None without one of the 103 topics or without a region, as in RCV1-v2.

    Raises BadFile for XML that is malformed, not in its declared encoding or without the root <newsitem>, and for any
    <!DOCTYPE>, since only that can declare entities.
    """
    item = _NewsItem()
    item.read(content)
    labels = labels_of(item.codes[TOPIC_CODES])
    if not labels or not item.codes[REGION_CODES]:
        return None
    return Story(item.id, labels, "\n".join(line for line in item.lines if line))


class _NewsItem:
    """Collects one story from expat's events."""

    def __init__(self) -> None:
        self.id = -1
        self.lines: list[str] = []
        self.codes: dict[str, list[str]] = {TOPIC_CODES: [], REGION_CODES: []}
        self._depth = 0
        self._pieces: list[str] | None = None  # of the current line
        self._codes: list[str] | None = None  # of the current class, if it is one of the two

    def read(self, content: bytes) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(content, True)
        except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: an unknown encoding
            raise BadFile(f"is not valid XML: {error}") from error

    def _doctype(self, name: str, *identifiers: Any) -> None:
        raise BadFile(f"has <!DOCTYPE {name} …>, which is not allowed because it can declare entities")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._depth:
            if name != "newsitem":
                raise BadFile(f"has the root <{name}> instead of <newsitem>")
            item_id = attributes.get("itemid", "")
            if not (item_id.isascii() and item_id.isdecimal() and len(item_id) < 19):
                raise BadFile(f'has itemid="{item_id}", which is not a number')
            self.id = int(item_id)
        elif name in ("headline", "p"):
            self._pieces = []
        elif name == "codes":
            self._codes = self.codes.get(attributes.get("class", ""))
        elif name == "code" and self._codes is not None and "code" in attributes:
            self._codes.append(attributes["code"])
        self._depth += 1

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name in ("headline", "p") and self._pieces is not None:
            self.lines.append(" ".join("".join(self._pieces).split()))
            self._pieces = None
        elif name == "codes":
            self._codes = None

    def _characters(self, data: str) -> None:
        if self._pieces is not None:
            self._pieces.append(data)


def token_documents(lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Ids and tokens of the documents of a token file: `.I <id>`, `.W`, lines of tokens, a blank line.

    Raises BadFile with the first invalid line. The encoding is iso-8859-1, as in the corpus.
    """
    document: int | None = None
    tokens: list[bytes] | None = None  # None between `.I` and `.W`
    number, line, size = 0, b"\n", 0
    for number, line in enumerate(lines, 1):
        if line.startswith(b".I"):
            if document is not None:
                yield document, text_of(tokens, number)
            if not (match := re.fullmatch(rb"\.I (\d{1,18})\s*", line)):
                raise BadFile(f"line {number} is {shown(line)} instead of .I and a number")
            document, tokens, size = int(match[1]), None, 0
        elif tokens is None and document is not None and line.strip() == b".W":
            tokens = []
        elif stripped := line.strip():
            if tokens is None:
                raise BadFile(f"line {number} is {shown(line)} instead of {'.I' if document is None else '.W'}")
            tokens.append(stripped)
            size += len(stripped)
            if size > MAX_STORY_BYTES:
                raise BadFile(f"has a document of more than {MAX_STORY_BYTES:,} bytes that goes on in line {number}")
    if document is None:
        raise BadFile("has no document")
    if not line.endswith(b"\n"):
        raise BadFile(f"ends in the middle of line {number}")
    yield document, text_of(tokens, number + 1)


def text_of(tokens: list[bytes] | None, number: int) -> str:
    """The text of a document that ends before line `number`. Raises BadFile."""
    if tokens is None:
        raise BadFile(f"has a document without .W before line {number}")
    content = b" ".join(tokens)
    if CONTROL_CODES.search(content):
        raise BadFile(f"has control codes before line {number}: it is not text in ASCII or iso-8859-1")
    return content.decode("iso-8859-1")


def shown(line: bytes) -> str:
    """The beginning of a line, for messages."""
    return repr(line[:40].rstrip(b"\r\n").decode("iso-8859-1"))


@dataclass(frozen=True)
class Qrels:
    """The topics of documents, as pairs."""

    ids: np.ndarray  # (num_pairs,) int64 ids of documents, ascending
    topics: np.ndarray  # (num_pairs,) int64 numbers of topics

    def labels(self, story_id: int) -> list[int]:
        start, end = np.searchsorted(self.ids, [story_id, story_id + 1])
        codes = topics().codes
        return labels_of(codes[number] for number in self.topics[start:end])


@cache
def read_qrels(file: Path) -> Qrels:
    """The topics in `rcv1-v2.topics.qrels`, which has lines `CODE id 1`. Raises UserError with the file and line."""
    try:
        with open_bytes(file) as content:
            lines = pl.read_csv(read_bounded(content, str(file)), separator=" ", schema=QREL, has_header=False,
                                quote_char=None, ignore_errors=True, encoding="utf8-lossy")  # fmt: skip
    except (EOFError, zlib.error, OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{file} cannot be read: {reason_of(error).splitlines()[0]}. Download it again.") from error
    if lines.is_empty():
        raise UserError(f"{file} is empty. Download it again.")
    numbers = {code: number for number, code in enumerate(topics().codes)}
    pairs = lines.with_columns(topic=pl.col("code").replace_strict(numbers, default=None, return_dtype=pl.Int64))
    valid = pl.col("topic").is_not_null() & pl.col("id").is_not_null() & (pl.col("relevant") == 1)
    if len(broken := pairs.with_row_index().filter(~valid.fill_null(False))):
        number = broken["index"][0] + 1
        raise UserError(
            f"{file}, line {number} is not one of the {len(numbers)} topics, a number and 1, as in CCAT 2286 1. "
            "Download the file again."
        )
    pairs = pairs.select("id", "topic").sort("id")
    return Qrels(pairs["id"].to_numpy(), pairs["topic"].to_numpy())
