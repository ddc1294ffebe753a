"""summary.html: which classifier for this corpus, at what cost, and is the difference real.

Axes: L labels, M models.
"""

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from newsreel.core.errors import UserError
from newsreel.core.storage import write_atomically
from newsreel.evaluation.context import majority_outcomes
from newsreel.evaluation.statistics import MAX_P, Outcomes
from newsreel.reporting.answer import Answer, Candidate, answer, format_seconds
from newsreel.reporting.charts import Axis, Point, column_chart, line_chart, parallel_chart, pareto_chart
from newsreel.reporting.comparison import Comparison, format_value, truncate
from newsreel.reporting.corpus_texts import find_texts
from newsreel.reporting.page import render
from newsreel.reporting.report import read_limits
from newsreel.reporting.samples import NO_LABEL
from newsreel.reporting.survey import (
    CONFIDENT,
    MAX_SURVEYED,
    Agreement,
    Contrast,
    Survey,
    agreements,
    contrast,
    survey,
    suspects,
)
from newsreel.reporting.training_sizes import LIMIT, SizeCurve, size_curves
from newsreel.reporting.words import Words, coloured, explain_texts
from newsreel.runs.records import Run, bytes_to_predict
from newsreel.runs.run_dir import CONFIG_FILE
from newsreel.runs.trained_run import read_labels

if TYPE_CHECKING:
    from datasets import Dataset

PAGE_FILE = "summary.html"
MAX_NAME = 60  # characters of the name of a model
MAX_EXAMPLES = 8  # documents that only one of two models gets right
MAX_SUSPECTS = 25
MAX_LABELS = 1_000  # rows of the table of labels, the most frequent
MAX_COLUMNS = 120  # runs in the column chart
MAX_EXCERPT = 300  # characters of a document
MIN_LINES = 3  # runs in parallel coordinates


def write_summary_page(comparison: Comparison, output_dir: Path, title: str) -> None:
    """Write summary.html."""
    parts = [CorpusPart.of(comparison, frame) for frame in comparison.parts()]
    others = [
        {"run": str(run.run_dir), "status": run.status, "seed": str(run.seed), "message": truncate(run.message),
         "settings": ", ".join(f"{column}={format_value(run.value(column))}" for column in comparison.columns)}
        for run in comparison.without_results()
    ]  # fmt: skip
    page = render(
        "summary.html.j2",
        title=title,
        parts=parts,
        others=others,
        num_finished=len(comparison.finished),
        num_repeated=comparison.num_repeated,
        common=comparison.common(),
        max_p=MAX_P,
        confident=CONFIDENT,
        max_surveyed=MAX_SURVEYED,
    )
    write_atomically(output_dir / PAGE_FILE, page)


@dataclass(frozen=True)
class Model:
    """A configuration with results: a row of the table of models."""

    name: str
    title: str  # the name without the number of training documents
    values: Sequence[str]  # of the columns that distinguish the configurations
    runs: Sequence[Run]
    outcomes: Sequence[Outcomes] | None  # of each run, on the test documents of the best; None if not comparable
    metric: str

    def mean(self, result: str) -> float | None:
        """The mean of a result over the runs that have it."""
        values = [run.results[result] for run in self.runs if result in run.results]
        return float(np.mean(values)) if values else None

    @property
    def seeds(self) -> str:
        return ", ".join(str(run.seed) for run in self.runs)

    @property
    def validation(self) -> float | None:
        return self.mean(f"val/{self.metric}")

    @property
    def test(self) -> float | None:
        return self.mean(f"test/{self.metric}")

    @property
    def fit_s(self) -> float:
        return self.mean("time/fit_s") or 0.0

    @property
    def documents_per_s(self) -> float | None:
        return self.mean("throughput/test_documents_per_s")

    @property
    def megabytes(self) -> float:
        return float(np.mean([bytes_to_predict(run.run_dir) for run in self.runs])) / 1e6

    @property
    def peak_mb(self) -> float | None:
        return self.mean("memory/peak_rss_mb")

    @property
    def calibration_error(self) -> float | None:
        return self.mean("test/ece")

    @property
    def command(self) -> str:
        """That repeats its runs; empty for an ensemble."""
        first = [override for override in self.runs[0].overrides if not override.startswith("seed=")]
        if not self.runs[0].overrides:
            return ""
        seeds = [str(run.seed) for run in self.runs]
        several = ["-m"] if len(seeds) > 1 else []
        return shlex.join(["python", "train.py", *several, *first, f"seed={','.join(seeds)}"])

    @cached_property
    def candidate(self) -> Candidate | None:
        return None if self.outcomes is None else Candidate(self.title, self.outcomes, self.fit_s, self.command)


