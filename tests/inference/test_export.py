"""Finished runs as ONNX files, used without this project."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from helpers.project import Command
from helpers.shared_runs import SharedRuns
from helpers.tiny_runs import SMALL_LSTM, exported, train_tiny
from newsreel.core.errors import UserError
from newsreel.inference.export import onnx as export
from newsreel.runs.trained_run import open_run

SMALL = ["model.hidden_size=6", "embedding.dimension=8"]
ALONE = 'import sys\nsys.modules |= {"newsreel": None, "torch": None}\n'  # importing these is an error then


def classified(folder: Path, texts: list[str]) -> list[dict[str, Any]]:
    """What classify.py says of texts, in a process that has neither newsreel nor torch."""
    code = f"{ALONE}import runpy\nrunpy.run_path('classify.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, *texts], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def some_texts(run: Path) -> list[str]:
    experiment = open_run(run).experiment
    return [row["text"] for row in experiment.reader.load(experiment.paths)["test"].select(range(20))]


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["model=bow", "model.weighting=tfidf"], marks=pytest.mark.slow),
        ["model=bow", "model.weighting=nb", "tokenizer=ngrams", "data.num_labels=3"],
        ["model=bow", "embedding=learned", "embedding.dimension=8", "embedding.max_norm=0.3", "tokenizer=subwords"],
        pytest.param(
            ["model=bow", "data.num_labels=4", "data.multilabel=true", "batches.max_tokens=9"], marks=pytest.mark.slow
        ),
        ["model=bow", "data.num_labels=4", "data.multilabel=true", "evaluation.thresholds=top_k"],
        pytest.param(["model=flatten", "embedding.dimension=8", "model.num_tokens=7"], marks=pytest.mark.slow),
        pytest.param(
            ["model=birnn", *SMALL, "model.num_layers=2", "batches.max_tokens=9", "batches.truncation=tail"],
            marks=pytest.mark.slow,
        ),
        ["model=gru", *SMALL, "model.directions=backward", "model.pooling=last", "tokenizer.punctuation=keep"],
        pytest.param(
            ["model=bilstm", *SMALL, "model.pooling=attention", "embedding.max_norm=0.3"], marks=pytest.mark.slow
        ),
        pytest.param(
            ["model=lstm", "model.hidden_size=6", "embedding=one_hot", "tokenizer.max_size=200"], marks=pytest.mark.slow
        ),
        pytest.param(
            ["model=cnn", "model.num_filters=4", "embedding.dimension=8", "model.num_layers=3", "data.num_labels=3"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["model=cnn", "model.num_filters=4", "embedding=one_hot", "tokenizer.max_size=200", "batches.max_tokens=9"],
            marks=pytest.mark.slow,
        ),
        ["model=kim_cnn", "model.num_filters=4", "embedding.dimension=8"],
    ],
    ids=" ".join,
)
def test_classify_py_alone_gives_the_predictions_of_the_run(
    tmp_path: Path, shared_runs: SharedRuns, overrides: list[str]
) -> None:
    run = shared_runs.run(*overrides, "training.max_epochs=1")
    folder = exported(tmp_path / "onnx", f"run={run}")
    answers = classified(folder, [*some_texts(run), ""])
    expected = pl.read_parquet(run / "predictions.parquet").head(20)
    given = [list(answer["probabilities"].values()) for answer in answers[:20]]
    assert np.abs(expected.select(pl.col("^p\\(.*$")).to_numpy() - given).max() < 1e-5
    labels = [sorted([row] if isinstance(row, str) else row) for row in expected["predicted"].to_list()]
    assert [sorted(answer["labels"]) for answer in answers[:20]] == labels
    assert len(answers) == 21


def test_classify_py_marks_words_of_titles(command_here: Command, tmp_path: Path) -> None:
    """The words are the same in every text: only the title decides."""
    texts = {"wheat": "Wheat\nCocoa and wheat rose", "cocoa": "Cocoa\nWheat and cocoa rose"}
    rows = [{"text": f"{text} {number}", "label": label} for label, text in texts.items() for number in range(40)]
    (tmp_path / "stories.jsonl").write_text("\n".join(map(json.dumps, rows)))
    trained = command_here(
        "train.py", "data=files", "data.train=stories.jsonl", "model=bow", "trainer=cpu", "tokenizer.mark_title=true",
        "hydra.run.dir=run", "evaluation.figures=false",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    answers = classified(exported(tmp_path / "onnx", f"run={tmp_path / 'run'}"), list(texts.values()))
    assert [answer["labels"] for answer in answers] == [["wheat"], ["cocoa"]]


def test_labels_above_those_that_are_given_are_given_too(tmp_path: Path) -> None:
    train_tiny(
        tmp_path, "model=bow", "data.hierarchy=rcv1", "data.num_labels=103", "data.multilabel=true",
        "data.num_documents=400", "evaluation.hierarchy=close", "training.max_epochs=1",
    )  # fmt: skip
    answers = classified(exported(tmp_path / "onnx", f"run={tmp_path / 'run'}"), some_texts(tmp_path / "run"))
    expected = pl.read_parquet(tmp_path / "run" / "predictions.parquet").head(20)["predicted"].to_list()
    assert [sorted(answer["labels"]) for answer in answers] == [sorted(labels) for labels in expected]


def test_nothing_is_left_of_an_export_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_runs: SharedRuns
) -> None:
    shared_runs.copy(tmp_path / "run", *SMALL_LSTM)
    forward = export.Classification.forward
    monkeypatch.setattr(export.Classification, "forward", lambda self, ids, lengths: forward(self, ids, lengths) + 0.01)
    with pytest.raises(UserError, match=r"probabilities of its RecurrentNetwork and .* differ by up to 0\.01 on 40"):
        exported(tmp_path / "exports" / "onnx", f"run={tmp_path / 'run'}")
    assert [path for path in (tmp_path / "exports").iterdir() if not path.name.endswith(".lock")] == []


def test_a_network_that_cannot_be_traced_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_runs: SharedRuns
) -> None:
    shared_runs.copy(tmp_path / "run", *SMALL_LSTM)
    monkeypatch.setattr(export.Classification, "forward", lambda self, ids, lengths: ids.cummin(1).values.float())
    with pytest.raises(UserError, match=r"RecurrentNetwork cannot be exported to ONNX: .*cummin"):
        exported(tmp_path / "onnx", f"run={tmp_path / 'run'}")


def test_the_command_verifies_on_other_documents_and_refuses(
    command: Command, command_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_runs: SharedRuns
) -> None:
    shared_runs.copy(tmp_path / "run", *SMALL_LSTM)
    (tmp_path / "films.csv").write_text("text,label\na film,label1\nfilms,label0\na third,label0\n")
    asked = ["scripts/export.py", "run=run", "output=onnx", "data=files", "data.test=films.csv", "num_documents=2"]
    done = command(*asked)
    assert done.returncode == 0, done.stderr
    assert "verified    on 2 test documents of files" in done.stdout
    again = command_here(*asked)
    assert (again.returncode, again.stderr) == (2, "error: onnx exists already: name another directory with output=…\n")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime.*pip install"):
        exported(tmp_path / "another", f"run={tmp_path / 'run'}")
