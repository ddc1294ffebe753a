"""Sections on a corpus as text for a terminal and as one HTML page that needs no other file."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

JOINERS = "\u200c\u200d"
WIDTH = 100  # characters of a line on the terminal
MAX_ROWS = 10  # of a table on the terminal
MAX_CELL = 80  # characters of a cell on the terminal
STYLE = """
:root { color-scheme: light dark; --text: #1d2329; --page: #fff; --soft: #5a646e; --line: #dfe3e7; --accent: #0b6e99 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e3e7ea; --page: #14181c; --soft: #a0abb5; --line: #343c44; --accent: #6db9e0 }
}
body { margin: 0 auto; max-width: 46rem; padding: 1rem; color: var(--text); background: var(--page);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
a, summary { color: var(--accent) } nav a { margin-right: 1rem; white-space: nowrap } summary { cursor: pointer }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem; margin: .8rem 0 }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
th { color: var(--soft); font-weight: 600 } blockquote { margin: .6rem 0; padding-left: .8rem;
  border-left: 3px solid var(--line); font-size: .9rem } svg { width: 100%; height: auto; max-width: 40rem }
"""


@dataclass(frozen=True)
class Table:
    """A table of text cells; columns of numbers are aligned on the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    max_rows: int = MAX_ROWS  # on the terminal


@dataclass(frozen=True)
class Examples:
    """Documents under a heading that unfolds."""

    title: str
    texts: Sequence[str]


@dataclass(frozen=True)
class Section:
    """A part of the page: what it means for the user, and the figures. All of it is plain text, but `figures`.

    Tables without rows are left out.
    """

    title: str
    meaning: str
    tables: Sequence[Table] = ()
    figures: Sequence[str] = ()  # <svg> elements
    examples: Sequence[Examples] = field(default=())  # on the page only


def as_text(title: str, sections: Sequence[Section]) -> str:
    """The sections for a terminal, without figures and examples, and without those that have nothing else."""
    lines = [printable(title)]
    for section in sections:
        if section.examples and not section.tables:
            continue
        lines += ["", section.title, *textwrap.wrap(printable(section.meaning), WIDTH - 2, initial_indent="  ",
                                                     subsequent_indent="  ")]  # fmt: skip
        for table in section.tables:
            lines += ["", *text_table(table)] if table.rows else []
    return "\n".join(lines)


def text_table(table: Table) -> list[str]:
    cells = [[shortened(printable(cell)) for cell in row] for row in (table.head, *table.rows[: table.max_rows])]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numbers = number_columns(table)
    lines = [
        "  " + "  ".join(cell.rjust(width) if is_number else cell.ljust(width)
                         for cell, width, is_number in zip(row, widths, numbers, strict=True)).rstrip()
        for row in cells
    ]  # fmt: skip
    more = len(table.rows) - table.max_rows
    return [*lines, f"  … {more:,} more on the page"] if more > 0 else lines


def shortened(text: str) -> str:
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def number_columns(table: Table) -> list[bool]:
    """Whether each column after the first has only numbers."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.head)
    is_number = [all(cell == "" or cell[0].isdigit() for cell in column) for column in columns]
    return [False, *is_number[1:]]


def as_html(title: str, sections: Sequence[Section]) -> str:
    """One page with everything in it; texts and names are escaped."""
    anchors = [f"section-{number}" for number in range(1, len(sections) + 1)]
    links = "".join(f'<a href="#{anchor}">{html(section.title)}</a> '
                    for anchor, section in zip(anchors, sections, strict=True))  # fmt: skip
    parts = [section_html(anchor, section) for anchor, section in zip(anchors, sections, strict=True)]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">""",
            f"<title>{html(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{html(title)}</h1><nav>{links}</nav>",
            *parts,
            "</body></html>\n",
        ]
    )


def section_html(anchor: str, section: Section) -> str:
    return "\n".join(
        [
            f'<section id="{anchor}"><h2>{html(section.title)}</h2><p>{html(section.meaning)}</p>',
            *(html_table(table) for table in section.tables if table.rows),
            *section.figures,
            *(html_examples(examples) for examples in section.examples),
            "</section>",
        ]
    )


def html_table(table: Table) -> str:
    classes = [' class="number"' if is_number else "" for is_number in number_columns(table)]

    def row(tag: str, cells: Sequence[str]) -> str:
        inner = "".join(f'<{tag}{name} dir="auto">{html(cell)}</{tag}>'
                        for cell, name in zip(cells, classes, strict=True))  # fmt: skip
        return f"<tr>{inner}</tr>"

    rows = "\n".join(row("td", cells) for cells in table.rows)
    return f'<div class="scroll"><table><thead>{row("th", table.head)}</thead><tbody>\n{rows}\n</tbody></table></div>'


def html_examples(examples: Examples) -> str:
    texts = "\n".join(f'<blockquote dir="auto">{html(text)}</blockquote>' for text in examples.texts)
    return f"<details><summary>{html(examples.title)}</summary>\n{texts}\n</details>"


def html(text: str) -> str:
    return escape(printable(text))


def printable(text: str) -> str:
    """The text in one line, without control characters, which a terminal could take as commands.

    Joiners stay: Persian and Hindi spell with them, and so do emoji.
    """
    line = " ".join(text.split())
    return "".join(character if character.isprintable() or character in JOINERS else "\ufffd" for character in line)
