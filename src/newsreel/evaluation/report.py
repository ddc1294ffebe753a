"""What a run leaves for people and for tables: report.md, predictions.parquet and the closing table."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from newsreel.corpora.corpus import Corpus
from newsreel.models.outputs import decisions
from newsreel.storage import write_atomically


@dataclass(frozen=True)
class Report:
    """A finished run, as its report tells it."""

    folder: Path
    choices: dict[str, str]
    overrides: list[str]
    notes: Sequence[str]
    epochs: list[dict[str, float]]
    results: dict[str, Any]
    metric: str
    published: str  # what others reached with these settings, in words; empty if nothing is known

    @property
    def command(self) -> str:
        return shlex.join(["python", "train.py", *self.overrides])

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every line of the closing table."""
        results = self.results
        rows = [
            ("model", f"{self.choices['model']} on {self.choices['embedding']}, data {self.choices['data']}"),
            ("parameters", f"{results['model/parameters']:,}"),
            ("epochs", f"{results['train/epochs']}, best {results['train/best_epoch']}"),
        ]
        for stage, name in (("val", "validation"), ("test", "test")):
            figures = [f"{key.partition('/')[2]} {results[key]:.4f}" for key in results if key.startswith(f"{stage}/")]
            rows.append((name, "  ".join(figures)))
        if self.published:
            rows.append(("published", self.published))
        phases = "  ".join(
            f"{phase} {results[f'time/{phase}_s']:.1f} s" for phase in ("prepare", "fit", "test", "total")
        )
        rows.append(("time", phases))
        rows.append(("speed", f"{results['throughput/train_documents_per_s']:,.0f} training documents/s"))
        rows.append(("peak memory", f"{results['memory/peak_rss_mb']:,.0f} MB"))
        return rows

    def table(self) -> str:
        rows = [*self.rows(), ("run folder", str(self.folder)), ("look at it", f"tensorboard --logdir {self.folder}")]
        rows += [("note", note) for note in self.notes]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        rule = "─" * min(100, max(map(len, lines)))
        return "\n".join([rule, *lines, rule])


def write_report(report: Report) -> None:
    """Write report.md into the run folder."""
    results = report.results
    environment = results["environment"]
    names = list(report.epochs[0])
    lines = [
        f"# {report.choices['model']} on {report.choices['data']}",
        "",
        *(f"> {note}\n" for note in report.notes),
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in report.rows()),
        "",
        "## Data",
        "",
        f"Source: {environment['corpus_source']}. Fingerprint: `{environment['corpus_fingerprint']}`.",
        "",
        "| split | documents |",
        "|---|---|",
        *(f"| {key.partition('/')[2]} | {results[key]:,} |" for key in results if key.startswith("documents/")),
        "",
        "## Epochs",
        "",
        "| " + " | ".join(names) + " |",
        "|" + "---|" * len(names),
        *("| " + " | ".join(f"{value:.4g}" for value in epoch.values()) + " |" for epoch in report.epochs),
        "",
        f"The checkpoint is that of the epoch with the highest validation {report.metric}; "
        "the test documents were read once, by it.",
        "",
        "## How to repeat it",
        "",
        "```",
        report.command,
        "```",
        "",
        f"Commit {environment['git_commit']}, torch {environment['torch']}, lightning {environment['lightning']}, "
        f"{environment['threads']} threads of {environment['processor']}, device {environment['device']}.",
        "",
    ]
    write_atomically(report.folder / "report.md", "\n".join(lines))


def write_predictions(folder: Path, corpus: Corpus, scores: Tensor, order: np.ndarray) -> None:
    """Write predictions.parquet: for each test document in the corpus's order its labels, predicted ones, scores.

    scores: (N, L) probabilities; row i is of test document order[i].
    """
    in_order = scores[np.argsort(order)]
    names = np.array(corpus.label_names)

    def named(labels: np.ndarray) -> list[Any]:
        if labels.ndim == 1:
            return list(names[labels])
        return [list(names[row.astype(bool)]) for row in labels]

    table = pl.DataFrame(
        {
            "document": np.arange(len(order)),
            "labels": named(corpus.targets("test")),
            "predicted": named(decisions(in_order, corpus.task).numpy()),
            **{f"p({name})": in_order[:, label].numpy() for label, name in enumerate(corpus.label_names)},
        }
    )
    content = BytesIO()
    table.write_parquet(content)
    write_atomically(folder / "predictions.parquet", content.getvalue())
