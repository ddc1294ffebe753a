"""The lecture's Salammbô example against its published numbers, scikit-learn and SciPy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy
import torch
from google.protobuf import text_format
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from tensorboard.plugins.projector import ProjectorConfig

import salammbo
from helpers.project import Command
from salammbo import COUNTS, LetterCounts, Neuron, decompose, leave_one_out, read_counts, spread, unit_rows


@pytest.fixture(scope="module")
def table() -> LetterCounts:
    return read_counts(COUNTS)


def test_the_counts_are_of_40_letters_in_15_chapters_of_each_language(table: LetterCounts) -> None:
    assert table.counts.shape == (30, 40)
    assert table.counts.dtype == np.int64
    assert table.counts.min() == 0
    assert table.chapters == [f"{number:02}_{language}" for language in ("fr", "en") for number in range(1, 16)]
    assert table.languages == ["fr"] * 15 + ["en"] * 15
    assert "".join(table.letters) == "abcdefghijklmnopqrstuvwxyzàâæçèéêëîïôùûœ"
    column = table.counts[:, 0]
    assert (column.mean(), column.std()) == (2716.5, pytest.approx(1236.2119761594288))  # as the lecture prints them


def test_chapters_have_the_singular_values_that_the_lecture_publishes(table: LetterCounts) -> None:
    chapters = decompose(table.counts, standardize=True)
    published = [3.0176e01, 9.1895e00, 7.7380e00, 5.7478e00, 4.7188e00, 4.4547e00, 3.7848e00, 3.5233e00, 2.8713e00]
    assert chapters.singular_values[:9] == pytest.approx(published, abs=6e-4)
    assert chapters.singular_values[-2:] == pytest.approx([2.4558e-01, 0], abs=6e-6)  # 30 centred rows have rank 29
    places = {"01_fr": [5.2199, 0.376, 0.6937], "15_fr": [6.3454, 3.7309, 4.1498], "01_en": [-5.2129, 0.3976, 1.4684]}
    for name, place in places.items():
        assert chapters.coordinates[table.chapters.index(name), :3] == pytest.approx(place, abs=6e-5)


def test_standardised_views_are_principal_component_analyses(table: LetterCounts) -> None:
    for counts in (table.counts, table.counts.T):
        found = decompose(counts, standardize=True)
        pca = PCA()
        expected = pca.fit_transform(StandardScaler().fit_transform(Normalizer().fit_transform(counts)))
        real = expected[:, :29]  # what lies beyond the rank of the chapters' view is rounding
        np.testing.assert_allclose(np.abs(found.coordinates[:, :29]), np.abs(real), atol=1e-8)
        np.testing.assert_allclose(found.shares, pca.explained_variance_ratio_, atol=1e-12)


def test_rows_of_length_1_are_decomposed_farthest_on_the_positive_side() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (7, 4))
    rows = Normalizer().fit_transform(counts)
    found = decompose(counts, standardize=False)
    np.testing.assert_allclose(found.singular_values, scipy.linalg.svdvals(rows))
    np.testing.assert_allclose(found.coordinates @ found.coordinates.T, rows @ rows.T)
    for view in (decompose(counts, standardize=True), decompose(-counts, standardize=True)):
        assert (view.coordinates.max(axis=0) == np.abs(view.coordinates).max(axis=0)).all()


def test_the_first_axis_separates_the_languages_and_their_letters(table: LetterCounts) -> None:
    first = decompose(table.counts, standardize=True).coordinates[:, 0]
    assert first[table.is_french == 1].min() > 4 > -4 > first[table.is_french == 0].max()
    letters = decompose(table.counts.T, standardize=True).coordinates[:, 0]
    place = dict(zip(table.letters, letters, strict=True))
    assert place["w"] > place["k"] > 8 > -5 > place["é"]
    assert table.french_shares[table.letters.index("é")] == 1
    assert table.french_shares[table.letters.index("w")] == 1 / (1 + table.counts[15:, table.letters.index("w")].sum())


def test_a_neuron_is_logistic_regression() -> None:
    random = np.random.default_rng(1)
    targets = random.integers(0, 2, 60)
    inputs = random.normal(5, 3, (60, 3)) + 2 * targets[:, None]  # the classes overlap: the best weights are finite
    neuron = Neuron(inputs, targets, num_steps=1000, learning_rate=1.0)
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(StandardScaler().fit_transform(inputs), targets)
    weights = torch.cat([neuron.linear.weight[0], neuron.linear.bias]).detach().numpy()
    np.testing.assert_allclose(weights, [*expected.coef_[0], *expected.intercept_], atol=1e-4)
    np.testing.assert_array_equal(neuron.predict(inputs), expected.predict(StandardScaler().fit_transform(inputs)))


@pytest.mark.slow
def test_a_neuron_tells_unseen_chapters_as_scikit_learn_does(table: LetterCounts) -> None:
    letters_and_a = np.column_stack([table.counts.sum(axis=1), table.counts[:, 0]])
    pipeline = make_pipeline(Normalizer(), StandardScaler(), LogisticRegression())
    expected = cross_val_predict(pipeline, letters_and_a, table.is_french, cv=LeaveOneOut())
    found = leave_one_out(unit_rows(letters_and_a), table.is_french)
    np.testing.assert_array_equal(found, expected)
    assert [table.chapters[row] for row in np.flatnonzero(found != table.is_french)] == ["15_fr"]


def test_labels_are_moved_apart_only_where_they_would_cover_one_another() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [100.0, 100.0]])
    places = spread(points, distance=10)
    gaps = np.linalg.norm(places[:, None] - places, axis=2)[np.triu_indices(4, 1)]
    assert gaps.min() > 9.8
    np.testing.assert_array_equal(places[3], points[3])


def read_projector(folder: Path) -> Iterator[Any]:
    """Name, vectors and labels of each table."""
    for table in text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings:
        labels = pl.read_csv(folder / table.metadata_path, separator="\t")
        yield table.tensor_name, np.loadtxt(folder / table.tensor_path, delimiter="\t"), labels


@pytest.mark.slow
def test_the_command_prints_numbers_and_writes_figures_and_vectors(
    command_here: Command, tmp_path: Path, table: LetterCounts
) -> None:
    done = command_here("scripts/salammbo.py")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["1", "30.1759", "75.9%", "75.9%", "28.1499", "66.0%", "66.0%"] in lines
    assert "of 40 letters                   30 of 30  30 of 30\n" in done.stdout
    assert "of letters in all, letter a     30 of 30  29 of 30 (not 15_fr)\n" in done.stdout

    folder = tmp_path / "outputs/salammbo"
    for name in ("chapters", "letters", "singular_values"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    (name, vectors, labels), (other_name, letters, of_letters) = read_projector(folder)
    assert [name, other_name] == ["chapters", "letters"]
    np.testing.assert_allclose(vectors, decompose(table.counts, standardize=True).coordinates, atol=1e-12)
    assert labels.to_dict(as_series=False) == {"chapter": table.chapters, "language": table.languages}
    assert letters.shape == (40, 30)
    assert of_letters.filter(pl.col("occurs in") == "fr")["letter"].to_list() == list("àâæçèéêëîïôùûœ")


@pytest.mark.slow
def test_the_plain_decomposition_speaks_of_squares_not_of_variance(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(salammbo, "leave_one_out", lambda inputs, targets: targets)  # which takes seconds
    monkeypatch.setattr("sys.argv", ["salammbo.py", "--no-standardize", "--output", str(tmp_path / "a/b")])
    salammbo.main()
    printed = capsys.readouterr().out
    assert "sum of squares" in printed
    assert "variance" not in printed
    (_, plain, _), _ = read_projector(tmp_path / "a/b")
    np.testing.assert_allclose(np.linalg.norm(plain, axis=1), 1)


def test_the_figures_name_the_shares_and_every_row(table: LetterCounts) -> None:
    views = {"chapters": decompose(table.counts, True), "letters": decompose(table.counts.T, True)}
    chapters = salammbo.draw_chapters(table, views["chapters"], "variance").axes[0]
    assert chapters.get_xlabel() == "axis 1 (75.9% of the variance)"
    assert chapters.get_ylabel() == "axis 2 (7.0% of the variance)"
    assert [text.get_text() for text in chapters.texts] == [str(number) for number in range(1, 16)] * 2
    letters = salammbo.draw_letters(table, views["letters"], "variance").axes[0]
    assert [text.get_text() for text in letters.texts] == table.letters
    bars = salammbo.draw_singular_values(views, "variance").axes[1].patches
    assert [bar.get_height() for bar in bars] == pytest.approx(list(views["letters"].singular_values))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--output file", "file: File exists; --output must be a writable folder"),
        ("--output file/x", "file/x: Not a directory; --output must be a writable folder"),
        ("--output", "argument --output: expected one argument"),
        ("--folder x", "unrecognized arguments: --folder x"),
    ],
)
def test_what_cannot_be_done_is_answered_in_one_line(
    command_here: Command, tmp_path: Path, arguments: str, expected: str
) -> None:
    (tmp_path / "file").write_text("mine")
    done = command_here("scripts/salammbo.py", *arguments.split())
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {expected}\n")
    assert (tmp_path / "file").read_text() == "mine"
