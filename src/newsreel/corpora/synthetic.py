"""Documents made by a seeded generator: for trying commands out, for tests, and for sizes that no corpus has."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa

from newsreel.corpora.corpus import Corpus, CorpusReader, Paths, Task
from newsreel.corpora.prepared import (
    FORMAT_VERSION,
    Description,
    open_prepared,
    record_batch,
    write_description,
    write_split,
)
from newsreel.errors import UserError
from newsreel.rules import Range
from newsreel.storage import build_once

GENERATOR_VERSION = 1  # raise it when the same settings make other documents
CHUNK = 5_000  # documents made at a time; a part of what the seed determines
NOTE = "The documents are made up by a seeded generator: figures say nothing about any real text."
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True, kw_only=True)
class Synthetic(CorpusReader):
    """Zipf-distributed words, log-normal lengths, and a share of words that belongs to the document's labels."""

    num_documents: Annotated[int, Range(min=10)]
    num_labels: Annotated[int, Range(min=2)]
    multilabel: bool
    difficulty: Annotated[float, Range(min=0, max=1)]
    vocabulary_size: Annotated[int, Range(min=100, max=10_000_000)]
    mean_length: Annotated[float, Range(min=1, max=100_000)]
    seed: Annotated[int, Range(min=0)]

    @property
    def task(self) -> Task:
        if self.multilabel:
            return "multilabel"
        return "binary" if self.num_labels == 2 else "multiclass"

    def read(self, paths: Paths) -> Corpus:
        words_for_labels = self.vocabulary_size // 2
        if self.num_labels > words_for_labels:
            raise UserError(
                f"data.num_labels is {self.num_labels} and data.vocabulary_size {self.vocabulary_size}: half of the "
                f"words mark labels, and {words_for_labels} are fewer than one a label. Raise data.vocabulary_size."
            )
        identity = (
            f"{GENERATOR_VERSION} {self.num_documents} {self.num_labels} {self.multilabel} {self.difficulty} "
            f"{self.vocabulary_size} {self.mean_length} {self.seed}"
        )
        fingerprint = sha256(identity.encode()).hexdigest()
        folder = paths.cache / "corpora" / f"synthetic-v{FORMAT_VERSION}-{fingerprint[:16]}"

        def build(partial: Path) -> None:
            num_test = self.num_documents // 5
            for split, count, stream in (("train", self.num_documents - num_test, 0), ("test", num_test, 1)):
                write_split(partial, split, self.task, self.generate(count, stream))
            write_description(
                partial,
                Description(
                    name="synthetic",
                    task=self.task,
                    label_names=[f"label{number}" for number in range(self.num_labels)],
                    metric="f1_micro" if self.multilabel else "accuracy",
                    fingerprint=fingerprint,
                    source=f"generated: {self.num_documents:,} documents, seed {self.seed}",
                    notes=[NOTE],
                    tables=["train", "test"],
                ),
            )

        return open_prepared(build_once(folder, build, "the corpus 'synthetic'"))

    def generate(self, num_documents: int, stream: int) -> Iterator[pa.RecordBatch]:
        """Documents in batches; the same for the same settings, seed and stream, whatever the machine.

        The first half of the vocabulary is common to all labels, with frequencies 1/rank (Zipf). Each word of the
        second half belongs to one label; a document draws a share of its words from its labels' own words: about
        0.25 at difficulty 0, none at 1. Label k is chosen with probability proportional to 1/(k+3) where documents
        have several, and evenly where they have one.
        """
        random = np.random.default_rng([self.seed, stream])
        words = pseudo_words(self.vocabulary_size)
        num_common = self.vocabulary_size - self.vocabulary_size // 2
        common = np.cumsum(1 / np.arange(1, num_common + 1))
        common /= common[-1]
        own = [np.arange(num_common + label, self.vocabulary_size, self.num_labels) for label in range(self.num_labels)]
        weights = 1 / np.arange(3, self.num_labels + 3) if self.multilabel else np.ones(self.num_labels)
        weights /= weights.sum()
        sigma = 0.6
        for start in range(0, num_documents, CHUNK):
            size = min(CHUNK, num_documents - start)
            lengths = np.maximum(
                1, np.rint(random.lognormal(np.log(self.mean_length) - sigma**2 / 2, sigma, size)).astype(np.int64)
            )
            primary = random.choice(self.num_labels, size, p=weights)
            labels = [[int(label)] for label in primary]
            if self.multilabel:
                for row, extra in enumerate(random.poisson(0.7, size)):
                    more = random.choice(self.num_labels, extra, p=weights)
                    labels[row] = sorted({labels[row][0], *map(int, more)})
            word_ids = np.searchsorted(common, random.random(lengths.sum())).astype(np.int64)
            marked = random.random(len(word_ids)) < 0.25 * (1 - self.difficulty)
            draws = random.random((len(word_ids), 2))
            texts = []
            for row, (begin, end) in enumerate(itertools.pairwise(np.concatenate([[0], np.cumsum(lengths)]))):
                of_document = labels[row]
                for place in begin + np.flatnonzero(marked[begin:end]):
                    pool = own[of_document[int(draws[place, 0] * len(of_document))]]
                    word_ids[place] = pool[int(draws[place, 1] ** 2 * len(pool))]
                texts.append(" ".join(words[begin_word] for begin_word in word_ids[begin:end]))
            yield record_batch(texts, labels if self.multilabel else primary, self.task)


def pseudo_words(count: int) -> list[str]:
    """The first `count` pronounceable words of two and more syllables, in a fixed order."""
    syllables = [consonant + vowel for vowel in VOWELS for consonant in CONSONANTS]
    longer = (map("".join, itertools.product(syllables, repeat=size)) for size in itertools.count(2))
    return list(itertools.islice(itertools.chain.from_iterable(longer), count))
