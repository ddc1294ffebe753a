"""word2vec (Mikolov et al. 2013), learned from the corpus with gensim or read from a file.

Axes: V words of the vocabulary, E dimensions of an embedding.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le, Lt
from tqdm import tqdm

from newsreel.core.errors import UserError
from newsreel.core.paths import user_path
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.embeddings.corpus_trained import CorpusTrained, Documents, cached_vectors
from newsreel.embeddings.embedding import Size
from newsreel.embeddings.pretrained import Vectors, align
from newsreel.embeddings.vector_files import read_once
from newsreel.files.archives import content_key
from newsreel.text.tokens import SPECIAL_TOKENS, TokenizedCorpus

if TYPE_CHECKING:
    from gensim.models import KeyedVectors
    from gensim.models import Word2Vec as Model

log = logging.getLogger(__name__)
logging.getLogger("gensim").setLevel(logging.ERROR)  # its messages repeat the progress bar every second

CHOICE_VERSION = 1  # raise it when the same file results in other vectors
TEXT, BINARY, PICKLE = (".vec", ".txt"), ".bin", ".kv"
PACKED = (".gz", ".zip")
MAX_EPOCHS = 10  # for epochs=None
MAX_SENTENCE = 10_000  # words of a sentence; gensim drops the rest


@dataclass(frozen=True, kw_only=True)
class Word2Vec(CorpusTrained):
    """Skip-gram or continuous bag of words, with negative sampling.

    With `path`, the vectors are read from a file, and the settings for learning are not used. gensim uses one thread,
    because with more the vectors would not be reproducible.
    """

    path: str | None
    algorithm: Literal["skipgram", "cbow"]
    dimension: Size
    window: Annotated[int, Ge(1), Le(1_000)]
    negative: Annotated[int, Ge(1), Le(1_000)]
    sample: Annotated[float, Ge(0), Lt(1)]
    min_count: Annotated[int, Ge(1)]
    epochs: Annotated[int, Ge(1)] | None
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]

    kind: ClassVar[str] = "word2vec"
    library: ClassVar[str] = "gensim"
    binary_format: ClassVar[str] = "word2vec's binary format"
    words_to_read: ClassVar[int] = 80_000_000  # in all epochs together, for epochs=None

    def check(self, paths: Paths) -> None:
        if self.path is None:
            return
        if suffix(Path(self.path)) not in (*TEXT, BINARY, PICKLE):
            raise UserError(
                f"embedding.path={self.path}: the extension must be .bin ({self.binary_format}), .vec or .txt (text), "
                "or .kv (saved by gensim)."
            )
        if not user_path(self.path, "embedding.path").is_file():
            raise UserError(
                f"embedding.path={self.path}: there is no such file. Name another one, or omit the setting to learn "
                "the vectors from the corpus."
            )

    def vectors(self, tokenized: TokenizedCorpus, corpus: Corpus, paths: Paths) -> Vectors:
        if self.path is None:
            return super().vectors(tokenized, corpus, paths)
        self.check(paths)
        file = user_path(self.path, "embedding.path")
        vocabulary = tokenized.tokenizer.tokens
        log.info(f"vectors     {self.kind} from {file}")
        if suffix(file) in TEXT:
            words, values = read_once(file, self.dimension, paths.cache)
            return align(vocabulary, words, values)
        identity = (CHOICE_VERSION, version(self.library), content_key(file), self.dimension, vocabulary)
        what = f"the vectors of {file.name}"
        return cached_vectors(paths.cache, self.kind, identity, lambda _: self.read_vectors(file, vocabulary), what)

    def read_vectors(self, file: Path, vocabulary: Sequence[str]) -> Vectors:
        """The vectors of a file for the vocabulary's words. Raises UserError."""
        vectors = self.choose(self.read(file), vocabulary)
        wrong = np.flatnonzero(~np.isfinite(vectors.values).all(axis=1))
        if len(wrong):
            raise UserError(
                f"{file} has values that are not finite numbers, such as one of {vocabulary[wrong[0]]!r}: it is "
                "damaged. Download it again."
            )
        return vectors

    def read(self, file: Path) -> "KeyedVectors":
        """All vectors of a file, read by gensim. Raises UserError if it is damaged or its extension is wrong."""
        try:
            vectors = self.read_binary(str(file)) if suffix(file) == BINARY else read_pickle(str(file))
        except Exception as error:  # gensim and unpickling can raise any exception
            expected = self.binary_format if suffix(file) == BINARY else "a file of gensim's KeyedVectors.save"
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{file} cannot be read: {type(error).__name__}: {reason}.\n"
                f"By its extension, it is {expected}. Download it again, or rename it."
            ) from error
        if vectors.vector_size != self.dimension:
            raise UserError(
                f"{file} has vectors of {vectors.vector_size} values, but embedding.dimension is {self.dimension}.\n"
                f"Set embedding.dimension={vectors.vector_size}, or name another file with embedding.path=…"
            )
        return vectors

    def read_binary(self, file: str) -> "KeyedVectors":
        from gensim.models import KeyedVectors

        # Some words of Google's vectors are truncated within a character; they match no word of the vocabulary
        return KeyedVectors.load_word2vec_format(file, binary=True, unicode_errors="replace")

    def train(self, documents: Documents, vocabulary: Sequence[str]) -> Vectors:
        counts = documents.counts(len(vocabulary))  # (V,)
        if counts.max() < self.min_count:
            raise UserError(
                f"embedding.min_count={self.min_count}: none of the {len(vocabulary) - len(SPECIAL_TOKENS):,} words of "
                f"the vocabulary occurs that often in the {len(documents):,} documents. Lower it."
            )
        model = self.model()
        frequencies = {word: count for word, count in zip(vocabulary, counts.tolist(), strict=True) if count}
        model.build_vocab_from_freq(frequencies)
        epochs = self.epochs or self.enough_epochs(int(counts.sum()))
        total = epochs * len(documents)
        with tqdm(total=total, unit=" documents", desc=f"training {self.kind}", disable=None) as bar:
            sentences = Sentences(documents, vocabulary, bar)
            model.train(sentences, total_words=int(counts.sum()), epochs=epochs)
        return self.choose(model.wv, vocabulary)

    def enough_epochs(self, num_words: int) -> int:
        """A number of epochs: more for small corpora, which need them, than for large ones, where they take long."""
        return max(1, min(MAX_EPOCHS, round(self.words_to_read / num_words)))

    def model(self) -> "Model":
        """An untrained gensim model."""
        from gensim.models import Word2Vec as Model

        return Model(**self.model_settings())

    def model_settings(self) -> dict[str, Any]:
        return {
            "vector_size": self.dimension,
            "sg": int(self.algorithm == "skipgram"),
            "window": self.window,
            "negative": self.negative,
            "sample": self.sample,
            "min_count": self.min_count,
            "seed": self.seed,
            "workers": 1,
        }

    def choose(self, vectors: "KeyedVectors", vocabulary: Sequence[str]) -> Vectors:
        """The vectors of the vocabulary's words."""
        rows = np.array([vectors.key_to_index.get(word, -1) for word in vocabulary], dtype=np.int64)
        known = rows >= 0
        values = np.zeros((len(vocabulary), vectors.vector_size), dtype=np.float32)
        values[known] = vectors.vectors[rows[known]]
        return Vectors(values, known)


class Sentences:
    """Iterable for gensim, which reads it once per epoch: documents as lists of at most MAX_SENTENCE words."""

    def __init__(self, documents: Documents, vocabulary: Sequence[str], bar: "tqdm[Any]") -> None:
        self.documents = documents
        self.words = np.array(vocabulary, dtype=object)  # (V,)
        self.bar = bar

    def __iter__(self) -> Iterator[list[str]]:
        for ids in self.documents:
            for start in range(0, len(ids), MAX_SENTENCE):
                yield self.words[ids[start : start + MAX_SENTENCE]].tolist()
            self.bar.update()


def read_pickle(file: str) -> "KeyedVectors":
    """Vectors saved by gensim, alone or in a model."""
    from gensim.models import KeyedVectors

    saved = KeyedVectors.load(file)
    vectors = getattr(saved, "wv", saved)
    if not isinstance(vectors, KeyedVectors):
        raise TypeError(f"it contains a {type(saved).__name__}")
    return vectors


def suffix(file: Path) -> str:
    """The extension of a file, without .gz or .zip."""
    return Path(file.stem if file.suffix in PACKED else file.name).suffix
