"""Test documents that are in training too, word for word or nearly.

Axes: N test documents.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from newsreel.core.cache import Cache, digest
from newsreel.corpora.corpus import Corpus
from newsreel.corpora.duplicates import compare_words, find_duplicates

NEAR_JACCARD = 0.7  # similarity of near-repeats, as scripts/corpus.py has it
CACHE_FORMAT = 1  # raise it when other documents are found
FILE = "similar.npy"


@dataclass(frozen=True)
class TrainingOverlap:
    """The test documents that a run has trained on or selected by."""

    others: tuple[str, ...]  # the splits with those: train, and validation if test documents are not split off too
    exact: np.ndarray  # (N,) bool: with the text of one of them
    near: np.ndarray  # (N,) bool: with the same or nearly the same words as one, but not the same text
    contradictory: np.ndarray  # (N,) bool: with the text of one that has other labels

    @property
    def either(self) -> np.ndarray:
        """(N,) bool"""
        return np.asarray(self.exact | self.near)


def find_training_overlap(corpus: Corpus, cache_dir: Path) -> TrainingOverlap:
    """Compare the test documents with those of train and validation.

    Near-repeats are found once for each corpus and kept in the cache: 4 seconds for 50,000 reviews of 230 words.
    """
    overlaps = [overlap for overlap in find_duplicates(corpus).overlaps if overlap.split == "test"]
    exact = np.any([overlap.shared for overlap in overlaps], axis=0)
    contradictory = np.any([overlap.contradictory for overlap in overlaps], axis=0)
    others = tuple(other for overlap in overlaps for other in overlap.others)

    def build(folder: Path) -> None:
        np.save(folder / FILE, compare_words(corpus, NEAR_JACCARD, "test").similar_to("test", others))

    identity = (corpus.fingerprint, *(digest(corpus.splits[split].rows.tobytes()) for split in (*others, "test")),
                NEAR_JACCARD, CACHE_FORMAT)  # fmt: skip
    what = f"the near-repeats in the test documents of {corpus.name!r}"
    similar = Cache(cache_dir).get_or_build(
        "overlaps", corpus.name, identity, build, lambda folder: np.load(folder / FILE), what
    )
    return TrainingOverlap(others, exact, similar & ~exact, contradictory)
