"""Runs side by side: what they were asked for and what they reached, read from their folders alone.

A configuration is what runs have in common that differ in nothing but their seed.
"""

import json
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from newsreel.core.markdown import format_mean_std, markdown_table
from newsreel.core.storage import write_atomically
from newsreel.reporting.figures import DOTS_PER_INCH
from newsreel.runs.records import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLAIN_MEANS = ("model/parameters", "time/fit_s", "time/total_s", "memory/peak_rss_mb")  # beside val/… and test/…
MAX_DRAWN = 30  # configurations of a figure
MAX_MESSAGE = 300  # characters in summary.md; summary.csv has all


class Comparison:
    """A table of configurations, the best of each corpus first by its validation figure."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.columns = distinguishing_columns(runs)
        self.finished, self.num_repeated = without_repetitions([run for run in runs if run.status == "finished"])

    def configurations(self) -> pl.DataFrame:
        """A row for each configuration with results: columns, seeds, means and standard deviations."""
        measures = sorted({name for run in self.finished for name in run.results if name.startswith(("val/", "test/"))})
        measures += [name for name in PLAIN_MEANS if any(name in run.results for run in self.finished)]
        if not self.finished:
            return pl.DataFrame()
        rows = [
            {
                "identity": run.identity,
                "corpus": run.corpus,
                "metric": run.metric,
                **{column: json_value(run, column) for column in self.columns},
                "seed": str(run.seed),
                "folder": str(run.folder),
                "ranking": run.results.get(f"val/{run.metric}"),
                **{name: run.results.get(name) for name in measures},
            }
            for run in self.finished
        ]
        frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col("ranking", *measures).cast(pl.Float64))
        return (
            frame.group_by("identity", "corpus", "metric", *self.columns, maintain_order=True)
            .agg(
                pl.col("seed").str.join(", ").alias("seeds"),
                pl.len().alias("runs"),
                pl.col("ranking").mean(),
                *(pl.col(name).mean().alias(f"{name} mean") for name in measures),
                *(pl.col(name).std().alias(f"{name} std") for name in measures if name not in PLAIN_MEANS),
                pl.col("folder").str.join(", "),
            )
            .sort("corpus", "ranking", descending=[False, True], nulls_last=True, maintain_order=True)
            .drop("identity", "ranking")
        )

    def table(self) -> pl.DataFrame:
        """What summary.csv holds: the configurations, then a row for each run without results."""
        others = pl.DataFrame(
            [
                {
                    "status": run.status,
                    "corpus": run.corpus,
                    **{column: json_value(run, column) for column in self.columns},
                    "seeds": str(run.seed),
                    "message": run.message,
                    "folder": str(run.folder),
                }
                for run in self.without_results()
            ]
        )
        finished = self.configurations()
        if len(finished):
            finished = finished.select(pl.lit("finished").alias("status"), pl.all())
        both = pl.concat([frame for frame in (finished, others) if len(frame)], how="diagonal_relaxed")
        return both.with_columns(pl.col(self.columns).map_elements(plain, return_dtype=pl.String))

    def without_results(self) -> list[Run]:
        order = ("failed", "unfinished", "pruned")
        return sorted((run for run in self.runs if run.status in order), key=lambda run: order.index(run.status))

    def text(self) -> str:
        """The tables as Markdown, in columns of even width."""
        counts = {
            status: sum(run.status == status for run in self.runs)
            for status in ("finished", "failed", "unfinished", "pruned")
        }
        lines = [f"{', '.join(f'{count} {status}' for status, count in counts.items() if count)}."]
        if common := self.common():
            lines.append(f"In common: {', '.join(common)}.")
        if self.num_repeated:
            lines.append(f"Runs that repeat another's settings and seed, left out: {self.num_repeated}.")
        by_corpus = self.configurations().partition_by("corpus", maintain_order=True) if self.finished else []
        for part in by_corpus:
            if len(by_corpus) > 1:
                lines += ["", f"## {part['corpus'][0]}"]
            lines += ["", *markdown_table(*self.cells(part))]
        if others := self.without_results():
            lines += ["", "Without results:", ""]
            root = os.path.commonpath([run.folder.absolute().parent for run in self.runs])
            head = ["run", *self.columns, "seed", "status", "message"]
            rows = [
                [os.path.relpath(run.folder, root), *(shown(run.value(column)) for column in self.columns),
                 str(run.seed), run.status, shortened(run.message)]
                for run in others
            ]  # fmt: skip
            lines += markdown_table(head, rows)
        return "\n".join(lines)

    def common(self) -> list[str]:
        """key=value of the choices and named settings in which no run differs."""
        keys = [key for key in candidates(self.runs) if key not in self.columns]
        values = {key: self.runs[0].value(key) for key in keys}
        return [f"{key}={shown(value)}" for key, value in values.items() if value is not None]

    def cells(self, part: pl.DataFrame) -> tuple[list[str], list[list[str]]]:
        """Head and rows of the table of one corpus."""
        metric = part["metric"][0]
        columns = [name for name in self.columns if part[name].n_unique() > 1] if len(part) > 1 else self.columns
        measures = {
            f"validation {metric}": f"val/{metric}",
            f"test {metric}": f"test/{metric}",
            "test f1_macro": "test/f1_macro",
            "test loss": "test/loss",
        }
        rows = [
            [
                *(shown(json.loads(row[column])) if row[column] else "" for column in columns),
                row["seeds"],
                *(format_mean_std(row.get(f"{name} mean"), row.get(f"{name} std")) for name in measures.values()),
                f"{row['time/fit_s mean']:,.1f}",
                f"{row['model/parameters mean']:,.0f}",
            ]
            for row in part.iter_rows(named=True)
        ]
        return [*columns, "seeds", *measures, "fit s", "parameters"], rows

    def write(self, folder: Path, title: str) -> None:
        """Write summary.csv, summary.md and, if a run has results, summary.png."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "summary.csv", self.table().write_csv(float_precision=7))
        image = ["", "![validation and test figures](summary.png)"] if self.finished else []
        notes = [
            "",
            "Best first by the validation figure, in which the test documents have no say; mean ± standard deviation "
            "over the seeds.",
        ]
        write_atomically(folder / "summary.md", "\n".join([f"# {title}", "", self.text(), *notes, *image, ""]))
        if self.finished:
            write_atomically(folder / "summary.png", self.figure())

    def figure(self) -> bytes:
        """PNG: validation and test figures of the best configurations of each corpus."""
        from matplotlib.figure import Figure

        parts = [part.head(MAX_DRAWN) for part in self.configurations().partition_by("corpus", maintain_order=True)]
        heights = [0.32 * len(part) + 0.9 for part in parts]
        figure = Figure(figsize=(10, sum(heights)), layout="constrained")
        grid = figure.subplots(len(parts), 1, height_ratios=heights, squeeze=False)
        for axes, part in zip(grid[:, 0], parts, strict=True):
            self.draw(axes, part)
        grid[0, 0].legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
        content = BytesIO()
        figure.savefig(content, dpi=DOTS_PER_INCH)
        return content.getvalue()

    def draw(self, axes: "Axes", part: pl.DataFrame) -> None:
        from newsreel.reporting.figures import TRAINING, VALIDATION, tidy

        metric = part["metric"][0]
        places = range(len(part))
        for split, name, color, offset in (("val", "validation", VALIDATION, -0.12), ("test", "test", TRAINING, 0.12)):
            means, deviations = part[f"{split}/{metric} mean"], part[f"{split}/{metric} std"].fill_null(0)
            axes.errorbar(means, [place + offset for place in places], xerr=deviations, fmt="o", ms=5, color=color,
                          capsize=2, lw=1, label=name)  # fmt: skip
        names = [
            ", ".join(f"{column.rpartition('.')[2]}={shown(json.loads(row[column]))}"
                      for column in self.columns if row[column])
            for row in part.iter_rows(named=True)
        ]  # fmt: skip
        axes.set_yticks(places, [shortened(name, 70).replace("$", r"\$") for name in names], fontsize=8)
        axes.set_ylim(len(part) - 0.5, -0.5)
        axes.set_title(part["corpus"][0], loc="left")
        axes.set_xlabel(metric)
        tidy(axes)


