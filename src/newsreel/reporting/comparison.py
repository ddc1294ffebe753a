"""Comparison of runs: their settings and results, read from their run directories.

Runs that differ only in their seed are runs of one configuration.
"""

import json
import os
from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from newsreel.core.markdown import format_mean_std, markdown_table
from newsreel.core.storage import write_atomically
from newsreel.evaluation.context import INTERVAL_SUFFIXES, MAJORITY_PREFIX
from newsreel.reporting.figures import DOTS_PER_INCH
from newsreel.reporting.significance import COLUMN, BestComparison, compare_with_best, format_p
from newsreel.runs.records import PERPLEXITY, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Reported in addition to val/… and test/…, without standard deviations
PLAIN_MEANS = ("model/parameters", "time/fit_s", "time/total_s", "memory/peak_rss_mb")
MAX_DRAWN = 30  # configurations in a figure
MAX_MESSAGE = 300  # characters in summary.md; summary.csv has all


class Comparison:
    """A table of configurations, sorted by the validation metric within each corpus."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.columns = distinguishing_columns(runs)
        self.finished, self.num_repeated = drop_repetitions([run for run in runs if run.status == "finished"])

    def configurations(self) -> pl.DataFrame:
        """One row per configuration with results: settings, seeds, means, standard deviations and test of significance.

        The test is that of `compare_with_best` within each corpus.
        """
        if not self.finished:
            return pl.DataFrame()
        p_values = {identity: p for best in self.against_best.values() for identity, p in best.p_values.items()}
        tested = pl.col("identity").replace_strict(p_values, default=None, return_dtype=pl.Float64)
        return self.ranked.with_columns(tested.alias(COLUMN)).drop("identity", "documents", "smaller")

    @cached_property
    def against_best(self) -> dict[str, BestComparison]:
        """By the name of the corpus."""
        runs = self.by_identity()
        return {
            part["corpus"][0]: compare_with_best(
                [runs[identity] for identity in part["identity"]], num_tested=int((~part["smaller"]).sum())
            )
            for part in self.parts()
        }

    def by_identity(self) -> dict[str, list[Run]]:
        """The finished runs of each configuration."""
        runs: dict[str, list[Run]] = {}
        for run in self.finished:
            runs.setdefault(run.identity, []).append(run)
        return runs

    def parts(self) -> list[pl.DataFrame]:
        """The rows of `ranked` for each corpus."""
        return self.ranked.partition_by("corpus", maintain_order=True) if self.finished else []

    @cached_property
    def ranked(self) -> pl.DataFrame:
        """The configurations of each corpus, sorted by the validation metric.

        Those with fewer training `documents` than others (`smaller`), such as points of learning curves, come last.
        """
        metrics = sorted(
            {
                name
                for run in self.finished
                for name in run.results
                if name.startswith(("val/", "test/")) and not name.endswith(INTERVAL_SUFFIXES)  # of single runs
            }
        )
        metrics += [name for name in PLAIN_MEANS if any(name in run.results for run in self.finished)]
        rows = [
            {
                "identity": run.identity,
                "corpus": run.corpus,
                "metric": run.metric,
                **{column: json_value(run, column) for column in self.columns},
                "seed": str(run.seed),
                "folder": str(run.run_dir),
                "documents": run.results.get("documents/train", 0),  # 0 of ensembles
                "ranking": run.ranking,
                **{name: run.results.get(name) for name in metrics},
            }
            for run in self.finished
        ]
        frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col("ranking", *metrics).cast(pl.Float64))
        is_smaller = (pl.col("documents") > 0) & (pl.col("documents") < pl.col("documents").max().over("corpus"))
        frame = frame.with_columns(smaller=is_smaller)
        return (
            frame.group_by("identity", "corpus", "metric", *self.columns, maintain_order=True)
            .agg(
                pl.col("seed").str.join(", ").alias("seeds"),
                pl.len().alias("runs"),
                pl.col("ranking", "documents").mean(),
                pl.col("smaller").first(),
                *(pl.col(name).mean().alias(f"{name} mean") for name in metrics),
                *(pl.col(name).std().alias(f"{name} std") for name in metrics if not is_plain(name)),
                pl.col("folder").str.join(", "),
            )
            .sort("corpus", "smaller", "ranking", descending=[False, False, True], nulls_last=True, maintain_order=True)
            .drop("ranking")
        )

    def table(self) -> pl.DataFrame:
        """The content of summary.csv: the configurations, then one row per run without results."""
        others = pl.DataFrame(
            [
                {
                    "status": run.status,
                    "corpus": run.corpus,
                    **{column: json_value(run, column) for column in self.columns},
                    "seeds": seed_text(run),
                    "message": run.message,
                    "folder": str(run.run_dir),
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
        """The tables as Markdown."""
        counts = {
            status: sum(run.status == status for run in self.runs)
            for status in ("finished", "failed", "unfinished", "pruned")
        }
        lines = [f"{', '.join(f'{count} {status}' for status, count in counts.items() if count)}."]
        if common := self.common():
            lines.append(f"In common: {', '.join(common)}.")
        if self.num_repeated:
            lines.append(f"Excluded, since a later run has the same settings, documents and seed: {self.num_repeated}.")
        by_corpus = self.configurations().partition_by("corpus", maintain_order=True) if self.finished else []
        for part in by_corpus:
            if len(by_corpus) > 1:
                lines += ["", f"## {part['corpus'][0]}"]
            lines += ["", *markdown_table(*self.cells(part))]
            if sentences := self.sentences(part):
                lines += ["", *sentences]
        if others := self.without_results():
            lines += ["", "Without results:", ""]
            root = os.path.commonpath([run.run_dir.absolute().parent for run in self.runs])
            head = ["run", *self.columns, "seed", "status", "message"]
            rows = [
                [os.path.relpath(run.run_dir, root), *(shown_if_known(run, column) for column in self.columns),
                 seed_text(run), run.status, truncate(run.message)]
                for run in others
            ]  # fmt: skip
            lines += markdown_table(head, rows)
        return "\n".join(lines)

    def sentences(self, part: pl.DataFrame) -> list[str]:
        """What the test scores of one corpus are to be read beside: the majority guess, and tests of significance."""
        metric = part["metric"][0]
        name = f"test/{MAJORITY_PREFIX}{metric} mean"
        majority = part[name].drop_nulls().round(9).unique().to_list() if name in part.columns else []
        guess = [f"The majority guess has a test {metric} of {majority[0]:.4f}."] if len(majority) == 1 else []
        return [*guess, *self.against_best[part["corpus"][0]].sentences(metric)]

    def common(self) -> list[str]:
        """key=value of the choices and command-line settings that all runs with results share; of all if none has."""
        runs = self.finished or self.runs
        values = {key: runs[0].value(key) for key in candidates(self.runs)}
        shared = {key: value for key, value in values.items() if all(run.value(key) == value for run in runs)}
        return [f"{key}={format_value(value)}" for key, value in shared.items() if value is not None]

    def cells(self, part: pl.DataFrame) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table of one corpus."""
        metric = part["metric"][0]
        columns = [name for name in self.columns if part[name].n_unique() > 1] if len(part) > 1 else self.columns
        metrics = {
            f"validation {metric}": f"val/{metric}",
            f"test {metric}": f"test/{metric}",
            "test f1_macro": "test/f1_macro",
            "test loss": "test/loss",
        }
        if metric == PERPLEXITY:  # of language models, which are not tested
            metrics = {f"validation {metric}": f"val/{metric}"}
        has_tests = part[COLUMN].is_not_null().any()
        rows = [
            [
                *(format_value(json.loads(row[column])) if row[column] else "" for column in columns),
                row["seeds"],
                *(format_mean_std(row.get(f"{name} mean"), row.get(f"{name} std")) for name in metrics.values()),
                *([format_p(row[COLUMN]) if number else "best"] if has_tests else []),
                f"{row['time/fit_s mean']:,.1f}",
                f"{row['model/parameters mean']:,.0f}",
            ]
            for number, row in enumerate(part.iter_rows(named=True))
        ]
        return [*columns, "seeds", *metrics, *([COLUMN] if has_tests else []), "fit s", "parameters"], rows

    def write(self, output_dir: Path, title: str) -> None:
        """Write summary.csv, summary.md and, if any run has results, summary.png."""
        output_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(output_dir / "summary.csv", self.table().write_csv(float_precision=7))
        image = ["", "![validation and test metrics](summary.png)"] if self.finished else []
        notes = [
            "",
            "Sorted by the validation metric, which does not depend on the test documents, those with fewer training "
            "documents last; mean ± standard deviation over seeds.",
        ]
        write_atomically(output_dir / "summary.md", "\n".join([f"# {title}", "", self.text(), *notes, *image, ""]))
        if self.finished:
            write_atomically(output_dir / "summary.png", self.figure())

    def figure(self) -> bytes:
        """PNG: validation and test metrics of the best configurations of each corpus."""
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
        positions = range(len(part))
        for split, name, color, offset in (("val", "validation", VALIDATION, -0.12), ("test", "test", TRAINING, 0.12)):
            if f"{split}/{metric} mean" not in part.columns:  # of language models, which are not tested
                continue
            means, deviations = part[f"{split}/{metric} mean"], part[f"{split}/{metric} std"].fill_null(0)
            axes.errorbar(means, [place + offset for place in positions], xerr=deviations, fmt="o", ms=5, color=color,
                          capsize=2, lw=1, label=name)  # fmt: skip
        names = [
            ", ".join(f"{column.rpartition('.')[2]}={format_value(json.loads(row[column]))}"
                      for column in self.columns if row[column])
            for row in part.iter_rows(named=True)
        ]  # fmt: skip
        axes.set_yticks(positions, [truncate(name, 70).replace("$", r"\$") for name in names], fontsize=8)
        axes.set_ylim(len(part) - 0.5, -0.5)
        axes.set_title(part["corpus"][0], loc="left")
        axes.set_xlabel(metric)
        tidy(axes)


