"""fastText (Bojanowski et al. 2017): a word's vector is the mean of its own vector and those of its character n-grams.

Axes: V words of the vocabulary, E dimensions of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Le

from newsreel.core.errors import UserError
from newsreel.embeddings.binary_files import check_facebook
from newsreel.embeddings.pretrained import Vectors
from newsreel.embeddings.word2vec import Word2Vec
from newsreel.text.tokens import SPECIAL_TOKENS

if TYPE_CHECKING:
    from gensim.models import FastText as Model
    from gensim.models import KeyedVectors


@dataclass(frozen=True, kw_only=True)
class FastText(Word2Vec):
    """word2vec with character n-grams, learned from the corpus with gensim or read from a file.

    An unseen word (rarer than `min_count`, or not in the file) gets the mean of its n-grams' vectors. It counts as
    known; the coverage has the number of such words.
    """

    min_n: Annotated[int, Ge(1), Le(100)]
    max_n: Annotated[int, Ge(1), Le(100)]
    bucket: Annotated[int, Ge(1), Le(100_000_000)]

    kind: ClassVar[str] = "fasttext"
    binary_format: ClassVar[str] = "Facebook's binary format"
    words_to_read: ClassVar[int] = 30_000_000

    def __post_init__(self) -> None:
        if self.min_n > self.max_n:
            raise UserError(
                f"embedding.min_n is {self.min_n} and embedding.max_n is {self.max_n}: embedding.min_n must be at most "
                "embedding.max_n."
            )

    def read_binary(self, file: Path, vocabulary: Sequence[str]) -> Vectors:
        from gensim.models.fasttext import load_facebook_vectors

        check_facebook(file, self.dimension)
        return self.choose(load_facebook_vectors(str(file)), vocabulary)

    def model(self) -> "Model":
        from gensim.models import FastText as Model

        return Model(**self.model_settings())

    def model_settings(self) -> dict[str, Any]:
        ngrams = {"min_n": self.min_n, "max_n": self.max_n, "bucket": self.bucket}
        return {**super().model_settings(), **ngrams}

    def choose(self, vectors: "KeyedVectors", vocabulary: Sequence[str]) -> Vectors:
        from gensim.models.fasttext import FastTextKeyedVectors

        seen = super().choose(vectors, vocabulary)
        if not isinstance(vectors, FastTextKeyedVectors) or not vectors.bucket:  # words without their n-grams
            return seen
        values, known = seen.values, seen.known.copy()
        for row in range(len(SPECIAL_TOKENS), len(vocabulary)):
            if not known[row]:
                values[row] = vectors.get_vector(vocabulary[row])
                known[row] = values[row].any()  # zeros if the word is too short for n-grams
        return Vectors(values, known, from_subwords=int(known.sum() - seen.known.sum()))
