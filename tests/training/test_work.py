"""How much work a training does, in counts that do not depend on the machine: slower code fails here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.tiny_runs import MINIBATCH_BOW, SMALL_LSTM, train_tiny
from newsreel.batches.batch import Batch
from newsreel.models import lazy_adam
from newsreel.models.classifier import TextClassifier
from newsreel.models.micro_batches import LENGTH_STEP, divide
from newsreel.text.words import WordRules

LONG = ["data.num_documents=1000", "data.mean_length=60"]  # documents of very different lengths


class Operators(TorchDispatchMode):
    """Counts the calls of torch's operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        self.counts[name] = self.counts.get(name, 0) + 1
        return function(*args, **(kwargs or {}))


def batches_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[Batch]:
    """The training batches of a run."""
    batches: list[Batch] = []
    original = TextClassifier.training_step

    def spy(self: TextClassifier, batch: Batch, batch_index: int) -> torch.Tensor:
        batches.append(batch)
        return original(self, batch, batch_index)

    monkeypatch.setattr(TextClassifier, "training_step", spy)
    train_tiny(tmp_path, *overrides)
    return batches


def test_micro_batches_have_little_padding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = batches_of(tmp_path, monkeypatch, *SMALL_LSTM, *LONG, "training.max_epochs=1")
    num_tokens = sum(int(batch.lengths.sum()) for batch in batches)
    num_padded = sum(batch.token_ids.numel() for batch in batches)
    parts = [part for batch in batches for part in divide(batch.token_ids, batch.lengths, 16)]
    num_computed = sum(part.token_ids.numel() for part in parts)
    num_documents = sum(len(part.rows) for part in parts)
    assert num_padded < 1.1 * num_tokens
    assert num_computed < 1.05 * num_tokens + LENGTH_STEP / 2 * num_documents


def test_a_step_updates_the_rows_of_its_tokens_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    updated: list[int] = []
    original = lazy_adam.rows_with_gradient

    def spy(gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert gradient.is_sparse
        rows, values = original(gradient)
        updated.append(len(rows))
        return rows, values

    monkeypatch.setattr(lazy_adam, "rows_with_gradient", spy)
    batches = batches_of(tmp_path, monkeypatch, *SMALL_LSTM)
    assert updated == [len(batch.token_ids.unique()) - int((batch.token_ids == 0).any()) for batch in batches]


def test_no_text_is_read_again_with_a_warm_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    original = WordRules.words

    def spy(self: WordRules, texts: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(self, texts)

    monkeypatch.setattr(WordRules, "words", spy)
    train_tiny(tmp_path, *SMALL_LSTM, folder="cold")
    assert calls > 0
    calls = 0
    train_tiny(tmp_path, *SMALL_LSTM, folder="warm")
    assert calls == 0


def operators_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> dict[str, int]:
    """The calls of torch's operators in the training steps of a run."""
    operators = Operators()
    original = TextClassifier.training_step

    def spy(self: TextClassifier, batch: Batch, batch_index: int) -> torch.Tensor:
        with operators:
            return original(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(TextClassifier, "training_step", spy)
        train_tiny(tmp_path, *overrides, folder=f"run{len(list(tmp_path.iterdir()))}")
    return operators.counts


def test_a_step_sorts_no_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = operators_of_steps(tmp_path, monkeypatch, *MINIBATCH_BOW)
    assert counts["_embedding_bag"]
    assert not {"sort", "argsort", "unique", "_unique2"} & set(counts)


def test_a_step_that_is_not_logged_does_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    often, never = (
        sum(operators_of_steps(tmp_path, monkeypatch, *SMALL_LSTM, f"trainer.log_every_n_steps={every}").values())
        for every in (1, 1_000)
    )
    assert never < 0.9 * often
