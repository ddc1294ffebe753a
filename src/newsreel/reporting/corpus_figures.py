"""Figures of a corpus as SVG inside an HTML page: they take the colours of the page, light or dark."""

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from newsreel.reporting.figures import short

TEXT, LINE = "#010203", "#040506"  # stand for the page's own colours
BAR, SECOND, MARK = "#3d8fc4", "#d98736", "#c8553d"
MAX_BARS = 40
NUM_BINS = 40
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "newsreel",
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), TEXT),
}


def draw_lengths(lengths: np.ndarray, max_tokens: int | None) -> str:
    """Histogram of numbers of tokens, up to the longest 1%, with the limit. lengths: (N,)."""
    with rc_context(STYLE):
        figure, axes = new_figure(3.0, "tokens of a training document", "documents")
        end = max(1, int(np.quantile(lengths, 0.99)))
        axes.hist(np.minimum(lengths, end), bins=min(NUM_BINS, end + 1), color=BAR)
        if max_tokens is not None and max_tokens <= end:
            axes.axvline(max_tokens, color=MARK)
            axes.annotate("max_tokens", (max_tokens, 1), xycoords=("data", "axes fraction"), xytext=(4, -10),
                          textcoords="offset points", fontsize=9)  # fmt: skip
        return as_svg(figure, "Histogram of the numbers of tokens of the training documents")


def draw_label_counts(names: Sequence[str], counts: Sequence[int]) -> str:
    """Bars of the most frequent labels' training documents."""
    with rc_context(STYLE):
        names, counts = names[:MAX_BARS], counts[:MAX_BARS]
        figure, axes = new_figure(0.9 + 0.24 * len(names), "training documents", "")
        bars = axes.barh(np.arange(len(names)), counts, color=BAR)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8)
        axes.set_yticks(np.arange(len(names)), [short(name) for name in names], fontsize=9)
        axes.margins(x=0.12)
        axes.invert_yaxis()
        return as_svg(figure, "Training documents of each label")


def draw_growth(tokens: np.ndarray, types: np.ndarray) -> str:
    """Different words among the first tokens of the training documents."""
    with rc_context(STYLE):
        figure, axes = new_figure(3.0, "tokens read", "different words")
        axes.plot(tokens, types, color=BAR, lw=2)
        axes.xaxis.set_major_formatter(THOUSANDS)
        axes.set(xlim=(0, None), ylim=(0, None))
        return as_svg(figure, "Growth of the vocabulary with the number of tokens")


def draw_coverage(coverage: Sequence[tuple[int, float, float]], size: int) -> str:
    """Fractions of the training and validation tokens in a vocabulary of each size; `size` is that of the tokenizer."""
    with rc_context(STYLE):
        figure, axes = new_figure(3.0, "words in the vocabulary", "tokens covered, %")
        sizes = [row[0] for row in coverage]
        for column, name, color in ((1, "training", BAR), (2, "validation", SECOND)):
            axes.plot(sizes, [100 * row[column] for row in coverage], "o-", ms=4, color=color, label=name)
        axes.axvline(size, color=MARK)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(THOUSANDS)
        axes.legend(frameon=False, loc="lower right")
        return as_svg(figure, "Coverage of the training and validation tokens by the size of the vocabulary")


THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")


def new_figure(height: float, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, height), layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(color=LINE, lw=0.8)
    axes.set_facecolor("none")
    axes.yaxis.set_major_formatter(THOUSANDS)
    return figure, axes


def as_svg(figure: Figure, description: str) -> str:
    """The figure as an <svg> element that scales with the page and has its colours."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg role="img" viewBox="\1">', svg)
    svg = svg.replace(TEXT, "currentColor").replace(LINE, "var(--line)")
    return svg.replace(">", f"><title>{escape(description)}</title>", 1)
