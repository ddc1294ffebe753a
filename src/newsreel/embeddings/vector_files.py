"""Text files of word vectors in the format of GloVe, word2vec and fastText: a word and its values on each line.

Axes: N words of a file, D values of a vector.
"""

import gzip
import json
import logging
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
import polars as pl
from tqdm import tqdm

from newsreel.core.cache import Cache
from newsreel.core.errors import UserError
from newsreel.files.archives import content_key

log = logging.getLogger(__name__)

PARSER_VERSION = 1  # raise it when the same file results in other words or values
VALUES_FILE, WORDS_FILE, NOTES_FILE = "values.f32", "words.parquet", "notes.json"
BLOCK_BYTES = 2**23
HEADER = re.compile(r"[0-9]{1,12} [0-9]{1,6}")
DECIMAL = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")


def read_once(file: Path, dimension: int, cache: Path) -> tuple[pl.Series, np.ndarray]:
    """The words and (N, D) values of a text file or zip, parsed once and memory-mapped from the cache.

    Raises UserError for an invalid file and for a damaged cache.
    """

    def build(partial: Path) -> None:
        parse(file, dimension, partial)

    def load(folder: Path) -> tuple[pl.Series, np.ndarray, list[str]]:
        words = pl.read_parquet(folder / WORDS_FILE)["word"]
        notes = json.loads((folder / NOTES_FILE).read_text(encoding="utf-8"))
        expected = 4 * dimension * len(words)
        if (size := (folder / VALUES_FILE).stat().st_size) != expected:
            raise ValueError(f"{VALUES_FILE} has {size:,} bytes instead of {expected:,}")
        values = np.memmap(folder / VALUES_FILE, dtype=np.float32, mode="r", shape=(len(words), dimension))
        return words, values, notes

    identity = (PARSER_VERSION, content_key(file), dimension)
    what = f"the vectors of {file.name}"
    words, values, notes = Cache(cache).get_or_build("embeddings", "text", identity, build, load, what)
    for note in notes:
        log.info(f"note        {file.name}: {note}")
    return words, values


def parse(file: Path, dimension: int, folder: Path) -> None:
    """Write the words and values of a text file or zip into an empty folder, with one block in memory at a time."""
    log.info(f"vectors     reading {file}")
    parser = Parser(str(file), dimension)
    words = [pl.Series(dtype=pl.String)]
    with (folder / VALUES_FILE).open("wb") as output, closing(read_blocks(file, dimension)) as blocks:
        for block in blocks:
            block_words, values = parser.parse(block)
            words.append(pl.Series(block_words, dtype=pl.String))
            output.write(values.data)
    all_words = pl.concat(words)
    notes = parser.finish(all_words)
    all_words.to_frame("word").write_parquet(folder / WORDS_FILE)
    (folder / NOTES_FILE).write_text(json.dumps(notes), encoding="utf-8")


def read_blocks(file: Path, dimension: int) -> Generator[bytes]:
    """The lines of a text file or zip, in blocks of about `BLOCK_BYTES` that end with a newline, with a progress bar.

    Raises UserError for an unreadable file.
    """
    rest = b""
    try:
        with (
            open_text(file, dimension) as (text, num_bytes),
            tqdm(total=num_bytes, unit="B", unit_scale=True, desc=f"reading {file.name}", disable=None) as bar,
        ):
            while piece := text.read(BLOCK_BYTES):
                bar.update(len(piece))
                lines, newline, after = piece.rpartition(b"\n")
                if newline:
                    yield rest + lines + newline
                    rest = after
                elif len(rest) < BLOCK_BYTES:
                    rest += piece
                else:
                    raise UserError(
                        f"{file} has a line of more than {BLOCK_BYTES:,} bytes: it is not a file of vectors."
                    )
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} cannot be read: {type(error).__name__}: {error}.\n"
            "If the download is incomplete or damaged, download the file again."
        ) from error
    if rest:
        yield rest + b"\n"


@contextmanager
def open_text(file: Path, dimension: int) -> Iterator[tuple[IO[bytes], int | None]]:
    """A text file, a .gz file, or the file of this dimension in a zip, opened; and its number of bytes, if known."""
    if file.suffix.lower() == ".gz":
        with gzip.open(file) as text:
            yield cast(IO[bytes], text), None
        return
    if file.suffix.lower() != ".zip":
        with file.open("rb") as text:
            yield text, file.stat().st_size
        return
    with zipfile.ZipFile(file) as archive:
        member = choose_member(file, archive.infolist(), dimension)
        with archive.open(member) as text:
            yield text, member.file_size


def choose_member(file: Path, members: list[zipfile.ZipInfo], dimension: int) -> zipfile.ZipInfo:
    """The only text file of an archive, or the one named after the dimension, such as glove.6B.100d.txt."""
    texts = [
        one for one in members if one.filename.endswith((".txt", ".vec")) and not one.filename.startswith("__MACOSX/")
    ]
    matches = texts if len(texts) == 1 else [one for one in texts if one.filename.endswith(f".{dimension}d.txt")]
    if len(matches) != 1:
        raise UserError(
            f"{file} has {', '.join(one.filename for one in texts) or 'no text file'}: for "
            f"embedding.dimension={dimension}, one of them must be named ….{dimension}d.txt.\n"
            "Set embedding.dimension to one of the files, or name an unpacked file with embedding.path=…"
        )
    return matches[0]