def distinguishing_columns(runs: Sequence[Run]) -> list[str]:
    """The choices and settings that tell the configurations apart, as few as do it.

    First what was chosen on some command line and differs; then, where that is the same for different configurations,
    any other setting in which these differ, such as a default that has changed between two versions of the code.
    """
    columns = [key for key in candidates(runs) if len({json_value(run, key) for run in runs} - {None}) > 1]
    alike: dict[tuple[str | None, ...], list[Run]] = {}
    for run in runs:
        if run.status == "finished":
            alike.setdefault(tuple(json_value(run, column) for column in columns), []).append(run)
    more: dict[str, None] = {}
    for group in alike.values():
        keys = {key: None for run in group for key in [*run.choices, *run.settings]}
        more |= {key: None for key in keys if len({json_value(run, key) for run in group}) > 1}
    return [*columns, *(key for key in more if key not in columns)]


def candidates(runs: Sequence[Run]) -> list[str]:
    """The groups of the config, then the settings that some run's command line names."""
    groups = {key: None for run in runs for key in reversed(run.choices)}  # Hydra names the first of its list last
    return list(groups | {key: None for run in runs for key in run.named})


def json_value(run: Run, column: str) -> str | None:
    """A run's value of a column as JSON, None if it is not known."""
    if column not in run.choices and column not in run.settings:
        return None
    return json.dumps(run.value(column), ensure_ascii=False, default=str)


def plain(text: str) -> str:
    """A value that `json_value` has written, texts without their quotes."""
    value = json.loads(text)
    return value if isinstance(value, str) else text


def without_repetitions(runs: Sequence[Run]) -> tuple[list[Run], int]:
    """The runs without those that another one, later in the list, repeats with the same seed; how many those are."""
    kept = {(run.identity, str(run.seed)): run for run in runs}
    return list(kept.values()), len(runs) - len(kept)


def shown(value: Any) -> str:
    """A value as one writes it in a config, floating-point numbers with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def shortened(text: str, length: int = MAX_MESSAGE) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
