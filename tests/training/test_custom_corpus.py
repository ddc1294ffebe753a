"""Trainings on the user's own corpus."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_runs import read_tiny, train_tiny, without_times

SINGLE = [(f"a {'fine' if number % 2 else 'dull'} film, number {number % 7}", number % 2) for number in range(60)]
SEVERAL = [(text, [["fine"], ["dull", "long"]][label]) for text, label in SINGLE]


def train(tmp_path: Path, file: Path, *overrides: str) -> dict[str, Any]:
    """metrics.json of a training on a file, without times and without where the documents came from."""
    given = ["data=files", f"data.train={file}", "data.text=review", "data.label=stars", "model=bow", *overrides]
    results = without_times(train_tiny(tmp_path, *given, folder=file.suffix[1:]))
    return {**results, "environment": results["environment"]["corpus_fingerprint"]}


def test_unlabelled_documents_change_nothing_but_what_reads_them(tmp_path: Path) -> None:
    table, more = tmp_path / "train.csv", tmp_path / "more.csv"
    table.write_text("review,stars\n" + "".join(f'"{text}",{label}\n' for text, label in SINGLE))
    more.write_text("review\n" + "".join(f"another fine film {number}\n" for number in range(9)))
    alone = train(tmp_path, table)
    (tmp_path / "csv").rename(tmp_path / "alone")
    beside = train(tmp_path, table, f"data.unlabeled={more}")
    assert beside["documents/unlabeled"] == 9
    figures = {name: value for name, value in alone.items() if name.startswith(("test/", "val/", "train/"))}
    assert figures == {name: beside[name] for name in figures}


@pytest.mark.slow
def test_labels_may_look_like_formulas_and_tables(tmp_path: Path) -> None:
    names = [r"$\frac$", "a|b", "<i>", "long " * 20]
    rows = [{"review": f"words of {number % 4} {number}", "stars": names[number % 4]} for number in range(80)]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(tmp_path, file, "evaluation.figures=true")
    assert (tmp_path / "jsonl" / "figures" / "confusions.png").exists()
    assert re.search(r"\| a&#124;b +\|", (tmp_path / "jsonl" / "report.md").read_text())


def test_a_folder_is_read_again_when_its_files_change_places(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    for label in ("good", "bad"):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            (folder / label / f"{number}.txt").write_text(f"{label} {number:02}")
    experiment = read_tiny(tmp_path, "data=files", f"data.train={folder}")
    before = experiment.reader.load(experiment.paths)
    (folder / "good" / "3.txt").rename(folder / "bad" / "30.txt")
    assert experiment.reader.load(experiment.paths).fingerprint != before.fingerprint