@dataclass(frozen=True)
class CorpusPart:
    """The part of the page on one corpus."""

    corpus: str
    metric: str
    columns: Sequence[str]  # choices and settings that distinguish the models
    typed: Sequence[str]  # those that distinguish them and were typed: the others follow from them
    models: Sequence[Model]  # those with the most training documents first, and the best of these by validation
    num_largest: int  # of the former
    problems: Sequence[str]  # why models could not be compared
    survey: Survey | None

    @classmethod
    def of(cls, comparison: Comparison, frame: Any) -> "CorpusPart":
        """frame: the rows of `Comparison.ranked` for the corpus."""
        corpus, metric = frame["corpus"][0], frame["metric"][0]
        best, groups = comparison.against_best[corpus], comparison.by_identity()
        rows = list(frame.iter_rows(named=True))
        whole = [row for row in rows if not row["smaller"]]
        smaller = [row for row in rows if row["smaller"]]
        rows = [*whole, *sorted(smaller, key=lambda row: -row["documents"])]
        columns = [column for column in comparison.columns if len({row[column] for row in whole}) > 1 or len(rows) == 1]
        columns.sort(key=lambda column: column != "model")
        typed = typed_columns(columns, [run for row in whole for run in groups[row["identity"]]])
        models = []
        for row in rows:
            values = [shown_value(json.loads(row[column])) if row[column] else "" for column in columns]
            runs = groups[row["identity"]]
            choice = runs[0].choices.get("model", "this model")
            title = short_name([column for column in typed if column != LIMIT], columns, values) or choice
            part = "" if row in whole else f" on {row['documents']:,.0f} documents"
            name = (short_name(typed, columns, values) or choice) + part
            models.append(Model(name, title, values, runs, best.outcomes.get(row["identity"]), metric))
        readable = [(model.name, model.runs) for model in models[: len(whole)] if model.outcomes is not None]
        return cls(corpus, metric, columns, typed, models, len(whole), best.problems, survey(readable))

    @property
    def largest(self) -> Sequence[Model]:
        """Those that were trained on the most documents: the others are points of learning curves."""
        return self.models[: self.num_largest]

    @cached_property
    def compared(self) -> list[Model]:
        """Those that the answer is about: comparable, and trained on the most documents, if their numbers differ."""
        return [model for model in self.largest if model.candidate is not None]

    @cached_property
    def answer(self) -> Answer | None:
        """None if no predictions can be read."""
        candidates = [model.candidate for model in self.compared if model.candidate is not None]
        return answer(candidates, self.metric, self.majority) if candidates else None

    @cached_property
    def majority(self) -> Outcomes | None:
        """The outcomes of guessing the label that is most frequent in training; None if that is unknown."""
        try:
            counts = read_labels(self.models[0].runs[0].run_dir).training_documents
        except UserError:
            return None
        if self.survey is None or not counts:
            return None
        return majority_outcomes(self.survey.targets, int(np.argmax(counts)))

    @property
    def p_values(self) -> dict[int, float | None]:
        """Of each compared model, by its place among the models."""
        if self.answer is None:
            return {}
        places = [self.models.index(model) for model in self.compared]
        return dict(zip(places, self.answer.p_values, strict=True))

    @property
    def recommended(self) -> int | None:
        """The place of the recommended model."""
        chosen = self.answer and self.answer.recommended
        return next((place for place, model in enumerate(self.models) if chosen and model.candidate is chosen), None)

    @cached_property
    def timed(self) -> list[int]:
        """Places of the models that the Pareto chart shows."""
        return [place for place, model in enumerate(self.largest) if model.fit_s > 0 and model.test is not None]

    @property
    def front(self) -> list[int]:
        """Places of the models that no other beats in both test score and training time."""
        points = {place: (self.models[place].fit_s, self.models[place].test or 0) for place in self.timed}
        return [
            place
            for place, (seconds, score) in points.items()
            if not any(
                other_s <= seconds and other >= score and (other_s, other) != (seconds, score)
                for other_s, other in points.values()
            )
        ]

    @property
    def pareto(self) -> Markup | None:
        if len(self.timed) < 2:
            return None
        points = {}
        for place in self.timed:
            model = self.models[place]
            points[place] = Point(model.fit_s, model.test or 0, *(model.candidate.interval if model.candidate else ()))
        return pareto_chart(points, self.front, self.recommended, self.metric)

    @cached_property
    def curves(self) -> list[SizeCurve]:
        named = [(model.title, model.runs) for model in self.models]
        outcomes = {model.runs[0].identity: model.outcomes for model in self.models if model.outcomes is not None}
        return size_curves(named, outcomes)

    @property
    def curve_chart(self) -> Markup:
        series = [
            [Point(point.num_documents, point.score, *point.interval) for point in curve.points]
            for curve in self.curves
        ]
        sizes = sorted({point.num_documents for curve in self.curves for point in curve.points})
        return line_chart(
            series,
            f"Test {self.metric} by number of training documents",
            "training documents (logarithmic)",
            f"test {self.metric}",
            log_x=True,
            x_ticks=sizes if len(sizes) <= 8 else None,
        )

    @property
    def agreements(self) -> list[Agreement]:
        return agreements(self.survey.surveyed) if self.survey is not None else []

    @cached_property
    def contrast(self) -> Contrast | None:
        return contrast(self.survey.surveyed) if self.survey is not None else None

    @cached_property
    def suspects(self) -> list[int]:
        """Test documents with a label that all models contradict; none for a single model."""
        several = self.survey is not None and len(self.survey.surveyed) > 1
        return suspects(self.survey) if several and self.survey is not None else []

    @cached_property
    def texts(self) -> "tuple[Dataset | None, str]":
        """The test documents, or None and why they are not found; not looked for if none is shown."""
        if self.survey is None or not (self.contrast or self.suspects):
            return None, ""
        runs = [model.runs[0] for model in self.compared]
        named = [run for run in runs if (run.run_dir / CONFIG_FILE).is_file()] or runs  # an ensemble names no corpus
        return find_texts(named[0], self.survey.targets)

    @cached_property
    def words(self) -> tuple[dict[int, list[tuple[str, str, Words]]], str]:
        """Of each example: name, most probable label and coloured words of both contrasted models; or none, and why."""
        documents, _ = self.texts
        if self.contrast is None or documents is None:
            return {}, ""
        rows = [row for is_one in (True, False) for row in self.contrast.only(is_one, MAX_EXAMPLES)]
        texts = [documents[row]["text"] for row in rows]
        found: dict[int, list[tuple[str, str, Words]]] = {row: [] for row in rows}
        for model in (self.contrast.one, self.contrast.other):
            explanations, problem = explain_texts(model.run, texts)
            if problem:
                return {}, problem
            for row, each in zip(rows, explanations, strict=True):
                found[row].append((model.name, label_text([each.target]), coloured(each)))
        return found, ""

    def excerpt(self, row: int) -> str:
        documents, _ = self.texts
        return "" if documents is None else truncate(documents[row]["text"], MAX_EXCERPT)

    def examples(self, is_one: bool) -> list[dict[str, Any]]:
        """Test documents that only one of the two contrasted models gets right."""
        if self.contrast is None:
            return []
        one, other = self.contrast.one.first, self.contrast.other.first
        return [
            {
                "row": row,
                "label": label_text(one.names(one.target_indicators[row])),
                "one": label_text(one.names(one.pred_indicators[row])),
                "other": label_text(other.names(other.pred_indicators[row])),
                "text": self.excerpt(row),
                "words": self.words[0].get(row, []),
            }
            for row in self.contrast.only(is_one, MAX_EXAMPLES)
        ]

    @property
    def suspect_rows(self) -> list[dict[str, Any]]:
        if self.survey is None:
            return []
        best = self.survey.targets
        return [
            {
                "row": row,
                "label": label_text(best.names(best.target_indicators[row])),
                "predicted": label_text(best.names(best.pred_indicators[row])),
                "probability": float(self.survey.contradiction[row]),
                "text": self.excerpt(row),
            }
            for row in self.suspects[:MAX_SUSPECTS]
        ]

    @property
    def label_rows(self) -> list[dict[str, Any]]:
        """Label, test documents and F1 of each model, the most frequent labels first."""
        if self.survey is None:
            return []
        best = self.survey.targets
        support = best.target_indicators.sum(axis=0)
        order = np.argsort(-support, kind="stable")[:MAX_LABELS]
        return [
            {
                "label": best.titles[label],
                "documents": int(support[label]),
                "f1": [float(each.f1[label]) for each in self.survey.surveyed],
            }
            for label in order
        ]

    @property
    def num_labels(self) -> int:
        return 0 if self.survey is None else len(self.survey.targets.titles)

    @property
    def reliability(self) -> Markup | None:
        if self.survey is None:
            return None
        series = []
        for each in self.survey.surveyed:
            means, accuracies, counts = each.reliability
            series.append([Point(float(means[bin]), float(accuracies[bin])) for bin in np.flatnonzero(counts)])
        of = "a label" if self.survey.targets.corpus.task == "multilabel" else "the predicted label"
        title = "Fraction correct over predicted probability; on the diagonal, probabilities are calibrated"
        return line_chart(series, title, f"probability of {of}", "fraction correct", diagonal=True)

    @property
    def bins(self) -> list[dict[str, Any]]:
        """The decisions behind the reliability chart: by model and bin."""
        surveyed = self.survey.surveyed if self.survey is not None else []
        return [
            {"model": each.name, "mean": float(mean), "correct": float(accuracy), "decisions": int(count)}
            for each in surveyed
            for mean, accuracy, count in zip(*each.reliability, strict=True)
            if count
        ]

    @cached_property
    def limits(self) -> tuple[list[str], list[tuple[str, list[str]]]]:
        """Limits that the reports of all models name, and the other limits of each model: those of all its runs."""
        by_model = [
            (model.name, in_all(read_limits(run.run_dir) for run in model.runs))
            for model in self.largest[:MAX_SURVEYED]
        ]
        by_model = [(name, sentences) for name, sentences in by_model if sentences]
        if not by_model:
            return [], []
        common = in_all(sentences for _, sentences in by_model)
        others = [(name, [each for each in sentences if each not in common]) for name, sentences in by_model]
        return common, [(name, sentences) for name, sentences in others if sentences]

    @cached_property
    def finished(self) -> list[tuple[int, Run]]:
        """(place of its model, run), in the order of the runs' directories."""
        runs = [(place, run) for place, model in enumerate(self.models) for run in model.runs]
        return sorted(runs, key=lambda pair: run_order(pair[1].run_dir))

    @property
    def columns_chart(self) -> Markup | None:
        if len(self.finished) < 2:
            return None
        columns = [
            (str(number), run.results[f"test/{self.metric}"], place)
            for number, (place, run) in enumerate(self.finished, 1)
            if f"test/{self.metric}" in run.results
        ]
        return column_chart(columns[:MAX_COLUMNS], self.metric) if columns else None

    @property
    def parallel(self) -> Markup | None:
        """Parallel coordinates, if at least two settings vary."""
        runs = [run for _, run in self.finished if f"val/{self.metric}" in run.results]
        axes = [Axis(column, [run.value(column) for run in runs]) for column in self.typed if column != "data"]
        if len(axes) < 2 or len(runs) < MIN_LINES:
            return None
        scores = Axis(f"validation {self.metric}", [run.results[f"val/{self.metric}"] for run in runs])
        return parallel_chart([*axes, scores], self.metric)

    @property
    def training_time(self) -> str:
        """Of the recommended model, in words."""
        chosen = self.recommended
        return "" if chosen is None else format_seconds(self.models[chosen].fit_s)


