"""Trainings with adversarial, virtual adversarial and entropy losses."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from helpers.killed import snapshots
from helpers.machine import needs_bfloat16_lstm
from helpers.tiny_runs import SMALL_LSTM, evaluated, figures, go_on, train_tiny, without_times
from newsreel.core.errors import UserError

NUM_WORDS, NUM_COMMON = 40, 100  # of each topic, and of all documents
ALL_LOSSES = ["training.adversarial=1", "training.vat=1", "training.entropy=1", "training.perturbation_norm=1"]
SMALL = [*SMALL_LSTM, "batches.batch_size=4", "training.min_steps_per_epoch=6", "training.patience=null"]


def document(topic: int, chance: random.Random) -> str:
    """Four words of a topic and eight that any document can have."""
    words = [f"topic{topic}word{chance.randrange(NUM_WORDS)}" for _ in range(4)]
    words += [f"word{chance.randrange(NUM_COMMON)}" for _ in range(8)]
    chance.shuffle(words)
    return " ".join(words)


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two topics of 40 words each: 20 labelled documents, which have half of the words, and 400 others."""
    folder, chance = tmp_path_factory.mktemp("topics"), random.Random(1)
    for name, number in (("train", 20), ("validation", 300), ("test", 100), ("unlabeled", 400)):
        rows = [{"text": document(row % 2, chance), "label": f"topic{row % 2}"} for row in range(number)]
        pl.DataFrame(rows).drop("label" if name == "unlabeled" else []).write_csv(folder / f"{name}.csv")
    files = [f"data.{name}={folder / f'{name}.csv'}" for name in ("train", "validation", "test", "unlabeled")]
    return ["data=files", *files, "data.text=text", "data.label=label", "tokenizer.unlabeled=true", "trainer.threads=1"]


@pytest.fixture(scope="module")
def trained(topics: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A training with all losses in `run`, its folder after 13 of 20 steps in `killed13`, and its results."""
    folder = tmp_path_factory.mktemp("trained")
    overrides = [*topics, *SMALL, *ALL_LOSSES, "batches.unlabeled_batch_size=7", "logger=csv"]
    with snapshots(folder / "run", [13]):
        return folder, train_tiny(folder, *overrides, "trainer.checkpoint_every_s=0")


def weights(run_dir: Path, name: str = "last") -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return checkpoint["state_dict"]  # type: ignore[no-any-return]


@pytest.mark.slow
def test_unlabelled_documents_raise_the_accuracy_of_few_labelled_ones(topics: list[str], tmp_path: Path) -> None:
    network = ["model=kim_cnn", "model.num_filters=16", "model.kernel_sizes=[1]", "model.dropout=0.2"]
    table = ["embedding=learned", "embedding.dimension=16", "embedding.initial_std=0.25", "embedding.adapt_below=0"]
    steps = ["training.learning_rate=0.01", "training.schedule=constant", "training.min_steps_per_epoch=40"]
    sizes = ["batches.batch_size=20", "batches.unlabeled_batch_size=60", "embedding.word_dropout=0.3"]
    scores = [
        train_tiny(tmp_path, *topics, *network, *table, *steps, *sizes, *more, folder=f"run{len(more)}")["val/accuracy"]
        for more in ([], ["training.vat=1", "training.perturbation_norm=4"])
    ]
    assert scores[1] > scores[0] + 0.04


@pytest.mark.slow
def test_a_run_stopped_within_an_epoch_ends_with_the_same_numbers(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, results = trained
    assert results["train/steps"] == 20
    resumed = go_on(folder / "killed13")
    assert without_times(resumed) == without_times(results)
    for name in ("best", "last"):
        expected = weights(folder / "run", name)
        assert all(torch.equal(weights(folder / "killed13", name)[key], value) for key, value in expected.items())


def test_the_losses_are_logged(trained: tuple[Path, dict[str, Any]]) -> None:
    table = pl.read_csv(trained[0] / "run" / "metrics.csv", infer_schema_length=None)
    for name in ("adversarial", "vat", "entropy"):
        values = table[f"train/{name}_loss"].drop_nulls()
        assert len(values) == 20
        assert values.min() > 0  # type: ignore[operator]


def test_evaluations_repeat_the_scores_with_tables_that_have_been_kept_normalised(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, topics: list[str]
) -> None:
    folder, results = trained
    for split, stage in (("validation", "val"), ("test", "test")):
        measured = evaluated(tmp_path / split, f"run={folder / 'run'}", f"split={split}")
        assert figures(measured, stage) == figures(results, stage)
    table = weights(folder / "run")["network.embedding.table.weight"].numpy()
    tokens = ["<pad>", "<unk>", *vocabulary(folder / "run")]
    texts = [
        pl.read_csv(given.split("=")[1])["text"].to_list()
        for given in topics[1:5]
        if "train" in given or "unl" in given
    ]
    words = " ".join(text for part in texts for text in part).split()
    counts = np.array([words.count(token) for token in tokens])
    assert counts.sum() == len(words)
    mean = counts @ table / counts.sum()
    variances = counts @ (table - mean) ** 2 / counts.sum()
    assert np.allclose(mean, 0, atol=1e-6)
    assert np.allclose(variances, variances.mean(), rtol=1e-4)


def vocabulary(run_dir: Path) -> list[str]:
    """The words of a run, in the order of their rows."""
    from newsreel.text.loading import load_tokenizer

    return list(load_tokenizer(run_dir).tokens[2:])


@pytest.mark.slow
def test_numbers_do_not_depend_on_the_threads(topics: list[str], tmp_path: Path) -> None:
    several = [*SMALL, *ALL_LOSSES, "training.max_epochs=1", "batches.batch_size=20", "batches.unlabeled_batch_size=40"]
    results = [
        train_tiny(tmp_path, *topics, *several, f"trainer.threads={threads}", folder=f"run{threads}")
        for threads in (1, 3)
    ]
    assert figures(results[0], "val") == figures(results[1], "val")
    first, second = (weights(tmp_path / f"run{threads}") for threads in (1, 3))
    assert all(torch.equal(second[name], value) for name, value in first.items())


@needs_bfloat16_lstm
def test_an_average_of_weights_and_half_precision_go_with_them(topics: list[str], tmp_path: Path) -> None:
    results = train_tiny(tmp_path, *topics, *SMALL, *ALL_LOSSES, "training.ema=0.9", "trainer.precision=bf16-mixed")
    assert np.isfinite(results["val/loss"])


@pytest.mark.parametrize("name", ["vat", "entropy"])
def test_a_corpus_without_unlabelled_documents_is_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    message = rf"training\.{name} is 0\.5, which needs unlabelled .* 'synthetic' .* or use training\.adversarial=0\.5"
    with pytest.raises(UserError, match=message):
        train_tiny(tmp_path, *SMALL_LSTM, f"training.{name}=0.5")


def test_adversarial_training_needs_labelled_documents_alone(tmp_path: Path) -> None:
    multilabel = ["data.multilabel=true", "data.num_labels=4"]
    results = train_tiny(
        tmp_path, *SMALL_LSTM, *multilabel, "training.adversarial=1", "embedding=svd", "embedding.dimension=8"
    )
    assert np.isfinite(results["val/loss"])
