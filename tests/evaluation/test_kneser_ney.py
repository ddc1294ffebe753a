"""Kneser–Ney models, against dictionaries on a tiny text and by hand."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from newsreel.evaluation.kneser_ney import DEFAULT_DISCOUNTS, KneserNey, estimate_discounts

V = 7
Gram = tuple[int, ...]


def random_text(num_documents: int, seed: int) -> list[int]:
    random = np.random.default_rng(seed)
    text = [0]
    for _ in range(num_documents):
        text += [*random.choice([1, 2, 3, 4, 5], size=random.integers(0, 9), p=[0.4, 0.3, 0.15, 0.1, 0.05]).tolist(), 0]
    return text


class Dictionaries:
    """The equations, one n-gram at a time."""

    def __init__(self, text: Sequence[int], order: int) -> None:
        raw: Counter[Gram] = Counter()
        for end in range(1, len(text)):
            history = self.history(text[:end])
            for length in range(min(order - 1, len(history)) + 1):
                raw[(*history[len(history) - length :], text[end])] += 1
        preceding: defaultdict[Gram, set[int]] = defaultdict(set)
        for gram in raw:
            preceding[gram[1:]].add(gram[0])
        self.counts = {
            gram: count if len(gram) == order or (len(gram) > 1 and gram[0] == 0) else len(preceding[gram])
            for gram, count in raw.items()
        }
        self.discounts = [
            estimate_discounts(np.array([count for gram, count in self.counts.items() if len(gram) == length]))
            for length in range(1, order + 1)
        ]
        self.order = order

    def history(self, before: Sequence[int]) -> Gram:
        """The tokens of the document so far, with its boundary."""
        return tuple(before[max(i for i, token in enumerate(before) if token == 0) :])

    def probability(self, context: Gram, word: int) -> float:
        following = {gram[-1]: count for gram, count in self.counts.items() if gram[:-1] == context}
        lower = self.probability(context[1:], word) if context else 1 / V
        if not following:
            return lower
        taken = {token: (0, *self.discounts[len(context)])[min(count, 3)] for token, count in following.items()}
        total = sum(following.values())
        share = (following[word] - taken[word]) / total if word in following else 0.0
        return share + sum(taken.values()) / total * lower

    def log_probabilities(self, text: Sequence[int]) -> list[float]:
        values = []
        for end in range(1, len(text)):
            history = self.history(text[:end])
            context = history[max(0, len(history) - self.order + 1) :]
            values.append(float(np.log(self.probability(context, text[end]))))
        return values


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_are_those_of_dictionaries(order: int) -> None:
    text, held_out = random_text(60, seed=1), random_text(20, seed=2)
    model, expected = KneserNey(np.array(text), V, order), Dictionaries(text, order)
    np.testing.assert_allclose(model.log_probabilities(np.array(held_out)), expected.log_probabilities(held_out))
    for level, discounts in zip(model.levels, expected.discounts, strict=True):
        assert level.discounts == pytest.approx(discounts)


def test_the_largest_sizes_of_ids_do_not_change_probabilities() -> None:
    text = np.array(random_text(60, seed=1))
    scale = 2**17
    wide = KneserNey(text * scale, V * scale, 5)
    narrow = KneserNey(text, V, 5)
    assert [len(level.keys) for level in wide.levels[1:]] == [len(level.keys) for level in narrow.levels[1:]]


def test_probabilities_sum_to_1_after_any_context() -> None:
    model = KneserNey(np.array(random_text(60, seed=1)), V)
    random = np.random.default_rng(3)
    for length in range(6):
        context = [0, *random.integers(1, V, size=length).tolist()]
        last = [model.log_probabilities(np.array([*context, word]))[-1] for word in range(V)]
        assert np.exp(last).sum() == pytest.approx(1)


def test_bigrams_by_hand() -> None:
    """Two documents, 1 2 and 1 3: five different bigrams, all but 0 1 occur once."""
    model = KneserNey(np.array([0, 1, 2, 0, 1, 3, 0]), 4, order=2)
    d1, d2, _ = DEFAULT_DISCOUNTS
    # Different words before: 1 has one (0), 2 and 3 have one (1), 0 has two (2 and 3); in total 5
    back = (3 * d1 + d2) / 5 / 4
    unigrams = {0: (2 - d2) / 5 + back, **dict.fromkeys((1, 2, 3), (1 - d1) / 5 + back)}
    expected = [
        (2 - d2) / 2 + d2 / 2 * unigrams[1],  # 0 1 occurs twice
        (1 - d1) / 2 + 2 * d1 / 2 * unigrams[3],  # 1 3 once, among two
        d1 / 1 * unigrams[2] + 0,  # 3 2 never; 3 0 once
        d1 / 1 * unigrams[1],  # 2 1 never
    ]
    np.testing.assert_allclose(np.exp(model.log_probabilities(np.array([0, 1, 3, 2, 1]))), expected)
    assert model.perplexity(np.array([0, 1, 3])) == pytest.approx((expected[0] * expected[1]) ** -0.5)


def test_discounts_of_numbers_of_n_grams() -> None:
    # 8 n-grams occur once, 4 twice, 2 three times, 1 four times: Y = 8 / 16
    counts = np.repeat([1, 2, 3, 4, 9], [8, 4, 2, 1, 3])
    assert estimate_discounts(counts) == pytest.approx((1 - 0.5, 2 - 3 * 0.5 * 2 / 4, 3 - 4 * 0.5 * 1 / 2))
    assert estimate_discounts(counts[counts != 2]) == DEFAULT_DISCOUNTS
