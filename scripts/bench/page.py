"""The page of the benchmark, from its results."""

from collections.abc import Mapping
from itertools import groupby

from bench.environments import REQUIREMENTS
from bench.results import Result, Side
from bench.rows import Row
from newsreel.core.markdown import markdown_table

HEAD = """# Speed

Made by `make bench` (`python scripts/benchmark.py`), which measures, keeps [the figures](benchmark.json) and writes
this page. Both sides of a row work on the same documents, on the same machine, in one run: newsreel, the peer,
newsreel, the peer and so on. A figure is the median of the rounds, with the lowest and the highest. The ratio is that
of newsreel's figure to the peer's in the same round: for times and memory, less is better, for speeds (`/s`), more.
`reach` is the ratio to reach. Scores are those on the test documents (accuracy, or micro-F1 with several labels); in
brackets the lowest score that counts. A dash: there is none, or it was not measured.

```console
$ export NEWSREEL_CORPORA_DIR=…                             # without it, a cold cache includes a download
$ make bench                                                # all rows
$ python scripts/benchmark.py bow-cold keras-lstm           # some rows; the page keeps the others
$ python scripts/benchmark.py bow-cold --rounds 5
$ python scripts/benchmark.py bow-cold --limit 100          # a trial of seconds with few documents, not a measurement
$ python scripts/benchmark.py fit-lstm --baseline <commit>  # another version for the rows that compare with one
```

Leave the machine alone meanwhile. Each peer has its own environment in `.venv/bench`, built at first use; its program
is a file in `scripts/bench/peers`, with the settings that its own documentation recommends. `baseline` is this project
at an earlier commit. A whole command is timed from its start to its exit, with imports, and with the report and the
figures that newsreel writes. scikit-learn and fastText, which choose nothing by validation, train on the validation
documents too.
"""
UNITS = {
    "wall_s": "s",
    "seconds": "s",
    "fit_s": "s",
    "epoch_s": "s",
    "first_step_s": "s",
    "documents_per_s": "documents/s",
    "commands_per_s": "commands/s",
    "ms_per_document": "ms",
    "fit_ms_per_document": "ms",
    "peak_rss_mb": "MB",
}
COLUMNS = ("row", "newsreel", "peer", "peer's", "ratio", "reach", "reached", "score", "peer's score")
DASH = "–"


def page(rows: Mapping[str, Row], results: Mapping[str, Result]) -> str:
    """The page with a line for each row, whether it was measured or not."""
    cells = [row_cells(row, results.get(key)) for key, row in rows.items()]
    failures = [line for key in rows if key in results for line in failure_lines(results[key])]
    parts = [HEAD, *markdown_table(COLUMNS, cells), ""]
    if failures:
        parts += ["Not measured:", "", *failures, ""]
    parts += bound_lines(rows, results)
    parts += ["## What the rows are", "", *(describe(row) for row in rows.values()), ""]
    parts += ["## Machine and versions", "", *measured_lines(results)]
    parts += ["", "Packages of the peers:", ""]
    parts += [f"- {name}: {', '.join(f'`{item}`' for item in items)}" for name, items in REQUIREMENTS.items()]
    return "\n".join(parts) + "\n"


def row_cells(row: Row, result: Result | None) -> list[str]:
    sign = "≥" if row.higher_is_better else "≤"
    reach = DASH if row.reach is None else f"{sign} {row.reach:g}"
    if result is None:
        return [f"`{row.key}`", DASH, row.peer.name, DASH, DASH, reach, DASH, least_score(row, None), DASH]
    trial = "" if result.limit is None else f" (trial, limit {result.limit}: not a measurement)"
    ratio, reached = DASH, DASH
    if ratios := result.ratios:
        ratio = f"**{result.ratio:.2f}** ({min(ratios):.2f}–{max(ratios):.2f})"
        if row.reach is not None and result.limit is None:
            reached = "yes" if row.is_reached(result.ratio, result.ours.score) else "no"
    return [
        f"`{row.key}`{trial}",
        figure(result.ours, row.ours.figure),
        row.peer.name,
        figure(result.peer, row.peer.figure),
        ratio,
        reach,
        reached,
        least_score(row, result.ours.score),
        score(result.peer.score),
    ]


def figure(side: Side, name: str) -> str:
    """Median with lowest and highest, and the unit."""
    if side.error:
        return "failed"
    low, middle, high = (number(value) for value in (min(side.values), side.median, max(side.values)))
    return f"{middle} {UNITS[name]} ({low}–{high})"


def number(value: float) -> str:
    """With three significant digits, and no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def score(value: float | None) -> str:
    return DASH if value is None else f"{value:.4f}"


def least_score(row: Row, value: float | None) -> str:
    return score(value) + ("" if row.min_accuracy is None else f" (≥ {row.min_accuracy})")


def failure_lines(result: Result) -> list[str]:
    sides = {"newsreel": result.ours, "the peer": result.peer}
    return [f"- `{result.row}`, {name}: {side.error}" for name, side in sides.items() if side.error]


def describe(row: Row) -> str:
    settings = f"`{getattr(row.ours, 'settings', '')}`"
    return f"- `{row.key}`: {row.description}" + ("" if settings in row.description else f"; {settings}")


def bound_lines(rows: Mapping[str, Row], results: Mapping[str, Result]) -> list[str]:
    """What limits the measured rows that fall short."""
    short = [
        f"- `{key}`: {row.bound}"
        for key, row in rows.items()
        if row.bound
        and (result := results.get(key))
        and result.ratios
        and not row.is_reached(result.ratio, result.ours.score)
    ]
    return ["What limits the rows that fall short:", "", *short, ""] if short else []


def measured_lines(results: Mapping[str, Result]) -> list[str]:
    """The machine, the versions and the command of the measured rows, those with the same ones together."""

    def line(result: Result) -> str:
        return ", ".join(f"{name} {value}" for name, value in result.measured.items())

    by_line = sorted((line(result), f"`{key}`") for key, result in results.items())
    groups = groupby(by_line, key=lambda pair: pair[0])
    return [f"- {', '.join(key for _, key in pairs)}: {text}." for text, pairs in groups] or ["Not measured yet."]
