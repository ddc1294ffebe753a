"""Charts as SVG elements for an HTML page: small, with the page's colours and fonts, readable by screen readers.

Colours come from the page's style sheet: series number n has class `s<n>`, whose variable `--c` is its colour.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

NUM_COLORS = 8  # of series in the style sheet
WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 12, 44  # margins around the plot
MAX_NAME = 22  # characters of a value on an axis of parallel coordinates


def element(name: str, *children: str, **attributes: Any) -> Markup:
    """An XML element; children are escaped unless they are Markup. Underscores of attributes become hyphens."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(children)
    return Markup(f"<{name}{written}>{inner}</{name}>")  # all parts are escaped


def number(value: Any) -> str:
    """Coordinates with a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Scale:
    """From values to pixels."""

    low: float
    high: float
    start: float  # pixel of `low`
    end: float  # pixel of `high`
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(each) if self.log else each for each in (self.low, self.high, value))
        return self.start + (value - low) / ((high - low) or 1) * (self.end - self.start)

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float, log: bool = False) -> "Scale":
        """A scale with some room around finite values; those of a logarithmic one are positive."""
        known = list(values)
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        if log:
            return cls(low / 1.4, high * 1.4, start, end, log=True)
        room = 0.08 * (high - low) or 0.05 * abs(high) or 0.05
        return cls(low - room, high + room, start, end)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within the scale, about `count`; of a scale of one value, this value."""
        if self.low == self.high:
            return [self.low]
        if self.log and len(round_values := log_ticks(self.low, self.high)) > 2:
            return round_values
        step = round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        return [step * each for each in range(first, math.floor(self.high / step + 1e-9) + 1)]


def round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * each for each in (1, 2, 2.5, 5, 10) if power * each >= rough * (1 - 1e-9))


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; of more than two decades, the powers of ten, at most eight of them."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    few = math.log10(high / low) <= 2
    values = [10.0**power * each for power in decades for each in ((1, 2, 5) if few else (1,))]
    within = [value for value in values if low <= value <= high]
    return within[:: math.ceil(max(1, len(within)) / 8)]


def tick_label(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if value else "0"


@dataclass(frozen=True)
class Frame:
    """Axes with grid and labels."""

    x: Scale
    y: Scale
    x_label: str
    y_label: str
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def bottom(self) -> float:
        return self.height - BOTTOM

    def axes(self, x_ticks: Sequence[float] | None = None) -> Markup:
        right = self.width - RIGHT
        parts = []
        for value in self.y.ticks():
            y = self.y(value)
            parts.append(element("line", class_="grid", x1=LEFT, x2=right, y1=y, y2=y))
            parts.append(element("text", tick_label(value), x=LEFT - 7, y=y + 4, text_anchor="end"))
        for value in self.x.ticks() if x_ticks is None else x_ticks:
            x = self.x(value)
            parts.append(element("line", class_="grid", x1=x, x2=x, y1=TOP, y2=self.bottom))
            parts.append(element("text", tick_label(value), x=x, y=self.bottom + 17, text_anchor="middle"))
        middle = (TOP + self.bottom) / 2
        parts += [
            element("line", class_="axis", x1=LEFT, x2=right, y1=self.bottom, y2=self.bottom),
            element("text", self.x_label, x=(LEFT + right) / 2, y=self.height - 8, text_anchor="middle"),
            element("text", self.y_label, x=13, y=middle, text_anchor="middle", transform=f"rotate(-90 13 {middle:g})"),
        ]
        return Markup("").join(parts)

    def svg(self, title: str, *parts: Markup) -> Markup:
        """The chart as an image with this title; figures in a table beside it are its long description."""
        return element(
            "svg",
            element("title", title),
            *parts,
            viewBox=f"0 0 {self.width} {self.height}",
            width=self.width,
            height=self.height,
            role="img",
            aria_label=title,
        )


def plot_area(x_values: Iterable[float], y_values: Iterable[float], x_label: str, y_label: str, log_x: bool) -> Frame:
    x = Scale.around(x_values, LEFT, WIDTH - RIGHT, log_x)
    return Frame(x, Scale.around(y_values, HEIGHT - BOTTOM, TOP), x_label, y_label)


def series_class(number: int) -> str:
    return f"s{number % NUM_COLORS}"


def path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    return element("polyline", class_=class_, points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points))


