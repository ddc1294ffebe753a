"""Vectors learned from the corpus's documents before the network is trained.

Axes: V words of the vocabulary, E dimensions of an embedding.
"""

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np

from newsreel.core.cache import Cache
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.embeddings.pretrained import Pretrained, Vectors
from newsreel.text.tokens import UNK, TokenizedCorpus, TokenSequences
from newsreel.text.unlabeled import encode_unlabeled

log = logging.getLogger(__name__)

VECTORS_FILE = "vectors.npz"
CHUNK_TOKENS = 1_000_000


@dataclass(frozen=True)
class Documents:
    """The documents to learn vectors from, as ids of the vocabulary's words.

    Words outside the vocabulary are removed, so that their neighbours become adjacent, as in gensim with rare words.
    """

    parts: Sequence[tuple[TokenSequences, np.ndarray]]  # sequences, and the rows to use

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.parts)

    def __iter__(self) -> Iterator[np.ndarray]:
        for sequences, rows in self.parts:
            for row in rows:
                ids = sequences[row]
                yield ids[ids > UNK]

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Concatenated word ids of many documents, (num_words,), and their lengths, (num_documents,)."""
        pending: list[np.ndarray] = []
        size = 0
        for number, ids in enumerate(self, 1):
            pending.append(ids)
            size += len(ids)
            if size >= CHUNK_TOKENS or number == len(self):
                yield np.concatenate(pending), np.array([len(document) for document in pending])
                pending, size = [], 0

    def counts(self, num_words: int) -> np.ndarray:
        """(V,) int64: number of occurrences of each word."""
        counts = np.zeros(num_words, dtype=np.int64)
        for ids, _ in self.chunks():
            counts += np.bincount(ids, minlength=num_words)
        return counts


@dataclass(frozen=True, kw_only=True)
class CorpusTrained(Pretrained):
    """Vectors learned from the training documents and, if `unlabeled`, the corpus's unlabelled ones, if any.

    They are learned once for the same vocabulary, documents and settings, and cached; they do not depend on the
    settings of the table or on the run's seed. Validation and test documents are never read.
    """

    unlabeled: bool

    kind: ClassVar[str]  # in messages and names of directories
    library: ClassVar[str]  # the package whose version the vectors depend on
    train_version: ClassVar[int] = 1  # raise it when the same documents and settings give other vectors

    @abstractmethod
    def train(self, documents: Documents, vocabulary: Sequence[str]) -> Vectors:
        """Learn vectors for the words of the vocabulary. Raises UserError if the documents do not suffice."""

    def vectors(self, tokenized: TokenizedCorpus, corpus: Corpus, paths: Paths) -> Vectors:
        tokenizer = tokenized.tokenizer
        if self.unlabeled:
            corpus = corpus.with_unlabeled()
        read_unlabeled = self.unlabeled and "unlabeled" in corpus.tables
        training = corpus.splits["train"]
        labelled = (tokenized.tables[training.table], training.rows)
        and_unlabeled = f" and {len(corpus.tables['unlabeled']):,} unlabelled" if read_unlabeled else ""
        log.info(f"vectors     {self.kind} from {len(training.rows):,} training{and_unlabeled} documents")

        key = sha256(
            f"{self.train_version} {self.learning_settings()} {version(self.library)} {tokenizer.digest()}".encode()
        )
        for ids in Documents([labelled]):
            key.update(sha256(ids.tobytes()).digest())
        if read_unlabeled:
            key.update(corpus.unlabeled_digest().encode())

        def learn() -> Vectors:
            parts = [labelled]
            if read_unlabeled:
                unlabeled = encode_unlabeled(tokenized, corpus, paths.cache).tables["unlabeled"]
                parts.append((unlabeled, np.arange(len(unlabeled))))
            return self.train(Documents(parts), tokenizer.tokens)

        name, what = f"{corpus.name}-{self.kind}", f"the {self.kind} vectors of {corpus.name!r}"
        return cached_vectors(paths.cache, name, (key.hexdigest(),), learn, what)

    def learning_settings(self) -> dict[str, object]:
        """The settings that the vectors depend on, without `unlabeled`, which the documents' digest covers."""
        others = {"unlabeled", *(field.name for field in fields(Pretrained))}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in others}


def cached_vectors(
    cache: Path, name: str, identity: tuple[object, ...], make: Callable[[], Vectors], what: str
) -> Vectors:
    """The vectors of this identity from the cache; `make` computes them if they are not in it.

    Raises UserError if the cached file is damaged.
    """

    def build(partial: Path) -> None:
        np.savez(partial / VECTORS_FILE, **vars(make()))

    def load(folder: Path) -> Vectors:
        with np.load(folder / VECTORS_FILE) as arrays:
            return Vectors(arrays["values"], arrays["known"], int(arrays["from_subwords"]))

    return Cache(cache).get_or_build("embeddings", name, identity, build, load, what)
