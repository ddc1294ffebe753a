"""Text files of word vectors, as GloVe, word2vec and fastText write them: a word and its values on each line.

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

PARSER_VERSION = 1  # raise it when the same file gives other words or values
VALUES_FILE, WORDS_FILE, NOTES_FILE = "values.f32", "words.parquet", "notes.json"
BLOCK_BYTES = 2**23
HEADER = re.compile(r"(\d+) \d+")
DECIMAL = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")


def read_once(file: Path, dimension: int, cache: Path) -> tuple[pl.Series, np.ndarray]:
    """The words and (N, D) values of a text file or zip: parsed the first time, memory-mapped from then on.

    Raises UserError for a file that breaks the format, and for a cache that is not as it was written.
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
    """Write the words and values of a text file or zip into an empty folder, holding one block of lines at a time."""
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
    """The lines of a text file or zip, each ended by a newline, about `BLOCK_BYTES` at a time and with a progress bar.

    Raises UserError for a file that cannot be read.
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
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise UserError(
            f"{file} cannot be read: {type(error).__name__}: {error}.\n"
            "If the download was cut short or damaged, get the file again."
        ) from error
    if rest:
        yield rest + b"\n"


@contextmanager
def open_text(file: Path, dimension: int) -> Iterator[tuple[IO[bytes], int | None]]:
    """A text file, a packed one, or the one of this dimension in a zip, and how many bytes it has, if that is known."""
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
    """The only text file of an archive, or the one named after the dimension, as glove.6B.100d.txt is."""
    texts = [
        one for one in members if one.filename.endswith((".txt", ".vec")) and not one.filename.startswith("__MACOSX/")
    ]
    chosen = texts if len(texts) == 1 else [one for one in texts if one.filename.endswith(f".{dimension}d.txt")]
    if len(chosen) != 1:
        raise UserError(
            f"{file} holds {', '.join(one.filename for one in texts) or 'no text file'}: one of them has to be named "
            f"….{dimension}d.txt, since embedding.dimension is {dimension}.\n"
            "Set embedding.dimension to what is there, or name an unpacked file with embedding.path=…"
        )
    return chosen[0]


class Parser:
    """Reads a file's blocks of lines in their order.

    A word is what stands before the last D values, spaces included (". . ."), and only a newline ends a line: words
    may hold other characters that Unicode takes for a line's end or a space.
    """

    def __init__(self, where: str, dimension: int) -> None:
        self.where = where
        self.dimension = dimension
        self.schema = {str(column): pl.Float32 for column in range(dimension)}
        self.num_lines = 0  # of the blocks before the present one
        self.header: str | None = None
        self.spaced: list[str] = []  # words with spaces

    def parse(self, block: bytes) -> tuple[list[str], np.ndarray]:
        """The words of a block and their (lines, D) float32 values. Raises UserError naming the line that has none."""
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
        """Take the byte order mark off and notice a header; raises UserError if the vectors have another dimension."""
        lines[0] = lines[0].removeprefix("\ufeff")
        if HEADER.fullmatch(lines[0]):
            self.header = lines[0]
        sizes = Counter(line.count(" ") for line in lines if DECIMAL.fullmatch(line.rpartition(" ")[2]))
        if sizes and self.dimension not in sizes:
            size = sizes.most_common(1)[0][0]
            raise UserError(
                f"{self.where} holds vectors of {size} values, and embedding.dimension is {self.dimension}.\n"
                f"Set embedding.dimension={size}, or name a file of {self.dimension} with embedding.path=…"
            )

    def parse_values(self, words: list[str], values: list[str], first: int) -> np.ndarray:
        """(lines, D) float32 of the lines' ends; `first` is the first one's number."""
        if not words:
            return np.empty((0, self.dimension), dtype=np.float32)
        table = pl.read_csv(
            "\n".join(values).encode(),
            has_header=False,
            separator=" ",
            quote_char=None,
            schema=self.schema,
            ignore_errors=True,
        ).to_numpy(order="c")  # NaN where there is no number
        wrong = np.argwhere(~np.isfinite(table))
        if len(wrong):
            line, column = wrong[0]
            value = values[line].split(" ")[column]
            reason = f"value {column + 1} of {excerpt(words[line])} is {excerpt(value)}, which is not a finite number"
            raise self.malformed(first + int(line), reason)
        return table

    def finish(self, words: pl.Series) -> list[str]:
        """What a reader of the log has to know of the file. Raises UserError for a file without vectors, or cut."""
        if not len(words):
            raise UserError(f"{self.where} holds no vectors. Get the file again.")
        notes = []
        if self.header is not None:
            if int(self.header.split(" ")[0]) != len(words):
                raise UserError(
                    f"{self.where}, line 1 is the header {self.header!r}, and {len(words):,} vectors follow: the file "
                    "was cut short or changed.\nGet it again, or remove that line if it is right as it is."
                )
            notes.append(f"line 1 is a header ({self.header}), not a word")
        repeated = words.filter(~words.is_first_distinct())
        if len(repeated):
            notes.append(
                f"words that occur again: {len(repeated):,}, such as {repeated[0]!r}; their first vector counts"
            )
        if self.spaced:
            notes.append(f"words that hold spaces: {len(self.spaced):,}, such as {self.spaced[0]!r}")
        return notes

    def malformed(self, number: int, reason: str) -> UserError:
        return UserError(
            f"{self.where}, line {number:,}: {reason}.\n"
            f"A line has to be a word and {self.dimension} numbers (embedding.dimension) between single spaces, in "
            "UTF-8. Get the file again, or mend that line."
        )


def excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