def is_plain(name: str) -> bool:
    """Whether a result has no standard deviation in the tables."""
    return name in PLAIN_MEANS or name.startswith(f"test/{MAJORITY_PREFIX}")


def distinguishing_columns(runs: Sequence[Run]) -> list[str]:
    """The choices and settings that distinguish the configurations.

    These are the choices and command-line settings that differ between runs. If different configurations agree in all
    of them, also the other settings in which they differ, such as a default that changed between versions of the code.
    """
    columns = [key for key in candidates(runs) if len({json_value(run, key) for run in runs} - {None}) > 1]
    groups: dict[tuple[str | None, ...], list[Run]] = {}
    for run in runs:
        if run.status == "finished":
            groups.setdefault(tuple(json_value(run, column) for column in columns), []).append(run)
    extra_keys: dict[str, None] = {}
    for group in groups.values():
        keys = {key: None for run in group for key in [*run.choices, *run.settings]}
        extra_keys |= {key: None for key in keys if len({json_value(run, key) for run in group}) > 1}
    return [*columns, *(key for key in extra_keys if key not in columns)]


def candidates(runs: Sequence[Run]) -> list[str]:
    """The config groups, then the settings named on the command line of any run."""
    groups = {key: None for run in runs for key in reversed(run.choices)}  # Hydra lists the first default last
    return list(groups | {key: None for run in runs for key in run.named})


def json_value(run: Run, column: str) -> str | None:
    """A run's value of a column as JSON, None if it is unknown."""
    if column not in run.choices and column not in run.settings:
        return None
    return json.dumps(run.value(column), ensure_ascii=False, default=str)


def shown_if_known(run: Run, column: str) -> str:
    """A run's value of a column; nothing if it failed before that was known."""
    return "" if json_value(run, column) is None else format_value(run.value(column))


def seed_text(run: Run) -> str:
    return "" if run.seed is None else str(run.seed)


def plain(text: str) -> str:
    """A value of `json_value` as text, strings without quotes."""
    value = json.loads(text)
    return value if isinstance(value, str) else text


def drop_repetitions(runs: Sequence[Run]) -> tuple[list[Run], int]:
    """The last run of each configuration and seed, and the number of runs dropped."""
    last = {(run.identity, str(run.seed)): run for run in runs}
    return list(last.values()), len(runs) - len(last)


def format_value(value: Any) -> str:
    """A value as written in a config, floats with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def truncate(text: str, length: int = MAX_MESSAGE) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
