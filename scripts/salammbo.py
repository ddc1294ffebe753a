"""The lecture's example of PCA and a single neuron, on the letters of a novel: `python scripts/salammbo.py`.

salammbo.csv has the counts of 40 letters in the 15 chapters of Flaubert's Salammbô, in French and in an English
translation. The counts and the method are those of Pierre Nugues (Python for Natural Language Processing, 2024,
chapters 7, 8 and 11 and their notebooks): every row is divided by its norm, every column is standardised, and
X = U Σ Vᵀ results in the rows' coordinates U Σ on the principal components. The rows are the chapters in one view and
the letters in the other.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from tensorboard.plugins import projector
from torch import nn

from newsreel.core.storage import write_atomically

COUNTS = Path(__file__).with_name("salammbo.csv")
FRENCH, ENGLISH = "#0072B2", "#D55E00"  # a blue and an orange that colour-blind readers tell apart
LABEL_POINTS = 15  # diameter of a label on the maps, in points (1/72 inch)
NUM_PRINTED = 10


@dataclass(frozen=True)
class LetterCounts:
    """The number of occurrences of each letter in each chapter."""

    chapters: list[str]  # 01_fr … 15_fr, 01_en … 15_en
    languages: list[str]
    letters: list[str]
    counts: np.ndarray  # (chapters, letters)

    @property
    def is_french(self) -> np.ndarray:
        """(chapters,) 1 for French, 0 for English."""
        return np.array([language == "fr" for language in self.languages], dtype=np.int64)

    @property
    def french_shares(self) -> np.ndarray:
        """(letters,) fraction of each letter's occurrences that is in the French chapters."""
        shares: np.ndarray = self.counts[self.is_french == 1].sum(axis=0) / self.counts.sum(axis=0)
        return shares


def read_counts(path: Path) -> LetterCounts:
    table = pl.read_csv(path)
    letters = table.columns[2:]
    return LetterCounts(
        chapters=table["chapter"].to_list(),
        languages=table["language"].to_list(),
        letters=letters,
        counts=table.select(letters).to_numpy(),
    )


@dataclass(frozen=True)
class Decomposition:
    """The rows of a table in the coordinates of its singular value decomposition."""

    coordinates: np.ndarray  # (rows, axes)
    singular_values: np.ndarray  # (axes,) descending

    @property
    def shares(self) -> np.ndarray:
        """(axes,) fraction of the table's sum of squares (of its variance, if standardised) along each axis."""
        shares: np.ndarray = self.singular_values**2 / (self.singular_values**2).sum()
        return shares


def decompose(counts: np.ndarray, standardize: bool) -> Decomposition:
    """Singular value decomposition of a table of counts whose rows are scaled to length 1.

    standardize: scale every column to mean 0 and variance 1, so that this is a principal component analysis.
    The sign of an axis is arbitrary; the row with the largest absolute coordinate is on the positive side.
    """
    rows = unit_rows(counts)
    if standardize:
        rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    left, singular_values, _ = np.linalg.svd(rows, full_matrices=False)  # (N, K), (K,)
    farthest = left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])]  # (K,)
    return Decomposition(left * np.sign(farthest) * singular_values, singular_values)


def unit_rows(counts: np.ndarray) -> np.ndarray:
    rows: np.ndarray = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    return rows


