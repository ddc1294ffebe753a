"""The table of results in README.md."""

import shlex
from pathlib import Path

import pytest

import readme_results
from helpers.project import PROJECT, Command


def test_the_table_in_the_readme_is_that_of_the_script() -> None:
    (block,) = readme_results.BETWEEN.findall((PROJECT / "README.md").read_text())
    commands = [line.split("`")[1] for line in block.splitlines() if "train.py" in line]
    assert commands == [f"python train.py {settings}" for settings in readme_results.SETTINGS]


def test_a_row_has_the_scores_and_the_minutes() -> None:
    results = {"val/accuracy": 0.9, "test/accuracy": 0.87654, "memory/peak_rss_mb": 1536}
    assert readme_results.row("python", results, 59.4) == ["`python`", "0.9000", "0.8765", "59 s", "1.5 GB"]
    assert readme_results.row("python", results, 119.7)[3] == "2 min 0 s"


@pytest.mark.slow
def test_the_models_are_trained_and_the_table_is_written(command: Command, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- made by make results -->\nold\n<!-- until here -->\nafter\n")
    tiny = shlex.split("data=synthetic data.num_documents=60 training.max_epochs=1")
    done = command("scripts/readme_results.py", *tiny, "--readme", str(readme), "--output", str(tmp_path / "runs"))
    assert done.returncode == 0, done.stderr
    text = readme.read_text()
    assert text.startswith("before\n<!-- made by make results -->\n\n| command")
    assert text.count("| `python train.py model=") == len(readme_results.SETTINGS)
    assert text.endswith("\n<!-- until here -->\nafter\n")