class Parser:
    """Parses the blocks of a file in order.

    The word is everything before the last D values, including spaces (". . ."). Only a newline ends a line: words can
    contain other Unicode line breaks and spaces.
    """

    def __init__(self, where: str, dimension: int) -> None:
        self.where = where
        self.dimension = dimension
        self.schema = {str(column): pl.Float32 for column in range(dimension)}
        self.num_lines = 0  # of the previous blocks
        self.header: str | None = None
        self.spaced: list[str] = []  # words with spaces

    def parse(self, block: bytes) -> tuple[list[str], np.ndarray]:
        """The words of a block and their (num_lines, D) float32 values. Raises UserError with the invalid line."""
        lines = self.decode(block)
        if not self.num_lines:
            self.read_start(lines)
        words, values = [], []
        for number, line in enumerate(lines, self.num_lines + 1):
            if number == 1 and self.header is not None:
                continue
            word, *numbers = line.rsplit(" ", self.dimension)
            if len(numbers) < self.dimension:
                raise self.malformed(number, f"{excerpt(line)} has only {len(numbers)} of {self.dimension} values")
            if not word:
                raise self.malformed(number, f"{excerpt(line)} has no word")
            if " " in word:
                if DECIMAL.fullmatch(word.rpartition(" ")[2]):
                    raise self.malformed(number, f"{excerpt(line)} has more than {self.dimension} values")
                self.spaced.append(word)
            words.append(word)
            values.append(line[len(word) + 1 :])
        first = self.num_lines + 1 + len(lines) - len(words)
        self.num_lines += len(lines)
        return words, self.parse_values(words, values, first)

    def decode(self, block: bytes) -> list[str]:
        try:
            text = block.decode()
        except UnicodeDecodeError as error:
            number = self.num_lines + 1 + block.count(b"\n", 0, error.start)
            raise self.malformed(number, f"the byte 0x{block[error.start]:02x} is not UTF-8 text") from error
        return [line.rstrip(" \r") for line in text.removesuffix("\n").split("\n")]

    def read_start(self, lines: list[str]) -> None:
        """Remove the byte order mark and detect a header. Raises UserError if the vectors have another dimension."""
        lines[0] = lines[0].removeprefix("\ufeff")
        if HEADER.fullmatch(lines[0]):
            self.header = lines[0]
        sizes = Counter(line.count(" ") for line in lines if DECIMAL.fullmatch(line.rpartition(" ")[2]))
        if sizes and self.dimension not in sizes:
            size = sizes.most_common(1)[0][0]
            raise UserError(
                f"{self.where} has vectors of {size} values, but embedding.dimension is {self.dimension}.\n"
                f"Set embedding.dimension={size}, or name a file with {self.dimension} values by embedding.path=…"
            )

    def parse_values(self, words: list[str], values: list[str], first: int) -> np.ndarray:
        """(num_lines, D) float32 from the text after the words. first: number of the first line."""
        if not words:
            return np.empty((0, self.dimension), dtype=np.float32)
        table = pl.read_csv(
            "\n".join(values).encode(),
            has_header=False,
            separator=" ",
            quote_char=None,
            schema=self.schema,
            ignore_errors=True,
        ).to_numpy(order="c")  # NaN for invalid numbers
        wrong = np.argwhere(~np.isfinite(table))
        if len(wrong):
            line, column = wrong[0]
            value = values[line].split(" ")[column]
            reason = f"value {column + 1} of {excerpt(words[line])} is {excerpt(value)}, which is not a finite number"
            raise self.malformed(first + int(line), reason)
        return table

    def finish(self, words: pl.Series) -> list[str]:
        """Notes on the file for the log. Raises UserError for a file that is empty or truncated."""
        if not len(words):
            raise UserError(f"{self.where} has no vectors. Download the file again.")
        notes = []
        if self.header is not None:
            if int(self.header.split(" ")[0]) != len(words):
                raise UserError(
                    f"{self.where}, line 1 is the header {self.header!r}, but {len(words):,} vectors follow: the file "
                    "is incomplete or was changed.\nDownload it again, or remove this line if the vectors are correct."
                )
            notes.append(f"line 1 is a header ({self.header}), not a word")
        repeated = words.filter(~words.is_first_distinct())
        if len(repeated):
            notes.append(
                f"repeated words: {len(repeated):,}, such as {repeated[0]!r}; the first vector of each is used"
            )
        if self.spaced:
            notes.append(f"words with spaces: {len(self.spaced):,}, such as {self.spaced[0]!r}")
        return notes

    def malformed(self, number: int, reason: str) -> UserError:
        return UserError(
            f"{self.where}, line {number:,}: {reason}.\n"
            f"A line must be a word and {self.dimension} numbers (embedding.dimension), separated by single spaces, in "
            "UTF-8. Download the file again, or correct this line."
        )


def excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
