"""Finished runs as ONNX files, used without this project."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest

import newsreel
from helpers.project import Command
from helpers.shared_runs import CLASSES, LSTM, TOPICS, SharedRuns
from helpers.tiny_runs import exported, train_tiny
from newsreel.core.errors import UserError
from newsreel.inference.export import classify
from newsreel.inference.export import onnx as export
from newsreel.runs.trained_run import open_run

SMALL = ["model.hidden_size=6", "embedding.dimension=8"]
ONE_HOT = ["embedding=one_hot", "tokenizer.max_size=200"]
CNN = ["model=cnn", "model.num_filters=4"]
ALONE = {"newsreel": None, "torch": None}  # importing these is an error then
HIERARCHY = ["model=bow", "data.hierarchy=rcv1", "data.num_labels=103", "data.multilabel=true",
             "data.num_documents=400", "evaluation.hierarchy=close", "training.max_epochs=1"]  # fmt: skip
FAST = [
    CLASSES,
    [*TOPICS, "evaluation.thresholds=top_k"],
    ["model=gru", *SMALL, "model.directions=backward", "model.pooling=last",
     "tokenizer=subwords", "embedding.max_norm=0.3"],
    HIERARCHY,
]  # fmt: skip
SLOW = [
    ["model=kim_cnn", "model.num_filters=4", "embedding.dimension=8", "tokenizer.punctuation=keep"],
    ["model=bow", "model.weighting=tfidf"],
    ["model=bow", "embedding=learned", "embedding.dimension=8", "embedding.max_norm=0.3", "tokenizer=subwords"],
    [*TOPICS, "batches.max_tokens=9"],
    ["model=flatten", "embedding.dimension=8", "model.num_tokens=7"],
    ["model=birnn", *SMALL, "model.num_layers=2", "batches.max_tokens=9", "batches.truncation=tail"],
    ["model=bilstm", *SMALL, "model.pooling=attention", "embedding.max_norm=0.3"],
    ["model=lstm", "model.hidden_size=6", *ONE_HOT],
    [*CNN, "embedding.dimension=8", "model.num_layers=3", "data.num_labels=3"],
    [*CNN, *ONE_HOT, "batches.max_tokens=9"],
    ["model=cnn", "model.num_filters=4", "tokenizer=characters", "embedding.dimension=8", "batches.max_tokens=30"],
    ["model=bow", "tokenizer=character_ngrams"],
    [
        "model=bow",
        "tokenizer=character_ngrams",
        "tokenizer.num_buckets=97",
        "tokenizer.analyzer=char",
        "embedding=learned",
        "embedding.dimension=8",
    ],
]


def classified(folder: Path, texts: list[str]) -> list[dict[str, Any]]:
    """What classify.py says of texts where there is neither newsreel nor torch."""
    with mock.patch.dict(sys.modules, ALONE):
        answers: list[dict[str, Any]] = runpy.run_path(str(folder / "classify.py"))["Classifier"]()(texts)
    return answers


@pytest.mark.slow
def test_classify_py_prints_json_lines(tmp_path: Path, shared_runs: SharedRuns) -> None:
    folder = exported(tmp_path / "onnx", f"run={shared_runs.run(*CLASSES)}")
    code = f"import runpy, sys\nsys.modules |= {ALONE}\nrunpy.run_path('classify.py', run_name='__main__')"

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout

    texts = ["-w1 w2", ""]
    assert [json.loads(line) for line in run("--", *texts).splitlines()] == classified(folder, texts)
    assert "texts that begin with -" in run("--help")


@pytest.mark.parametrize(
    "overrides", [*FAST, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW)], ids=lambda row: " ".join(row)
)
def test_classify_py_alone_gives_the_predictions_of_the_run(
    tmp_path: Path, shared_runs: SharedRuns, overrides: list[str]
) -> None:
    run = shared_runs.run(*overrides)
    experiment = open_run(run).experiment
    texts = experiment.reader.load(experiment.paths)["test"]["text"][:20]
    answers = classified(exported(tmp_path / "onnx", f"run={run}"), [*texts, ""])
    assert len(answers) == 21
    expected = pl.read_parquet(run / "predictions.parquet").head(20)
    given = [list(answer["probabilities"].values()) for answer in answers[:20]]
    assert np.abs(expected.select(pl.col("^p\\(.*$")).to_numpy() - given).max() < 1e-5
    labels = [sorted([row] if isinstance(row, str) else row) for row in expected["predicted"].to_list()]
    assert [sorted(answer["labels"]) for answer in answers[:20]] == labels


def test_classify_py_marks_words_of_titles(command_here: Command, tmp_path: Path) -> None:
    """The words are the same in every text: only the title decides."""
    texts = {"wheat": "Wheat\nCocoa and wheat rose", "cocoa": "Cocoa\nWheat and cocoa rose"}
    rows = [{"text": f"{text} {number}", "label": label} for label, text in texts.items() for number in range(40)]
    file = tmp_path / "stories.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    train_tiny(tmp_path, "data=files", f"data.train={file}", "model=bow", "tokenizer.mark_title=true")
    answers = classified(exported(tmp_path / "onnx", f"run={tmp_path / 'run'}"), list(texts.values()))
    assert [answer["labels"] for answer in answers] == [["wheat"], ["cocoa"]]


ODD = ["Crème brûlée, İSTANBUL!", " <br />a\t\u2028b&eacute; ", "日本 語です", "👨\u200d👩 x", "e\u0301 ﬁn", "a"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["tokenizer=characters", "model=cnn", "model.num_filters=4", "embedding.dimension=8", "batches.max_tokens=9"],
        ["tokenizer=character_ngrams", "tokenizer.min_n=4", "tokenizer.max_n=6", "tokenizer.min_document_count=1"],
        pytest.param(
            ["tokenizer=character_ngrams", "tokenizer.num_buckets=50", "tokenizer.analyzer=char"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=" ".join,
)
def test_classify_py_reads_the_characters_of_any_text_as_the_run_does(tmp_path: Path, overrides: list[str]) -> None:
    file = tmp_path / "texts.jsonl"
    rows = [{"text": text, "label": "odd" if number % 2 else "even"} for number, text in enumerate(ODD * 10)]
    file.write_text("\n".join(map(json.dumps, rows)))
    model = [] if "model=cnn" in overrides else ["model=bow"]
    train_tiny(tmp_path, "data=files", f"data.train={file}", *model, *overrides, "tokenizer.normalization=NFKC")
    answers = classified(exported(tmp_path / "onnx", f"run={tmp_path / 'run'}"), [*ODD, ""])
    expected = newsreel.load(tmp_path / "run")([*ODD, ""])
    for answer, prediction in zip(answers, expected, strict=True):
        assert answer["probabilities"] == pytest.approx(prediction["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ngrams", "No such file"),
        ("runes", "nothing for tokenizers of the kind 'runes'"),
        ("words", "test document 0 has other tokens"),
    ],
)
def test_a_program_that_reads_other_tokens_than_the_run_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_runs: SharedRuns, kind: str, message: str
) -> None:
    original = classify.encoder

    def encoder(tokenizer: dict[str, Any], *others: Any) -> Any:
        given = {"kind": kind, "tokens": tokenizer["tokens"][:10], "words": tokenizer["tokens"]}
        return original(tokenizer | given, *others)

    monkeypatch.setattr(classify, "encoder", encoder)
    with pytest.raises(UserError, match=message):
        exported(tmp_path / "onnx", f"run={shared_runs.run(*LSTM)}")
    assert not (tmp_path / "onnx").exists()


def test_nothing_is_left_of_an_export_that_differs(tmp_path: Path, monkeypatch: Any, shared_runs: SharedRuns) -> None:
    forward = export.Classification.forward
    monkeypatch.setattr(export.Classification, "forward", lambda self, ids, lengths: forward(self, ids, lengths) + 0.01)
    with pytest.raises(UserError, match=r"probabilities of its RecurrentNetwork and .* differ by up to 0\.01 on 20"):
        exported(tmp_path / "exports" / "onnx", f"run={shared_runs.run(*LSTM)}")
    assert [path for path in (tmp_path / "exports").iterdir() if not path.name.endswith(".lock")] == []


def test_a_network_that_cannot_be_traced_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_runs: SharedRuns
) -> None:
    monkeypatch.setattr(export.Classification, "forward", lambda self, ids, lengths: ids.cummin(1).values.float())
    with pytest.raises(UserError, match=r"RecurrentNetwork cannot be exported to ONNX: .*cummin"):
        exported(tmp_path / "onnx", f"run={shared_runs.run(*LSTM)}")


def test_the_command_verifies_on_other_documents_and_refuses(
    command_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_runs: SharedRuns
) -> None:
    shared_runs.copy(tmp_path / "run", *LSTM)
    (tmp_path / "films.csv").write_text("text,label\na film,label1\nfilms,label0\na third,label0\n")
    asked = ["scripts/export.py", "run=run", "output=onnx", "data=files", "data.test=films.csv", "num_documents=2"]
    done = command_here(*asked)
    assert done.returncode == 0, done.stderr
    assert "verified    on 2 test documents of files" in done.stdout
    again = command_here(*asked)
    assert (again.returncode, again.stderr) == (2, "error: onnx exists already: name another directory with output=…\n")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime.*pip install"):
        exported(tmp_path / "another", f"run={tmp_path / 'run'}")
