"""Strategies for hypothesis: valid files that are damaged somewhere, and documents."""

import random
from collections.abc import Sequence

from hypothesis import strategies as st

MAX_CHANGES = 4
MAX_BYTES = 40  # of a change


def damaged(seeds: Sequence[bytes], pieces: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """One of the seeds with bytes replaced, inserted, repeated or cut off at a few positions; rarely, any bytes.

    Made from one number each: ten times as many as from a draw for every change, though failures are not made smaller.
    """
    return st.integers(0, 2**64 - 1).map(lambda number: damage(random.Random(number), seeds, pieces))


def damage(chance: random.Random, seeds: Sequence[bytes], pieces: Sequence[bytes]) -> bytes:
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(200))
    content = chance.choice(seeds)
    for _ in range(chance.randrange(MAX_CHANGES + 1)):
        begin = chance.randrange(len(content) + 1)
        end = min(len(content), begin + chance.randrange(MAX_BYTES))
        is_piece = pieces and chance.random() < 0.6
        new = chance.choice(pieces) if is_piece else chance.randbytes(chance.randrange(9))
        changes = [
            content[:begin] + new + content[end:],
            content[:begin] + new + content[begin:],
            content[:end] + content[begin:end] * chance.randrange(1, 5) + content[end:],
            content[:begin],
        ]
        (content,) = chance.choices(changes, weights=[4, 4, 4, 1])
    return content


TEXTS = st.text(max_size=40)
DOCUMENTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda text: text.strip())
LABELS = st.sampled_from(["a", "b c", "ä", "x,y", 'a "b"', "=1", "01", "2\n3", "NA", "x\ty", "#"])
ROWS = st.lists(st.tuples(DOCUMENTS, LABELS), min_size=1, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | TEXTS | st.binary(max_size=3),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=8,
)
