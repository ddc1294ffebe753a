"""What a corpus's labels and texts are like, before any tokenizer: majority, co-occurrence, scripts.

Axes: N documents, L labels.
"""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from newsreel.corpora.corpus import Corpus

SCRIPTS = (
    "Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Tamil", "Telugu", "Georgian",
    "Armenian", "Ethiopic", "Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar",
)  # fmt: skip
UNSPACED = r"\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"  # written without spaces between words
OTHER_SCRIPT, NO_LETTERS = "another script", "no letters"


def majority_score(corpus: "Corpus", split: str) -> tuple[int, float]:
    """The most frequent label of the training documents, and the score of predicting it alone for all of a split.

    The score is the accuracy; for `multilabel` it is micro-F1, 2 · hits / (N + number of targets).
    """
    label = int(corpus.label_counts("train").argmax())
    counts = corpus.label_counts(split)
    num_documents = len(corpus.splits[split].rows)
    return label, float(2 * counts[label] / max(1, num_documents + counts.sum()))


def label_pairs(targets: np.ndarray, num_pairs: int) -> list[tuple[int, int, int]]:
    """The most frequent pairs of labels, as (label, label, number of documents with both). targets: (N, L)."""
    together = np.zeros((targets.shape[1], targets.shape[1]), dtype=np.int64)  # (L, L)
    for start in range(0, len(targets), 10_000):
        chunk = targets[start : start + 10_000].astype(np.float32)  # exact up to 2²⁴, and fast
        together += (chunk.T @ chunk).astype(np.int64)
    firsts, seconds = np.triu_indices(len(together), k=1)
    counts = together[firsts, seconds]
    frequent = [pair for pair in np.argsort(-counts, kind="stable")[:num_pairs] if counts[pair]]
    return [(int(firsts[pair]), int(seconds[pair]), int(counts[pair])) for pair in frequent]


def count_scripts(corpus: "Corpus", table: str) -> dict[str, int]:
    """Number of a table's documents by the Unicode script of most of their letters, most frequent first."""
    counts: dict[str, int] = {}
    for texts in corpus.texts(table):
        for name, count in dominant_scripts(pl.Series(texts, dtype=pl.String)).value_counts().iter_rows():
            counts[name] = counts.get(name, 0) + count
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def dominant_scripts(texts: pl.Series) -> pl.Series:
    """The script of most of the letters of each text: a name of SCRIPTS, OTHER_SCRIPT or NO_LETTERS."""
    is_ascii = texts.str.len_bytes() == texts.str.len_chars()
    has_latin = texts.str.contains("[A-Za-z]")
    names = np.where(has_latin, "Latin", NO_LETTERS).astype(object)
    others = (~is_ascii).arg_true()
    if len(others):
        names[others.to_numpy()] = counted_scripts(texts.gather(others))
    return pl.Series(names, dtype=pl.String)


def counted_scripts(texts: pl.Series) -> np.ndarray:
    """The dominant script of texts that are not ASCII alone."""
    counts = np.stack([texts.str.count_matches(rf"\p{{{script}}}").to_numpy() for script in SCRIPTS], axis=1)
    rest = texts.str.count_matches(r"\p{L}").to_numpy().astype(np.int64) - counts.sum(axis=1)
    counts = np.concatenate([counts, np.maximum(0, rest)[:, None]], axis=1)
    names = np.array([*SCRIPTS, OTHER_SCRIPT], dtype=object)[counts.argmax(axis=1)]
    return np.where(counts.max(axis=1) == 0, NO_LETTERS, names)
