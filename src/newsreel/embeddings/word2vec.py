"""word2vec (Mikolov et al. 2013), learned from the corpus by gensim or read from a file.

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
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.embeddings.corpus_trained import CorpusTrained, Documents, kept_vectors
from newsreel.embeddings.embedding import Size
from newsreel.embeddings.pretrained import Vectors, align
from newsreel.embeddings.vector_files import read_once
from newsreel.files.archives import content_key
from newsreel.text.tokens import SPECIAL_TOKENS, TokenizedCorpus

if TYPE_CHECKING:
    from gensim.models import KeyedVectors
    from gensim.models import Word2Vec as Model

log = logging.getLogger(__name__)
logging.getLogger("gensim").setLevel(logging.ERROR)  # it reports every second what the progress bar shows

CHOICE_VERSION = 1  # raise it when the same file gives other vectors
TEXT, BINARY, PICKLE = (".vec", ".txt"), ".bin", ".kv"
PACKED = (".gz", ".zip")
MAX_EPOCHS = 10  # where their number is not given
MAX_SENTENCE = 10_000  # words that gensim takes at once; it drops what follows them


@dataclass(frozen=True, kw_only=True)
class Word2Vec(CorpusTrained):
    """Skip-gram or continuous bag of words, with negative sampling.

    With `path` the vectors are those of a file, and what configures learning is not used. gensim gets one thread:
    with more, the same seed would give other vectors each time.
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
    words_to_read: ClassVar[int] = 80_000_000  # in all epochs together, where their number is not given

    def check(self, paths: Paths) -> None:
        if self.path is None:
            return
        if suffix(Path(self.path)) not in (*TEXT, BINARY, PICKLE):
            raise UserError(
                f"embedding.path={self.path}: the name has to say what the file is: .bin ({self.binary_format}), .vec "
                "or .txt (text), .kv (what gensim saves)."
            )
        if not Path(self.path).expanduser().is_file():
            raise UserError(
                f"embedding.path={self.path}: there is no such file. Name one, or leave the setting out to learn the "
                "vectors from the corpus."
            )

    def vectors(self, tokenized: TokenizedCorpus, corpus: Corpus, paths: Paths) -> Vectors:
        if self.path is None:
            return super().vectors(tokenized, corpus, paths)
        self.check(paths)
        file = Path(self.path).expanduser()
        vocabulary = tokenized.tokenizer.tokens
        log.info(f"vectors     {self.kind} from {file}")
        if suffix(file) in TEXT:
            words, values = read_once(file, self.dimension, paths.cache)
            return align(vocabulary, words, values)
        identity = (CHOICE_VERSION, version(self.library), content_key(file), self.dimension, vocabulary)
        what = f"the vectors of {file.name}"
        return kept_vectors(paths.cache, self.kind, identity, lambda _: self.chosen(file, vocabulary), what)

    def chosen(self, file: Path, vocabulary: Sequence[str]) -> Vectors:
        """The vectors that a file has for the vocabulary's words. Raises UserError."""
        vectors = self.choose(self.read(file), vocabulary)
        wrong = np.flatnonzero(~np.isfinite(vectors.values).all(axis=1))
        if len(wrong):
            raise UserError(
                f"{file} has values that are not finite numbers, such as one of {vocabulary[wrong[0]]!r}: it is "
                "damaged. Get it again."
            )
        return vectors

    def read(self, file: Path) -> "KeyedVectors":
        """All vectors of a file that gensim reads. Raises UserError if it is not what its name says, or damaged."""
        try:
            vectors = self.read_binary(str(file)) if suffix(file) == BINARY else read_pickle(str(file))
        except Exception as error:  # gensim and what it unpickles raise whatever they come upon
            expected = self.binary_format if suffix(file) == BINARY else "what gensim's KeyedVectors.save wrote"
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{file} cannot be read: {type(error).__name__}: {reason}.\n"
                f"By its name it is {expected}. Get it again, or give it the name of what it is."
            ) from error
        if vectors.vector_size != self.dimension:
            raise UserError(
                f"{file} holds vectors of {vectors.vector_size} values, and embedding.dimension is {self.dimension}.\n"
                f"Set embedding.dimension={vectors.vector_size}, or name another file with embedding.path=…"
            )
        return vectors

    def read_binary(self, file: str) -> "KeyedVectors":
        from gensim.models import KeyedVectors

        # Google's vectors have words cut in the middle of a character: they match none of ours.
        return KeyedVectors.load_word2vec_format(file, binary=True, unicode_errors="replace")

    def train(self, documents: Documents, vocabulary: Sequence[str]) -> Vectors:
        counts = documents.counts(len(vocabulary))  # (V,)
        if counts.max() < self.min_count:
            raise UserError(
                f"embedding.min_count={self.min_count}: none of the {len(vocabulary) - len(SPECIAL_TOKENS):,} words of "
                f"the vocabulary occurs so often in the {len(documents):,} documents. Lower it."
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
        """More for small corpora, which need them, than for large ones, which cost them."""
        return max(1, min(MAX_EPOCHS, round(self.words_to_read / num_words)))

    def model(self) -> "Model":
        """An untrained model of gensim's."""
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
        """The rows of the vocabulary's words."""
        rows = np.array([vectors.key_to_index.get(word, -1) for word in vocabulary], dtype=np.int64)
        known = rows >= 0
        values = np.zeros((len(vocabulary), vectors.vector_size), dtype=np.float32)
        values[known] = vectors.vectors[rows[known]]
        return Vectors(values, known)


class Sentences:
    """Documents as gensim reads them, once for each epoch: lists of words, no longer than it takes."""

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
    """What gensim has saved: vectors, or a model with them."""
    from gensim.models import KeyedVectors

    saved = KeyedVectors.load(file)
    vectors = getattr(saved, "wv", saved)
    if not isinstance(vectors, KeyedVectors):
        raise TypeError(f"it holds a {type(saved).__name__}")
    return vectors


def suffix(file: Path) -> str:
    """The end of a file's name that says what it is, that of a packed file's content."""
    return Path(file.stem if file.suffix in PACKED else file.name).suffix
