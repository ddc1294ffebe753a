"""Trainings on the user's own corpus."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from helpers.project import CONFIGS
from helpers.tiny_runs import without_times
from newsreel.config.schema import read_experiment
from newsreel.training.run import train_run
from newsreel.training.spec import RunSpec

SINGLE = [(f"a {'fine' if number % 2 else 'dull'} film, number {number % 7}", number % 2) for number in range(60)]
SEVERAL = [(text, [["fine"], ["dull", "long"]][label]) for text, label in SINGLE]


def train(tmp_path: Path, file: Path, *overrides: str) -> dict[str, Any]:
    """metrics.json of a training on a file, without times and without where the documents came from."""
    overrides = (
        "data=files", f"data.train={file}", "data.text=review", "data.label=stars", "model=bow", "trainer=cpu",
        "training.max_epochs=2", f"paths.cache_dir={tmp_path / 'cache'}", *overrides,
    )  # fmt: skip
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    assert isinstance(config, dict)
    experiment = read_experiment({str(key): value for key, value in config.items()})
    choices = {"data": "files", "model": "bow", "tokenizer": "words", "embedding": "one_hot"}
    results = train_run(RunSpec(experiment, tmp_path / file.suffix[1:], choices, list(overrides), time.perf_counter()))
    environment = results["environment"]
    return {**without_times(results), "environment": environment["corpus_fingerprint"]}


@pytest.mark.parametrize(
    ("documents", "settings", "metric"),
    [(SINGLE, [], "test/accuracy"), (SEVERAL, ["data.separator='|'"], "test/f1_micro")],
)
def test_the_same_documents_give_the_same_figures_from_csv_and_json(
    tmp_path: Path, documents: list[tuple[str, Any]], settings: list[str], metric: str
) -> None:
    table, lines = tmp_path / "train.csv", tmp_path / "train.jsonl"
    rows = [
        f'"{text}",{"|".join(labels) if isinstance(labels, list) else labels}\n' for text, labels in reversed(documents)
    ]
    table.write_text("review,stars\n" + "".join(rows))
    lines.write_text("".join(json.dumps({"review": text, "stars": labels}) + "\n" for text, labels in documents))
    from_csv = train(tmp_path, table, *settings)
    assert from_csv == train(tmp_path, lines)
    assert from_csv[metric] > 0.5
    assert "No test documents were given: 12 of the 60" in (tmp_path / "csv" / "report.md").read_text()


def test_labels_may_look_like_formulas_and_tables(tmp_path: Path) -> None:
    names = [r"$\frac$", "a|b", "<i>", "long " * 20]
    rows = [{"review": f"words of {number % 4} {number}", "stars": names[number % 4]} for number in range(80)]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(tmp_path, file)
    assert (tmp_path / "jsonl" / "figures" / "confusions.png").exists()
    assert re.search(r"\| a&#124;b +\|", (tmp_path / "jsonl" / "report.md").read_text())


def test_a_folder_is_read_again_when_its_files_change_places(tmp_path: Path) -> None:
    folder = tmp_path / "tree.d"
    for label in ("good", "bad"):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            (folder / label / f"{number}.txt").write_text(f"{label} {number:02}")
    before = train(tmp_path, folder)
    (folder / "good" / "3.txt").rename(folder / "bad" / "30.txt")
    (tmp_path / "d").rename(tmp_path / "first")
    assert train(tmp_path, folder)["environment"] != before["environment"]
