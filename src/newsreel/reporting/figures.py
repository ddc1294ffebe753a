"""The figures of a run: learning curves, confusions, precision and recall, calibration.

Axes: N documents, L labels.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from newsreel.evaluation.metrics import CALIBRATION_BINS
from newsreel.evaluation.predictions import Predictions

DOTS_PER_INCH = 120

TRAINING, VALIDATION, GOOD, BAD, GREY = "#8a9ba8", "#0b6e99", "#0b6e99", "#c8553d", "#d0d4d8"
MAX_MATRIX_LABELS = 15  # with more labels, the most frequent confusions are listed instead
MAX_CURVES = 5
MAX_CONFUSIONS = 20
MAX_NAME = 24  # characters of a label's name in a figure
# Fonts for what DejaVu Sans lacks, as systems have them; matplotlib takes each character from the first that has it
FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans Thai",
    "Noto Sans Devanagari",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Unifont",
)


def draw_figures(
    predictions: Predictions, epochs: Sequence[dict[str, float]], kept: float, metric: str
) -> dict[str, Figure]:
    """All figures that apply to these predictions, by file name without suffix.

    kept: the epoch of the checkpoint.
    """
    installed = set(font_manager.get_font_names())
    with rc_context({"font.family": ["DejaVu Sans", *(font for font in FALLBACK_FONTS if font in installed)]}):
        figures = {
            "learning_curves": draw_learning_curves(epochs, kept, metric),
            "confusions": draw_confusions(predictions),
            "precision_recall": draw_precision_recall(predictions),
            "reliability": draw_reliability(predictions),
        }
        if len(predictions.titles) > 2:
            figures["f1_by_label"] = draw_f1_by_label(predictions)
    return {name: figure for name, figure in figures.items() if figure is not None}


def draw_learning_curves(epochs: Sequence[dict[str, float]], kept: float, metric: str) -> Figure:
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    numbers = [epoch["epoch"] for epoch in epochs]
    for axes, name in zip(figure.subplots(1, 2), ("loss", metric), strict=True):
        for split, title, color in (("train", "training", TRAINING), ("val", "validation", VALIDATION)):
            axes.plot(numbers, [epoch[f"{split}/{name}"] for epoch in epochs], "o-", ms=4, color=color, label=title)
        axes.axvline(kept, color=GREY, zorder=0)
        axes.annotate("kept", (kept, 1), xycoords=("data", "axes fraction"), xytext=(3, -10),
                      textcoords="offset points", fontsize=8, color="#606468")  # fmt: skip
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy(axes)
    figure.axes[0].legend(frameon=False)
    return figure


def draw_confusions(predictions: Predictions) -> Figure | None:
    """A row-normalised confusion matrix for few labels, else the most frequent confusions. None if there are none."""
    if predictions.targets.ndim == 1 and len(predictions.titles) <= MAX_MATRIX_LABELS:
        return draw_matrix(predictions)
    confusions = predictions.confusions()[:MAX_CONFUSIONS]
    if not confusions:
        return None
    figure = Figure(figsize=(9, 0.8 + 0.26 * len(confusions)), layout="constrained")
    axes = figure.add_subplot(title=f"The {len(confusions)} most frequent confusions: label → prediction")
    names = [f"{short(label)} → {short(predicted)}" for label, predicted, _ in confusions]
    bars = axes.barh(np.arange(len(names)), [count for *_, count in confusions], color=BAD)
    axes.bar_label(bars, padding=3, fontsize=8)
    axes.set_yticks(np.arange(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("documents")
    tidy(axes)
    return figure


def draw_matrix(predictions: Predictions) -> Figure:
    num_labels = len(predictions.titles)
    counts = np.zeros((num_labels, num_labels), dtype=np.int64)
    np.add.at(counts, (predictions.targets, predictions.preds), 1)
    fractions = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = 2.4 + 0.5 * num_labels
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot(title="documents by label (row) and prediction (column)")
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    names = [short(title) for title in predictions.titles]
    if num_labels <= 3:
        axes.set_xticks(np.arange(num_labels), names, fontsize=8)
    else:
        axes.set_xticks(np.arange(num_labels), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(np.arange(num_labels), names, fontsize=8)
    for row, column in np.argwhere(counts > 0):
        color = "white" if fractions[row, column] > 0.5 else "black"
        text = f"{counts[row, column]:,}" + (f"\n{fractions[row, column]:.1%}" if num_labels <= 8 else "")
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    return figure


def draw_precision_recall(predictions: Predictions) -> Figure:
    """Curves over all decisions and of the most frequent labels, with the points of the decision rule."""
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.add_subplot(title="precision and recall at every threshold", xlabel="recall", ylabel="precision")
    if predictions.corpus.task == "binary":
        curves = [(predictions.titles[1], [1])]
    else:
        frequent_labels = np.argsort(-predictions.target_indicators.sum(axis=0), kind="stable")[:MAX_CURVES]
        all_labels = list(range(len(predictions.titles)))
        curves = [("all labels", all_labels), *((predictions.titles[label], [label]) for label in frequent_labels)]
    for number, (name, labels) in enumerate(curves):
        targets, preds = (
            predictions.target_indicators[:, labels].ravel(),
            predictions.pred_indicators[:, labels].ravel(),
        )
        if not targets.any():
            continue
        color, width = (GOOD, 2.2) if not number else (f"C{number}", 1.1)
        precision, recall = precision_recall_curve(predictions.probabilities[:, labels].ravel(), targets)
        axes.plot(recall, precision, color=color, lw=width, label=short(name))
        if preds.any():
            hits = (targets & preds).sum()
            axes.plot(hits / targets.sum(), hits / preds.sum(), "o", color=color, ms=5)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="lower left", title="● as predicted", title_fontsize=8)
    tidy(axes)
    return figure


def precision_recall_curve(scores: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of the top 1 … N by score, at up to 1,000 points."""
    hits = np.cumsum(truths[np.argsort(-scores, kind="stable")])
    ranks = np.unique(np.linspace(0, len(hits) - 1, 1_000).astype(np.int64))
    return hits[ranks] / (ranks + 1), hits[ranks] / hits[-1]


