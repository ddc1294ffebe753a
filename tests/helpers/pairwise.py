"""Rows that stand for a full product: every two values of different factors meet in one of them."""

from collections.abc import Sequence
from itertools import combinations, product

Row = tuple[str, ...]


def pairwise_cover(*factors: Sequence[str]) -> list[Row]:
    """Rows of the product, chosen greedily: each is the first that brings most of the pairs not met so far."""
    rows = list(product(*factors))
    missing = {pair for row in rows for pair in pairs_of(row)}
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(pairs_of(row) & missing))
        missing -= pairs_of(best)
        chosen.append(best)
    return chosen


def pairs_of(row: Row) -> set[tuple[tuple[int, str], tuple[int, str]]]:
    return set(combinations(enumerate(row), 2))
