"""What a run tells its logger."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from torch import nn

from helpers.shared_runs import SharedRuns
from helpers.tiny_runs import MINIBATCH_BOW, SMALL_LSTM, read_tiny, train_tiny
from newsreel.core.errors import UserError
from newsreel.models.classifier import TextClassifier
from newsreel.models.trained_module import clip_gradients
from newsreel.training.loggers import build_logger

SHOWN = ["model=bow", "training.learning_rate=0.03", "model.hidden_sizes=[4]", "evaluation.hierarchy=none"]
SHOWN += ["logger=tensorboard"]


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "histograms": 0}).Reload()


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_gradients_are_clipped_as_by_torch_also_sparse_ones(max_norm: float) -> None:
    gradients = []
    for sparse in (False, True):
        torch.manual_seed(0)
        table, layer = nn.Embedding(6, 3, sparse=sparse), nn.Linear(3, 2)
        parameters = [*table.parameters(), *layer.parameters()]
        (layer(table(torch.tensor([1, 1, 4]))) * 3).sum().backward()
        if sparse:
            clip_gradients(parameters, max_norm)
        else:
            nn.utils.clip_grad_norm_(parameters, max_norm)
        gradients.append([weights.grad.to_dense() for weights in parameters if weights.grad is not None])
    for dense, clipped in zip(*gradients, strict=True):
        torch.testing.assert_close(clipped, dense)


@pytest.mark.parametrize(
    "model",
    [[*SMALL_LSTM, "training.gradient_clip=0.001"], MINIBATCH_BOW],
    ids=["lstm", "bow"],
)
def test_gradient_norms_are_logged_with_the_steps_that_are_before_clipping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: list[str]
) -> None:
    norms: list[float] = []
    original = TextClassifier.configure_gradient_clipping

    def spy(self: TextClassifier, *arguments: Any, **named: Any) -> None:
        gradients = [weights.grad.to_dense() for weights in self.parameters() if weights.grad is not None]
        norms.append(float(sum(gradient.double().pow(2).sum() for gradient in gradients)) ** 0.5)
        original(self, *arguments, **named)

    monkeypatch.setattr(TextClassifier, "configure_gradient_clipping", spy)
    every_second = [
        "batches.batch_size=10",
        "trainer.accumulate_grad_batches=2",
        "trainer.log_every_n_steps=2",
        "logger=tensorboard",
    ]
    train_tiny(tmp_path, *model, *every_second)
    shown = {event.step: event.value for event in events_of(tmp_path / "run").Scalars("train/gradient_norm")}
    assert shown == pytest.approx({step: norm for step, norm in enumerate(norms) if step % 2})
    assert len(shown) > 1


@pytest.mark.slow
def test_histograms_show_weights_and_gradients_of_every_epoch(tmp_path: Path, shared_runs: SharedRuns) -> None:
    train_tiny(tmp_path, *SMALL_LSTM, "trainer.histograms=true", "logger=tensorboard")
    events = events_of(tmp_path / "run")
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    weights = {name.removeprefix("network."): value for name, value in last.items() if name.startswith("network.")}
    assert set(events.Tags()["histograms"]) == {f"{tag}/{name}" for tag in ("weights", "gradients") for name in weights}
    for tag in events.Tags()["histograms"]:
        assert [event.step for event in events.Histograms(tag)] == [2, 5]  # of 3 steps an epoch
    for name, value in weights.items():
        shown = events.Histograms(f"weights/{name}")[-1].histogram_value
        assert shown.num == value.numel()
        assert (shown.min, shown.max) == pytest.approx((value.min().item(), value.max().item()))
    assert events_of(shared_runs.run(*SHOWN)).Tags()["histograms"] == []
    with pytest.raises(UserError, match=r"trainer\.histograms is true, but only logger=tensorboard"):
        read_tiny(tmp_path, "logger=csv", "trainer.histograms=true")


def test_hparams_hold_what_was_asked_for_and_no_columns(shared_runs: SharedRuns) -> None:
    events, results = events_of(shared_runs.run(*SHOWN)), shared_runs.results(*SHOWN)
    tags = {tag: value.plugin_data.content for tag, value in events.summary_metadata.items()}
    assert metadata.EXPERIMENT_TAG not in tags  # it would stand for the columns of all runs
    settings = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG]).hparams
    assert (settings["training.learning_rate"].number_value, settings["seed"].number_value) == (0.03, 1)
    assert (settings["model"].string_value, settings["model.hidden_sizes"].string_value) == ("bow", "[4]")
    assert not {"training.optimizer", "model.dropout", "paths.cache_dir", "logger", "debug"} & set(settings)
    final = sorted(tag for tag in events.Tags()["scalars"] if tag.startswith("final/"))
    assert final[:4] == [f"final/f1_{average}_{split}" for average in ("macro", "micro") for split in ("test", "val")]
    (shown,) = events.Scalars("final/f1_micro_val")
    assert (shown.step, shown.value) == (results["train/steps"], pytest.approx(results["val/f1_micro"]))


def test_documents_stand_in_tensorboard_with_what_was_said_of_them(shared_runs: SharedRuns) -> None:
    events = events_of(shared_runs.run(*SHOWN))
    for kind in ("right", "wrong"):
        (table,) = events.Tensors(f"documents/{kind}/text_summary")
        lines = table.tensor_proto.string_val[0].decode().splitlines()
        assert lines[0].startswith("| test document | label (probability) | prediction (")
        assert 2 < len(lines) <= 12


def test_a_table_has_a_row_for_each_time_that_figures_were_logged(tmp_path: Path) -> None:
    results = train_tiny(tmp_path, *MINIBATCH_BOW, "logger=csv")
    assert not (tmp_path / "run" / "tensorboard").exists()
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["train/loss_step"]]) == results["train/steps"]
    assert [int(row["step"]) for row in rows if row["val/loss"]] == [1, 3]
    (test,) = [row for row in rows if row["test/loss"]]
    assert float(test["test/accuracy"]) == pytest.approx(results["test/accuracy"])


@pytest.mark.parametrize("logger", ["wandb", "mlflow"])
def test_a_missing_package_is_named_before_any_work(tmp_path: Path, monkeypatch: Any, logger: str) -> None:
    monkeypatch.setattr("newsreel.config.loggers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"logger={logger} needs .* pip install --editable '\.\[{logger}\]'"):
        train_tiny(tmp_path, f"logger={logger}")
    assert not (tmp_path / "cache").exists()


def test_mlflow_gets_settings_and_figures(tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    results = train_tiny(tmp_path, "model=bow", "logger=mlflow")
    client = tracking.MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("newsreel").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["choices/model"] == "bow"
    assert run.data.metrics["final/f1_micro_val"] == pytest.approx(results["val/f1_micro"])
    assert run.data.metrics["test/accuracy"] == pytest.approx(results["test/accuracy"])


def test_wandb_keeps_a_run_of_its_own_for_each_training(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    losses = []
    for folder in ("first", "second"):
        losses.append(train_tiny(tmp_path, "model=bow", "logger=wandb", folder=folder)["test/loss"])
        assert wandb.run is None
        (run,) = (tmp_path / folder / "wandb").glob("offline-run-*")
        assert run.name.endswith((tmp_path / folder / "logger_id").read_text().strip())
    assert losses[0] == losses[1]


def test_every_setting_of_a_service_reaches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    for name in ("WandbLogger", "MLFlowLogger"):
        monkeypatch.setattr(f"lightning.pytorch.loggers.{name}.__init__", lambda self, **named: told.append(named))
    (tmp_path / "logger_id").write_text("kept\n")
    mlflow = ["logger=mlflow", "logger.experiment_name=n"]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    build_logger(
        read_tiny(tmp_path, "logger=wandb", "logger.mode=online", "logger.project=p", "logger.entity=e").logger,
        tmp_path,
        0,
    )
    build_logger(read_tiny(tmp_path, *mlflow).logger, tmp_path, 0)
    build_logger(read_tiny(tmp_path, *mlflow, "logger.tracking_uri=http://localhost:1").logger, tmp_path, 0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")  # its own variable
    build_logger(read_tiny(tmp_path, *mlflow).logger, tmp_path, 0)
    assert [told[0][key] for key in ("mode", "project", "entity", "id")] == ["online", "p", "e", "kept"]
    assert all((named["experiment_name"], named["run_id"]) == ("n", "kept") for named in told[1:])
    addresses = [f"sqlite:///{tmp_path}/outputs/mlflow.db", "http://localhost:1", "http://localhost:5000"]
    assert [named["tracking_uri"] for named in told[1:]] == addresses