def draw_f1_by_label(predictions: Predictions) -> Figure:
    """F1 over number of documents of each label; the most frequent labels and the worst frequent ones are named."""
    table = predictions.by_label()
    support, f1 = table["documents"].to_numpy(), table["f1"].to_numpy()
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axes = figure.add_subplot(title="F1 of each label", xlabel="documents of the label", ylabel="F1", xscale="symlog")
    axes.scatter(support, f1, s=22, color=GOOD, alpha=0.7, lw=0)
    frequent = np.argsort(-support, kind="stable")
    worst = frequent[np.argsort(f1[frequent[: max(6, len(f1) // 4)]], kind="stable")[:3]]
    for label in {*frequent[:4].tolist(), *worst.tolist()}:
        axes.annotate(short(predictions.titles[label]), (support[label], f1[label]), xytext=(4, 3),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    axes.axhline(f1.mean(), color=GREY, zorder=0)
    axes.annotate(f"mean {f1.mean():.3f}", (0, f1.mean()), xycoords=("axes fraction", "data"), xytext=(3, 3),
                  textcoords="offset points", fontsize=8, color="#606468")  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(-0.03, 1.05)
    tidy(axes)
    return figure


def draw_reliability(predictions: Predictions) -> Figure:
    """Reliability diagram: fraction correct over predicted probability, and the number of decisions per bin."""
    name = "probability of the predicted label" if predictions.targets.ndim == 1 else "probability of a label"
    means, accuracies, counts = predictions.reliability(CALIBRATION_BINS)
    filled = counts > 0
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=GREY)
    above.plot(means[filled], accuracies[filled], "o-", ms=5, color=GOOD)
    above.set(title="reliability: on the diagonal, probabilities are calibrated", ylabel="fraction correct")
    above.yaxis.set_major_formatter(PercentFormatter(1))
    below.bar(edges[:-1], counts, width=1 / CALIBRATION_BINS, align="edge", color=GREY, edgecolor="white")
    below.set(xlabel=name, ylabel="decisions", yscale="log")
    tidy(above)
    tidy(below)
    return figure


def short(name: str) -> str:
    """A label's name for a figure: shortened, with `$` escaped, which would start a formula."""
    name = " ".join(name.split())
    name = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
    return name.replace("$", r"\$")


def tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(color="#eceff1", lw=0.8)
