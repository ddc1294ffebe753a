"""`scripts/neighbors.py`, as a user calls it."""

from pathlib import Path

import pytest

from helpers.project import Command
from helpers.shared_runs import SharedRuns
from helpers.tiny_runs import QUICK, SMALL_LSTM, SYNTHETIC

TINY = [*SYNTHETIC, *QUICK]
RUN = [*SMALL_LSTM, "logger=tensorboard", "trainer.projector_words=7"]


def projected(folder: Path) -> list[str]:
    """The labels of the only table in a TensorBoard folder's projector."""
    (labels,) = folder.rglob("metadata.tsv")
    return labels.read_text(encoding="utf-8").splitlines()


def test_words_of_an_embedding_and_of_a_run(command_here: Command, shared_runs: SharedRuns, tmp_path: Path) -> None:
    run = shared_runs.run(*RUN)
    before, after = (run / "tensorboard").rglob("words_before_training"), (run / "tensorboard").rglob("words_after_*")
    tables = [next(folders) for folders in (before, after)]
    assert (tables[0] / "tensors.tsv").read_text() != (tables[1] / "tensors.tsv").read_text()
    words = projected(tables[1])  # the most frequent first
    assert len(words) == 7

    first, second, third = words[:3]
    asked = [f"word={first}", f"analogy={first} - {second} + {third}", f"words=[{first},{second}]", "num_neighbors=3"]
    done = command_here("scripts/neighbors.py", *TINY, *asked, "projector_words=5")
    assert done.returncode == 0, done.stderr
    assert projected(tmp_path / "outputs" / "neighbors") == words[:5]
    lines = done.stdout.splitlines()
    neighbors = [line.split()[1] for line in lines[lines.index(f"nearest to {first}") + 1 :][:3]]
    assert len(neighbors) == 3
    assert first not in neighbors
    similarities = [line.split() for line in lines[lines.index("similarity") + 2 :]]
    assert [row[0] for row in similarities] == [first, second]
    assert [row[1 + number] for number, row in enumerate(similarities)] == ["1.0000", "1.0000"]

    of_run = command_here("scripts/neighbors.py", f"run={run}", f"word={first}", "projector_words=0")
    assert of_run.returncode == 0, of_run.stderr
    assert f"nearest to {first}" in of_run.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["resume=run", "word=a"],
            "error: resume is for train.py: use run=<run directory> to show the words of a finished run.\n",
        ),
        (["run=nowhere"], "nowhere/tokenizer.json is not the tokenizer of a run"),
        ([*TINY, "embedding=one_hot"], "embedding=one_hot has no word vectors"),
        pytest.param([*TINY, "num_neighbors=0"], "num_neighbors is 0: it must be at least 1", marks=pytest.mark.slow),
        ([*TINY, "word=qqqq"], "'qqqq' is not among"),
    ],
)
def test_questions_without_an_answer(command_here: Command, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1")
    done = command_here("scripts/neighbors.py", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
