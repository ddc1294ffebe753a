"""The report of a finished run: the closing table and report.md."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import polars as pl

from newsreel.core.markdown import excerpt, markdown_table, plain
from newsreel.core.storage import write_atomically
from newsreel.evaluation.context import ScoreContext
from newsreel.evaluation.metrics import HEADLINES
from newsreel.evaluation.predictions import Predictions
from newsreel.evaluation.statistics import CONFIDENCE
from newsreel.models.optimization import CheckpointPolicy

MAX_LABEL_ROWS = 30  # of the table of labels; labels.csv has all
MAX_DOCUMENTS = 10
LIMITS = "## Limits"  # heading in report.md
MAX_EXCERPT = 400  # characters of a document
CAPTIONS = {
    "learning_curves": "Learning curves",
    "confusions": "Confusions",
    "precision_recall": "Precision and recall",
    "f1_by_label": "F1 by label",
    "reliability": "Calibration",
}


@dataclass(frozen=True)
class Report:
    """The content of the report of a finished run."""

    run_dir: Path
    choices: Mapping[str, str | None]
    overrides: list[str]
    notes: Sequence[str]
    epochs: list[dict[str, float]]
    results: dict[str, Any]
    metric: str
    checkpoint: CheckpointPolicy  # which epoch it is from
    predictions: Predictions  # of the test documents
    figures: Sequence[str]  # names of the files in figures/, without suffix
    caveats: Sequence[str]  # sentences to read before relying on the run
    published: str  # published results with these settings, as text; empty if there are none
    view_hint: str = ""  # how to view what the logger recorded
    resumed: Sequence[Sequence[str]] = ()  # overrides of every resume that raised a limit

    @property
    def commands(self) -> list[str]:
        arguments = [self.overrides, *([f"resume={self.run_dir}", *overrides] for overrides in self.resumed)]
        return [shlex.join(["python", "train.py", *overrides]) for overrides in arguments]

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every line of the closing table."""
        results = self.results
        passes = results.get("train/passes_per_epoch")
        of_passes = f" of {passes} passes over the training documents each" if passes else ""
        rows = [
            ("model", f"{self.choices['model']} on {self.choices['embedding']}, data {self.choices['data']}"),
            ("parameters", f"{results['model/parameters']:,}"),
            ("epochs", f"{results['train/epochs']}{of_passes}, checkpoint of epoch {results['train/kept_epoch']}"),
        ]
        for stage, name in (("val", "validation"), ("test", "test")):
            shown = [key for key in self.headlines() if f"{stage}/{key}" in results]
            rows.append((name, "  ".join(f"{key} {results[f'{stage}/{key}']:.4f}" for key in shown)))
        rows.append((f"test {self.metric}", str(self.context)))
        if self.published:
            rows.append(("published", self.published))
        phases = "  ".join(
            f"{phase} {results[f'time/{phase}_s']:.1f} s" for phase in ("prepare", "fit", "test", "total")
        )
        rows.append(("time", phases))
        rows.append(("speed", f"{results['throughput/train_documents_per_s']:,.0f} training documents/s"))
        rows.append(("peak memory", f"{results['memory/peak_rss_mb']:,.0f} MB"))
        return rows

    @property
    def context(self) -> ScoreContext | None:
        """What the test score is to be read beside."""
        return ScoreContext.from_results(results_of(self.results, "test"), self.metric)

    def headlines(self) -> list[str]:
        """The metrics in the closing table, the monitored one first."""
        return [self.metric, *(name for name in HEADLINES if name != self.metric)]

    def table(self) -> str:
        rows = [*self.rows(), ("run directory", str(self.run_dir))]
        rows += [("view", self.view_hint)] if self.view_hint else []
        rows += [("note", note) for note in self.notes]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        rule = "─" * min(100, max(map(len, lines)))
        return "\n".join([rule, *lines, rule])


def write_report(report: Report) -> None:
    """Write report.md and labels.csv into the run directory."""
    labels = report.predictions.by_label()
    write_atomically(report.run_dir / "labels.csv", labels.write_csv(float_precision=9))
    lines = [
        f"# {plain(str(report.choices['model']))} on {plain(str(report.choices['data']))}",
        "",
        *(f"> {plain(note)}\n" for note in report.notes),
        *(["[report.html](report.html) shows this in a browser, with more documents.", ""] if report.figures else []),
        *markdown_table(["", ""], [(name, plain(value)) for name, value in report.rows()]),
        "",
        *figure(report, "learning_curves"),
        f"The checkpoint is from {checkpoint_epoch(report)}; only this checkpoint was tested. The training loss is "
        "what training minimises, with dropout if there is any; validation and test losses are the log loss.",
        "",
        "## Test documents",
        "",
        *metrics_table(report),
        "",
        *(line for name in ("confusions", "precision_recall", "reliability") for line in figure(report, name)),
        *labels_section(report, labels),
        *documents_section(report.predictions),
        *data_section(report.results),
        "## Epochs",
        "",
        *epochs_table(report),
        "",
        LIMITS,
        "",
        *(f"- {plain(sentence)}" for sentence in report.caveats),
        "",
        *repeat_section(report.commands, report.results["environment"]),
    ]
    write_atomically(report.run_dir / "report.md", "\n".join(lines))