class Neuron:
    """One linear unit with a sigmoid (logistic regression) on standardised inputs."""

    def __init__(
        self, inputs: np.ndarray, targets: np.ndarray, num_steps: int = 100, learning_rate: float = 0.1
    ) -> None:
        """Train with full-batch gradient descent.

        inputs: (N, F). targets: (N,) 0 or 1. The loss is convex, so the weights start at zero and no seed is needed.
        """
        self.mean, self.scale = inputs.mean(axis=0), inputs.std(axis=0)  # (F,)
        self.linear = nn.Linear(inputs.shape[1], 1, dtype=torch.float64)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        features, labels = self.standardized(inputs), torch.from_numpy(targets[:, None]).double()  # (N, F), (N, 1)
        optimizer = torch.optim.SGD(self.linear.parameters(), lr=learning_rate)
        for _ in range(num_steps):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.binary_cross_entropy_with_logits(self.linear(features), labels))
            optimizer.step()

    def standardized(self, inputs: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((inputs - self.mean) / self.scale)

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """(N, F) → (N,) 0 or 1"""
        logits: torch.Tensor = self.linear(self.standardized(inputs))[:, 0]
        return (logits > 0).long().numpy()


def leave_one_out(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(N,) predictions for each row by a neuron trained on the other rows, with inputs standardised on them."""
    others = ~np.eye(len(targets), dtype=bool)
    return np.concatenate(
        [Neuron(inputs[others[row]], targets[others[row]]).predict(inputs[[row]]) for row in range(len(targets))]
    )


def draw_chapters(table: LetterCounts, chapters: Decomposition, what: str) -> Figure:
    figure, axes = draw_map(chapters, what, "Salammbô: 30 chapters by their letters")
    for language, color in (("French", FRENCH), ("English", ENGLISH)):
        axes.scatter([], [], color=color, label=language)
    axes.legend(loc="best")
    numbers = [name[:2].lstrip("0") for name in table.chapters]
    draw_labels(figure, axes, chapters, numbers, [FRENCH if french else ENGLISH for french in table.is_french])
    return figure


def draw_letters(table: LetterCounts, letters: Decomposition, what: str) -> Figure:
    figure, axes = draw_map(letters, what, "Salammbô: 40 letters by the chapters they occur in")
    colors = ScalarMappable(cmap=LinearSegmentedColormap.from_list("languages", [ENGLISH, "#8c8c8c", FRENCH]))
    colors.set_clim(0, 1)
    bar = figure.colorbar(colors, ax=axes, shrink=0.6, format=PercentFormatter(1))
    bar.set_label("occurrences that are in the French chapters")
    draw_labels(figure, axes, letters, table.letters, list(colors.to_rgba(table.french_shares)))
    return figure


def draw_map(decomposition: Decomposition, what: str, title: str) -> tuple[Figure, Axes]:
    """A scatter plot of the rows on the first two axes."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.add_subplot(title=title)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_axisbelow(True)
    axes.grid(color="#e8e8e8")
    axes.margins(0.08)
    axes.set_xlabel(f"axis 1 ({decomposition.shares[0]:.1%} of the {what})")
    axes.set_ylabel(f"axis 2 ({decomposition.shares[1]:.1%} of the {what})")
    axes.scatter(decomposition.coordinates[:, 0], decomposition.coordinates[:, 1], s=6, color="#404040")
    return figure, axes


def draw_labels(
    figure: Figure, axes: Axes, decomposition: Decomposition, labels: Sequence[str], colors: Sequence[Any]
) -> None:
    """Draw each label on its dot, or next to it with a connecting line if labels would overlap."""
    figure.draw_without_rendering()  # determines the coordinates in pixels
    dots = decomposition.coordinates[:, :2]
    positions = spread(axes.transData.transform(dots), distance=1.1 * LABEL_POINTS * figure.dpi / 72)  # in pixels
    positions = axes.transData.inverted().transform(positions)
    for (x, y), (label_x, label_y), label, color in zip(dots, positions, labels, colors, strict=True):
        axes.plot([x, label_x], [y, label_y], color=color, linewidth=0.8, zorder=1)
        axes.scatter([label_x], [label_y], s=LABEL_POINTS**2, color=color, zorder=2)
        axes.text(label_x, label_y, label, ha="center", va="center_baseline", color="white", fontsize=9, weight="bold")


def spread(points: np.ndarray, distance: float) -> np.ndarray:
    """(N, 2) the points, moved apart until their distances are at least `distance`, within 1%."""
    positions = points.copy()
    for _ in range(1000):
        apart = positions[:, None] - positions  # (N, N, 2)
        lengths = np.linalg.norm(apart, axis=2) + np.eye(len(positions)) * distance  # a point does not push itself
        missing = np.clip(distance - lengths, 0, None)
        if missing.max() < 0.01 * distance:
            break
        positions += 0.25 * (apart * (missing / lengths)[:, :, None]).sum(axis=1)
    return positions


def draw_singular_values(views: dict[str, Decomposition], what: str) -> Figure:
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, (name, view) in zip(figure.subplots(1, len(views), sharey=True), views.items(), strict=True):
        bars = axes.bar(np.arange(len(view.shares)) + 1, view.singular_values, width=0.6, color="#5b7083")
        axes.bar_label(bars, [f"{share:.0%}" if share >= 0.02 else "" for share in view.shares], fontsize=7)
        axes.set(title=f"{name}, with the shares of the {what}", xlabel="axis", ylabel="singular value")
        axes.label_outer()
    return figure


def write_projector(folder: Path, views: dict[str, Decomposition], labels: dict[str, pl.DataFrame]) -> None:
    """Write the data of TensorBoard's projector: the coordinates and the labels of the rows of every view."""
    config = projector.ProjectorConfig()
    for name, view in views.items():
        vectors = pl.DataFrame(view.coordinates).write_csv(separator="\t", include_header=False)
        write_atomically(folder / f"{name}.tsv", vectors)
        write_atomically(folder / f"{name}_labels.tsv", labels[name].write_csv(separator="\t"))
        config.embeddings.add(tensor_name=name, tensor_path=f"{name}.tsv", metadata_path=f"{name}_labels.tsv")
    projector.visualize_embeddings(str(folder), config)


def report(table: LetterCounts, views: dict[str, Decomposition], what: str) -> str:
    """A text with the first singular values of both views and the accuracy of a neuron that predicts the language."""
    lines = [f"singular value, share of the {what}, shares so far", ""]
    lines.append("axis" + "".join(f"  {name:<28}" for name in views).rstrip())
    for axis in range(NUM_PRINTED):
        figures = [
            f"  {view.singular_values[axis]:7.4f}  {view.shares[axis]:6.1%}  {view.shares[: axis + 1].sum():6.1%}   "
            for view in views.values()
        ]
        lines.append(f"{axis + 1:>4}" + "  ".join(figures).rstrip())
    lines += ["", f"{'a neuron: French or English?':<32}training  leave-one-out", ""]
    # The lecture's two inputs are the counts of all characters and of the letter a; ours are all letters and a.
    letters_and_a = np.column_stack([table.counts.sum(axis=1), table.counts[:, table.letters.index("a")]])
    for name, counts in (("of 40 letters", table.counts), ("of letters in all, letter a", letters_and_a)):
        inputs, targets = unit_rows(counts), table.is_french
        correct = Neuron(inputs, targets).predict(inputs) == targets
        correct_unseen = leave_one_out(inputs, targets) == targets
        wrong = " ".join(table.chapters[row] for row in np.flatnonzero(~correct_unseen))
        line = f"{name:<32}{correct.sum()} of {len(correct)}  {correct_unseen.sum()} of {len(correct)}"
        lines.append(f"{line} (not {wrong})" if wrong else line)
    return "\n".join(lines)


def write(folder: Path, table: LetterCounts, views: dict[str, Decomposition], what: str) -> None:
    """Write the figures and the projector's data into the folder, which is created if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "chapters": draw_chapters(table, views["chapters"], what),
        "letters": draw_letters(table, views["letters"], what),
        "singular_values": draw_singular_values(views, what),
    }
    for name, figure in figures.items():
        content = BytesIO()
        figure.savefig(content, dpi=150)
        write_atomically(folder / f"{name}.png", content.getvalue())
    labels = {
        "chapters": pl.DataFrame({"chapter": table.chapters, "language": table.languages}),
        "letters": pl.DataFrame(
            {
                "letter": table.letters,
                "occurs in": [
                    "fr" if share == 1 else "en" if share == 0 else "fr, en" for share in table.french_shares
                ],
                "French share": table.french_shares.round(3),
            }
        ),
    }
    write_projector(folder, views, labels)


class OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def main() -> None:
    parser = OneLineParser(description="PCA, SVD and a one-neuron classifier of the letters of Salammbô.")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/salammbo"),
        metavar="FOLDER",
        help="folder for the figures and the projector's data (default: %(default)s)",
    )
    parser.add_argument(
        "--standardize",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="scale the columns to mean 0 and variance 1 (PCA), or decompose the rows of length 1 directly (SVD)",
    )
    arguments = parser.parse_args()
    table = read_counts(COUNTS)
    views = {
        "chapters": decompose(table.counts, arguments.standardize),
        "letters": decompose(table.counts.T, arguments.standardize),
    }
    what = "variance" if arguments.standardize else "sum of squares"
    try:
        write(arguments.output, table, views, what)
    except OSError as error:
        path = error.filename or arguments.output
        parser.error(f"{path}: {error.strerror}; --output must be a writable folder")
    print(report(table, views, what))
    print(f"\nfigures in {arguments.output}; to explore: tensorboard --logdir {arguments.output}, then Projector")


if __name__ == "__main__":
    main()
