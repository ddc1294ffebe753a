"""Documents that occur more than once: word for word, with the same words, or with nearly the same words.

Word for word is a comparison of the texts' hashes, which takes less than a second for 50,000 reviews, so every training
does it. The words are compared apart from case, punctuation and spaces. Near-repeats are documents whose sets of
shingles (sequences of three words) have a high Jaccard similarity; candidates come from MinHash (Broder 1997) with
banding (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4), and each is confirmed by the exact
similarity.

Axes: N documents, T words, S shingles, H hash functions, P pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import polars as pl

from newsreel.corpora.description import UNSPACED

if TYPE_CHECKING:
    from datasets import Dataset

    from newsreel.corpora.corpus import Corpus

EMPTY = np.uint64(0)  # the key of texts that have only spaces
LABELLED = ("train", "validation", "test")
SINGLE = rf"{UNSPACED}\p{{Katakana}}"  # every character is a word
WORD = rf"[{SINGLE}]|[\p{{L}}\p{{M}}\p{{N}}--[{SINGLE}]]+"
SHINGLE_WORDS = 3
NUM_HASHES, NUM_BANDS = 64, 16  # 4 hashes a band: finds 98.8% of the pairs with a similarity of 0.7, 99.98% with 0.8
ESTIMATE_MARGIN = 0.2  # the estimate of a similarity of 0.7 has a standard error of 0.06
MAX_GROUP = 12  # documents of a band with the same hashes of which all pairs are candidates
CHUNK_DOCUMENTS = 1_000
CHUNK_SHINGLES = 2_000_000


@dataclass(frozen=True)
class Overlap:
    """Documents of a split whose text another split has too."""

    split: str
    others: tuple[str, ...]  # the other splits; several if they are parts of the same published split
    shared: np.ndarray  # (N,) bool: documents of `split` whose text a document of the others has
    contradictory: np.ndarray  # (N,) bool: those of them of which a document of the others has other labels


@dataclass(frozen=True)
class Repeats:
    """Documents that repeat the text of another within a published split, from which parts may be split off."""

    split: str
    parts: tuple[str, ...]  # the splits that are parts of it, with itself
    num_documents: int
    empty: int  # documents without a character other than spaces; they do not count as repeats
    repeated: int  # documents whose text an earlier document has
    contradictory: int  # documents whose text another document has with other labels


@dataclass(frozen=True)
class DuplicateCounts:
    """What is found by comparing documents by their keys."""

    repeats: list[Repeats]
    overlaps: list[Overlap]

    def of_test(self) -> Overlap | None:
        """The overlap of test documents with those that a run has trained on or selected by."""
        return next((overlap for overlap in self.overlaps if overlap.split == "test"), None)


# Comparison by keys


_text_keys: "WeakKeyDictionary[Dataset, np.ndarray]" = WeakKeyDictionary()  # for the notes and for the report


def text_keys(corpus: "Corpus", split: str) -> np.ndarray:
    """(N,) uint64: equal for documents of a split with the same text, EMPTY for texts that have only spaces."""
    rows = corpus.splits[split]
    table = corpus.tables[rows.table]
    if table not in _text_keys:
        chunks = [keys_of(pl.Series(texts, dtype=pl.String)) for texts in corpus.texts(rows.table)]
        _text_keys[table] = np.concatenate(chunks) if chunks else np.empty(0, dtype=np.uint64)
    return np.asarray(_text_keys[table][rows.rows])


def keys_of(texts: pl.Series) -> np.ndarray:
    """(N,) uint64 hashes of texts; EMPTY for those that have only spaces."""
    hashes = np.maximum(texts.hash().to_numpy(), np.uint64(1))
    is_empty = ~texts.str.contains(r"\S").fill_null(False).to_numpy()
    return np.where(is_empty, EMPTY, hashes)


def label_keys(targets: np.ndarray) -> np.ndarray:
    """(N,) uint64: equal for documents with the same labels. targets: (N,) class numbers, or (N, L) indicators."""
    if targets.ndim == 1:
        return targets.astype(np.int64).view(np.uint64)
    weights = np.random.default_rng(0).integers(2**63, size=(targets.shape[1],), dtype=np.uint64)  # (L,)
    keys = np.zeros(len(targets), dtype=np.uint64)
    for label in range(targets.shape[1]):
        keys += np.where(targets[:, label] != 0, weights[label], np.uint64(0))
    return keys


def find_duplicates(corpus: "Corpus", keys: dict[str, np.ndarray] | None = None) -> DuplicateCounts:
    """Repeats within the published splits, and overlaps between the splits that a run uses.

    keys: (N,) uint64 of the documents of each split; None: those of `text_keys`.
    """
    splits = [split for split in LABELLED if split in corpus.splits]
    if keys is None:
        keys = {split: text_keys(corpus, split) for split in splits}
    frames = {
        split: pl.DataFrame({"key": keys[split], "labels": label_keys(corpus.targets(split))}) for split in splits
    }
    parts = published_parts(corpus, splits)
    repeats = [count_repeats(of_table, pl.concat([frames[split] for split in of_table])) for of_table in parts]
    overlaps = [
        find_overlap(split, others, frames[split], pl.concat([frames[name] for name in others]))
        for position, split in enumerate(splits)
        for others in published_parts(corpus, splits[:position])
    ]
    return DuplicateCounts(repeats, overlaps)


def find_unlabeled_duplicates(corpus: "Corpus") -> DuplicateCounts:
    """Repeats among the unlabelled documents, and their overlap with each labelled split."""

    def frame(split: str) -> pl.DataFrame:
        keys = text_keys(corpus, split)
        return pl.DataFrame({"key": keys, "labels": np.zeros(len(keys), dtype=np.uint64)})

    unlabeled = frame("unlabeled")
    labelled = [split for split in LABELLED if split in corpus.splits]
    overlaps = [find_overlap("unlabeled", (split,), unlabeled, frame(split)) for split in labelled]
    return DuplicateCounts([count_repeats(("unlabeled",), unlabeled)], overlaps)


def published_parts(corpus: "Corpus", splits: Sequence[str]) -> list[tuple[str, ...]]:
    """The splits, those that are parts of the same published split together."""
    tables = dict.fromkeys(corpus.splits[split].table for split in splits)
    return [tuple(split for split in splits if corpus.splits[split].table == table) for table in tables]


def count_repeats(parts: tuple[str, ...], documents: pl.DataFrame) -> Repeats:
    """documents: keys and labels."""
    texts = documents.filter(pl.col("key") != EMPTY)
    groups = texts.group_by("key").agg(pl.len().alias("copies"), pl.col("labels").n_unique().alias("answers"))
    contradictory = groups.filter(pl.col("answers") > 1)["copies"].sum()
    num_empty = len(documents) - len(texts)
    return Repeats(parts[0], parts, len(documents), num_empty, len(texts) - len(groups), int(contradictory))


def find_overlap(split: str, others: tuple[str, ...], documents: pl.DataFrame, other: pl.DataFrame) -> Overlap:
    """documents, other: keys and labels of the documents of `split` and of `others`."""
    pairs = (
        documents.with_row_index("document")
        .filter(pl.col("key") != EMPTY)
        .join(other.unique(["key", "labels"]), on="key", suffix="_other")
    )
    shared, contradictory = np.zeros(len(documents), dtype=bool), np.zeros(len(documents), dtype=bool)
    shared[pairs["document"].to_numpy()] = True
    contradictory[pairs.filter(pl.col("labels") != pl.col("labels_other"))["document"].to_numpy()] = True
    return Overlap(split, others, shared, contradictory)


def duplicate_notes(corpus: "Corpus") -> list[str]:
    """Notes for a run: texts that occur in two splits, or twice in one."""
    counts = find_duplicates(corpus)
    return [
        *(overlap_note(overlap) for overlap in counts.overlaps if overlap.shared.any()),
        *(repeats_note(repeats) for repeats in counts.repeats if repeats.repeated),
    ]


def unlabeled_notes(corpus: "Corpus") -> list[str]:
    """Notes for a run that reads the corpus's unlabelled documents: those that stand in validation or test."""
    unlabeled, notes = text_keys(corpus, "unlabeled"), []
    for split in [name for name in ("validation", "test") if name in corpus.splits]:
        shared = np.isin(unlabeled, text_keys(corpus, split)) & (unlabeled != EMPTY)
        if shared.any():
            notes.append(
                f"{shared.sum():,} of the {len(unlabeled):,} unlabelled documents, which the training reads without "
                f"labels, have the text of one in {split}."
            )
    return notes