def read_limits(run_dir: Path) -> list[str]:
    """The sentences under "Limits" in a run's report.md; empty if it has none, as an ensemble."""
    try:
        text = (run_dir / "report.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    _, _, after = text.partition(f"\n{LIMITS}\n")
    section = after.partition("\n## ")[0]
    return [unescape(line.removeprefix("- ")) for line in section.splitlines() if line.startswith("- ")]


def checkpoint_epoch(report: Report) -> str:
    """Which epoch the checkpoint is from."""
    return "the last epoch" if report.checkpoint == "last" else f"the epoch with the highest validation {report.metric}"


def figure(report: Report, name: str) -> list[str]:
    """Heading and image of a figure; empty if it was not drawn."""
    if name not in report.figures:
        return []
    return [f"### {CAPTIONS[name]}", "", f"![{CAPTIONS[name]}](figures/{name}.png)", ""]


def metrics_table(report: Report) -> list[str]:
    """All metrics; the monitored one with its interval and the majority guess."""
    validation, test = (results_of(report.results, stage) for stage in ("val", "test"))
    context = report.context
    beside = {} if context is None else {report.metric: [context.interval, format_metric(context.majority)]}
    names = [name for name in test if context is None or name not in context.results()]
    return markdown_table(
        ["", "validation", "test", f"{CONFIDENCE:.0%} interval", "majority guess"],
        [[name, format_metric(validation.get(name)), format_metric(test[name]), *beside.get(name, ["", ""])]
         for name in names],
    )  # fmt: skip


def results_of(results: dict[str, Any], stage: str) -> dict[str, float]:
    """The metrics of a split without its prefix."""
    return {key.partition("/")[2]: value for key, value in results.items() if key.startswith(f"{stage}/")}


def format_metric(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def data_section(results: dict[str, Any]) -> list[str]:
    environment = results["environment"]
    documents = [(key.partition("/")[2], f"{results[key]:,}") for key in results if key.startswith("documents/")]
    return [
        "## Data",
        "",
        f"Source: {plain(environment['corpus_source'])}. Fingerprint: `{environment['corpus_fingerprint']}`.",
        "",
        *markdown_table(["split", "documents"], documents),
        "",
    ]


def repeat_section(commands: Sequence[str], environment: dict[str, Any]) -> list[str]:
    return [
        "## How to repeat it",
        "",
        *("    " + line for command in commands for line in command.splitlines()),
        "",
        f"Commit {environment['git_commit']}, Python {environment['python']}, torch {environment['torch']}, lightning "
        f"{environment['lightning']}, processes: {environment['processes']}, threads per process: "
        f"{environment['threads']}, processor: {environment['processor']}, device: {environment['device']}.",
        "",
    ]


def labels_section(report: Report, labels: pl.DataFrame) -> list[str]:
    if report.predictions.corpus.task == "binary":
        return []
    shown = labels.sort("documents", descending=True, maintain_order=True).head(MAX_LABEL_ROWS)
    more = (
        f" These are the {len(shown)} most frequent of {len(labels)} labels; labels.csv has all."
        if len(shown) < len(labels)
        else ""
    )
    rules = []
    if "labels_with_global_threshold" in report.results:
        rules = [
            "Labels without documents for a threshold of their own, which use the global one: "
            f"{report.results['labels_with_global_threshold']} of {len(labels)}.",
            "",
        ]
    rows = [[f"{value:.4f}" if isinstance(value, float) else plain(str(value)) for value in row]
            for row in shown.iter_rows()]  # fmt: skip
    return [
        f"### {CAPTIONS['f1_by_label']}",
        "",
        *figure(report, "f1_by_label")[2:],  # there is none for two labels
        *rules,
        f"The column `documents` counts test documents.{more}",
        "",
        *markdown_table([name.replace("_", " ") for name in labels.columns], rows),
        "",
    ]


def documents_section(predictions: Predictions) -> list[str]:
    """Excerpts of the documents with the most confident errors."""
    errors = predictions.confidently_wrong(MAX_DOCUMENTS)
    if not errors:
        return []
    texts = predictions.corpus[predictions.split]
    lines = ["### Most confident errors", ""]
    for row, label, probability in errors:
        targets, preds = (
            predictions.names(predictions.target_indicators[row]),
            predictions.names(predictions.pred_indicators[row]),
        )
        lines += [
            f"{predictions.split} document {row}: labelled **{plain(', '.join(targets) or 'none')}**, predicted "
            f"**{plain(', '.join(preds) or 'none')}**, p({plain(predictions.titles[label])}) = {probability:.4f}",
            "",
            f"> {excerpt(texts[row]['text'], MAX_EXCERPT)}",
            "",
        ]
    return lines


def epochs_table(report: Report) -> list[str]:
    shown = ["epoch", *(f"{split}/{name}" for name in ("loss", report.metric) for split in ("train", "val"))]
    names = [*shown, "time/epoch_s"]
    return markdown_table(names, [[f"{epoch[name]:.4g}" for name in names] for epoch in report.epochs])
