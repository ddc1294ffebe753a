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

from newsreel.core.errors import UserError, first_line
from newsreel.core.paths import user_path
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.embeddings.binary_files import read_word2vec, require_dimension
from newsreel.embeddings.corpus_trained import CorpusTrained, Documents, cached_vectors
from newsreel.embeddings.embedding import Size
from newsreel.embeddings.pretrained import Vectors, align
from newsreel.embeddings.vector_files import read_once
from newsreel.files.archives import content_key, require_regular
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
OTHER_VECTORS = "Name another one, or omit the setting to learn the vectors from the corpus."
MAX_SENTENCE = 10_000  # words of a sentence; gensim drops the rest


@dataclass(frozen=True, kw_only=True)
class Word2Vec(CorpusTrained):
    """Skip-gram or continuous bag of words, with negative sampling.

    With `path`, the vectors are read from a file, and the settings for learning are not used. gensim uses one thread,
    because with more the vectors would not be reproducible.
    """

    path: str | None
    trust_pickle: bool = False  # older run directories lack it
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
        if self.trust_pickle and (self.path is None or suffix(Path(self.path)) != PICKLE):
            raise UserError(
                f"embedding.trust_pickle=true is for files of gensim (.kv), but embedding.path is {self.path}: omit it."
            )
        if self.path is None:
            return
        if suffix(Path(self.path)) not in (*TEXT, BINARY, PICKLE):
            raise UserError(
                f"embedding.path={self.path}: the extension must be .bin ({self.binary_format}), .vec or .txt (text), "
                "or .kv (saved by gensim)."
            )
        require_regular(user_path(self.path, "embedding.path"), "embedding.path", OTHER_VECTORS)
        if suffix(Path(self.path)) == PICKLE and not self.trust_pickle:
            raise UserError(
                f"embedding.path={self.path} is a pickle: loading it runs whatever code its author put into it.\n"
                "If you trust its source, set embedding.trust_pickle=true. Otherwise use a .bin, .vec or .txt file, "
                "which cannot run code; gensim writes one with save_word2vec_format."
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
        return cached_vectors(paths.cache, self.kind, identity, lambda: self.read_vectors(file, vocabulary), what)

    def read_vectors(self, file: Path, vocabulary: Sequence[str]) -> Vectors:
        """The vectors of a file for the vocabulary's words. Raises UserError if it is damaged or another format."""
        is_binary = suffix(file) == BINARY
        try:
            vectors = self.read_binary(file, vocabulary) if is_binary else self.read_pickle(file, vocabulary)
        except UserError:
            raise
        except Exception as error:  # gensim and unpickling can raise any exception
            expected = self.binary_format if is_binary else "a file of gensim's KeyedVectors.save"
            raise UserError(
                f"{file} cannot be read: {type(error).__name__}: {first_line(error)}.\n"
                f"By its extension, it is {expected}. Download it again, or rename it."
            ) from error
        wrong = np.flatnonzero(~np.isfinite(vectors.values).all(axis=1))
        if len(wrong):
            raise UserError(
                f"{file} has values that are not finite numbers, such as one of {vocabulary[wrong[0]]!r}: it is "
                "damaged. Download it again."
            )
        return vectors

    def read_binary(self, file: Path, vocabulary: Sequence[str]) -> Vectors:
        words, values = read_word2vec(file, self.dimension, frozenset(vocabulary))
        return align(vocabulary, words, values)

    def read_pickle(self, file: Path, vocabulary: Sequence[str]) -> Vectors:
        """Vectors saved by gensim, alone or in a model. Runs the code in the file."""
        from gensim.models import KeyedVectors

        assert self.trust_pickle, "check() refuses the file"
        saved = KeyedVectors.load(str(file))
        vectors = getattr(saved, "wv", saved)
        if not isinstance(vectors, KeyedVectors):
            raise TypeError(f"it contains a {type(saved).__name__}")
        require_dimension(file, vectors.vector_size, self.dimension)
        return self.choose(vectors, vocabulary)

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

    def learning_settings(self) -> dict[str, object]:
        return {name: value for name, value in super().learning_settings().items() if name != "trust_pickle"}

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


def suffix(file: Path) -> str:
    """The extension of a file, without .gz or .zip."""
    return Path(file.stem if file.suffix in PACKED else file.name).suffix
