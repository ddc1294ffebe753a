"""An interpolated n-gram model with modified Kneser–Ney smoothing (Chen and Goodman 1999), over arrays of token ids.

The text has a boundary token before, between and after documents. It is predicted like a word at the end of a document,
and is the first word of the contexts of the next one; n-grams do not cross it.

Axes: N tokens of a text, M_k different k-grams of the training text, V words.
"""

from dataclasses import dataclass

import numpy as np

NUM_DISCOUNTS = 3  # for n-grams that occur once, twice, and more often
DEFAULT_DISCOUNTS = (0.5, 1.0, 1.5)  # if a text is too small to estimate them
UNKNOWN = -1


@dataclass(frozen=True)
class Level:
    """The k-grams of the training text, each as its first k - 1 words, the prefix, and its last word.

    A k-gram's id is its index in `keys`; words are their own ids as 1-grams.
    """

    keys: np.ndarray  # (M_k,) int64, ascending: id of the prefix · V + last word
    counts: np.ndarray  # (M_k,) int64, adjusted: how often they occur, or the number of different words before them
    discounts: tuple[float, ...]  # for adjusted counts of 1, 2, and 3 or more
    totals: np.ndarray  # (M_(k-1),) sum of the adjusted counts of the k-grams with each prefix
    backoffs: np.ndarray  # (M_(k-1),) weight of the lower order after each prefix

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Ids of k-grams; UNKNOWN for those that are not in the training text."""
        ids = np.searchsorted(self.keys, keys)
        is_known = self.keys[np.minimum(ids, len(self.keys) - 1)] == keys
        return np.where(is_known, ids, UNKNOWN)


class KneserNey:
    """p_k(w | c) = max(a(cw) - D(a(cw)), 0) / Σ_v a(cv) + γ(c) p_(k-1)(w | c without its first word).

    a is the number of occurrences for the highest order and for n-grams at the beginning of a document, and otherwise
    the number of different words that the n-gram follows; D are three discounts for each order (equation 26), γ(c)
    gives back what they take, and p_0 is 1 / V. So the probabilities of the V words sum to 1 after every context.
    """

    def __init__(self, text: np.ndarray, num_words: int, order: int = 5, boundary: int = 0) -> None:
        """text: (N,) word ids below `num_words`, starting and ending with `boundary`."""
        self.num_words = num_words
        self.boundary = boundary
        positions = [text.astype(np.int64)]  # of each order: (N,) id of the k-gram that ends at each token, or UNKNOWN
        keys, counts, prefixes, is_start = [np.arange(num_words)], [], [np.zeros(num_words, np.int64)], []
        is_event = np.ones(len(text), dtype=bool)
        is_event[0] = False  # nothing is before the first boundary
        counts.append(np.bincount(positions[0][is_event], minlength=num_words))
        is_start.append(np.zeros(num_words, dtype=bool))
        available = history_lengths(text, boundary)
        representatives = [np.empty(0, dtype=np.int64)]  # a position of each k-gram
        for k in range(2, order + 1):
            ends = np.flatnonzero(available >= k - 1)
            packed = positions[-1][ends - 1] * num_words + text[ends]
            unique, first, inverse, occurrences = np.unique(
                packed, return_index=True, return_inverse=True, return_counts=True
            )
            ids = np.full(len(text), UNKNOWN, dtype=np.int64)
            ids[ends] = inverse
            prefix = unique // num_words
            positions.append(ids)
            keys.append(unique)
            counts.append(occurrences)
            prefixes.append(prefix)
            representatives.append(ends[first])
            is_start.append(prefix == boundary if k == 2 else is_start[-1][prefix])
        self.levels = []
        for k in range(1, order + 1):
            adjusted = counts[k - 1]
            if k < order:  # the number of different words before each
                suffixes = positions[k - 1][representatives[k]]
                following = np.bincount(suffixes, minlength=len(keys[k - 1]))
                adjusted = np.where(is_start[k - 1], adjusted, following)
            num_prefixes = 1 if k == 1 else len(keys[k - 2])
            self.levels.append(build_level(keys[k - 1], adjusted, prefixes[k - 1], num_prefixes))

    def log_probabilities(self, text: np.ndarray) -> np.ndarray:
        """(N - 1,) natural logarithms of the probabilities of all tokens but the first, each after those before it."""
        text = text.astype(np.int64)
        available = history_lengths(text, self.boundary)
        probabilities = np.full(len(text), 1 / self.num_words)
        previous = np.zeros(len(text), dtype=np.int64)  # id of the context of each token, of the order so far
        for k, level in enumerate(self.levels, start=1):
            ends = np.flatnonzero((available >= k - 1) & (previous != UNKNOWN))
            ends = ends[level.totals[previous[ends]] > 0]
            packed = previous[ends] * self.num_words + text[ends]
            ids = level.find(packed)
            counts = np.where(ids == UNKNOWN, 0, level.counts[ids])
            contexts = previous[ends]
            numerators = np.maximum(counts - discounts_of(counts, level.discounts), 0)
            probabilities[ends] = numerators / level.totals[contexts] + level.backoffs[contexts] * probabilities[ends]
            found = np.full(len(text), UNKNOWN, dtype=np.int64)
            found[ends] = ids
            previous = np.full(len(text), UNKNOWN, dtype=np.int64)
            previous[1:] = (text if k == 1 else found)[:-1]
        return np.asarray(np.log(probabilities[1:]))

    def perplexity(self, text: np.ndarray) -> float:
        """exp of the mean negative log probability of all tokens but the first."""
        return float(np.exp(-self.log_probabilities(text).mean()))


def history_lengths(text: np.ndarray, boundary: int) -> np.ndarray:
    """(N,) number of tokens before each one since the start of its document, the boundary included; 0 for the first."""
    positions = np.arange(len(text))
    starts = np.maximum.accumulate(np.where(text == boundary, positions, 0))  # the last boundary up to each token
    return np.append(0, positions[1:] - starts[:-1])


def build_level(keys: np.ndarray, counts: np.ndarray, prefixes: np.ndarray, num_prefixes: int) -> Level:
    """A level of k-grams with these adjusted counts and (M_k,) ids of their prefixes."""
    discounts = estimate_discounts(counts)
    taken = np.where(counts > 0, np.minimum(discounts_of(counts, discounts), counts), 0.0)
    totals = np.bincount(prefixes, weights=counts, minlength=num_prefixes)
    given_back = np.bincount(prefixes, weights=taken, minlength=num_prefixes)
    backoffs = np.divide(given_back, totals, out=np.zeros(num_prefixes), where=totals > 0)
    return Level(keys, counts, discounts, totals, backoffs)


def estimate_discounts(counts: np.ndarray) -> tuple[float, ...]:
    """Discounts for counts of 1, 2, and 3 or more (Chen and Goodman 1999, equation 26).

    DEFAULT_DISCOUNTS if a number of n-grams that they depend on is 0, or if one is outside of 0 … its count.
    """
    n = np.bincount(np.minimum(counts, NUM_DISCOUNTS + 2), minlength=NUM_DISCOUNTS + 3)  # n-grams that occur r times
    if not n[1 : NUM_DISCOUNTS + 2].all():
        return DEFAULT_DISCOUNTS
    y = n[1] / (n[1] + 2 * n[2])
    discounts = tuple(float(r - (r + 1) * y * n[r + 1] / n[r]) for r in range(1, NUM_DISCOUNTS + 1))
    return discounts if all(0 <= each <= r for r, each in enumerate(discounts, start=1)) else DEFAULT_DISCOUNTS


def discounts_of(counts: np.ndarray, discounts: tuple[float, ...]) -> np.ndarray:
    """The discount of each count; 0 for 0."""
    return np.asarray(np.array([0.0, *discounts])[np.minimum(counts, NUM_DISCOUNTS)])
