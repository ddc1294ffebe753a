"""Strategies for hypothesis: valid files that are damaged somewhere, and documents."""

from collections.abc import Sequence

from hypothesis import strategies as st

MAX_CHANGES = 4
MAX_CUT = 40  # bytes


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes], pieces: Sequence[bytes] = ()) -> bytes:
    """One of the seeds with bytes replaced, removed, repeated or cut off at a few positions; rarely, any bytes."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    content = draw(st.sampled_from(seeds))
    inserted = st.binary(max_size=8)
    if pieces:
        inserted = st.sampled_from(pieces) | inserted
    for _ in range(draw(st.integers(0, MAX_CHANGES))):
        begin = draw(st.integers(0, len(content)))
        end = min(len(content), begin + draw(st.integers(0, MAX_CUT)))
        kind = draw(st.sampled_from(["replace", "insert", "repeat", "truncate"]))
        if kind == "truncate":
            content = content[:begin]
        elif kind == "repeat":
            content = content[:end] + content[begin:end] * draw(st.integers(1, 5)) + content[end:]
        else:
            content = content[:begin] + draw(inserted) + content[end if kind == "replace" else begin :]
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
