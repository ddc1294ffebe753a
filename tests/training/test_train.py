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
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.marks import slow
from helpers.own_files import write_csv
from helpers.shared_runs import LEARNABLE, SharedRuns
from helpers.tiny_runs import MINIBATCH_BOW, SMALL_CNN, SMALL_LSTM, read_tiny, train_tiny, without_times
from newsreel.core.errors import UserError
from newsreel.corpora.synthetic import pseudo_words
from newsreel.models.classifier import TextClassifier
from newsreel.runs.run_dir import read_weights
from newsreel.text.loading import load_tokenizer

SHOWN = [*LEARNABLE, "logger=tensorboard", "evaluation.figures=true"]
ONE_EPOCH = ["data.num_documents=60", "batches.batch_size=10", "training.max_epochs=1"]
WATCHED = [*SMALL_LSTM, *ONE_EPOCH, "batches.max_tokens=5", "batches.truncation=head", "training.weight_decay=0.1"]
SEVERAL = [*MINIBATCH_BOW, "data.num_labels=5", "data.multilabel=true", "data.num_documents=200"]


def checkpoint(run_dir: Path, name: str = "best") -> dict[str, Any]:
    return torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)


def events_of(run_dir: Path) -> EventAccumulator:
    (file,) = (run_dir / "tensorboard").glob("events.*")
    return EventAccumulator(str(file), size_guidance={"scalars": 0, "images": 0}).Reload()


def test_a_run_folder_holds_what_is_promised(shared_runs: SharedRuns) -> None:
    folder, results = shared_runs.run(*SHOWN), shared_runs.results(*SHOWN)
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "metrics.json", "tokenizer.json", "labels.json", "command.json", "checkpoints", "tensorboard",
        "report.md", "report.html", "labels.csv", "predictions.parquet", "figures",
    }  # fmt: skip
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "last-1.ckpt"}
    for name in ("best", "last", "last-1"):  # which load as plain weights
        assert checkpoint(folder, name)["hyper_parameters"]["model"]["hidden_size"] == 6
    labels = json.loads((folder / "labels.json").read_text())
    assert (labels["task"], labels["names"], labels["metric"]) == ("binary", ["label0", "label1"], "accuracy")
    assert OmegaConf.load(folder / "config.yaml").model.hidden_size == 6
    assert json.loads((folder / "metrics.json").read_text()) == results
    assert (results["documents/train"], results["documents/validation"], results["documents/test"]) == (360, 40, 100)
    assert {key for key, value in results.items() if isinstance(value, (int, float))} >= {
        "test/accuracy", "test/f1_micro", "test/f1_macro", "test/loss", "val/accuracy", "val/loss", "train/epochs",
        "time/prepare_s", "time/fit_s", "time/test_s", "time/total_s", "throughput/train_documents_per_s",
        "throughput/test_documents_per_s", "memory/peak_rss_mb",
    }  # fmt: skip
    assert results["environment"].keys() >= {
        "torch", "lightning", "processor", "threads", "device", "git_commit", "seed", "corpus_source",
        "corpus_fingerprint",
    }  # fmt: skip


def test_easy_documents_are_learned_and_predicted(shared_runs: SharedRuns) -> None:
    results = shared_runs.results(*SHOWN)
    assert results["test/accuracy"] > 0.9
    table = pl.read_parquet(shared_runs.run(*SHOWN) / "predictions.parquet")
    assert table["document"].to_list() == list(range(100))
    assert accuracy_score(table["labels"], table["predicted"]) == pytest.approx(results["test/accuracy"])
    assert np.allclose(table["p(label0)"] + table["p(label1)"], 1, atol=1e-6)
    chosen = np.where(table["p(label1)"] > table["p(label0)"], "label1", "label0")
    assert (chosen == table["predicted"].to_numpy()).all()


def test_the_report_says_what_the_data_is_and_how_to_repeat_it(shared_runs: SharedRuns) -> None:
    report = (shared_runs.run(*SHOWN) / "report.md").read_text()
    assert "documents are generated" in report
    assert "python train.py data=synthetic" in report
    assert f"{shared_runs.results(*SHOWN)['test/accuracy']:.4f}" in report
    assert "## Limits\n\n- It predicts one of these 2 labels for every document" in report


