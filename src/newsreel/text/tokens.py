"""Token sequences as flat arrays, and the interfaces of tokenizers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from newsreel.core.cache import digest
from newsreel.core.errors import UserError
from newsreel.core.json_files import MAX_JSON_BYTES
from newsreel.core.storage import write_atomically
from newsreel.corpora.corpus import Corpus

PAD, UNK = 0, 1
SPECIAL_TOKENS = ["<pad>", "<unk>"]
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class TokenSequences:
    """Token ids of N concatenated documents: document i is `mapping[ids[offsets[i]:offsets[i + 1]]]`.

    The arrays may be memory-mapped. `ids` are shared by all runs; `mapping` maps them to this run's vocabulary when a
    document is read.
    """

    ids: np.ndarray  # (total,) int32
    offsets: np.ndarray  # (N + 1,) int64
    mapping: np.ndarray | None = None  # (num_types,) int32; None: `ids` are already those of the vocabulary

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, document: int) -> np.ndarray:
        return self.piece(int(self.offsets[document]), int(self.offsets[document + 1]))

    def piece(self, start: int, end: int) -> np.ndarray:
        """Vocabulary ids of the tokens from `start` to `end` of the flat array."""
        ids = self.ids[start:end]
        return np.asarray(ids if self.mapping is None else self.mapping[ids])

    @property
    def lengths(self) -> np.ndarray:
        """(N,) number of tokens of each document."""
        return np.diff(self.offsets)

    def documents(self) -> np.ndarray:
        """(total,) int32: the document of each token."""
        return np.repeat(np.arange(len(self), dtype=np.int32), self.lengths)

    def select(self, documents: np.ndarray) -> "TokenSequences":
        """A subset of the documents, in memory, as ids of the vocabulary."""
        pieces = [self[document] for document in documents]
        offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces], dtype=np.int64)])
        return TokenSequences(np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int32), offsets)

    def count_tokens(self, documents: np.ndarray, num_tokens: int) -> np.ndarray:
        """(num_tokens,) int64: how often each token id occurs in the given documents."""
        counts = np.zeros(num_tokens, dtype=np.int64)
        for start in range(0, len(documents), 1_000):
            counts += np.bincount(self.select(documents[start : start + 1_000]).ids, minlength=num_tokens)
        return counts


class TextSpans(NamedTuple):
    """Parts of a text that tokens cover, for tokens that are smaller than words or overlap."""

    texts: list[str]  # (P,) the parts in reading order
    weights: csr_array  # (T, P) fraction of each token that lies in each part; every row sums to 1


class ComputedTokens(Sequence[str]):
    """Tokens by id, built on access, so that millions of them need no memory; <pad> is 0 and <unk> 1."""

    def __getitem__(self, token_id: Any) -> Any:
        if isinstance(token_id, slice):
            return [self[number] for number in range(*token_id.indices(len(self)))]
        if not 0 <= token_id < len(self):
            raise IndexError(token_id)
        return SPECIAL_TOKENS[token_id] if token_id < len(SPECIAL_TOKENS) else self.token(token_id)

    @abstractmethod
    def token(self, token_id: int) -> str:
        """The token of an id after those of SPECIAL_TOKENS."""


def check_tokens(tokens: Sequence[str]) -> None:
    """Raise ValueError unless these are tokens by id."""
    if list(tokens[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        raise ValueError(f"the first tokens are {list(tokens[:2])}, not {SPECIAL_TOKENS}")
    if len(set(tokens)) < len(tokens):
        raise ValueError("a token occurs twice")


class FittedTokenizer(ABC):
    """Rules and a vocabulary: converts texts to token ids, in training and in prediction."""

    tokens: Sequence[str]  # by id; <pad> is 0 and <unk> 1

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> TokenSequences:
        """Token ids of texts; words outside the vocabulary become <unk>."""

    @abstractmethod
    def to_json(self) -> str:
        """A JSON object for `restore`, with the tokenizer's `kind`."""

    def digest(self) -> str:
        """Digest, in hex, of all that token ids depend on."""
        return digest(self.to_json())

    def surface_forms(self, text: str) -> list[str] | None:
        """The spelling in the text of each token of `encode`; None if `encode` omits unknown tokens."""
        return None

    def spans(self, text: str) -> TextSpans | None:
        """The parts of the text that explanations show instead of the tokens of `encode`; None: the tokens."""
        return None

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, and further files for large arrays. Raises UserError if it could not be read again."""
        content = self.to_json().encode()
        if len(content) > MAX_JSON_BYTES:
            raise UserError(
                f"{TOKENIZER_FILE} would have {len(content):,} bytes, and at most {MAX_JSON_BYTES:,} are read: lower "
                "tokenizer.max_size, or raise tokenizer.min_document_count."
            )
        write_atomically(folder / TOKENIZER_FILE, content)

    @classmethod
    @abstractmethod
    def restore(cls, content: bytes, folder: Path) -> "FittedTokenizer":
        """The tokenizer saved in the folder. content: of its tokenizer.json. Raises ValueError if it is invalid."""


@dataclass(frozen=True)
class TokenizedCorpus:
    """A corpus's labelled tables as token ids, with their tokenizer; also `unlabeled` if it is needed."""

    tokenizer: FittedTokenizer
    tables: dict[str, TokenSequences]


class Tokenizer(ABC):
    """Base class of tokenizers; configured by a file in configs/tokenizer."""

    produces_bags: ClassVar[bool] = False  # whether the order of a document's tokens is arbitrary

    @abstractmethod
    def fit(self, corpus: Corpus, cache: Path) -> TokenizedCorpus:
        """Learn the vocabulary from the training documents and encode all labelled tables, or read both from the cache.

        Raises UserError if the training documents have no tokens.
        """
