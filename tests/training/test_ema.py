"""The average of the weights, against one that is computed in a loop over all weights of all steps."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from helpers.marks import slow
from helpers.shared_runs import SharedRuns
from helpers.tiny_runs import MINIBATCH_BOW, SMALL_LSTM, evaluated, figures, train_tiny
from newsreel.models.classifier import TextClassifier
from newsreel.training.callbacks.ema import ExponentialMovingAverage

DECAY = 0.9
EMA = [f"training.ema={DECAY}", "training.checkpoint=last", "training.schedule=constant", "batches.batch_size=2"]
TRAININGS = {
    "rows of adam": [*SMALL_LSTM, "embedding.max_norm=0.9"],
    "rows of adagrad": ["model=bow", "data.multilabel=true", "data.num_labels=4"],
    "accumulated rows": ["model=bow", "trainer.accumulate_grad_batches=3"],
    "dense": [*SMALL_LSTM, "training.optimizer=sgd", "training.learning_rate=0.5"],
    "frozen": [*SMALL_LSTM, "embedding=svd", "embedding.dimension=8"],
}


class DenseAverage(Callback):
    """Averages all weights after every optimizer step, in float64."""

    def __init__(self) -> None:
        self.averages: dict[str, Tensor] = {}
        self.raw: dict[str, Tensor] = {}
        self.num_steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.averages = {name: weights.double().clone() for name, weights in pl_module.named_parameters()}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.num_steps:
            return
        self.num_steps += 1
        assert trainer.global_step == self.num_steps
        decay = min(DECAY, (1 + self.num_steps) / (10 + self.num_steps))
        for name, weights in pl_module.named_parameters():
            self.averages[name] = decay * self.averages[name] + (1 - decay) * weights.detach().double()
            self.raw[name] = weights.detach().clone()


@pytest.mark.parametrize(
    "name", ["rows of adam", *map(slow, ("dense", "rows of adagrad", "accumulated rows", "frozen"))]
)
def test_the_kept_weights_are_the_dense_average_and_the_last_ones_raw(tmp_path: Path, name: str) -> None:
    expected = DenseAverage()
    results = train_tiny(tmp_path, *EMA, *TRAININGS[name], callbacks=[expected])
    assert results["train/steps"] == expected.num_steps > 20
    kept, last = (torch.load(tmp_path / "run" / "checkpoints" / f"{file}.ckpt") for file in ("best", "last"))
    assert expected.averages
    for weights, average in expected.averages.items():
        assert torch.allclose(kept["state_dict"][weights].double(), average, rtol=0, atol=2e-6), weights
        assert torch.equal(last["state_dict"][weights], expected.raw[weights])
    assert any((average - expected.raw[weights]).abs().max() > 1e-3 for weights, average in expected.averages.items())


def test_validation_test_and_predictions_are_of_the_average(tmp_path: Path, shared_runs: SharedRuns) -> None:
    overrides = [*EMA, *MINIBATCH_BOW, "data.multilabel=true", "data.num_labels=4"]
    results = shared_runs.results(*overrides)
    for split, stage in (("validation", "val"), ("test", "test")):  # with the weights and thresholds of best.ckpt
        measured = evaluated(tmp_path / split, f"run={shared_runs.run(*overrides)}", f"split={split}")
        assert figures(measured, stage) == figures(results, stage)
    raw = shared_runs.results(*(override for override in overrides if "ema" not in override))
    assert raw["val/loss"] != results["val/loss"]
    assert raw["train/loss"] == results["train/loss"]  # training is the same
    assert raw["train/steps"] == results["train/steps"]


def test_a_step_costs_only_the_rows_that_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    averaged: list[int] = []
    touched: list[int] = []
    original = ExponentialMovingAverage._average_rows

    def count(self: ExponentialMovingAverage, name: str, weights: Tensor, rows: Tensor) -> None:
        averaged.append(len(rows))
        original(self, name, weights, rows)

    class Batches(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, index: int) -> None:
            touched.append(len(batch.token_ids.unique()))

        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            assert averaged[-1] <= touched[-1]

    monkeypatch.setattr(ExponentialMovingAverage, "_average_rows", count)
    train_tiny(tmp_path, *EMA, "model=bow", callbacks=[Batches()])
    assert len(touched) > 20


@pytest.mark.parametrize("decay", [0.9, 0.999, 0.9999999])
def test_decays_multiply_to_those_of_the_steps(decay: float) -> None:
    average = ExponentialMovingAverage(decay)
    for first, last in ((0, 1), (3, 5), (0, 300), (70, 90), (8_980, 9_000), (12_345, 12_400)):
        kept = torch.exp(average._log_decays(torch.tensor(last)) - average._log_decays(torch.tensor(first)))
        expected = math.prod(min(decay, (1 + step) / (10 + step)) for step in range(first + 1, last + 1))
        assert float(kept) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_betas_are_those_of_the_optimizer(tmp_path: Path, optimizer: str) -> None:
    seen: list[tuple[float, float]] = []

    class Betas(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert isinstance(pl_module, TextClassifier)
            seen.extend(group["betas"] for group in trainer.optimizers[0].param_groups)

    options = [*SMALL_LSTM, f"training.optimizer={optimizer}", "training.betas=[0.8,0.95]", "training.max_epochs=1"]
    train_tiny(tmp_path, *options, callbacks=[Betas()])
    assert set(seen) == {(0.8, 0.95)}
