"""Whole trainings on made-up documents."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.machine import needs_bfloat16_lstm
from helpers.tiny_runs import SMALL_LSTM, train_tiny, without_times
from newsreel.batches.batch import BucketSampler
from newsreel.config.schema import read_experiment
from newsreel.core.errors import UserError
from newsreel.corpora.synthetic import pseudo_words
from newsreel.models.classifier import TextClassifier
from newsreel.text.loading import load_tokenizer
from newsreel.training.checkpoints import AtomicCheckpointIO


@pytest.fixture(scope="module")
def lstm_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("lstm")
    easy = ["data.difficulty=0", "data.num_documents=500", "data.mean_length=30", "embedding.word_dropout=0"]
    results = train_tiny(folder, *SMALL_LSTM, *easy, "training.learning_rate=0.02", "training.max_epochs=4")
    return folder / "run", results


def test_a_run_folder_holds_what_is_promised(lstm_run: tuple[Path, dict[str, Any]]) -> None:
    folder, results = lstm_run
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "metrics.json",
        "tokenizer.json",
        "labels.json",
        "command.json",
        "checkpoints",
        "tensorboard",
        "report.md",
        "labels.csv",
        "predictions.parquet",
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "last-1.ckpt"}
    assert json.loads((folder / "metrics.json").read_text()) == results
    labels = json.loads((folder / "labels.json").read_text())
    assert (labels["task"], labels["names"], labels["metric"]) == ("binary", ["label0", "label1"], "accuracy")
    assert OmegaConf.load(folder / "config.yaml").model.hidden_size == 6


def test_easy_documents_are_learned(lstm_run: tuple[Path, dict[str, Any]]) -> None:
    assert lstm_run[1]["test/accuracy"] > 0.9


def test_metrics_name_results_times_and_environment(lstm_run: tuple[Path, dict[str, Any]]) -> None:
    results = lstm_run[1]
    for key in (
        "test/accuracy", "test/f1_micro", "test/f1_macro", "test/loss", "val/accuracy", "val/loss", "train/epochs",
        "time/prepare_s", "time/fit_s", "time/test_s", "time/total_s", "throughput/train_documents_per_s",
        "memory/peak_rss_mb",
    ):  # fmt: skip
        assert isinstance(results[key], (int, float)), key
    for key in (
        "torch",
        "lightning",
        "processor",
        "threads",
        "device",
        "git_commit",
        "seed",
        "corpus_source",
        "corpus_fingerprint",
    ):
        assert key in results["environment"], key
    assert (results["documents/train"], results["documents/validation"], results["documents/test"]) == (360, 40, 100)


def test_predictions_give_the_reported_accuracy(lstm_run: tuple[Path, dict[str, Any]]) -> None:
    folder, results = lstm_run
    table = pl.read_parquet(folder / "predictions.parquet")
    assert table["document"].to_list() == list(range(100))
    assert accuracy_score(table["labels"], table["predicted"]) == pytest.approx(results["test/accuracy"])
    assert np.allclose(table["p(label0)"] + table["p(label1)"], 1, atol=1e-6)
    chosen = np.where(table["p(label1)"] > table["p(label0)"], "label1", "label0")
    assert (chosen == table["predicted"].to_numpy()).all()


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=bow"],
        ["model=bow", "model.weighting=nb", "tokenizer=ngrams"],
        [*SMALL_LSTM, "tokenizer=subwords"],
        ["model=bilstm", "embedding=one_hot"],
        ["model=flatten", "embedding.dimension=8"],
    ],
    ids=" ".join,
)
def test_a_run_folder_alone_gives_the_same_predictions(tmp_path: Path, overrides: list[str]) -> None:
    train_tiny(tmp_path, *overrides)
    folder = tmp_path / "run"
    settings = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert isinstance(settings, dict)
    experiment = read_experiment({str(key): value for key, value in settings.items()})
    tokenizer = load_tokenizer(folder)
    weights = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    network = experiment.build_network(experiment.embedding.empty(len(tokenizer.tokens), 8), 1).eval()
    network.load_state_dict(
        {name.removeprefix("network."): value for name, value in weights.items() if name.startswith("network.")}
    )
    documents = experiment.reader.load(experiment.paths)["test"]["text"][:5]
    predictions = pl.read_parquet(folder / "predictions.parquet")["p(label1)"].to_list()
    for text, expected in zip(documents, predictions, strict=False):
        ids = torch.from_numpy(tokenizer.encode([text])[0].astype(np.int64))
        assert torch.sigmoid(network(ids[None], torch.tensor([len(ids)]))).item() == pytest.approx(expected, abs=1e-5)


def test_a_training_that_diverges_is_stopped_with_the_remedy(tmp_path: Path) -> None:
    explode = ["training.optimizer=sgd", "training.learning_rate=1", "training.weight_decay=1e30"]
    with pytest.raises(UserError, match=r"diverged\. Lower training\.learning_rate \(1\)"):
        train_tiny(tmp_path, *SMALL_LSTM, *explode)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_the_report_says_what_the_data_is_and_how_to_repeat_it(lstm_run: tuple[Path, dict[str, Any]]) -> None:
    report = (lstm_run[0] / "report.md").read_text()
    assert "made up" in report
    assert "python train.py data=synthetic" in report
    assert f"{lstm_run[1]['test/accuracy']:.4f}" in report
    assert "## Limits\n\n- It predicts one of these 2 labels for every document" in report


def test_checkpoints_load_as_plain_weights(lstm_run: tuple[Path, dict[str, Any]]) -> None:
    for name in ("best", "last", "last-1"):
        checkpoint = torch.load(lstm_run[0] / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["hyper_parameters"]["model"]["hidden_size"] == 6


def test_tensorboard_holds_every_promised_tag(lstm_run: tuple[Path, dict[str, Any]]) -> None:
    (file,) = (lstm_run[0] / "tensorboard").glob("events.*")
    events = EventAccumulator(str(file), size_guidance={"scalars": 0})
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert scalars >= {
        "train/loss_step", "train/loss_epoch", "train/accuracy_step", "train/accuracy_epoch", "train/learning_rate",
        "train/gradient_norm", "train/epoch", "val/loss", "val/accuracy", "val/f1_macro", "test/loss", "test/accuracy",
        "final/f1_micro_test", "final/f1_micro_val", "final/fit_s",
    }  # fmt: skip
    assert {tag.partition("/")[0] for tag in scalars} == {"final", "test", "train", "val"}
    assert [event.value for event in events.Scalars("final/f1_micro_test")] == pytest.approx(
        [lstm_run[1]["test/accuracy"]]
    )
    assert len(events.Scalars("val/accuracy")) == lstm_run[1]["train/epochs"]
    (config,) = events.Tensors("config/text_summary")
    assert b"hidden_size: 6" in config.tensor_proto.string_val[0]
    plugins = events.summary_metadata
    assert any(metadata.plugin_data.plugin_name == "hparams" for metadata in plugins.values())


def test_best_validation_figures_are_those_of_the_best_checkpoint(tmp_path: Path) -> None:
    results = train_tiny(
        tmp_path, "model=bow", "data.difficulty=0.9", "training.max_epochs=6", "training.patience=null"
    )
    assert results["train/epochs"] == 6
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["epoch"] + 1 == results["train/kept_epoch"]


def test_the_last_epoch_can_be_the_one_that_counts(tmp_path: Path) -> None:
    noisy = ["model=bow", "data.difficulty=0.9", "training.max_epochs=6", "training.patience=null"]
    best = train_tiny(tmp_path, *noisy, folder="best")
    last = train_tiny(tmp_path, *noisy, "training.checkpoint=last", folder="last")
    assert best["train/kept_epoch"] < last["train/kept_epoch"] == 6
    checkpoint = torch.load(tmp_path / "last" / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 5
    assert last["val/accuracy"] <= best["val/accuracy"]
    assert last["train/loss"] < best["train/loss"]
    told = {name: (tmp_path / name / "report.md").read_text() for name in ("best", "last")}
    assert "The checkpoint is from the epoch with the highest validation accuracy;" in told["best"]
    assert "The checkpoint is from the last epoch;" in told["last"]


def test_the_test_documents_are_judged_by_the_best_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights: list[torch.Tensor] = []
    original = TextClassifier.on_test_epoch_start

    def spy(self: TextClassifier) -> None:
        weights.append(self.network.bag.bias.detach().clone())  # type: ignore[attr-defined, union-attr]
        original(self)

    monkeypatch.setattr(TextClassifier, "on_test_epoch_start", spy)
    train_tiny(tmp_path, "model=bow", "data.difficulty=0.9", "training.max_epochs=5", "training.learning_rate=0.5")
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert torch.equal(weights[0], best["state_dict"]["network.bag.bias"])
    assert best["epoch"] != last["epoch"]


@pytest.mark.parametrize("model", [SMALL_LSTM, ["model=bow"]], ids=["lstm", "bow"])
def test_the_same_command_gives_the_same_numbers_and_another_seed_others(tmp_path: Path, model: list[str]) -> None:
    first = train_tiny(tmp_path, *model, folder="first")
    second = train_tiny(tmp_path, *model, folder="second")
    assert without_times(first) == without_times(second)
    other = train_tiny(tmp_path, *model, "seed=0", folder="other")
    assert other["test/loss"] != first["test/loss"]
    assert other["environment"]["seed"] == 0


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=bow", "data.num_labels=5"],
        ["model=bow", "data.num_labels=5", "data.multilabel=true"],
        [*SMALL_LSTM, "data.num_labels=5", "data.multilabel=true"],
        [*SMALL_LSTM, "data.num_labels=3"],
        ["model=bow", "embedding=learned", "model.hidden_sizes=[16,16]"],
        [*SMALL_LSTM, "tokenizer=subwords", "tokenizer.max_size=400"],
        ["model=lstm", "model.hidden_size=4", "embedding=one_hot", "tokenizer.max_size=200"],
        ["model=bow", "batches.num_workers=1"],
    ],
    ids=" ".join,
)
def test_tasks_and_choices_train_and_test(tmp_path: Path, overrides: list[str]) -> None:
    results = train_tiny(tmp_path, *overrides, "training.max_epochs=1")
    metric = "test/f1_micro" if "data.multilabel=true" in overrides else "test/accuracy"
    assert 0 <= results[metric] <= 1
    assert np.isfinite(results["test/loss"])


@pytest.mark.parametrize(
    "change",
    [
        "training.optimizer=sgd",
        "training.optimizer=rmsprop",
        "training.learning_rate=0.1",
        "training.weight_decay=0.1",
        "training.schedule=constant",
        "training.schedule=cosine",
        "training.warmup_fraction=0.5",
        "training.gradient_clip=0.001",
        "training.max_epochs=3",
        "training.class_balance=1",
        "training.focal_gamma=2",
        "training.label_smoothing=0.2",
        "batches.batch_size=10",
        "batches.max_tokens=3",
        "data.split_seed=7",
        "data.validation_fraction=0.3",
        "tokenizer.max_size=20",
        "tokenizer.min_document_count=9",
        "model.dropout=0.9",
        "model.pooling=last",
        "model.num_layers=2",
        "model.recurrent_dropout=0.5",
        "model.layer_norm=true",
        "embedding.dropout=0.9",
        "embedding.word_dropout=0.9",
        "embedding.max_norm=0.01",
        pytest.param("trainer.precision=bf16-mixed", marks=needs_bfloat16_lstm),
        "trainer.accumulate_grad_batches=2",
        "data.limit=40",
        "data.seed=5",
    ],
)
def test_every_setting_changes_something(tmp_path_factory: pytest.TempPathFactory, change: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "settings"
    if not (folder / "base" / "metrics.json").exists():
        train_tiny(folder, *SMALL_LSTM, folder="base")
    base = json.loads((folder / "base" / "metrics.json").read_text())
    changed = train_tiny(folder, *SMALL_LSTM, change, folder=change)
    assert changed["test/loss"] != base["test/loss"]


def test_every_setting_of_how_a_training_is_watched_changes_what_it_leaves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    written: list[str] = []
    original = AtomicCheckpointIO.save_checkpoint

    def spy(self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        written.append(Path(path).name)
        original(self, checkpoint, path, storage_options)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", spy)
    train_tiny(tmp_path, *SMALL_LSTM, folder="base")
    base, written[:] = len(written), []
    train_tiny(tmp_path, *SMALL_LSTM, "trainer.checkpoint_every_s=0", folder="often")
    assert len(written) > base
    assert "where the time went" not in caplog.text
    train_tiny(tmp_path, *SMALL_LSTM, "trainer.profile=true", folder="profile")
    assert "where the time went" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        "evaluation.thresholds=global",
        "evaluation.thresholds=top_k",
        "evaluation.thresholds=fixed",
        "evaluation.shrinkage=0",
        "training.initial_accumulator=0.001",
    ],
)
def test_every_setting_for_several_labels_changes_something(
    tmp_path_factory: pytest.TempPathFactory, change: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "several"
    settings = ["model=bow", "data.num_labels=5", "data.multilabel=true"]
    if not (folder / "base" / "metrics.json").exists():
        train_tiny(folder, *settings, folder="base")
    base = json.loads((folder / "base" / "metrics.json").read_text())
    changed = train_tiny(folder, *settings, change, folder=change)
    assert [changed[key] for key in ("test/f1_micro", "test/f1_macro", "test/loss")] != [
        base[key] for key in ("test/f1_micro", "test/f1_macro", "test/loss")
    ]


def test_thresholds_asked_for_where_documents_have_one_label_are_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train_tiny(tmp_path, "model=bow", "evaluation.thresholds=global", folder="asked")
    assert "note        evaluation.thresholds=global changes nothing: documents have one label" in caplog.text
    caplog.clear()
    train_tiny(tmp_path, "model=bow", folder="default")
    several = ["data.num_labels=5", "data.multilabel=true"]
    train_tiny(tmp_path, "model=bow", *several, "evaluation.thresholds=global", folder="several")
    assert "changes nothing" not in caplog.text


def test_thresholds_are_kept_and_explain_the_predictions(tmp_path: Path) -> None:
    results = train_tiny(tmp_path, "model=bow", "data.num_labels=4", "data.multilabel=true", "training.max_epochs=4")
    kept = json.loads((tmp_path / "run" / "thresholds.json").read_text())
    assert kept["rule"] == "per_label"
    assert kept["labels_with_global_threshold"] == results["labels_with_global_threshold"]
    table = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    for document in table.iter_rows(named=True):
        above = [name for name, threshold in kept["thresholds"].items() if document[f"p({name})"] > threshold]
        assert document["predicted"] == above
    labels = MultiLabelBinarizer(classes=list(kept["thresholds"]))
    wanted = labels.fit_transform(table["labels"].to_list())
    assert f1_score(wanted, labels.transform(table["predicted"].to_list()), average="micro") == pytest.approx(
        results["test/f1_micro"], abs=1e-6
    )
    by_label = pl.read_csv(tmp_path / "run" / "labels.csv")
    assert by_label["documents"].to_list() == wanted.sum(axis=0).tolist()
    assert by_label["f1"].mean() == pytest.approx(results["test/f1_macro"], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (["data.num_labels=2"], {"confusions", "learning_curves", "precision_recall", "reliability"}),
        (
            ["data.num_labels=20", "data.multilabel=true"],
            {"confusions", "f1_by_label", "learning_curves", "precision_recall", "reliability"},
        ),
    ],
    ids=["binary", "multilabel"],
)
def test_the_report_shows_its_figures_and_so_does_tensorboard(
    tmp_path: Path, settings: list[str], names: set[str]
) -> None:
    train_tiny(tmp_path, "model=bow", *settings, "evaluation.figures=true", "training.max_epochs=1")
    folder = tmp_path / "run"
    assert {file.stem for file in (folder / "figures").glob("*.png")} == names
    report = (folder / "report.md").read_text()
    assert set(re.findall(r"\(figures/(\w+)\.png\)", report)) == names
    (file,) = (folder / "tensorboard").glob("events.*")
    events = EventAccumulator(str(file), size_guidance={"images": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {f"figures/{name}" for name in names}


def test_the_report_tells_the_most_confident_mistakes(tmp_path: Path) -> None:
    train_tiny(tmp_path, "model=bow", "data.difficulty=1", "data.num_labels=3")
    table = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    wrong = table.filter(pl.col("labels") != pl.col("predicted")).with_columns(
        worst=pl.max_horizontal("p(label0)", "p(label1)", "p(label2)")
    )
    expected = wrong.sort("worst", descending=True)["document"].head(10).to_list()
    report = (tmp_path / "run" / "report.md").read_text()
    assert [int(number) for number in re.findall(r"^test document (\d+):", report, re.MULTILINE)] == expected


def test_weight_decay_of_adamw_is_decoupled(tmp_path: Path) -> None:
    decayed = [*SMALL_LSTM, "training.weight_decay=0.1"]
    base = train_tiny(tmp_path, *decayed, folder="base")
    changed = train_tiny(tmp_path, *decayed, "training.optimizer=adamw", folder="changed")
    assert changed["test/loss"] != base["test/loss"]


@pytest.mark.parametrize("truncation", ["tail", "head_tail"])
def test_truncation_changes_what_is_read(tmp_path: Path, truncation: str) -> None:
    short = [*SMALL_LSTM, "batches.max_tokens=5"]
    base = train_tiny(tmp_path, *short, "batches.truncation=head", folder="base")
    assert (
        train_tiny(tmp_path, *short, f"batches.truncation={truncation}", folder="changed")["test/loss"]
        != base["test/loss"]
    )


def test_patience_ends_a_training_that_no_longer_improves(tmp_path: Path) -> None:
    stuck = ["model=bow", "training.learning_rate=1e-12", "training.max_epochs=9"]
    assert train_tiny(tmp_path, *stuck, "training.patience=1", folder="a")["train/epochs"] == 2
    assert train_tiny(tmp_path, *stuck, "training.patience=null", folder="b")["train/epochs"] == 9


def test_given_vectors_stay_as_they_are_and_their_coverage_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("".join(f"{word} {number / 8} -0.5 0.25\n" for number, word in enumerate(pseudo_words(40))))
    frozen = ["embedding=glove", "embedding.fine_tune=false", "embedding.dimension=3", f"embedding.path={file}"]
    given = [*frozen, "model=lstm", "model.hidden_size=6"]
    results = train_tiny(tmp_path, *given)
    tokens = load_tokenizer(tmp_path / "run").tokens
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    table = checkpoint["network.embedding.table.weight"]
    expected = {word: [number / 8, -0.5, 0.25] for number, word in enumerate(pseudo_words(40))}
    assert table.tolist() == [expected.get(token, [0, 0, 0]) for token in tokens]
    assert results["embedding/coverage_types"] == pytest.approx(
        len(expected.keys() & set(tokens)) / (len(tokens) - 2), abs=1e-6
    )
    assert results["embedding/coverage_types"] < results["embedding/coverage_tokens"] < 1


@pytest.mark.parametrize("kind", ["word2vec", "fasttext", "svd"])
def test_vectors_learned_from_the_corpus_serve_runs_of_every_seed(tmp_path: Path, kind: str) -> None:
    learned = [f"embedding={kind}", "embedding.dimension=8", "model=lstm", "model.hidden_size=6"]
    tables = []
    for seed in (1, 2):
        results = train_tiny(tmp_path, *learned, f"seed={seed}", folder=f"run{seed}")
        file = tmp_path / f"run{seed}" / "checkpoints" / "best.ckpt"
        tables.append(torch.load(file, weights_only=True)["state_dict"]["network.embedding.table.weight"])
        assert results["embedding/coverage_types"] > 0.9
    assert torch.equal(*tables)
    assert len([path for path in (tmp_path / "cache" / "embeddings").glob(f"synthetic-{kind}-*") if path.is_dir()]) == 1


def test_missing_vectors_are_noticed_before_any_document_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No GloVe vectors of 64 values"):
        train_tiny(tmp_path, "embedding=glove", "embedding.dimension=64", f"paths.corpora_dir={tmp_path / 'corpora'}")
    assert not (tmp_path / "cache").exists()


def test_threads_are_set(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        assert train_tiny(tmp_path, "model=bow", "trainer.threads=1")["environment"]["threads"] == 1
    finally:
        torch.set_num_threads(before)


def test_each_epoch_trains_in_another_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[int] = []
    original = BucketSampler.__iter__

    def spy(self: BucketSampler):
        epochs.append(self.epoch)
        return original(self)

    monkeypatch.setattr(BucketSampler, "__iter__", spy)
    train_tiny(tmp_path, *SMALL_LSTM, "training.max_epochs=3", "training.patience=null")
    assert epochs[-3:] == [0, 1, 2]


def test_a_limited_run_says_so_in_its_report(tmp_path: Path) -> None:
    results = train_tiny(tmp_path, "model=bow", "data.limit=30")
    assert results["documents/train"] + results["documents/validation"] == 60
    assert "first 30 documents of each class" in (tmp_path / "run" / "report.md").read_text()


def test_epochs_are_told_in_plain_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train_tiny(tmp_path, "model=bow")
    lines = [record.message for record in caplog.records]
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert any("documents/s" in line for line in lines)
    assert "tensorboard --logdir" in lines[-1]
