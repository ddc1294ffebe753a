"""Markdown: tables, and escaped text."""

import re
from collections.abc import Sequence
from html import escape


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table with aligned columns."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*cells, strict=True)]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in cells]
    return [lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]]


def excerpt(text: str, length: int) -> str:
    """The first `length` characters of a document, escaped for Markdown."""
    return literal(text[:length]) + (" …" if len(text) > length else "")


def literal(text: str) -> str:
    """Escape text for Markdown, so that nothing in it is emphasis, code, a link or an image."""
    return re.sub(r"[\\_~]", numeric_entity, plain(text))


def plain(text: str) -> str:
    """Escape text for a Markdown table cell, and join its lines: nothing in it is HTML, code, a link or an image.

    Words with underscores stay as they are.
    """
    return re.sub(r"[`*\[\]|]", numeric_entity, escape(" ".join(text.split())))


def numeric_entity(mark: re.Match[str]) -> str:
    return f"&#{ord(mark[0])};"


def format_mean_std(mean: float | None, deviation: float | None) -> str:
    """Mean ± standard deviation, without unknown parts."""
    if mean is None:
        return ""
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"
