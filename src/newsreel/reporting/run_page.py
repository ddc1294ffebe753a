"""report.html: the result of one run to look through, with a sample of its test documents.

Axes: N test documents, L labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from newsreel.core.storage import write_atomically
from newsreel.evaluation.explanations import Explanation
from newsreel.evaluation.metrics import CALIBRATION_BINS
from newsreel.evaluation.predictions import Predictions
from newsreel.evaluation.statistics import CONFIDENCE
from newsreel.reporting.charts import Point, line_chart
from newsreel.reporting.figures import MAX_MATRIX_LABELS
from newsreel.reporting.page import render
from newsreel.reporting.report import Report
from newsreel.reporting.samples import NO_LABEL
from newsreel.reporting.survey import right
from newsreel.reporting.words import coloured
from newsreel.runs.run_dir import CONFIG_FILE

PAGE_FILE = "report.html"
MAX_DOCUMENTS = 1_000  # in the page, which they keep below 3 MB
MAX_TABLE_LABELS = 1_000
MAX_EXCERPT = 300  # characters of a document
MAX_EXPLAINED = 20  # documents with coloured words
MAX_SHOWN_LABELS = 8  # of one document
MAX_LABEL_NAME = 60  # characters


def write_run_page(report: Report, explanations: Mapping[int, Explanation], not_explained: str) -> None:
    """Write report.html into the run directory.

    explanations: of test documents, by row. not_explained: why there are none; empty if there are.
    """
    predictions = report.predictions
    documents = sample_documents(predictions)
    page = render(
        "report.html.j2",
        title=f"{report.choices['model']} on {report.choices['data']}",
        report=report,
        metric=report.metric,
        task=predictions.corpus.task,
        score=report.results[f"test/{report.metric}"],
        context=report.context,
        confidence=f"{CONFIDENCE:.0%}",
        curves=learning_curves(report),
        matrix=confusion_matrix(predictions),
        labels=label_rows(predictions),
        num_labels=len(predictions.titles),
        reliability=reliability_chart(predictions),
        bins=reliability_rows(predictions),
        explained=[explained_row(predictions, row, each) for row, each in explanations.items()],
        not_explained=not_explained,
        documents=[document_row(predictions, row) for row in documents],
        document_labels=labels_among(predictions, documents),
        num_documents=len(predictions.targets),
        num_wrong=int((~right(predictions)).sum()),
        config=(report.run_dir / CONFIG_FILE).read_text(encoding="utf-8"),
    )
    write_atomically(report.run_dir / PAGE_FILE, page)


def learning_curves(report: Report) -> list[Markup]:
    """Loss and metric by epoch: training first, then validation."""
    kept = float(report.results["train/kept_epoch"])
    charts = []
    for name in ("loss", report.metric):
        lines = [
            [Point(epoch["epoch"], epoch[f"{split}/{name}"]) for epoch in report.epochs] for split in ("train", "val")
        ]
        epochs = [epoch["epoch"] for epoch in report.epochs]
        ticks = epochs[:: -(-len(epochs) // 10)]  # ten at most
        charts.append(line_chart(lines, f"{name} by epoch", "epoch", name, x_ticks=ticks, marked_x=kept))
    return charts


def confusion_matrix(predictions: Predictions) -> list[dict[str, Any]]:
    """A row per label with the documents by predicted label; empty with several labels per document or many labels."""
    num_labels = len(predictions.titles)
    if predictions.targets.ndim == 2 or num_labels > MAX_MATRIX_LABELS:
        return []
    counts = np.zeros((num_labels, num_labels), dtype=np.int64)
    np.add.at(counts, (predictions.targets, predictions.preds), 1)
    return [
        {
            "label": predictions.titles[label],
            "cells": [(int(count), count / max(1, counts[label].sum())) for count in counts[label]],
        }
        for label in range(num_labels)
    ]


def label_rows(predictions: Predictions) -> list[dict[str, Any]]:
    """Test scores of the most frequent labels."""
    table = predictions.by_label().sort("documents", descending=True, maintain_order=True).head(MAX_TABLE_LABELS)
    return [{**row, "label": row.get("title") or row["label"]} for row in table.iter_rows(named=True)]


def reliability_chart(predictions: Predictions) -> Markup:
    of = "a label" if predictions.corpus.task == "multilabel" else "the predicted label"
    points = [Point(row["mean"], row["correct"]) for row in reliability_rows(predictions)]
    title = "Fraction correct over predicted probability; on the diagonal, probabilities are calibrated"
    return line_chart([points], title, f"probability of {of}", "fraction correct", diagonal=True)


def reliability_rows(predictions: Predictions) -> list[dict[str, Any]]:
    bins = zip(*predictions.reliability(CALIBRATION_BINS), strict=True)
    return [
        {"mean": float(mean), "correct": float(accuracy), "decisions": int(count)}
        for mean, accuracy, count in bins
        if count
    ]


def sample_documents(predictions: Predictions) -> list[int]:
    """All test documents, or of many the most confidently wrong, at most half, and right ones at equal distances."""
    num_documents = len(predictions.targets)
    if num_documents <= MAX_DOCUMENTS:
        return list(range(num_documents))
    num_right = int(right(predictions).sum())
    num_wrong = min(num_documents - num_right, max(MAX_DOCUMENTS // 2, MAX_DOCUMENTS - num_right))
    return sorted(wrong_and_right(predictions, num_wrong, MAX_DOCUMENTS))


def explained_documents(predictions: Predictions) -> list[int]:
    """Rows of the documents to explain: errors, at most half, then right ones."""
    return wrong_and_right(predictions, MAX_EXPLAINED // 2, MAX_EXPLAINED)


def wrong_and_right(predictions: Predictions, num_wrong: int, num_documents: int) -> list[int]:
    """Rows of at most so many documents: the most confident errors, then right ones at equal distances."""
    wrong = [row for row, _, _ in predictions.confidently_wrong(num_wrong)]
    is_right = np.flatnonzero(right(predictions))
    places = np.linspace(0, len(is_right) - 1, min(len(is_right), num_documents - len(wrong)))
    return [*wrong, *is_right[places.astype(np.int64)].tolist()]


def explained_row(predictions: Predictions, row: int, explanation: Explanation) -> dict[str, Any]:
    """A document with coloured words."""
    target, words = shown([explanation.target]), coloured(explanation)
    return {**document_row(predictions, row), "target": target, "words": words}


def document_row(predictions: Predictions, row: int) -> dict[str, Any]:
    targets, preds = predictions.target_indicators[row], predictions.pred_indicators[row]
    text = predictions.corpus.text(predictions.split, row)
    predicted = np.flatnonzero(preds)
    return {
        "row": row,
        "label": shown(predictions.names(targets)),
        "predicted": shown(predictions.names(preds)),
        "probability": float(predictions.probabilities[row, predicted].max()) if len(predicted) else None,
        "is_right": bool((targets == preds).all()),
        "labels": " ".join(map(str, np.flatnonzero(targets | preds))),
        "text": text if len(text) <= MAX_EXCERPT else f"{text[:MAX_EXCERPT]} …",
    }


def shown(names: Sequence[str]) -> str:
    """Names of a document's labels, in words if there are none or many."""
    cut = [name if len(name) <= MAX_LABEL_NAME else f"{name[:MAX_LABEL_NAME]}…" for name in names[:MAX_SHOWN_LABELS]]
    more = [f"{len(names) - MAX_SHOWN_LABELS} more"] if len(names) > MAX_SHOWN_LABELS else []
    return ", ".join([*cut, *more]) or NO_LABEL


def labels_among(predictions: Predictions, documents: Sequence[int]) -> list[tuple[int, str]]:
    """(index, name) of the labels that these documents have or are predicted to have, for the filter."""
    rows = list(documents)
    present = predictions.target_indicators[rows].any(axis=0) | predictions.pred_indicators[rows].any(axis=0)
    return [(int(label), shown([predictions.titles[label]])) for label in np.flatnonzero(present)]