@dataclass(frozen=True)
class Point:
    """A point with an interval."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None

    @property
    def heights(self) -> list[float]:
        return [value for value in (self.y, self.low, self.high) if value is not None]


def whisker(frame: Frame, point: Point) -> Markup:
    """The interval of a point; empty without one."""
    if point.low is None or point.high is None:
        return Markup("")
    x = frame.x(point.x)
    return element("line", class_="whisker", x1=x, x2=x, y1=frame.y(point.low), y2=frame.y(point.high))


def pareto_chart(points: Mapping[int, Point], front: Sequence[int], marked: int | None, metric: str) -> Markup:
    """Score over training seconds, with numbers from 1 as marks.

    points: of each model, by its place. front: places that none beats in both; marked: the recommended place.
    """
    frame = plot_area(
        [point.x for point in points.values()],
        [height for point in points.values() for height in point.heights],
        "training time, seconds (logarithmic)",
        f"test {metric}",
        log_x=True,
    )
    steps: list[tuple[float, float]] = []
    for place in sorted(front, key=lambda each: points[each].x):
        x, y = frame.x(points[place].x), frame.y(points[place].y)
        steps += [*([(x, steps[-1][1])] if steps else []), (x, y)]
    parts = [frame.axes(), path([*steps, (WIDTH - RIGHT, steps[-1][1])], "front")]
    for place, point in points.items():
        x, y = frame.x(point.x), frame.y(point.y)
        kind = "dot recommended" if place == marked else "dot"
        mark = [
            whisker(frame, point),
            element("circle", class_=kind, cx=x, cy=y, r=10),
            element("text", str(place + 1), class_="mark", x=x, y=y + 4, text_anchor="middle"),
        ]
        parts.append(element("g", *mark, class_=series_class(place)))
    return frame.svg(f"Test {metric} over training seconds; numbers as in the table of models", *parts)


def line_chart(
    series: Sequence[Sequence[Point]],
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    diagonal: bool = False,
    x_ticks: Sequence[float] | None = None,
    marked_x: float | None = None,
) -> Markup:
    """Lines with points and intervals. diagonal: whether both axes are 0 … 1 with a line y = x. marked_x: a vertical
    line.
    """
    points = [point for line in series for point in line]
    if diagonal:
        unit = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, HEIGHT - BOTTOM, TOP)
        frame = Frame(*unit, x_label, y_label)
    else:
        heights = [height for point in points for height in point.heights]
        frame = plot_area([point.x for point in points], heights, x_label, y_label, log_x)
    parts = [frame.axes(x_ticks)]
    if diagonal:
        parts.append(path([(frame.x(0), frame.y(0)), (frame.x(1), frame.y(1))], "reference"))
    if marked_x is not None:
        parts.append(path([(frame.x(marked_x), TOP), (frame.x(marked_x), frame.bottom)], "reference"))
    for place, line in enumerate(series):
        places = [(frame.x(point.x), frame.y(point.y)) for point in line]
        marks = [element("circle", class_="dot", cx=x, cy=y, r=4) for x, y in places]
        inner = [
            *(whisker(frame, point) for point in line),
            path(places, f"line dash{place // NUM_COLORS % 3}"),
            *marks,
        ]
        parts.append(element("g", *inner, class_=series_class(place)))
    return frame.svg(title, *parts)


def column_chart(columns: Sequence[tuple[str, float, int]], metric: str) -> Markup:
    """One column per run. columns: (short name, score, number of the series) of each."""
    width = max(WIDTH, LEFT + RIGHT + 22 * len(columns))
    scores = [score for _, score, _ in columns]
    low, high = min(scores), max(scores)
    floor = max(0.0, low - max(0.25 * (high - low), 0.02))
    y = Scale(floor, high + 0.05 * ((high - floor) or 1), HEIGHT - BOTTOM, TOP)
    frame = Frame(Scale(0, len(columns), LEFT, width - RIGHT), y, "run", f"test {metric}", width)
    breadth = (frame.x(1) - frame.x(0)) * 0.7
    parts = [frame.axes([])]
    for place, (name, score, series) in enumerate(columns):
        middle, top = frame.x(place + 0.5), y(score)
        parts.append(
            element(
                "g",
                element(
                    "rect",
                    element("title", f"{name}: {score:.4f}"),
                    class_="column",
                    x=middle - breadth / 2,
                    y=top,
                    width=breadth,
                    height=max(0.5, frame.bottom - top),
                ),
                element("text", name, x=middle, y=frame.bottom + 17, text_anchor="middle"),
                class_=series_class(series),
            )
        )
    return frame.svg(f"Test {metric} of each run", *parts)


@dataclass(frozen=True)
class Axis:
    """An axis of parallel coordinates: numbers if all values are, else choices in alphabetical order."""

    name: str
    values: Sequence[Any]  # of each run

    @property
    def is_numeric(self) -> bool:
        return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in self.values)

    def scale(self, start: float, end: float) -> tuple[Scale, list[str]]:
        """The scale, and the choices that are its whole numbers; none if it is numeric."""
        if self.is_numeric:
            low, high = min(self.values), max(self.values)
            return Scale(low, high, start, end, log=low > 0 and high / low >= 50), []
        choices = sorted({str(value) for value in self.values})
        return Scale(-0.5, len(choices) - 0.5, start, end), choices


def parallel_chart(axes: Sequence[Axis], metric: str) -> Markup:
    """Parallel coordinates: a line per run through its settings to its score, the last axis, which colours it."""
    width, left, right, top = max(WIDTH, 60 + 150 * len(axes)), 60, 60, 40
    bottom = HEIGHT - 16
    places = [left + (width - left - right) * each / max(1, len(axes) - 1) for each in range(len(axes))]
    scales = [axis.scale(bottom, top) for axis in axes]
    scores = axes[-1].values
    lines = []
    for run in sorted(range(len(scores)), key=lambda each: scores[each]):
        points = []
        for axis, (scale, choices), x in zip(axes, scales, places, strict=True):
            value = axis.values[run]
            points.append((x, scale(choices.index(str(value)) if choices else value)))
        lines.append(path(points, f"run q{quantile(scores, scores[run])}"))
    marks = []
    for axis, (scale, choices), x in zip(axes, scales, places, strict=True):
        marks.append(element("line", class_="axis", x1=x, x2=x, y1=top, y2=bottom))
        anchor = "start" if axis is axes[0] else "end" if axis is axes[-1] else "middle"
        at = {"start": x - left + 10, "end": x + right - 10, "middle": x}[anchor]
        marks.append(element("text", shortened(axis.name), class_="name", x=at, y=20, text_anchor=anchor))
        labels = list(enumerate(choices)) if choices else [(value, tick_label(value)) for value in scale.ticks(4)]
        for value, label in labels:
            y = scale(value)
            marks.append(element("text", shortened(label), class_="value", x=x + 5, y=y + 4))
    frame = Frame(Scale(0, 1, 0, 1), Scale(0, 1, 0, 1), "", "", width)
    return frame.svg(f"Settings of each run and its validation {metric}", *lines, *marks)


def quantile(values: Sequence[float], value: float) -> int:
    """In which fifth of the range of the values it is: 0 … 4."""
    low, high = min(values), max(values)
    return min(4, int(5 * (value - low) / ((high - low) or 1)))


def shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
