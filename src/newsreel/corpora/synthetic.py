"""Documents from a seeded generator: to try commands, for tests, and for sizes that no corpus has."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Le

from newsreel.core.cache import Cache, digest
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import NO_LABEL, Corpus, CorpusReader, Paths, Task
from newsreel.corpora.prepared import (
    FORMAT_VERSION,
    Description,
    open_prepared,
    record_batch,
    write_description,
    write_split,
)
from newsreel.corpora.rcv1_stories import topics

GENERATOR_VERSION = 1  # raise it when the same settings generate other documents
CHUNK = 5_000  # documents generated at a time; the documents depend on it
NOTE = "The documents are generated: metrics on them say nothing about real text."
EXTRA_LABELS = 0.7  # mean number of labels drawn in addition to a document's first
EXTRA_TOPICS = 0.4  # the same for topics, so that a document has 3.2 including ancestors, as in RCV1-v2
RAREST_TOPIC = 1e-4  # frequency of RCV1-v2's rarest topic relative to the most frequent one
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True, kw_only=True)
class Synthetic(CorpusReader):
    """Zipf-distributed words, log-normal lengths, and a fraction of words, or of pairs, specific to the labels."""

    num_documents: Annotated[int, Ge(10)]
    num_unlabeled: Annotated[int, Ge(0)] = 0  # missing in older run directories
    num_labels: Annotated[int, Ge(2)]
    multilabel: bool
    signal: Literal["words", "order"] = "words"
    difficulty: Annotated[float, Ge(0), Le(1)]
    vocabulary_size: Annotated[int, Ge(100), Le(10_000_000)]
    mean_length: Annotated[float, Ge(1), Le(100_000)]
    hierarchy: Literal["rcv1"] | None
    seed: Annotated[int, Ge(0)]

    def __post_init__(self) -> None:
        if self.hierarchy and not (self.multilabel and self.num_labels == len(topics().codes)):
            raise UserError(
                f"data.hierarchy is {self.hierarchy}, which has {len(topics().codes)} labels, several per document: "
                f"set data.multilabel=true and data.num_labels={len(topics().codes)}."
            )
        if self.signal == "order" and self.multilabel:
            raise UserError(
                "data.signal is order, which gives each document one label, but data.multilabel is true: omit one of "
                "them."
            )

    @property
    def unseen_labels(self) -> bool:
        """As in RCV1-v2, the rarest topics may have no training documents."""
        return self.hierarchy is not None

    @property
    def nests_labels(self) -> bool:
        return self.hierarchy is not None

    @property
    def task(self) -> Task:
        if self.multilabel:
            return "multilabel"
        return "binary" if self.num_labels == 2 else "multiclass"

    def read(self, paths: Paths) -> Corpus:
        words_for_labels = self.vocabulary_size // 2
        if self.num_labels > words_for_labels:
            raise UserError(
                f"data.num_labels is {self.num_labels} and data.vocabulary_size is {self.vocabulary_size}: half of the "
                f"words are specific to a label, but {words_for_labels} are fewer than one per label. Raise "
                "data.vocabulary_size."
            )
        identity = (
            f"{GENERATOR_VERSION} {self.num_documents} {self.num_labels} {self.multilabel} {self.difficulty} "
            f"{self.vocabulary_size} {self.mean_length} {self.seed}"
        )
        if self.hierarchy:
            identity += f" {self.hierarchy}"
        if self.signal != "words":
            identity += f" {self.signal}"
        fingerprint = digest(identity)
        numbered = [f"label{number}" for number in range(self.num_labels)]

        def build(partial: Path) -> None:
            num_test = self.num_documents // 5
            for split, count, stream in (("train", self.num_documents - num_test, 0), ("test", num_test, 1)):
                write_split(partial, split, self.task, self.generate(count, stream))
            if self.num_unlabeled:
                documents = self.generate(self.num_unlabeled, stream=2)
                write_split(partial, "unlabeled", self.task, (without_labels(batch) for batch in documents))
            write_description(
                partial,
                Description(
                    name="synthetic",
                    task=self.task,
                    label_names=list(topics().codes) if self.hierarchy else numbered,
                    metric="f1_micro" if self.multilabel else "accuracy",
                    fingerprint=fingerprint,
                    source=f"generated: {self.num_documents:,} documents, seed {self.seed}",
                    notes=[NOTE],
                    tables=["train", "test", *(["unlabeled"] if self.num_unlabeled else [])],
                    parents=list(topics().parents) if self.hierarchy else [],
                    label_titles=list(topics().titles) if self.hierarchy else [],
                ),
            )

        key = (FORMAT_VERSION, fingerprint, *([self.num_unlabeled] if self.num_unlabeled else []))
        what = "the corpus 'synthetic'"
        return Cache(paths.cache).get_or_build("corpora", "synthetic", key, build, open_prepared, what)

    def generate(self, num_documents: int, stream: int) -> Iterator[pa.RecordBatch]:
        """Documents in batches, the same on every machine for the same settings, seed and stream.

        The first half of the vocabulary is common to all labels, with frequencies 1/rank (Zipf). Each word of the
        second half is specific to one label; a document draws a fraction of its words from those of its labels: about
        0.25 at difficulty 0, none at 1. If documents have several labels, label k is drawn with probability
        proportional to 1/(k+3); if they have one, all labels are equally probable. Topics of RCV1-v2 are drawn, in an
        arbitrary order, with probabilities that decrease by a constant factor, and are added with their ancestors.

        With the signal `order`, the second half has words that all labels share: see `mark_by_order`.
        """
        random = np.random.default_rng([self.seed, stream])
        words = pa.array(pseudo_words(self.vocabulary_size), type=pa.large_string())
        num_common = self.vocabulary_size - self.vocabulary_size // 2
        common = np.cumsum(1 / np.arange(1, num_common + 1))
        common /= common[-1]
        # The words specific to label l are number num_common + l and every num_labels-th after it
        num_own = -(-(self.vocabulary_size - num_common - np.arange(self.num_labels)) // self.num_labels)
        weights = self.label_weights()
        sigma = 0.6
        shortest = 3 if self.signal == "order" else 1  # words: a triple
        for start in range(0, num_documents, CHUNK):
            size = min(CHUNK, num_documents - start)
            lengths = np.maximum(
                shortest,
                np.rint(random.lognormal(np.log(self.mean_length) - sigma**2 / 2, sigma, size)).astype(np.int64),
            )
            primary = random.choice(self.num_labels, size, p=weights)
            indicators = np.zeros((size, self.num_labels), dtype=bool)
            indicators[np.arange(size), primary] = True
            if self.multilabel:
                num_more = random.poisson(EXTRA_TOPICS if self.hierarchy else EXTRA_LABELS, size)
                more = random.choice(self.num_labels, num_more.sum(), p=weights)
                indicators[np.repeat(np.arange(size), num_more), more] = True
                self.close_upwards(indicators)
            labels = np.nonzero(indicators)[1]
            label_offsets = np.concatenate([[0], np.cumsum(indicators.sum(axis=1))])
            word_ids = np.searchsorted(common, random.random(lengths.sum())).astype(np.int64)
            if self.signal == "order":
                self.mark_by_order(word_ids, lengths, primary, num_common, random)
                yield record_batch(join_words(words, word_ids, lengths), primary, self.task)
                continue
            marked = random.random(len(word_ids)) < 0.25 * (1 - self.difficulty)
            draws = random.random((len(word_ids), 2))[marked]
            documents = np.repeat(np.arange(size), lengths)[marked]
            num_labels = np.diff(label_offsets)[documents]
            label = labels[label_offsets[documents] + (draws[:, 0] * num_labels).astype(np.int64)]
            rank = (draws[:, 1] ** 2 * num_own[label]).astype(np.int64)
            word_ids[marked] = num_common + label + rank * self.num_labels
            texts = join_words(words, word_ids, lengths)
            label_lists = pa.ListArray.from_arrays(pa.array(label_offsets, type=pa.int32()), pa.array(labels))
            yield record_batch(texts, label_lists if self.multilabel else primary, self.task)

    def mark_by_order(
        self,
        word_ids: np.ndarray,
        lengths: np.ndarray,
        labels: np.ndarray,
        num_common: int,
        random: np.random.Generator,
    ) -> None:
        """Replace words of documents, in place, by triples whose order alone says the label.

        A triple is a marker, any common word, and a second marker. There are num_labels + 1 markers; with label l,
        marker i is followed by marker (i + l + 1) modulo their number. So each marker is first and second equally often
        with every label, and the word between, uniform over the common ones, makes most triples unique: counts of
        words and of n-grams say next to nothing. Triples replace so many of a document's disjoint sequences of three
        words that the fraction of markers is about 0.25 at difficulty 0, and at least one, unless the difficulty is 1.

        word_ids: (sum of lengths,). lengths, labels: (N,).
        """
        if self.difficulty == 1:
            return
        num_markers = self.num_labels + 1
        num_places = lengths // 3
        starts = np.repeat(np.cumsum(lengths) - lengths, num_places)  # of the document of each place
        first_of_document = np.cumsum(num_places) - num_places
        places = starts + 3 * (np.arange(num_places.sum()) - np.repeat(first_of_document, num_places))
        chosen = random.random(len(places)) < 0.375 * (1 - self.difficulty)
        chosen[first_of_document + (random.random(len(lengths)) * num_places).astype(np.int64)] = True
        places, labels = places[chosen], np.repeat(labels, num_places)[chosen]
        first = random.integers(num_markers, size=len(places))
        word_ids[places] = num_common + first
        word_ids[places + 1] = random.integers(num_common, size=len(places))
        word_ids[places + 2] = num_common + (first + labels + 1) % num_markers

    def label_weights(self) -> np.ndarray:
        """(L,) the probability of each label; 0 for the roots of a hierarchy, which are added as ancestors."""
        if self.hierarchy is None:
            weights = 1 / np.arange(3, self.num_labels + 3) if self.multilabel else np.ones(self.num_labels)
            return np.asarray(weights / weights.sum())
        weights = np.zeros(self.num_labels)
        drawn = np.flatnonzero(np.array(topics().parents) >= 0)
        by_digest = sorted(drawn, key=lambda label: sha256(topics().codes[label].encode()).digest())
        weights[by_digest] = np.geomspace(1, RAREST_TOPIC, len(drawn))
        return np.asarray(weights / weights.sum())

    def close_upwards(self, indicators: np.ndarray) -> None:
        """Add all ancestors of the labels to the indicators, (N, L), in place."""
        if self.hierarchy is None:
            return
        parents = np.array(topics().parents)
        rows, labels = np.nonzero(indicators)
        while len(rows):
            above = parents[labels] >= 0
            rows, labels = rows[above], parents[labels[above]]
            indicators[rows, labels] = True


def without_labels(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same documents with NO_LABEL or an empty list as labels."""
    is_list = pa.types.is_list(batch.schema.field("labels").type)
    labels: list[Any] = [[] if is_list else NO_LABEL] * len(batch)
    return record_batch(batch["text"], labels, "multilabel" if is_list else "multiclass")


def join_words(words: pa.Array, word_ids: np.ndarray, lengths: np.ndarray) -> pa.Array:
    """(N,) texts of documents with these numbers of words."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), type=pa.int32())
    words_of_documents = pa.ListArray.from_arrays(offsets, words.take(pa.array(word_ids)))
    return pc.binary_join(words_of_documents, pa.scalar(" ", type=pa.large_string()))


def pseudo_words(count: int) -> list[str]:
    """The first `count` pronounceable words of two or more syllables, in a fixed order."""
    syllables = [consonant + vowel for vowel in VOWELS for consonant in CONSONANTS]
    longer = (map("".join, itertools.product(syllables, repeat=size)) for size in itertools.count(2))
    return list(itertools.islice(itertools.chain.from_iterable(longer), count))
