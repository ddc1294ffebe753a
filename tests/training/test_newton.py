"""Trainings with the exact solver, and bags whose words are counted once."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.configs import composed
from helpers.documents import make_corpus, word_tokenizer
from helpers.tensorboard import scalars
from helpers.tiny_runs import SMALL_LSTM, go_on, read_tiny, train_tiny, without_times
from newsreel.batches import bags as bags_module
from newsreel.batches.bags import count_words
from newsreel.batches.batch import BatchSettings
from newsreel.batches.datamodule import TextDataModule
from newsreel.config.schema import read_experiment
from newsreel.core.errors import UserError
from newsreel.models import bow as bow_module
from newsreel.models.bow import distinct_words

PATH = "training.l2_path=[4,1,0.25]"


@pytest.mark.parametrize(
    ("overrides", "solver"),
    [
        (["model=bow"], "newton"),
        (["model=bow", "training.label_smoothing=0.1", "training.class_balance=1"], "newton"),
        (["model=bow", "model.hidden_sizes=[4]"], "minibatch"),
        (["model=bow", "model.dropout=0.1"], "minibatch"),
        (["model=bow", "embedding=learned"], "minibatch"),
        (["model=bow", "training.focal_gamma=2"], "minibatch"),
        (["model=bow", "regularize=false"], "minibatch"),
        (["model=bow", "training.solver=minibatch"], "minibatch"),
        (["model=lstm"], "minibatch"),
        (["model=lstm", "embedding=one_hot", "tokenizer.max_size=50"], "minibatch"),
    ],
)
def test_linear_bags_of_one_hot_words_are_solved_exactly(overrides: list[str], solver: str) -> None:
    assert read_experiment(composed(*overrides)).training.solver == solver


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["model=bow", "model.hidden_sizes=[4]"], "this model is not linear in its words"),
        (["model=bow", "embedding=learned"], "the embedding is not one_hot"),
        (["model=bow", "training.focal_gamma=2"], r"not convex with training\.focal_gamma above 0"),
        (["model=lstm"], "this model is not linear in its words .* and the embedding is not one_hot"),
    ],
)
def test_what_is_not_convex_is_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=rf"training\.solver is newton, but .*{problem}.*: use .*minibatch"):
        read_experiment(composed(*overrides, "training.solver=newton"))


def test_an_epoch_is_one_penalty_of_the_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        results = train_tiny(tmp_path, "model=bow", PATH, "training.max_epochs=9", "logger=tensorboard")
    assert "solver      newton: an epoch is the optimum for one L2 penalty of 4, 1, 0.25" in caplog.text
    penalties = scalars(tmp_path / "run", "train/l2")
    assert list(penalties.values()) == pytest.approx([4, 1, 0.25])
    assert results["train/l2"] == pytest.approx([4, 1, 0.25][results["train/kept_epoch"] - 1])
    losses = list(scalars(tmp_path / "run", "train/loss_epoch").values())
    assert losses == sorted(losses, reverse=True)
    assert results["train/steps"] == results["train/epochs"] == 3


def test_the_path_ends_when_validation_has_fallen_twice(tmp_path: Path) -> None:
    noisy = ["model=bow", "data.num_documents=300", "data.difficulty=0.9"]
    weaker = "training.l2_path=[10,1,1e-1,1e-2,1e-3,1e-4]"
    results = train_tiny(tmp_path, *noisy, weaker, "training.max_epochs=9", "training.patience=2")
    assert results["train/epochs"] == results["train/kept_epoch"] + 2 < 6


def test_a_finished_path_cannot_be_made_longer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train_tiny(tmp_path, "model=bow", PATH, "training.max_epochs=2", "training.patience=null")
    assert "note        training.max_epochs=2 leaves out the penalties 0.25" in caplog.text
    longer = go_on(tmp_path / "run", "training.max_epochs=5")
    whole = train_tiny(tmp_path, "model=bow", PATH, "training.max_epochs=5", "training.patience=null", folder="whole")
    assert without_times(longer) == without_times(whole)
    with caplog.at_level(logging.INFO):
        assert go_on(tmp_path / "run", "training.max_epochs=9") == longer
    assert "is finished: it was trained with all 3 penalties of training.l2_path" in caplog.text


def test_the_seed_of_the_network_changes_nothing(tmp_path: Path) -> None:
    losses = [train_tiny(tmp_path, "model=bow", f"seed={seed}", folder=f"{seed}")["test/loss"] for seed in (1, 2)]
    assert losses[0] == losses[1]


def test_words_are_counted_by_hand() -> None:
    texts = [[5, 2, 5, 1, 0], [], [1, 1], [9, 9, 9, 2]]
    counts = count_words([np.array(text, dtype=np.int32) for text in texts], 10)
    expected = np.zeros((4, 10))
    expected[0, [2, 5]] = 1, 2
    expected[3, [2, 9]] = 1, 3
    assert np.array_equal(counts.toarray(), expected)
    assert counts.has_canonical_format
    assert count_words([], 10).shape == (0, 10)


@pytest.mark.parametrize("max_tokens", [None, 4])
def test_bags_have_the_words_that_a_sort_finds(tmp_path: Path, max_tokens: int | None) -> None:
    random = np.random.default_rng(0)
    texts = [(" ".join(random.choice(list("abcdef"), size)), size % 2) for size in random.integers(0, 9, 50)]
    corpus = make_corpus(texts, texts[:20]).with_validation(0.2, seed=0)
    tokenized = word_tokenizer().fit(corpus, tmp_path)
    settings = BatchSettings(batch_size=7, max_tokens=max_tokens, truncation="head_tail", num_workers=0)
    plain, bags = (TextDataModule(corpus, tokenized, settings, 0, False, bags=bags) for bags in (False, True))
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for tokens, bag in zip(getattr(plain, name)(), getattr(bags, name)(), strict=True):
            assert bag.lengths.tolist() == tokens.lengths.tolist()
            assert bag.targets.tolist() == tokens.targets.tolist()
            words, counts = distinct_words(tokens.token_ids)
            dense = torch.zeros(2, len(words), 10)
            dense[0].scatter_add_(1, words, counts)
            dense[1].scatter_add_(1, bag.token_ids, bag.counts)
            assert torch.equal(dense[0], dense[1])
            assert bag.token_ids.shape[1] == max(1, int((bag.counts > 0).sum(dim=1).max()))


def test_training_steps_sort_no_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words are counted once for training and validation, and by batch only for the test."""
    counted: list[int] = []

    def count(documents: list[np.ndarray], num_words: int) -> object:
        counted.append(len(documents))
        return count_words(documents, num_words)

    def sort(token_ids: torch.Tensor) -> None:
        raise AssertionError("a batch was sorted")

    monkeypatch.setattr(bags_module, "count_words", count)
    monkeypatch.setattr(bow_module, "distinct_words", sort)
    for solver in ("newton", "minibatch"):
        counted.clear()
        results = train_tiny(tmp_path, "model=bow", f"training.solver={solver}", "batches.batch_size=9", folder=solver)
        sizes = [results[f"documents/{split}"] for split in ("train", "validation")]
        assert counted[:2] == sizes
        assert sum(counted[2:]) == results["documents/test"]


def test_settings_of_steps_are_for_minibatches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train_tiny(tmp_path, "model=bow", "training.gradient_clip=1", "trainer.accumulate_grad_batches=2")
    assert "training.gradient_clip=1 trainer.accumulate_grad_batches=2 has no effect: training.solver=newton" in (
        caplog.text
    )
    assert read_tiny(tmp_path, *SMALL_LSTM).training.solver == "minibatch"