def test_tensorboard_holds_every_promised_tag(shared_runs: SharedRuns) -> None:
    events, results = events_of(shared_runs.run(*SHOWN)), shared_runs.results(*SHOWN)
    scalars = set(events.Tags()["scalars"])
    assert scalars >= {
        "train/loss_step", "train/loss_epoch", "train/accuracy_step", "train/accuracy_epoch", "train/learning_rate",
        "train/gradient_norm", "train/epoch", "val/loss", "val/accuracy", "val/f1_macro", "test/loss", "test/accuracy",
        "final/f1_micro_test", "final/f1_micro_val", "final/fit_s",
    }  # fmt: skip
    assert {tag.partition("/")[0] for tag in scalars} == {"final", "test", "train", "val"}
    (final,) = events.Scalars("final/f1_micro_test")
    assert final.value == pytest.approx(results["test/accuracy"])
    assert len(events.Scalars("val/accuracy")) == results["train/epochs"]
    (config,) = events.Tensors("config/text_summary")
    assert b"hidden_size: 6" in config.tensor_proto.string_val[0]


def test_the_report_shows_its_figures_and_so_does_tensorboard(tmp_path: Path, shared_runs: SharedRuns) -> None:
    several = ["model=bow", "data.num_labels=20", "data.multilabel=true", "training.max_epochs=1"]
    train_tiny(tmp_path, *several, "evaluation.figures=true")
    names = {"confusions", "learning_curves", "precision_recall", "reliability"}
    for folder, expected in ((shared_runs.run(*SHOWN), names), (tmp_path / "run", {*names, "f1_by_label"})):
        assert {file.stem for file in (folder / "figures").glob("*.png")} == expected
        assert set(re.findall(r"\(figures/(\w+)\.png\)", (folder / "report.md").read_text())) == expected
    images = events_of(shared_runs.run(*SHOWN)).Tags()["images"]
    assert set(images) == {f"figures/{name}" for name in names}
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_training_that_diverges_is_stopped_with_the_remedy(tmp_path: Path) -> None:
    explode = ["training.optimizer=sgd", "training.learning_rate=1", "training.weight_decay=1e30"]
    with pytest.raises(UserError, match=r"diverged\. Lower training\.learning_rate \(1\)"):
        train_tiny(tmp_path, *SMALL_LSTM, *explode)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_the_best_epoch_is_tested_or_the_last_if_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tested: list[torch.Tensor] = []
    original = TextClassifier.on_test_epoch_start

    def spy(self: TextClassifier) -> None:
        tested.append(self.network.bag.bias.detach().clone())  # type: ignore[attr-defined, union-attr]
        original(self)

    monkeypatch.setattr(TextClassifier, "on_test_epoch_start", spy)
    noisy = ["model=bow", "data.num_documents=200", "data.difficulty=0.9", "training.max_epochs=6"]
    noisy += ["training.patience=null"]
    best = train_tiny(tmp_path, *noisy, folder="best")
    last = train_tiny(tmp_path, *noisy, "training.checkpoint=last", folder="last")
    assert best["train/kept_epoch"] < last["train/kept_epoch"] == best["train/epochs"] == 6
    for name, results, weights in (("best", best, tested[0]), ("last", last, tested[1])):
        kept = checkpoint(tmp_path / name)
        assert kept["epoch"] + 1 == results["train/kept_epoch"]
        assert torch.equal(weights, kept["state_dict"]["network.bag.bias"])
    assert not torch.equal(*tested)
    assert last["val/accuracy"] <= best["val/accuracy"]
    assert last["train/loss"] < best["train/loss"]
    told = {name: (tmp_path / name / "report.md").read_text() for name in ("best", "last")}
    assert "The checkpoint is from the epoch with the highest validation accuracy;" in told["best"]
    assert "The checkpoint is from the last epoch;" in told["last"]


def test_patience_ends_a_training_that_no_longer_improves(tmp_path: Path) -> None:
    stuck = [*MINIBATCH_BOW, "training.learning_rate=1e-12", "training.max_epochs=5"]
    results = train_tiny(tmp_path, *stuck, "training.patience=1")
    assert (results["train/epochs"], results["train/kept_epoch"]) == (2, 1)
    assert checkpoint(tmp_path / "run")["epoch"] == 0  # the first of equal ones
    assert train_tiny(tmp_path, *stuck, "training.patience=null", folder="b")["train/epochs"] == 5


