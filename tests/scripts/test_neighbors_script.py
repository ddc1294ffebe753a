"""`scripts/neighbors.py`, as a user calls it."""

from pathlib import Path

import pytest

from helpers.project import Command

TINY = ["data=synthetic", "data.num_documents=100", "data.vocabulary_size=100", "trainer=cpu"]


def projected(folder: Path) -> list[str]:
    """The labels of the only table in a TensorBoard folder's projector."""
    (labels,) = folder.rglob("metadata.tsv")
    return labels.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def words(command_here: Command, tmp_path: Path) -> list[str]:
    """Words of the made-up documents, most frequent first."""
    done = command_here("scripts/neighbors.py", *TINY, "projector_words=5")
    assert done.returncode == 0, done.stderr
    return projected(tmp_path / "outputs" / "neighbors")


def test_words_of_an_embedding(command: Command, words: list[str]) -> None:
    first, second, third = words[:3]
    done = command(
        "scripts/neighbors.py",
        *TINY,
        f"word={first}",
        f"analogy={first} - {second} + {third}",
        f"words=[{first},{second}]",
        "num_neighbors=3",
        "projector_words=0",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines[lines.index(f"nearest to {first}") + 1 :][:3]) == 3
    neighbors = [line.split()[1] for line in lines[lines.index(f"nearest to {first}") + 1 :][:3]]
    assert first not in neighbors
    similarities = [line.split() for line in lines[lines.index("similarity") + 2 :]]
    assert [row[0] for row in similarities] == [first, second]
    assert [row[1 + number] for number, row in enumerate(similarities)] == ["1.0000", "1.0000"]


def test_going_on_with_a_run_is_nothing_for_this_script(command_here: Command, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1")
    done = command_here("scripts/neighbors.py", "resume=run", "word=a")
    assert done.returncode == 2
    assert done.stderr == "error: resume is for train.py: run=<folder> shows the words of a finished run.\n"


def test_words_of_a_run_before_and_after_training(command_here: Command, tmp_path: Path, words: list[str]) -> None:
    run = f"hydra.run.dir={tmp_path / 'run'}"
    small = ["embedding.dimension=4", "model.hidden_size=4", "training.max_epochs=1", "trainer.projector_words=7"]
    trained = command_here("train.py", "model=lstm", *TINY, *small, run)
    assert trained.returncode == 0, trained.stderr
    tables = sorted((tmp_path / "run" / "tensorboard").rglob("tensors.tsv"))
    assert [table.parent.name for table in tables] == ["words_after_training", "words_before_training"]
    assert tables[0].read_text() != tables[1].read_text()
    labels = (tables[0].parent / "metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert labels[:5] == words[:5]
    assert len(labels) == 7
    asked = command_here("scripts/neighbors.py", f"run={tmp_path / 'run'}", f"word={words[0]}", "projector_words=0")
    assert asked.returncode == 0, asked.stderr
    assert f"nearest to {words[0]}" in asked.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "nowhere/tokenizer.json is not a tokenizer that a run has written"),
        ([*TINY, "embedding=one_hot"], "embedding=one_hot has no table of word vectors"),
        ([*TINY, "num_neighbors=0"], "num_neighbors is 0: it has to be at least 1"),
        ([*TINY, "word=qqqq"], "'qqqq' is not among"),
    ],
)
def test_questions_without_an_answer(command_here: Command, arguments: list[str], message: str) -> None:
    done = command_here("scripts/neighbors.py", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