def shown_value(value: Any) -> str:
    """A value of a setting: nothing for null, and of long paths their ends."""
    if value and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(map(shown_value, value))
    text = "" if value is None else format_value(value)
    parts = Path(text).parts
    return f"…/{'/'.join(parts[-2:])}" if len(parts) > 3 else text


def typed_columns(columns: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """The columns that were given on the command line of any run, if they distinguish the configurations; else all."""
    given = {override.lstrip("+~").partition("=")[0] for run in runs for override in run.overrides}
    typed = [column for column in columns if column in given]
    settings = {run.identity: tuple(str(run.value(column)) for column in typed) for run in runs}
    return typed if len(set(settings.values())) == len(settings) else list(columns)


def short_name(shown: Sequence[str], columns: Sequence[str], values: Sequence[str]) -> str:
    """The name of a model from those of its settings that are shown: choices by their name, settings as key=value."""
    parts = [
        value if "." not in column else f"{column.rpartition('.')[2]}={value}"
        for column, value in zip(columns, values, strict=True)
        if value and column in shown and column != "data"
    ]
    return truncate(", ".join(parts), MAX_NAME)


def in_all(lists: Iterable[list[str]]) -> list[str]:
    """The elements of the first list that all others have."""
    first, *others = lists
    return [each for each in first if all(each in other for other in others)]


def label_text(names: Sequence[str]) -> str:
    return truncate(", ".join(names) or NO_LABEL, MAX_EXCERPT)


def run_order(run_dir: Path) -> tuple[Any, ...]:
    """Sweeps number their jobs: numerically if the name is a number."""
    return (str(run_dir.parent), not run_dir.name.isdecimal(), int(run_dir.name) if run_dir.name.isdecimal() else 0,
            run_dir.name)  # fmt: skip