def overlap_note(overlap: Overlap) -> str:
    others, contradictory = " or ".join(overlap.others), int(overlap.contradictory.sum())
    answers = f" {contradictory:,} of them have other labels there." if contradictory else ""
    return (
        f"{overlap.shared.sum():,} of the {len(overlap.shared):,} documents in {overlap.split} have the text of one in "
        f"{others}: metrics on them are too optimistic.{answers}"
    )


def repeats_note(repeats: Repeats) -> str:
    together = " and ".join(repeats.parts) + (" together" if len(repeats.parts) > 1 else "")
    answers = (
        f" {repeats.contradictory:,} documents have the text of another one with other labels, so no model can be "
        "right about all of them."
        if repeats.contradictory
        else ""
    )
    return (
        f"{repeats.repeated:,} of the {repeats.num_documents:,} documents in {together} repeat the text of another: "
        f"every copy counts.{answers}"
    )


# Comparison by words


@dataclass(frozen=True)
class WordSets:
    """The words of N documents as keys and as MinHash signatures."""

    keys: (
        np.ndarray
    )  # (N,) uint64: equal for documents with the same words in the same order; EMPTY without a character
    signatures: np.ndarray  # (N, H) uint32: the smallest hash of the shingles by each hash function

    def select(self, documents: np.ndarray) -> "WordSets":
        return WordSets(self.keys[documents], self.signatures[documents])


