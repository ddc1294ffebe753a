"""The pages that scripts/make_docs.py writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Lt

import make_docs


def test_the_generated_pages_are_up_to_date_and_a_stale_one_is_a_diff() -> None:
    pages = make_docs.make_pages()
    assert make_docs.stale(pages) == "", "run `make docs`"
    diff = make_docs.stale({path: text.replace("| `seed` |", "| `sead` |") for path, text in pages.items()})
    assert any(line.startswith("-| `seed` |") for line in diff.splitlines())
    assert any(line.startswith("+| `sead` |") for line in diff.splitlines())


def test_a_comment_continues_on_the_lines_below() -> None:
    lines = ["a: [1, 2]  # first,", "           # second", "b: x", "c:", "  # above", "  d: null"]
    assert make_docs.comment_of(lines, 0, "  # first,") == "first, second"
    assert make_docs.comment_of(lines, 2, "") == ""
    assert make_docs.comment_of(lines, 5, "") == "above"


def test_values_in_one_line_are_shown_and_blocks_are_not(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("a: -1.0  # first\nb: [1, 2]\nc: '|'\n# below each other\nd:\n  - 1\n  - 2\ne: >-\n  text\n")
    shown = [
        ("a", "-1.0", "first"),
        ("b", "[1, 2]", ""),
        ("c", "'|'", ""),
        ("d", "…", "below each other"),
        ("e", "…", ""),
    ]
    assert [(each.key, each.default, each.comment) for each in make_docs.read_settings(file)] == shown


def test_an_arrow_that_a_longer_way_implies_is_left_out() -> None:
    arrows = {"core": [], "models": ["core", "text"], "text": ["core"]}
    assert make_docs.top_to_bottom(arrows) == ["models", "text", "core"]
    drawn = [line.strip() for line in make_docs.mermaid(arrows).splitlines() if "-->" in line]
    assert drawn == ["models --> text", "text --> core"]
    with pytest.raises(ValueError, match="in a circle"):
        make_docs.top_to_bottom({"text": ["core"], "core": ["text"]})


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool | None, "bool or null"),
        (Literal["head", "tail"], "head, tail"),
        (Annotated[float, Ge(0), Lt(1)], "float ≥ 0 and < 1"),
        (Annotated[int, Ge(1)] | None, "int ≥ 1 or null"),
        (Sequence[Annotated[int, Ge(1)]], "list of int ≥ 1"),
    ],
)
def test_types_in_words(kind: object, words: str) -> None:
    assert make_docs.describe(kind) == words
