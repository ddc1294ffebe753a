"""Documents classified by finished runs."""

import csv
import io
import json
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import newsreel
from helpers.configs import compose_anew, compose_config, own
from helpers.preloaded import PreloadedPopen
from helpers.project import Command
from helpers.shared_runs import RUNS, SharedRuns
from helpers.tiny_runs import read_tiny
from newsreel.cli.app import quote_literals
from newsreel.core.errors import UserError
from newsreel.inference.input_stream import Source, StreamLines, chunks
from newsreel.inference.output_writers import PredictionBatch, dumps
from newsreel.inference.predict import predict
from newsreel.runs import scoring
from newsreel.runs.scoring import batches_of_similar_length

COLUMNS = ["id", "review"]
ROWS = [("7", "one two"), ("8", ""), ("9", 'three "four"\nfive, six'), ("10", "seven")]
TEXTS = [text for _, text in ROWS]


@pytest.fixture(scope="module")
def folder(shared_runs: SharedRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, overrides in RUNS.items():
        (folder / name).symlink_to(shared_runs.run(*overrides))
    return folder


def ask(*overrides: str) -> None:
    """What the command does with its arguments."""
    texts = ("run", "text", "input", "column", "delimiter", "output", "explain_label", "html")
    predict(own(compose_config("predict", *quote_literals(overrides, texts))))


def read_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_columns_and_layout_are_those_of_the_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.data").write_bytes('1;one;tw\xf6\n2;"three;\n'.encode("latin-1"))
    (tmp_path / "lines.jsonl").write_text('{"text": "one\\ntw\xf6"}\n{"text": "\\"three"}\n', encoding="utf-8")
    layout = ["format=csv", "delimiter=;", "header=false", "quoting=false", "encoding=latin-1", "column=[2,3]"]
    ask(f"run={folder / 'lstm'}", f"input={tmp_path / 'odd.data'}", *layout)
    found = capsys.readouterr().out
    ask(f"run={folder / 'lstm'}", f"input={tmp_path / 'lines.jsonl'}")
    assert found == capsys.readouterr().out
    with pytest.raises(UserError, match=r"only one, which contains ';'.* set delimiter=';'"):
        ask(f"run={folder / 'lstm'}", f"input={tmp_path / 'odd.data'}", "format=csv", "encoding=latin-1")
    with pytest.raises(UserError, match="encoding=utf-9 is not an encoding"):
        ask(f"run={folder / 'lstm'}", f"input={tmp_path / 'odd.data'}", "encoding=utf-9")


@pytest.fixture
def reviews(tmp_path: Path) -> dict[str, Path]:
    """The same documents in every format with columns."""
    files = {ending: tmp_path / f"reviews.{ending}" for ending in ("csv", "tsv", "jsonl", "parquet")}
    for ending, delimiter in (("csv", ","), ("tsv", "\t")):
        with files[ending].open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([COLUMNS, *ROWS])
    records = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
    files["jsonl"].write_text("".join(f"{json.dumps(record)}\n" for record in records))
    pl.DataFrame(records).write_parquet(files["parquet"])
    return files


@pytest.mark.parametrize("name", RUNS)
def test_test_documents_get_what_the_training_predicted_for_them(folder: Path, name: str) -> None:
    experiment = read_tiny(folder, *RUNS[name])
    texts = list(experiment.reader.load(experiment.paths)["test"]["text"])
    expected = pl.read_parquet(folder / name / "predictions.parquet")
    rows = newsreel.load(folder / name)(texts)
    probabilities = [[row["probabilities"][label] for label in rows[0]["probabilities"]] for row in rows]
    columns = [f"p({label})" for label in rows[0]["probabilities"]]
    assert np.abs(np.array(probabilities) - expected.select(columns).to_numpy()).max() <= 1e-6
    assert [row["labels" if name == "topics" else "label"] for row in rows] == expected["predicted"].to_list()


def test_documents_are_batched_by_length_within_a_number_of_tokens() -> None:
    assert list(batches_of_similar_length(np.array([3, 0, 5, 1]), 6)) == [[2], [0, 3], [1]]
    assert list(batches_of_similar_length(np.array([9, 8]), 6)) == [[0], [1]]  # a longer document is alone
    assert list(batches_of_similar_length(np.array([], dtype=np.int64), 6)) == []


def test_every_format_gives_the_same_answers_in_the_documents_order(
    folder: Path, reviews: dict[str, Path], tmp_path: Path
) -> None:
    expected = newsreel.load(folder / "topics")(TEXTS)
    for ending, file in reviews.items():
        output = tmp_path / f"{ending}.jsonl"
        ask(f"run={folder / 'topics'}", f"input={file}", "column=review", "keep=[id]", f"output={output}")
        assert read_lines(output.read_text()) == [
            {"id": number} | row for (number, _), row in zip(ROWS, expected, strict=True)
        ]


def test_lines_are_documents(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    content = "\ufeffone two\n\nthree\r\nfour\u2028five"
    (tmp_path / "lines.txt").write_bytes(content.encode())
    expected = newsreel.load(folder / "lstm")(["one two", "", "three", "four\u2028five"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    for source, answers in (
        ([f"input={tmp_path / 'lines.txt'}"], expected),
        ([], expected),
        (["text=three"], expected[2:3]),
    ):
        ask(f"run={folder / 'lstm'}", *source)
        assert read_lines(capfd.readouterr().out) == answers


@pytest.mark.parametrize(("name", "column"), [("lstm", "label"), ("topics", "labels")])
def test_tables_of_answers_have_a_row_a_document(
    folder: Path, reviews: dict[str, Path], tmp_path: Path, name: str, column: str
) -> None:
    expected = newsreel.load(folder / name)(TEXTS)
    probabilities = [list(row["probabilities"].values()) for row in expected]
    num_labels = len(probabilities[0])
    names = ["id", column, *(["probability"] if name == "lstm" else [])]
    names += [f"p({label})" for label in expected[0]["probabilities"]]
    for ending in ("csv", "parquet"):
        output = f"output={tmp_path / 'answers'}.{ending}"
        ask(f"run={folder / name}", f"input={reviews['csv']}", "column=review", "keep=[id]", output)
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == names
    assert [row[0] for row in rows] == [number for number, _ in ROWS]
    assert [row[1] for row in rows] == [
        ";".join(row["labels"]) if name == "topics" else row["label"] for row in expected
    ]
    assert [list(map(float, row[-num_labels:])) for row in rows] == probabilities
    table = pl.read_parquet(tmp_path / "answers.parquet")
    assert table.columns == names
    assert table[column].to_list() == [row[column] for row in expected]
    assert table.select(names[-num_labels:]).to_numpy().tolist() == np.float32(probabilities).tolist()


def test_only_the_most_probable_labels(folder: Path, tmp_path: Path) -> None:
    classify = newsreel.load(folder / "classes")
    (everything,), (best,) = classify(["w1 w2"]), classify(["w1 w2"], top_k=2)
    ranked = sorted(everything["probabilities"].items(), key=lambda item: -item[1])
    assert list(best["probabilities"].items()) == ranked[:2]
    assert best["label"] == ranked[0][0] == everything["label"]
    assert len(classify(["w1 w2"], top_k=3)[0]["probabilities"]) == 3
    ask(f"run={folder / 'classes'}", "text=w1 w2", "top_k=2", f"output={tmp_path / 'best.csv'}")
    (row,) = pl.read_csv(tmp_path / "best.csv").to_dicts()
    assert [(row[f"label_{rank}"], row[f"probability_{rank}"]) for rank in (1, 2)] == [
        (label, pytest.approx(probability, abs=1e-6)) for label, probability in ranked[:2]
    ]
    with pytest.raises(UserError, match="top_k is 4: it must be 1 to 3"):
        classify(["w1"], top_k=4)


def test_no_document_gives_an_empty_answer(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("")
    for name in RUNS:
        assert newsreel.load(folder / name)([]) == []
    for ending in ("jsonl", "csv", "parquet"):
        output = f"output={tmp_path / 'none'}.{ending}"
        ask(f"run={folder / 'lstm'}", f"input={tmp_path / 'none.txt'}", output)
    assert (tmp_path / "none.jsonl").read_text() == ""
    assert (tmp_path / "none.csv").read_text().startswith("label,probability,p(")
    assert pl.read_parquet(tmp_path / "none.parquet").columns[:2] == ["label", "probability"]


def test_documents_are_held_some_at_a_time() -> None:
    def endless() -> Iterator[tuple[int, str]]:
        number = 0
        while True:
            number += 1
            yield number, "x" * number

    assert len(next(chunks(Source("here", "line", endless()), 100))) == 100
    assert len(next(chunks(Source("here", "line", ((1, "x" * 2**22) for _ in range(9))), 100))) == 3  # 12 MiB


def test_a_document_of_too_many_tokens_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "MAX_DOCUMENT_TOKENS", 3)
    (tmp_path / "a.txt").write_text("one two three\n\none two three four\n")
    with pytest.raises(UserError, match=r"a\.txt, line 3: the document has 4 tokens, but at most 3 are possible"):
        ask(f"run={folder / 'lstm'}", f"input={tmp_path / 'a.txt'}")
    with pytest.raises(UserError, match=r"texts\[1\]: the document has 4 tokens"):
        newsreel.load(folder / "lstm")(["one", "one two three four"])


def test_lines_are_found_whatever_pieces_they_come_in() -> None:
    class Pieces(list[bytes]):
        def read1(self, size: int) -> bytes:
            return self.pop(0) if self else b""

    for pieces in ([b"one\n\nth", b"r", b"ee\nfour"], [b"one\n", b"\n", b"three\n", b"four\n"]):
        assert list(StreamLines(Pieces(pieces))) == [b"one", b"", b"three", b"four"]
    assert list(StreamLines(Pieces())) == []


def test_lines_are_the_rows() -> None:
    probabilities = np.array([[0.1, 0.9, 1e-12], [1 / 3, 0, 1]], dtype=np.float32)
    names = ['a "b"', "ç\n", "{}"]
    kept: dict[str, list[Any]] = {"id": [1, None], "über": ["x", {"y": 2.5}]}
    for task, preds in (("multiclass", np.array([1, 2])), ("multilabel", np.array([[1, 1, 0], [0, 0, 0]]))):
        for columns in ({}, kept):
            answers = PredictionBatch(task, names, probabilities, preds, kept_columns=columns)
            assert read_lines(answers.lines()) == read_lines("\n".join(map(dumps, answers.rows())))
    assert dumps({"a": [math.nan, 1.5], "b": math.inf}) == '{"a":[null,1.5],"b":null}'
    assert answers.rows()[0] == {
        "id": 1, "über": "x", "labels": ['a "b"', "ç\n"], "probabilities": {'a "b"': 0.1, "ç\n": 0.9, "{}": 1e-12}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "arguments", "message"),
    [
        ("a.txt", b"fine\ncaf\xe9\n", [], r"a\.txt, line 2: byte 0xe9 at 4 is not UTF-8.*iconv -f LATIN1"),
        ("a.csv", b"text\nfine\n", ["column=review"], "column=review.*has the columns text"),
        ("a.jsonl", b'{"text": "fine"}\n', ["keep=[id]"], "keep=id.*has the columns text"),
        ("a.jsonl", b'{"text": "fine"}\n{"text": 3}\n', [], r"a\.jsonl, line 2: the document is 3.*column="),
        ("a.jsonl", b'{"text": "a", "body": "b"}\n{"text": 5, "body": "b"}\n', ["column=[text,body]"],
         r"a\.jsonl, line 2: the document is 5"),
        ("a.jsonl", b'{"text": "a", "id": "\\ud83d"}\n', ["keep=[id]"], r"line 1: '\\ud83d' is not a complete"),
        ("a.jsonl", b'{"text": "a", "id": ["\\ud83d"]}\n', ["keep=[id]"], r"line 1: '\\ud83d' is not a complete"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', [], r"a\.jsonl, line 1: '\\ud800' is not a complete character"),
        ("a.jsonl", b'{"text": \n', [], r'a\.jsonl, line 1: invalid JSON.*such as {"text": "…"}'),
        ("a.csv", b'text\n"fine\n', [], r"a\.csv, line 2: the row that begins there cannot be read"),
        ("a.parquet", b"no\n", [], r"a\.parquet cannot be read as Parquet"),
        ("a.doc", b"fine\n", [], r"a\.doc: this is not a readable file.*\.txt.*\.parquet"),
        ("a.csv", b"text,label\nfine,1\n", ["keep=[label]"], "keep=label.*have a column of the same name"),
        ("a.txt", b"fine\n", ["keep=[id]"], "keep=id.*without columns"),
        ("a.txt", b"fine\n", ["text=fine"], "text and input are both set"),
        ("a.txt", b"fine\n", ["output=b.xls"], r"output=b\.xls.*\.jsonl, \.ndjson, \.csv or \.parquet"),
        ("a.csv", b"text\nfine\n", ["output=a.csv"], r"input=a\.csv and output=a\.csv are the same file"),
        ("a.txt", b"fine\n", ["output=b.jsonl", "escape_formulas=true"], "has an effect on CSV only"),
        ("a.txt", b"fine\n", ["output=nowhere/b.csv"], "nowhere is not a writable directory"),
        ("a.txt", b"fine\n", ["output=b.csv", "explain=true"], r"output=b\.csv.*JSON Lines"),
        ("a.txt", b"fine\n", ["html=b.html"], "explain=true"),
        ("a.txt", b"fine\n", ["explain=true", "explain_label=poss"], "explain_label=poss is not a label"),
        ("a.txt", b"fine\n", ["top_k=3"], "top_k is 3: it must be 1 to 2"),
        ("a.txt", b"fine\n", ["run=nowhere"], "nowhere is not a run directory"),
        ("a.txt", b"fine\n", ["input=b.txt"], r"input=.*b\.txt: there is no such file"),
        ("a.txt", b"fine\n", ["top_k=0", "accelerator=tpu"], "(?=.*top_k is 0).*accelerator is tpu"),
        ("a.txt", b"fine\n", ["accelerator=gpu"], "accelerator is gpu, but torch finds no GPU"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, arguments: list[str],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    Path(name).write_bytes(content)
    with pytest.raises(UserError, match=f"(?s){message}"):
        ask(f"run={folder / 'lstm'}", f"input={name}", *arguments)


def test_other_inputs_that_are_no_documents_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = f"run={folder / 'lstm'}"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\n\xff\n")))
    for arguments, message in (
        ([run], "standard input, line 2: byte 0xff at 1 is not UTF-8"),
        ([run, "keep=[id]"], "only files have columns"),
        (["text=fine"], "run is null: name the directory"),
        (["run=here", "format=csv"], "format=csv describes a file, and standard input has one document per line"),
        (["run=here", "text=fine", "column=body"], "column=body describes a file, and text=… is one document"),
    ):
        with pytest.raises(UserError, match=message):
            ask(*arguments)
    with pytest.raises(UserError, match="Expected a list of texts, got a single string, 'fine'"):
        newsreel.load(folder / "lstm")("fine")
    with pytest.raises(UserError, match=r"texts\[1\] is None, and must be text"):
        newsreel.load(folder / "lstm")(["fine", None])  # type: ignore[list-item]
    several = newsreel.load(folder / "lstm")
    assert several(iter(TEXTS)) == several(TEXTS)  # type: ignore[arg-type]


def test_an_output_file_is_whole_or_as_it_was(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\n" * 5_000 + b"\xff\n")
    output = tmp_path / "b.jsonl"
    output.write_text("as it was")
    with pytest.raises(UserError, match="line 5001"):
        ask(f"run={folder / 'lstm'}", f"input={tmp_path / 'a.txt'}", f"output={output}")
    assert output.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.jsonl"]


def test_files_of_the_run_are_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for file in (folder / "lstm").iterdir():
        (tmp_path / "run" / file.name).symlink_to(file)
    before = (folder / "lstm" / "predictions.parquet").read_bytes()
    with pytest.raises(UserError, match=r"html=.*report\.html is a file of the run"):
        ask(f"run={folder / 'lstm'}", "text=fine", "explain=true", f"html={folder / 'lstm' / 'report.html'}")
    with pytest.raises(UserError, match=r"output=.*predictions\.parquet is a file of the run"):
        ask(f"run={tmp_path / 'run'}", "text=one", f"output={tmp_path / 'run' / 'predictions.parquet'}")
    assert (folder / "lstm" / "predictions.parquet").read_bytes() == before
    for _ in range(2):
        ask(f"run={tmp_path / 'run'}", "text=one", f"output={tmp_path / 'run' / 'answers.csv'}")


def test_texts_are_taken_as_they_stand() -> None:
    for text in ('It\'s a "film", {really}: a=b [no] #1', "null", "", "${seed} \\${x} \\", "\\\n'\\'", "1", "ça\t"):
        (argument,) = quote_literals([f"text={text}"], ("text",))
        assert compose_anew("predict", argument).text == text
    assert quote_literals(["top_k=3", "text"], ("text",)) == ["top_k=3", "text"]


def test_those_who_watch_a_pipe_have_an_answer_before_the_next_document(
    folder: Path, tmp_path: Path, command_here: Command
) -> None:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with PreloadedPopen(["predict.py", f"run={folder / 'lstm'}"], cwd=tmp_path, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answers = []
        for document in ("w1 w2", "w3", ""):
            process.stdin.write(f"{document}\n")
            process.stdin.flush()
            answers.append(json.loads(process.stdout.readline()))  # waits for ever if documents do
        rest, errors = process.communicate("w4\nit's", timeout=60)
    said = "standard input has documents without text: 1, the first in line 3. They get the prediction of an empty"
    assert (process.returncode, errors.rpartition(" ")[0]) == (0, said)
    assert answers + read_lines(rest) == newsreel.load(folder / "lstm")(["w1 w2", "w3", "", "w4", "it's"])
    refused = command_here("predict.py", f"run={folder / 'lstm'}", "colum=review")
    assert refused.returncode == 2
    assert "did you mean column?" in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="a system without broken pipes")
def test_the_command_ends_quietly_when_nobody_reads_on(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("w1 w2\n" * 20_000)
    command = ["predict.py", f"run={folder / 'lstm'}", f"input={tmp_path / 'many.txt'}"]
    with PreloadedPopen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=240) == -signal.SIGPIPE
