"""Ways to train that change cost and rounding, and not what is learned: compiled, accumulated, in half precision."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import newsreel
from helpers.configs import composed
from helpers.machine import needs_bfloat16_lstm
from helpers.marks import slow
from helpers.shared_runs import LEARNABLE, SharedRuns
from helpers.tiny_runs import SMALL_CNN, SMALL_LSTM, evaluated, exported, figures, go_on, train_tiny
from newsreel.config.schema import read_experiment
from newsreel.core.errors import UserError
from newsreel.models.cnn import max_pool
from newsreel.runs.run_dir import read_weights

PLAIN = [*SMALL_LSTM, "regularize=false", "training.gradient_clip=null", "training.patience=null"]
SGD = ["training.optimizer=sgd", "training.learning_rate=0.5"]  # whose steps grow with the gradients, unlike Adam's


@pytest.mark.slow
def test_a_compiled_run_is_as_an_eager_one_for_every_command(tmp_path: Path) -> None:
    plain = train_tiny(tmp_path, *PLAIN, folder="plain")
    compiled = train_tiny(tmp_path, *PLAIN, "trainer.compile=true")
    expected = pytest.approx(figures(plain, "test"), abs=1e-4)
    assert figures(compiled, "test") == expected
    folder = tmp_path / "run"
    assert list(read_weights(folder)) == list(read_weights(tmp_path / "plain"))
    assert figures(evaluated(tmp_path / "evaluation", f"run={folder}"), "test") == expected
    documents = ["w1 w2 w3", ""]
    for row, other in zip(newsreel.load(folder)(documents), newsreel.load(tmp_path / "plain")(documents), strict=True):
        assert row["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)
    exported(tmp_path / "export", f"run={folder}")  # compares the file with the network
    begun = [*PLAIN, "training.schedule=constant", "training.warmup_fraction=0", "trainer.compile=true"]
    train_tiny(tmp_path, *begun, folder="begun")
    longer = train_tiny(tmp_path, *begun, "training.max_epochs=3", "trainer.compile=false", folder="longer")
    resumed = go_on(tmp_path / "begun", "training.max_epochs=3")
    assert figures(resumed, "test") == pytest.approx(figures(longer, "test"), abs=1e-4)


@pytest.mark.slow
def test_documents_of_other_lengths_are_not_compiled_for_again(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.WARNING)
    freed = [*SMALL_CNN, "regularize=false", "batches.batch_size=6", "data.mean_length=40", "data.num_documents=200"]
    plain = train_tiny(tmp_path, *freed, folder="plain")
    compiled = train_tiny(tmp_path, *freed, "trainer.compile=true")
    for name, value in figures(plain, "test").items():  # ranks of documents that are nearly alike may differ
        is_of_ranks = name in ("test/auroc", "test/average_precision")
        assert compiled[name] == pytest.approx(value, abs=0.02 if is_of_ranks else 1e-4), name
    assert "recompile_limit" not in caplog.text


@pytest.mark.parametrize("length", [1, 4, 5, 6, 31])
def test_pooling_is_the_same_compiled(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    states = torch.randn(2, 3, length)
    expected = max_pool(states, 5)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(max_pool(states, 5), expected)


def raising(message: str) -> Any:
    def fail(*_: object) -> None:
        raise RuntimeError(message)

    return fail


def test_a_missing_compiler_is_told_before_any_document_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(torch, "compile", raising("no working C++ compiler found\nand much more"))
    message = r"compiler found\nIt needs a C\+\+ compiler .* or leave trainer\.compile=false"
    with pytest.raises(UserError, match=message):
        train_tiny(tmp_path, *SMALL_LSTM, "trainer.compile=true")
    assert not (tmp_path / "cache").exists()


def test_a_cpu_without_half_precision_says_so_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = raising("could not create a primitive. Run workload with ONEDNN_VERBOSE=all")
    monkeypatch.setattr("newsreel.models.recurrent.RecurrentNetwork.forward", failing)
    with pytest.raises(UserError, match=r"bf16-mixed, and this CPU cannot compute the model in it: could not create a"):
        train_tiny(tmp_path, *SMALL_LSTM, "trainer.precision=bf16-mixed")
    assert not (tmp_path / "run" / "labels.json").exists()


@pytest.mark.parametrize(
    "model", [slow([*PLAIN, *SGD], id="lstm"), pytest.param(["model=bow", "regularize=false", *SGD], id="bow")]
)
def test_accumulated_batches_make_the_step_of_a_large_one(tmp_path: Path, model: list[str]) -> None:
    whole = train_tiny(tmp_path, *model, "batches.batch_size=72", folder="whole")
    parts = train_tiny(tmp_path, *model, "batches.batch_size=18", "trainer.accumulate_grad_batches=4", folder="parts")
    assert whole["documents/train"] == 72  # one step an epoch, whatever the order of the documents
    assert (whole["train/steps"], parts["train/steps"]) == (2, 2)
    for stage in ("val", "test"):
        assert figures(parts, stage) == pytest.approx(figures(whole, stage), abs=1e-5)
    single = train_tiny(tmp_path, *model, "batches.batch_size=18", folder="single")
    assert single["test/loss"] != pytest.approx(whole["test/loss"], abs=1e-5)


@needs_bfloat16_lstm
def test_half_precision_learns_what_full_precision_does(tmp_path: Path, shared_runs: SharedRuns) -> None:
    full = shared_runs.results(*LEARNABLE)
    half = train_tiny(tmp_path, *LEARNABLE, "trainer.precision=bf16-mixed")
    assert half["environment"]["precision"] == "bf16-mixed"
    for name in ("test/accuracy", "test/loss"):
        assert half[name] == pytest.approx(full[name], abs=0.05)
    assert half["test/loss"] != full["test/loss"]
    weights = read_weights(tmp_path / "run")
    assert {tensor.dtype for name, tensor in weights.items() if name.startswith("network.")} == {torch.float32}
    measured = evaluated(tmp_path / "evaluation", f"run={tmp_path / 'run'}")
    assert figures(measured, "test") == pytest.approx(figures(half, "test"), abs=1e-6)


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_half_precision_of_gpus_is_refused_on_a_processor(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("newsreel.config.schema.is_gpu_available", lambda: False)
    with pytest.raises(UserError, match=r"16-mixed, which needs a GPU: use bf16-mixed or 32-true"):
        read_experiment(composed(f"trainer={accelerator}", "trainer.precision=16-mixed"))
