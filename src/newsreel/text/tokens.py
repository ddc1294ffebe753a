"""Token sequences as flat arrays, and what every tokenizer gives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from newsreel.corpora.corpus import Corpus
from newsreel.storage import write_atomically

PAD, UNK = 0, 1
SPECIAL_TOKENS = ["<pad>", "<unk>"]
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class TokenSequences:
    """Token ids of N documents, end to end: document i is `mapping[ids[offsets[i]:offsets[i + 1]]]`.

    The arrays may be memory-mapped. `ids` number whatever was encoded once for all runs; `mapping` turns them into
    this run's vocabulary, document by document as they are read.
    """

    ids: np.ndarray  # (total,) int32
    offsets: np.ndarray  # (N + 1,) int64
    mapping: np.ndarray | None = None  # (num types,) int32; None where ids are the vocabulary's already

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
        """(N,) tokens of each document."""
        return np.diff(self.offsets)

    def count_tokens(self, documents: Sequence[int] | np.ndarray, num_tokens: int) -> np.ndarray:
        """(num_tokens,) int64: how often each token id occurs in the given documents."""
        counts = np.zeros(num_tokens, dtype=np.int64)
        for start in range(0, len(documents), 1_000):
            pieces = [self[document] for document in documents[start : start + 1_000]]
            counts += np.bincount(np.concatenate(pieces), minlength=num_tokens)
        return counts


class FittedTokenizer(ABC):
    """Rules and vocabulary: turns any text into token ids, the same in a training and at prediction."""

    tokens: list[str]  # by id; <pad> is 0 and <unk> 1

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> TokenSequences:
        """Token ids of texts; words outside the vocabulary become <unk>."""

    @abstractmethod
    def to_json(self) -> str:
        """What `load_tokenizer` needs to make this tokenizer again."""

    @classmethod
    @abstractmethod
    def from_dict(cls, content: dict[str, Any]) -> "FittedTokenizer":
        """The tokenizer of what `to_json` wrote, parsed."""


@dataclass(frozen=True)
class TokenizedCorpus:
    """A corpus's labelled tables as token ids, with the tokenizer that made them."""

    tokenizer: FittedTokenizer
    tables: dict[str, TokenSequences]


class Tokenizer(ABC):
    """What a file in configs/tokenizer configures."""

    @abstractmethod
    def fit(self, corpus: Corpus, cache: Path) -> TokenizedCorpus:
        """Learn the vocabulary from the training documents and encode all labelled tables, or find both in the cache.

        Raises UserError if the training documents have no token at all.
        """


def save_tokenizer(tokenizer: FittedTokenizer, folder: Path) -> None:
    write_atomically(folder / TOKENIZER_FILE, tokenizer.to_json())