@dataclass(frozen=True)
class NearRepeats:
    """Pairs of documents with nearly the same words, but not the same words."""

    pairs: np.ndarray  # (P, 2) int64: document numbers
    similarities: np.ndarray  # (P,) float64: Jaccard similarity of their sets of shingles

    @classmethod
    def none(cls) -> "NearRepeats":
        return cls(np.empty((0, 2), dtype=np.int64), np.empty(0))


def read_word_sets(corpus: "Corpus", table: str) -> WordSets:
    """Keys and signatures of a table's documents; 264 bytes of memory for each document."""
    parts = [word_sets(pl.Series(texts, dtype=pl.String)) for texts in corpus.texts(table, CHUNK_DOCUMENTS)]
    if not parts:
        return WordSets(np.empty(0, dtype=np.uint64), np.empty((0, NUM_HASHES), dtype=np.uint32))
    return WordSets(np.concatenate([part.keys for part in parts]), np.concatenate([part.signatures for part in parts]))


def word_sets(texts: pl.Series) -> WordSets:
    words, offsets = word_hashes(texts)
    starts, has_words = offsets[:-1], np.diff(offsets) > 0
    positions = np.arange(len(words), dtype=np.uint64) - np.repeat(starts, np.diff(offsets)).astype(np.uint64)
    keys = keys_of(texts)  # of documents without words, such as emoji
    if len(words):
        sums = np.add.reduceat(mixed(words * (np.uint64(2) * positions + np.uint64(1))), starts[has_words])
        keys[has_words] = np.maximum(sums, np.uint64(1))
    shingles, shingle_offsets = shingles_of(words, offsets)
    return WordSets(keys, signatures_of(shingles, shingle_offsets))


