"""The notebooks: stored without outputs, and every cell runs."""

from pathlib import Path

import nbformat
import pytest

from run_notebooks import execute, find_notebooks, main

PATHS = find_notebooks()
FAST = "3_salammbo_pca_svd.ipynb"  # trains nothing


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_leads_to_the_next(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    following = PATHS[PATHS.index(path) + 1 :][:1]
    assert all(f"]({next_path.name})" in notebook.cells[-1].source for next_path in following)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if path.name == FAST else pytest.mark.slow, id=path.stem) for path in PATHS],
)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEWSREEL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("FULL", raising=False)
    execute(path, tmp_path)  # raises if a cell fails
    cells = nbformat.read(tmp_path / path.name, as_version=4).cells
    shown = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) or "text/markdown" in output.get("data", {}) for output in shown)
    assert not [output.text for output in shown if output.get("name") == "stderr"]


def test_a_name_that_no_notebook_begins_with_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: no notebook begins with 8 or zz"):
        main(["8", "zz", "--output", str(tmp_path)])