def test_an_epoch_of_few_documents_has_as_many_passes_as_its_steps_need(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accumulated = ["trainer.accumulate_grad_batches=2", "training.min_steps_per_epoch=8", "training.patience=null"]
    small = [
        *MINIBATCH_BOW,
        "data.num_documents=100",
        "batches.batch_size=20",
    ]  # 72 training documents: 4 batches
    with caplog.at_level("INFO"):
        results = train_tiny(tmp_path, *small, *accumulated)
    assert results["train/passes_per_epoch"] == 4
    assert (results["train/epochs"], results["train/steps"]) == (2, 16)
    assert "4 passes over the 72 training documents" in caplog.text
    assert "2 of 4 passes over the training documents each" in (tmp_path / "run" / "report.md").read_text()
    one = train_tiny(tmp_path, *small, "training.min_steps_per_epoch=4", "training.patience=null", folder="one")
    assert one["train/steps"] == 8
    assert "train/passes_per_epoch" not in one


@pytest.mark.parametrize(("scaled", "passes"), [("true", 6), ("false", 2)])
def test_steps_of_an_epoch_grow_with_the_number_of_labels_above_ten(tmp_path: Path, scaled: str, passes: int) -> None:
    """90 training documents in batches of 18 are 5 steps; 10 steps of at least ten labels are 30 of 30 labels."""
    labels = ["data.num_documents=125", "data.num_labels=30", "data.validation_fraction=0.1", "batches.batch_size=18"]
    steps = ["training.min_steps_per_epoch=10", f"training.scale_min_steps={scaled}"]
    results = train_tiny(tmp_path, *MINIBATCH_BOW, *labels, *steps, "training.max_epochs=1")
    assert (results["train/passes_per_epoch"], results["train/steps"]) == (passes, 5 * passes)


def test_statistics_are_those_of_one_pass(tmp_path: Path) -> None:
    idf = []
    for min_steps in (1, 40):
        train_tiny(tmp_path, *MINIBATCH_BOW, f"training.min_steps_per_epoch={min_steps}", folder=f"run{min_steps}")
        idf.append(checkpoint(tmp_path / f"run{min_steps}")["state_dict"]["network.idf"])
    assert torch.equal(*idf)


def test_a_network_that_has_learned_nothing_is_reported_with_the_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    easy = [*MINIBATCH_BOW, "data.difficulty=0"]
    with caplog.at_level("INFO"):
        train_tiny(tmp_path, *easy, "training.learning_rate=1e-12", folder="stuck")
    assert "The training loss has hardly left its start: it is 0." in caplog.text
    assert re.search(
        r"note +The test accuracy of 0\.\d+ (does not differ significantly from|is below) the maj", caplog.text
    )
    assert "above 0.6931, the loss of the uniform guess" not in caplog.text  # its remedy is the opposite
    assert "raise training.min_steps_per_epoch" in (tmp_path / "stuck" / "report.md").read_text()
    train_tiny(tmp_path, *easy, "training.min_steps_per_epoch=50", "training.learning_rate=1.0", folder="learned")
    report = (tmp_path / "learned" / "report.md").read_text()
    assert "has hardly left" not in report
    assert "differ significantly" not in report
    caplog.clear()
    with caplog.at_level("INFO"):
        train_tiny(tmp_path, *easy, "training.learning_rate=1000", "training.gradient_clip=null", folder="diverged")
    assert re.search(r"note +The validation loss of .* and the test loss of .* are above 0.6931", caplog.text)


def test_the_test_score_has_its_interval_and_the_majority_guess_beside_it(shared_runs: SharedRuns) -> None:
    folder, results = shared_runs.run(*SHOWN), shared_runs.results(*SHOWN)
    table = pl.read_parquet(folder / "predictions.parquet")
    interval = binomtest(int((table["labels"] == table["predicted"]).sum()), len(table)).proportion_ci(0.95)
    ends = [results[f"test/accuracy_ci_{end}"] for end in ("low", "high")]
    assert ends == pytest.approx([interval.low, interval.high], abs=1e-6)
    training = pl.read_csv(folder / "labels.csv").sort("training_documents", descending=True)
    majority = (table["labels"] == training["label"][0]).mean()
    assert results["test/majority_accuracy"] == pytest.approx(majority)
    shown = f"95% interval {ends[0]:.4f}–{ends[1]:.4f}, majority guess {majority:.4f}"
    report = (folder / "report.md").read_text()
    assert shown in report
    row = next(line for line in report.splitlines() if line.startswith("| accuracy "))
    assert [cell.strip() for cell in row.split("|")[4:6]] == [f"{ends[0]:.4f}–{ends[1]:.4f}", f"{majority:.4f}"]
    assert (results["overlap/exact"], results["overlap/near"]) == (0, 0)
    assert "test/accuracy_without_overlap" not in results


def test_the_score_without_documents_of_training_is_in_the_results(tmp_path: Path) -> None:
    rows = [(f"{'good' if number % 2 else 'bad'} film number {number} of the year", number % 2) for number in range(60)]
    test = [rows[0], (f"{rows[2][0]}!", 0), ("a good one", 1), ("a bad one", 1), ("good", 1)]  # the new ones have 1
    for name, documents in (("train", rows), ("test", test)):
        write_csv(tmp_path / f"{name}.csv", [(text, str(label)) for text, label in documents])
    files = [f"data.{name}={tmp_path / name}.csv" for name in ("train", "test")]
    results = train_tiny(tmp_path, "model=bow", "data=files", "data.text=review", "data.label=stars", *files)
    assert (results["overlap/exact"], results["overlap/near"]) == (1, 1)
    table = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    is_right = table["labels"] == table["predicted"]
    assert results["test/accuracy"] == pytest.approx(is_right.mean())
    assert results["test/accuracy_without_overlap"] == pytest.approx(is_right.filter(table["labels"] == "1").mean())
    assert results["test/accuracy_without_overlap"] != results["test/accuracy"]


def test_the_same_command_gives_the_same_numbers_and_another_seed_others(
    tmp_path: Path, shared_runs: SharedRuns
) -> None:
    first = shared_runs.results(*WATCHED)
    assert without_times(train_tiny(tmp_path, *WATCHED)) == without_times(first)
    other = train_tiny(tmp_path, *WATCHED, "seed=0", folder="other")
    assert other["test/loss"] != first["test/loss"]
    assert other["environment"]["seed"] == 0


CHANGES = {  # by the section of the config
    "training": ["weight_decay=0", "schedule=cosine", "gradient_clip=0.001", "class_balance=1", "label_smoothing=0.2"],
    "batches": ["truncation=tail"],
    "data": ["split_seed=7"],
    "tokenizer": ["min_document_count=3"],
    "model": ["recurrent_dropout=0.5", "layer_norm=true"],
    "embedding": ["word_dropout=0.9"],
}  # fmt: skip
ROWS = [(WATCHED, f"{section}.{change}") for section, changes in CHANGES.items() for change in changes]
ROWS += [(SEVERAL, "evaluation.shrinkage=0")]
REST = [(WATCHED, change) for change in (
    "training.optimizer=sgd", "training.betas=[0.5,0.9]", "training.ema=0.9", "training.warmup_fraction=0.5",
    "training.focal_gamma=2", "batches.max_tokens=3", "tokenizer.max_size=20", "model.dropout=0.9",
    "embedding.dropout=0.9", "embedding.max_norm=0.01",
    "training.optimizer=rmsprop", "training.optimizer=adamw", "training.schedule=constant", "batches.batch_size=20",
    "batches.truncation=head_tail", "data.validation_fraction=0.3", "data.seed=5", "model.pooling=last",
    "model.num_layers=2",
)]  # fmt: skip
REST += [(SEVERAL, f"evaluation.thresholds={rule}") for rule in ("global", "top_k", "fixed")]
REST += [(SEVERAL, "training.initial_accumulator=0.001")]


@pytest.mark.parametrize(("base", "change"), [*ROWS, *(slow(*row) for row in REST)])
def test_every_setting_changes_something(shared_runs: SharedRuns, base: list[str], change: str) -> None:
    before, after = shared_runs.results(*base), train_tiny(shared_runs.folder, *base, change, folder=change)
    names = ["loss"] if base == WATCHED else ["f1_micro", "f1_macro", "loss"]
    assert any(after[f"test/{name}"] != before[f"test/{name}"] for name in names)


@pytest.mark.parametrize("model", [pytest.param(SMALL_LSTM, id="lstm"), slow(SMALL_CNN, id="cnn")])
def test_scores_do_not_depend_on_the_number_of_threads(tmp_path: Path, model: list[str]) -> None:
    before = torch.get_num_threads()
    runs = {}
    for threads in (1, 2, 4):
        overrides = [*model, "embedding.dropout=0.3", f"trainer.threads={threads}"]
        results = without_times(train_tiny(tmp_path, *overrides, folder=f"threads{threads}"))
        assert results["environment"].pop("threads") == threads
        predictions = pl.read_parquet(tmp_path / f"threads{threads}" / "predictions.parquet")
        runs[threads] = results, read_weights(tmp_path / f"threads{threads}"), predictions
    torch.set_num_threads(before)
    results, weights, predictions = runs.pop(1)
    for other_results, other_weights, other_predictions in runs.values():
        assert other_results == results
        assert all(map(torch.equal, other_weights.values(), weights.values()))
        assert other_predictions.equals(predictions)


def test_what_a_run_did_is_told_in_plain_lines_and_in_its_report(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    limited = ["data.limit=15", "data.num_labels=3", "data.difficulty=1", "evaluation.thresholds=global"]
    before = torch.get_num_threads()
    results = train_tiny(tmp_path, "model=bow", *limited, "logger=tensorboard", "trainer.threads=3")
    torch.set_num_threads(before)
    assert results["environment"]["threads"] == 3
    assert results["documents/train"] + results["documents/validation"] == 45
    lines = [record.message for record in caplog.records]
    assert "note        evaluation.thresholds=global has no effect: each document gets one label" in caplog.text
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert any("documents/s" in line for line in lines)
    assert "tensorboard --logdir" in lines[-1]
    assert "where the time went" not in caplog.text
    report = (tmp_path / "run" / "report.md").read_text()
    assert "first 15 documents of each class" in report
    wrong = pl.read_parquet(tmp_path / "run" / "predictions.parquet").filter(pl.col("labels") != pl.col("predicted"))
    worst = wrong.sort(pl.max_horizontal("p(label0)", "p(label1)", "p(label2)"), descending=True)["document"]
    told = [int(number) for number in re.findall(r"^test document (\d+):", report, re.MULTILINE)]
    assert told == worst.head(10).to_list()


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
    targets = labels.fit_transform(table["labels"].to_list())
    assert f1_score(targets, labels.transform(table["predicted"].to_list()), average="micro") == pytest.approx(
        results["test/f1_micro"], abs=1e-6
    )
    by_label = pl.read_csv(tmp_path / "run" / "labels.csv")
    assert by_label["documents"].to_list() == targets.sum(axis=0).tolist()
    assert by_label["f1"].mean() == pytest.approx(results["test/f1_macro"], abs=1e-5)


def test_statistics_are_those_of_the_training_documents_alone(shared_runs: SharedRuns) -> None:
    tfidf = ["model=bow", "model.weighting=tfidf"]
    run, experiment = shared_runs.run(*tfidf), read_tiny(shared_runs.folder, *tfidf)
    tokenizer = load_tokenizer(run)
    documents = tokenizer.encode(experiment.reader.load(experiment.paths)["train"]["text"][:])
    counts = sum(np.bincount(np.unique(ids), minlength=len(tokenizer.tokens)) for ids in documents)
    expected = np.log((1 + len(documents)) / (1 + counts)) + 1
    assert checkpoint(run)["state_dict"]["network.idf"][2:].numpy() == pytest.approx(expected[2:], rel=1e-6)


def test_given_vectors_stay_as_they_are_and_their_coverage_is_reported(tmp_path: Path) -> None:
    expected = {word: [number / 8, -0.5, 0.25] for number, word in enumerate(pseudo_words(40))}
    file = tmp_path / "vectors.txt"
    file.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in expected.items()))
    frozen = ["embedding=glove", "embedding.fine_tune=false", "embedding.dimension=3", f"embedding.path={file}"]
    results = train_tiny(tmp_path, *frozen, "model=lstm", "model.hidden_size=6")
    tokens = load_tokenizer(tmp_path / "run").tokens
    table = checkpoint(tmp_path / "run")["state_dict"]["network.embedding.table.weight"]
    assert table.tolist() == [expected.get(token, [0, 0, 0]) for token in tokens]
    share = len(expected.keys() & set(tokens)) / (len(tokens) - 2)
    assert results["embedding/coverage_types"] == pytest.approx(share, abs=1e-6)
    assert share < results["embedding/coverage_tokens"] < 1


@pytest.mark.slow
def test_vectors_learned_from_the_corpus_serve_runs_of_every_seed(tmp_path: Path) -> None:
    learned = ["embedding=svd", "embedding.dimension=8", "model=lstm", "model.hidden_size=6"]
    tables = []
    for seed in (1, 2):
        results = train_tiny(tmp_path, *learned, f"seed={seed}", folder=f"run{seed}")
        tables.append(checkpoint(tmp_path / f"run{seed}")["state_dict"]["network.embedding.table.weight"])
        assert results["embedding/coverage_types"] > 0.9
    assert torch.equal(*tables)
    assert len([path for path in (tmp_path / "cache" / "embeddings").glob("synthetic-svd-*") if path.is_dir()]) == 1


def test_missing_vectors_are_noticed_before_any_document_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No GloVe vectors of 64 values"):
        train_tiny(tmp_path, "embedding=glove", "embedding.dimension=64", f"paths.corpora_dir={tmp_path / 'corpora'}")
    assert not (tmp_path / "cache").exists()