def word_hashes(texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """(T,) uint64 hashes of the lowercase words of all texts, and the (N + 1,) offsets of each text in them."""
    words = texts.fill_null("").str.to_lowercase().str.extract_all(WORD)
    offsets = np.concatenate([[0], np.cumsum(words.list.len().to_numpy(), dtype=np.int64)])
    return words.explode(empty_as_null=False).hash().to_numpy(), offsets


def mixed(values: np.ndarray) -> np.ndarray:
    """Scrambled uint64 values: the last step of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def shingles_of(words: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S,) uint32 hashes of the shingles of all texts, with repeats, and the (N + 1,) offsets of each text in them.

    A document with fewer words than a shingle has one shingle of all its words; one without words has none.
    """
    lengths = np.diff(offsets)
    counts = np.where(lengths > 0, np.maximum(1, lengths - SHINGLE_WORDS + 1), 0)
    shingle_offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    within = np.arange(shingle_offsets[-1]) - np.repeat(shingle_offsets[:-1], counts)
    first, end = np.repeat(offsets[:-1], counts) + within, np.repeat(offsets[1:], counts)
    padded = np.concatenate([words, np.zeros(SHINGLE_WORDS, dtype=np.uint64)])
    hashes = np.zeros(len(first), dtype=np.uint64)
    for shift in range(SHINGLE_WORDS):
        following = padded[first + shift] * np.uint64(2 * shift + 1)
        hashes += np.where(first + shift < end, following, np.uint64(0)) if shift else following
    return (mixed(hashes) >> np.uint64(32)).astype(np.uint32), shingle_offsets


def signatures_of(shingles: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(N, H) uint32 MinHash signatures; all ones for documents without shingles."""
    random = np.random.default_rng(0)
    factors = random.integers(2**31, size=NUM_HASHES, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    masks = random.integers(2**32, size=NUM_HASHES, dtype=np.uint32)
    signatures = np.full((len(offsets) - 1, NUM_HASHES), 2**32 - 1, dtype=np.uint32)
    filled = np.diff(offsets) > 0
    if filled.any():
        for number, (factor, mask) in enumerate(zip(factors, masks, strict=True)):
            signatures[filled, number] = np.minimum.reduceat((shingles ^ mask) * factor, offsets[:-1][filled])
    return signatures


@dataclass(frozen=True)
class WordComparison:
    """All labelled documents compared by their words; they are numbered through the splits, in their order."""

    counts: DuplicateCounts  # of documents with the same words in the same order
    near: NearRepeats  # between documents of which the split has no earlier one with the same words
    splits: tuple[str, ...]
    starts: np.ndarray  # (number of splits + 1,) int64: number of the first document of each split, and of documents
    keys: np.ndarray  # (number of documents,) uint64, as in `WordSets`

    def split_and_row(self, document: int) -> tuple[str, int]:
        position = int(np.searchsorted(self.starts, document, side="right")) - 1
        return self.splits[position], document - int(self.starts[position])

    def is_in(self, documents: np.ndarray, splits: Sequence[str]) -> np.ndarray:
        positions = np.searchsorted(self.starts, documents, side="right") - 1
        return np.isin(positions, [self.splits.index(split) for split in splits])

    def num_near(self, splits: Sequence[str], others: Sequence[str]) -> int:
        """Number of different documents of `splits` that are near to one of `others`."""
        return len(self.near_to(splits, others))

    def near_to(self, splits: Sequence[str], others: Sequence[str]) -> np.ndarray:
        """Numbers of the documents of `splits` that are near to one of `others`, ascending, without their copies."""
        near = [self.near.pairs[self.is_in(self.near.pairs[:, 1 - side], others), side] for side in (0, 1)]
        documents = np.unique(np.concatenate(near))
        return np.asarray(documents[self.is_in(documents, splits)])

    def similar_to(self, split: str, others: Sequence[str]) -> np.ndarray:
        """(N,) bool: documents of a split with the same or nearly the same words as one of `others`, copies too."""
        documents = np.arange(self.starts[-1])
        in_others = self.is_in(documents, others)
        keys = np.union1d(self.keys[in_others], self.keys[self.near_to([split], others)])
        of_split = self.keys[self.is_in(documents, [split])]
        return np.isin(of_split, keys[keys != EMPTY])


def compare_words(corpus: "Corpus", threshold: float, between: str | None = None) -> WordComparison:
    """Compare the documents of all splits by their words.

    threshold: Jaccard similarity of near-repeats. between: a split; only near-repeats between it and the others.
    """
    splits = tuple(split for split in LABELLED if split in corpus.splits)
    sets = {table: read_word_sets(corpus, table) for table in {corpus.splits[split].table for split in splits}}
    of_splits = [sets[corpus.splits[split].table].select(corpus.splits[split].rows) for split in splits]
    keys = {split: of_split.keys for split, of_split in zip(splits, of_splits, strict=True)}
    starts = np.concatenate([[0], np.cumsum([len(corpus.splits[split].rows) for split in splits])])
    firsts = [start + first_of_each(of_split.keys) for start, of_split in zip(starts, of_splits, strict=False)]
    documents = np.concatenate(firsts)
    signatures = np.concatenate([of_split.signatures for of_split in of_splits])
    all_keys = np.concatenate([of_split.keys for of_split in of_splits])
    comparison = WordComparison(find_duplicates(corpus, keys), NearRepeats.none(), splits, starts, all_keys)

    def texts(numbers: np.ndarray) -> pl.Series:
        places = [comparison.split_and_row(int(document)) for document in documents[numbers]]
        return pl.Series([corpus.text(split, row) for split, row in places], dtype=pl.String)

    together = WordSets(all_keys[documents], signatures[documents])
    sides = None if between is None else comparison.is_in(documents, [between])
    near = find_near_repeats(together, texts, threshold, sides)
    return replace(comparison, near=NearRepeats(documents[near.pairs], near.similarities))


def first_of_each(keys: np.ndarray) -> np.ndarray:
    """Ascending positions of the first of each key, but of EMPTY."""
    unique, positions = np.unique(keys, return_index=True)
    return np.sort(positions[unique != EMPTY])


def find_near_repeats(
    sets: WordSets,
    texts: Callable[[np.ndarray], pl.Series],
    threshold: float,
    sides: np.ndarray | None = None,
) -> NearRepeats:
    """Pairs of documents whose sets of shingles have a Jaccard similarity of at least `threshold`, as (i, j), i < j.

    Of more than MAX_GROUP documents that agree in a band, not all pairs are compared, so a document can be missed that
    is near to some of them only. Pairs with the same words are left out. texts: (N,) the texts of the documents.
    sides: (N,) bool, to compare only documents of different sides.
    """
    pairs = candidates(sets.signatures)
    if sides is not None:
        pairs = pairs[sides[pairs[:, 0]] != sides[pairs[:, 1]]]
    estimates = (sets.signatures[pairs[:, 0]] == sets.signatures[pairs[:, 1]]).mean(axis=1) if len(pairs) else []
    likely = np.asarray(estimates) >= threshold - ESTIMATE_MARGIN
    pairs = pairs[likely & (sets.keys[pairs[:, 0]] != sets.keys[pairs[:, 1]])]
    similarities = exact_similarities(texts, pairs)
    near = similarities >= threshold
    return NearRepeats(pairs[near], similarities[near])


def candidates(signatures: np.ndarray) -> np.ndarray:
    """(P, 2) int64: pairs of documents that agree in all hashes of a band, once each, as (i, j), i < j."""
    num_documents, num_hashes = signatures.shape
    with_shingles = np.flatnonzero((signatures != 2**32 - 1).any(axis=1))
    found = [np.empty(0, dtype=np.int64)]
    for band in np.split(np.arange(num_hashes), NUM_BANDS):
        keys = np.zeros(len(with_shingles), dtype=np.uint64)
        for number in band:
            keys = mixed(keys + signatures[with_shingles, number])
        order = np.argsort(keys, kind="stable")
        firsts, seconds = pairs_of_groups(keys[order])
        found.append(with_shingles[order[firsts]] * num_documents + with_shingles[order[seconds]])
    codes = np.unique(np.concatenate(found))
    return np.stack([codes // max(1, num_documents), codes % max(1, num_documents)], axis=1)


def pairs_of_groups(sorted_keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the pairs of equal keys: all pairs up to MAX_GROUP apart, and each with the first of its group."""
    starts = np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]]))
    first_of_group = np.repeat(starts, np.diff(np.append(starts, len(sorted_keys))))
    positions = np.arange(len(sorted_keys))
    firsts, seconds = [], []
    for distance in range(1, MAX_GROUP):
        same = np.flatnonzero(sorted_keys[distance:] == sorted_keys[:-distance])
        if not len(same):
            break
        firsts.append(same)
        seconds.append(same + distance)
    far = positions - first_of_group >= MAX_GROUP
    return np.concatenate([*firsts, first_of_group[far]]), np.concatenate([*seconds, positions[far]])


