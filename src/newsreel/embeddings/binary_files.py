"""Binary files of word vectors: those of word2vec, and the header of Facebook's, which gensim reads.

Both begin with numbers of words and values that a damaged file may have wrong, so nothing is allocated by them.
Axes: N words that are read, D values of a vector.
"""

import struct
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import IO, Any

import numpy as np

from newsreel.core.errors import UserError
from newsreel.files.archives import OPENERS, open_bytes

BLOCK_BYTES = 2**20
MAX_WORD_BYTES = 2_000
MAX_NGRAM = 100  # characters
FACEBOOK_MAGIC = 793_712_314


class BinaryStream:
    """Reads a binary stream with little memory. Raises ValueError where it ends too early, or a word does not end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._block = b""
        self._start = 0
        self._num_bytes = 0  # of the blocks before this one

    @property
    def position(self) -> int:
        return self._num_bytes + self._start

    def exactly(self, size: int) -> bytes:
        while len(self._block) - self._start < size:
            self._read_more()
        begin, self._start = self._start, self._start + size
        return self._block[begin : self._start]

    def until(self, mark: bytes) -> bytes:
        """The bytes before the next `mark`, which is skipped."""
        while (end := self._block.find(mark, self._start, self._start + MAX_WORD_BYTES + 1)) < 0:
            if len(self._block) - self._start > MAX_WORD_BYTES:
                raise ValueError(f"the word at byte {self.position:,} has more than {MAX_WORD_BYTES:,} bytes")
            self._read_more()
        begin, self._start = self._start, end + 1
        return self._block[begin:end]

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.exactly(struct.calcsize(form)))

    def _read_more(self) -> None:
        piece = self._stream.read(BLOCK_BYTES)
        if not piece:
            raise ValueError(f"it ends at byte {self._num_bytes + len(self._block):,}, too early")
        self._num_bytes += self._start
        self._block = self._block[self._start :] + piece
        self._start = 0


def read_word2vec(file: Path, dimension: int, vocabulary: AbstractSet[str]) -> tuple[list[str], np.ndarray]:
    """The words of a file that are in the vocabulary, and their (N, D) float32 values.

    Bytes that are not UTF-8 are replaced: some words of Google's vectors are truncated within a character.
    Raises ValueError for a damaged file, and UserError if its vectors have another dimension.
    """
    words: list[str] = []
    values: list[np.ndarray] = []
    with open_bytes(file) as opened:
        stream = BinaryStream(opened)
        num_words, size = header_numbers(stream.until(b"\n"))
        require_dimension(file, size, dimension)
        for _ in range(num_words):
            word = stream.until(b" ").lstrip(b"\n").decode("utf-8", "replace")
            row = stream.exactly(4 * dimension)
            if word in vocabulary:
                words.append(word)
                values.append(np.frombuffer(row, dtype="<f4"))
    return words, np.array(values, dtype=np.float32).reshape(-1, dimension)


def header_numbers(line: bytes) -> tuple[int, int]:
    """The number of words and of values in a vector, of the first line. Raises ValueError."""
    numbers = line.split()
    if len(numbers) != 2 or not all(number.isdigit() and len(number) < 12 for number in numbers):
        raise ValueError(f"line 1 is {line[:40]!r} instead of the number of words and the number of values")
    return int(numbers[0]), int(numbers[1])


def check_facebook(file: Path, dimension: int) -> None:
    """Raise ValueError if a file in Facebook's format contradicts itself before its values.

    gensim believes its numbers: it allocates what they claim, and never ends in a file that ends within its words.
    Raises UserError if its vectors have another dimension.
    """
    with open_bytes(file) as opened:
        stream = BinaryStream(opened)
        magic, _ = stream.unpack("<2i")
        is_new = magic == FACEBOOK_MAGIC
        *_, bucket, _, max_n, _, _ = stream.unpack("<12id" if is_new else "<10id")
        num_entries, num_words, num_labels, _ = stream.unpack("<3iq")
        if num_labels > 0:
            raise ValueError("it is a supervised model, which gensim cannot read")
        if not 0 < num_words == num_entries or bucket < 0 or max_n > MAX_NGRAM:
            raise ValueError(f"it claims {num_words:,} words, {bucket:,} n-grams of up to {max_n:,} characters")
        if is_new and stream.unpack("<q")[0] > 0:
            raise ValueError("it is quantized, which gensim cannot read")
        for _ in range(num_entries):
            stream.until(b"\0")
            stream.exactly(9)  # the word's frequency, and its kind
        if is_new and stream.unpack("<B")[0]:
            raise ValueError("it is quantized, which gensim cannot read")
        num_rows, size = stream.unpack("<2q")
        require_dimension(file, size, dimension)
        if num_rows != num_words + bucket:
            raise ValueError(f"it claims {num_rows:,} vectors for {num_words:,} words and {bucket:,} n-grams")
        missing = stream.position + 4 * num_rows * size - file.stat().st_size
        if file.suffix.lower() not in OPENERS and missing > 0:
            raise ValueError(f"it ends too early: {missing:,} bytes are missing")


def require_dimension(file: Path, size: int, dimension: int) -> None:
    """Raise UserError if vectors of `size` values are not those that the settings expect."""
    if size != dimension:
        raise UserError(
            f"{file} has vectors of {size} values, but embedding.dimension is {dimension}.\n"
            f"Set embedding.dimension={size}, or name another file with embedding.path=…"
        )