def exact_similarities(texts: Callable[[np.ndarray], pl.Series], pairs: np.ndarray) -> np.ndarray:
    """(P,) Jaccard similarity of the sets of shingles of pairs of documents."""
    documents, positions = np.unique(pairs, return_inverse=True)
    positions = positions.reshape(pairs.shape)
    shingles, offsets = shingles_of(*word_hashes(texts(documents)))
    similarities = np.zeros(len(pairs))
    for chunk in chunks_of_pairs(positions, np.diff(offsets)):
        members = positions[chunk].T.ravel()  # the first documents of the pairs, then the second ones
        numbers = np.tile(np.arange(len(chunk), dtype=np.uint64), 2)
        sizes, unions = [], []
        for side in (slice(0, len(chunk)), slice(len(chunk), None)):
            unions.append(np.unique(labelled_shingles(shingles, offsets, members[side], numbers[side])))
            sizes.append(np.bincount((unions[-1] >> np.uint64(32)).astype(np.int64), minlength=len(chunk)))
        both = np.sort(np.concatenate(unions))
        twice = both[1:][both[1:] == both[:-1]]
        common = np.bincount((twice >> np.uint64(32)).astype(np.int64), minlength=len(chunk))
        similarities[chunk] = common / np.maximum(1, sizes[0] + sizes[1] - common)
    return similarities


def labelled_shingles(
    shingles: np.ndarray, offsets: np.ndarray, documents: np.ndarray, numbers: np.ndarray
) -> np.ndarray:
    """uint64: the shingles of documents in the lower half, and a number for each document in the upper half."""
    pieces = [shingles[offsets[document] : offsets[document + 1]] for document in documents]
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    return np.asarray(np.repeat(numbers << np.uint64(32), lengths) + np.concatenate(pieces).astype(np.uint64))


def chunks_of_pairs(positions: np.ndarray, num_shingles: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of consecutive pairs whose documents have about CHUNK_SHINGLES shingles together."""
    chunk = np.cumsum(num_shingles[positions].sum(axis=1)) // CHUNK_SHINGLES if len(positions) else np.empty(0)
    for number in np.unique(chunk):
        yield np.flatnonzero(chunk == number)
