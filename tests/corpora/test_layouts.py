"""The layouts of the user's files: shapes that public corpora have, and what looks like one and is not."""

import bz2
import csv
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.utils import Bunch

import newsreel
from helpers.own_files import TRAIN, everything, load, refusal, write_csv, write_jsonl, write_tree
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, Paths

ROWS = [(f"film number {number}", "ab"[number % 2]) for number in range(20)]
NAMED = {"text": "text", "label": "label"}


def documents_of(corpus: Corpus) -> set[tuple[str, tuple[str, ...]]]:
    """The text and the label names of all labelled documents."""
    found = set()
    for split in corpus.splits.keys() - {"unlabeled"}:
        for text, targets in zip(corpus[split]["text"], corpus.targets(split), strict=True):
            labels = np.flatnonzero(targets) if corpus.task == "multilabel" else [targets]
            found.add((text, tuple(corpus.label_names[label] for label in labels)))
    return found


SINGLE = {(text, (label,)) for text, label in ROWS}


def write(file: Path, content: str, encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode(encoding))
    return file


def table(header: str | None, separator: str = ",") -> str:
    lines = [separator.join(row) for row in ROWS]
    return "\n".join(lines if header is None else [header, *lines]) + "\n"


def zipped(file: Path, content: bytes) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("__MACOSX/._own.csv", b"")
        archive.writestr("own.csv", content)


COMPRESSIONS: dict[str, Callable[[Path, bytes], Any]] = {
    ".gz": lambda file, content: file.write_bytes(gzip.compress(content)),
    ".bz2": lambda file, content: file.write_bytes(bz2.compress(content)),
    ".xz": lambda file, content: file.write_bytes(lzma.compress(content)),
    ".zst": lambda file, content: file.write_bytes(pa.compress(content, "zstd", asbytes=True)),
    ".zip": zipped,
}


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_compressed_tables_are_read(tmp_path: Path, paths: Paths, suffix: str) -> None:
    file = tmp_path / f"own.csv{suffix}"
    COMPRESSIONS[suffix](file, table("text,label").encode())
    assert documents_of(load(paths, train=file, **NAMED)) == SINGLE
    file.write_bytes(file.read_bytes()[:-30])
    assert f"{file} cannot be read" in refusal(paths, train=file, **NAMED)


def test_a_zip_file_of_several_files_is_refused_with_their_names(tmp_path: Path, paths: Paths) -> None:
    file = tmp_path / "own.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("one.csv", "")
        archive.writestr("two.csv", "")
    assert "contains 2 files: one.csv, two.csv" in refusal(paths, train=file)


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("own.csv", table("text;label", ";"), {"delimiter": ";"}),
        ("own.csv", table("text|label", "|"), {"delimiter": "|"}),
        ("own.data", table("text\tlabel", "\t"), {"format": "tsv"}),
        ("own.csv", table("text\tlabel", "\t"), {"delimiter": "\\t"}),
        ("own.csv", table(None), {"header": False, "text": 1, "label": 2}),
        ("own.tsv", table(None, "\t"), {"header": False, "text": "1", "label": "2"}),
        ("own.json", json.dumps([{"text": text, "label": label} for text, label in ROWS], indent=1), {}),
        (
            "own.jsonl",
            "\n [" + ",".join(json.dumps({"label": label, "text": text}) for text, label in ROWS) + "]\n",
            {},
        ),
        ("own.json", "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS), {}),
        ("own.csv", "text, label\n" + "".join(f'"{text}", "{label}"\n' for text, label in ROWS), {}),
        ("own.txt", "".join(f"__label__{label} {text}\n" for text, label in ROWS), {}),
        ("own.txt", "".join(f" __label__{label}\t{text}\r\n" for text, label in ROWS), {}),
        ("own.data", "".join(f"__label__{label} {text}\n" for text, label in ROWS), {"format": "fasttext"}),
    ],
)
def test_layouts_of_tables(tmp_path: Path, paths: Paths, name: str, content: str, settings: dict[str, Any]) -> None:
    file = write(tmp_path / name, content)
    assert documents_of(load(paths, **{**NAMED, **settings}, train=file)) == SINGLE


def test_quotes_are_part_of_the_text_without_quoting(tmp_path: Path, paths: Paths) -> None:
    file = write(tmp_path / "own.tsv", table("text\tlabel", "\t") + '"odd film\ta\nlast film"\tb\n')
    with_quoting = load(paths, train=file, **NAMED)
    assert len(documents_of(with_quoting)) == 21
    assert "1 quoted field contains lines that look like rows (line 22)" in str(with_quoting.notes)
    without = load(paths, train=file, quoting=False, **NAMED)
    assert documents_of(without) == SINGLE | {('"odd film', ("a",)), ('last film"', ("b",))}
    assert "quoted" not in str(without.notes)


def test_texts_of_several_lines_do_not_look_like_rows(tmp_path: Path, paths: Paths) -> None:
    texts = [(f'one, two\n"three", {number}\n4,b c', label) for number, (_, label) in enumerate(ROWS)]
    assert "quoted" not in str(load(paths, train=write_csv(tmp_path / "own.csv", texts)).notes)


def test_title_and_body_are_joined(tmp_path: Path, paths: Paths) -> None:
    rows = [("A title", "the body", "x"), ("", "only a body", "y"), ("only a title", "", "y"), ("B", "b", "x")] * 3
    content = "\n".join(",".join(row[:2]) + f" {number},{row[2]}" for number, row in enumerate(rows))
    corpus = load(
        paths,
        train=write(tmp_path / "own.csv", f"title,body,label\n{content}\n"),
        text=["title", "body"],
        label="label",
    )
    assert {"A title\nthe body 0", "only a body 1", "only a title\n2"} <= {text for text, _ in documents_of(corpus)}
    file = write(tmp_path / "bad.jsonl", '{"title": "a", "body": 7, "label": "x"}\n')
    assert "line 1: body is 7; it must be a text" in refusal(paths, train=file, text=["title", "body"], label="label")


INDICATED = {
    ("fine film", ("insult", "toxic")),
    ("dull film", ()),
    ("odd town", ("toxic",)),
    ("last town", ("insult",)),
}
FLAGS = [("fine film", 1, 1), ("dull film", 0, 0), ("odd town", 1, 0), ("last town", 0, 1)]


def indicator_columns(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    lines = "".join(f"{text} {n},{toxic}.0,{insult}\n" for n in range(3) for text, toxic, insult in FLAGS)
    return write(tmp_path / "own.csv", f"text,toxic,insult\n{lines}"), {"label": ["toxic", "insult"]}


def indicator_lists(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    documents = [(f"{text} {n}", [toxic, insult]) for n in range(3) for text, toxic, insult in FLAGS]
    return write_jsonl(tmp_path / "own.jsonl", documents), {
        "text": "review",
        "label": "stars",
        "labels": ["toxic", "insult"],
    }


def separated_indicators(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    lines = "".join(f"{text} {n},{toxic} {insult}\n" for n in range(3) for text, toxic, insult in FLAGS)
    return write(tmp_path / "own.csv", f"text,label\n{lines}"), {"separator": " ", "labels": ["toxic", "insult"]}


@pytest.mark.parametrize("make", [indicator_columns, indicator_lists, separated_indicators])
def test_zeros_and_ones_with_names_are_labels(
    tmp_path: Path, paths: Paths, make: Callable[[Path], tuple[Path, dict[str, Any]]]
) -> None:
    file, settings = make(tmp_path)
    corpus = load(paths, train=file, **{**NAMED, **settings})
    assert corpus.task == "multilabel"
    assert {(text[:-2], labels) for text, labels in documents_of(corpus)} == INDICATED


def test_labels_that_differ_only_in_case_are_noted(tmp_path: Path, paths: Paths) -> None:
    documents = [(text, ["Spam", "spam", "ham"][number % 3]) for number, (text, _) in enumerate(ROWS)]
    notes = load(paths, train=write_csv(tmp_path / "own.csv", documents)).notes
    assert "Some labels differ only in case or spaces, and are different labels: Spam, spam." in notes


def test_a_named_label_that_no_document_has_is_said(tmp_path: Path, paths: Paths) -> None:
    lines = "".join(f"film {number},{number % 2},0,{int(number % 3 > 0)}\n" for number in range(12))
    file = write(tmp_path / "own.csv", f"text,toxic,threat,insult\n{lines}")
    corpus = load(paths, train=file, text="text", label=["toxic", "threat", "insult"])
    assert corpus.label_names == ("insult", "toxic")
    assert "No training document has the labels threat: they are left out." in corpus.notes


ONE, OTHER = '{"text": "a", "label": %s}\n', '{"text": "b", "label": %s}\n'
REFUSED: list[tuple[str, str, dict[str, Any], str]] = [  # file, content, settings, message
    ("own.jsonl", ONE % "[1, 0, 0]" + OTHER % "[0, 1, 1]", {}, "the label '0' 2 times: remove the copies.\nIf each"),
    ("own.jsonl", ONE % "[1, 0]" + OTHER % "[0, 1]", {}, "list of 2 values, 0 or 1.\nIf each value says whether the"),
    ("own.jsonl", ONE % "[true, false]" + OTHER % "[false, true]", {}, "data.labels=[a,b]"),
    ("own.jsonl", ONE % '["x", "y", "x"]' + OTHER % '["y"]', {}, "it has the label 'x' 2 times: remove the copies."),
    ("own.jsonl", ONE % "[1, 0, 2]" + OTHER % "[0, 1, 1]", {"labels": ["a", "b", "c"]}, "the value of c is 2, but"),
    ("own.jsonl", ONE % "[1]" + OTHER % "[0]", {"labels": ["a", "b"]}, "it must be a list of 2 values, 0 or 1"),
    ("own.csv", "text,label\na,1 0 0\nb,0 1 1\n", {}, "a list that was saved as text"),
    ("own.csv", "text,label\na,1;0;0\nb,0;1;1\n", {"separator": ";"}, "data.labels=[a,b,…]"),
    ("own.csv", "text,label\na,\"['good', 'film']\"\nb,\"['bad']\"\n", {}, "a list that was saved as text"),
    ("own.csv", "text,label\na,['good' 'film']\nb,['bad']\n", {}, "a list that was saved as text"),
    ("own.csv", "text,label\na,\"[good, film]\"\nb,[bad]\n", {}, "a list that was saved as text"),
    ("own.csv", "text,label\na,[1 0 0]\nb,[0 1 0]\n", {}, "a list that was saved as text"),
    ("own.csv", "text,label\na,\"{'x': 1}\"\nb,{}\n", {}, "a list that was saved as text"),
    ("own.csv", "text,toxic,label\na,-1,0\nb,1,1\n", {"label": ["toxic", "label"]}, 'the value of toxic is "-1", but'),
    ("own.csv", "text,toxic,label\na,,0\nb,1,1\n", {"label": ["toxic", "label"]}, 'the value of toxic is "", but must'),
    ("own.csv", "text,label\na,x\nb,y\ntext,label\nc,x\n", {}, "line 4: this line repeats the first one, which names"),
    ("own.csv", "a;x\nb;y\n", {"header": False, "text": 1, "label": 2}, "set data.delimiter=';'"),
    ("own.csv", "a,x\nb,y\n", {}, "if it is a document, set data.header=false"),
    ("own.csv", "a,x\nb,y\n", {"header": False},
     "has the columns 1, 2: name one of them, or a list, with data.text=…\nWithout"),
    ("own.csv", "text,label\na,x\nb,y\n", {"delimiter": ";;"}, "data.delimiter is ';;': it must be one character"),
    ("own.jsonl", ONE % '"x"', {"delimiter": ";"}, "data.delimiter=; has an effect on csv, tsv only"),
    ("own.jsonl", ONE % '"x"', {"header": False}, "data.header=False has an effect on csv, tsv, xlsx only"),
    ("own.csv", "text,label\na,x\nb,y\n", {"encoding": "utf-9"}, "data.encoding=utf-9 is not an encoding"),
    ("own.csv", "text,label\na,x\nb,y\n", {"encoding": "utf-16"}, "own.csv is not utf-16"),
    ("own.csv", "text,label\nä,x\nb,y\n", {"encoding": "ascii"}, "own.csv is not ascii"),
    ("own.txt", "no label here\n", {}, 'line 1: "no label here" has no label'),
    ("own.json", '[{"text": "a", "label": "x"},\n {"text": "b" "label"}]', {}, "line 2: invalid JSON"),
    ("own.json", '[{"text": "a", "label": "x"}\n {"text": "b"}]', {}, "must be followed by a comma or ]"),
    ("own.json", '[{"text": "a", "label": "x"}', {}, "must be followed by a comma or ]"),
    ("own.json", '[{"text": "a", "label": "x"}] more', {}, "follows the array: remove it"),
    ("own.json", '{"data": [1]}', {}, "has the columns data"),
    ("own.csv", "text,label\na,x\nb,y\n", {"text": ["text", "label"]}, "data.text and data.label are both label"),
    ("own.csv", "text,label\na,x\nb,y\n", {"text": ["text", "text"]}, "data.text is [text,text]: name at least one"),
    ("own.csv", "text,label\na,x\nb,y\n", {"label": ["label", "b"], "separator": ";"}, "data.separator describes the"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "settings", "message"), REFUSED)
def test_what_is_no_such_layout_is_refused_with_the_remedy(
    tmp_path: Path, paths: Paths, name: str, content: str, settings: dict[str, Any], message: str
) -> None:
    file = write(tmp_path / name, content)
    assert message in refusal(paths, train=file, **{**NAMED, **settings})


def test_several_files_and_patterns_are_one_split(tmp_path: Path, paths: Paths) -> None:
    for part in range(4):
        write_csv(tmp_path / f"part{part}.csv", TRAIN[part::4])
    whole = load(paths, train=write_csv(tmp_path / "whole.csv", TRAIN))
    assert everything(load(paths, train=str(tmp_path / "part*.csv"))) == everything(whole)
    named = [str(tmp_path / f"part{part}.csv") for part in range(4)]
    assert everything(load(paths, train=named)) == everything(whole)
    with (tmp_path / "part2.csv").open("a") as file:
        csv.writer(file).writerow(["", 7, "x"])
    assert f"{tmp_path / 'part2.csv'}: of its documents, 1 has no text" in refusal(paths, train=named)
    assert "no file matches this pattern" in refusal(paths, train=str(tmp_path / "no*.csv"))
    assert "data.train and data.test both have" in refusal(paths, train=named, test=named[0])
    lists = write_jsonl(tmp_path / "lists.jsonl", [("a", ["x"])])
    assert "has lists of labels, but" in refusal(paths, train=[named[0], str(lists)])


def test_folders_of_texts_without_extension_in_another_encoding(tmp_path: Path, paths: Paths) -> None:
    for number, (text, label) in enumerate(ROWS):
        write(tmp_path / "news" / label / f"{number}", f"{text} é", "latin-1")
    assert documents_of(load(paths, train=tmp_path / "news", encoding="latin-1")) == {
        (f"{text} é", (label,)) for text, label in ROWS
    }
    assert "is not UTF-8" in refusal(paths, train=tmp_path / "news")


def test_documents_without_labels_are_a_table_of_their_own(tmp_path: Path, paths: Paths) -> None:
    folder = write_tree(tmp_path / "reviews", [(text, label) for text, label in ROWS])
    write(folder / "unsup" / "0.txt", "neither")
    write(folder / "urls_pos.txt", "http")
    corpus = load(paths, train=folder)
    assert documents_of(corpus) == SINGLE
    assert corpus.tables["unlabeled"]["text"][:] == ["neither"]
    assert set(corpus.splits) == {"train", "test", "validation", "unlabeled"}
    assert f"{folder / 'unsup'} is no label: a folder of this name has documents without labels" in corpus.notes
    once = load(paths, train=folder, unlabeled=folder / "unsup")
    assert once.tables["unlabeled"]["text"][:] == ["neither"]
    file = write_csv(tmp_path / "own.csv", TRAIN)
    more = load(paths, train=file, unlabeled=write(tmp_path / "more.csv", "review\nneither\nnor\n"))
    assert sorted(more.tables["unlabeled"]["text"][:]) == ["neither", "nor"]
    assert more.fingerprint == load(paths, train=file).fingerprint  # that of a teacher trained without them
    lines = write(tmp_path / "more.txt", "neither\n\n__label__5 nor\n")
    more = load(paths, train=file, unlabeled=lines)
    assert sorted(text.strip() for text in more.tables["unlabeled"]["text"][:]) == ["neither", "nor"]


def test_only_documented_names_of_folders_mean_no_label(tmp_path: Path, paths: Paths) -> None:
    folder = write_tree(tmp_path / "papers", [(f"paper {n}", f"{'un' * (n % 2)}supervised") for n in range(20)])
    assert load(paths, train=folder).label_names == ("supervised", "unsupervised")


def test_a_file_is_read_once_however_it_is_named(tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts").mkdir()
    file = write_csv(tmp_path / "parts" / "own.csv", TRAIN)
    (file.parent / "latest.csv").symlink_to(file)
    monkeypatch.chdir(tmp_path)
    expected = everything(load(paths, train=file))
    for names in ("parts/*.csv", [str(file), "parts/../parts/own.csv"]):
        assert everything(load(paths, train=names)) == expected


def test_test_documents_without_labels_are_referred_to_prediction(tmp_path: Path, paths: Paths) -> None:
    file = write_csv(tmp_path / "train.csv", TRAIN)
    for content in ("review\nfine\n", "review,stars\nfine,\n"):
        said = refusal(paths, train=file, test=write(tmp_path / "test.csv", content))
        assert "to classify them with a finished run: python predict.py run=" in said


def test_excel_workbooks_are_tables(tmp_path: Path, paths: Paths) -> None:
    pytest.importorskip("fastexcel")
    openpyxl = pytest.importorskip("openpyxl")
    workbook = openpyxl.Workbook()
    for row in [("text", "label"), *((text, number % 2) for number, (text, _) in enumerate(ROWS)), (None, None)]:
        workbook.active.append(row)
    workbook.save(tmp_path / "own.xlsx")
    corpus = load(paths, train=tmp_path / "own.xlsx", **NAMED)
    assert corpus.label_names == ("0", "1")
    assert len(documents_of(corpus)) == len(ROWS)
    workbook.active.insert_rows(1, 2)
    workbook.active["B7"] = None
    workbook.save(tmp_path / "own.xlsx")
    assert "1 has no label (row 7)" in refusal(paths, train=tmp_path / "own.xlsx", **NAMED)


def test_spaces_and_byte_order_marks_are_no_part_of_labels(tmp_path: Path, paths: Paths) -> None:
    numbered = {"header": False, "text": 2, "label": 1}
    rows = [f"{number % 2};film number {number}\n" for number in range(20)]
    spaced = [f'"{number % 2}"; "film number {number}"\n' for number in range(20)]
    expected = documents_of(load(paths, train=write(tmp_path / "a.csv", "".join(rows)), delimiter=";", **numbered))
    assert {label for _, (label,) in expected} == {"0", "1"}
    for content, encoding in ((spaced, "utf-8"), (["\ufeff", *rows], "utf-16-le"), (["\ufeff", *rows], "utf-8")):
        file = write(tmp_path / "b.csv", "".join(content), encoding)
        assert documents_of(load(paths, train=file, delimiter=";", encoding=encoding, **numbered)) == expected


def test_decimal_labels_are_numbers(tmp_path: Path, paths: Paths) -> None:
    file = tmp_path / "own.parquet"
    pl.DataFrame(
        {"text": [text for text, _ in ROWS], "label": [Decimal(number % 2) for number in range(20)]}
    ).write_parquet(file)
    assert load(paths, train=file, **NAMED).label_names == ("0", "1")


TEXTS = [text for text, _ in ROWS]
CLASSES = [0, 1] * 10


def class_labels() -> datasets.Dataset:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    return datasets.Dataset.from_dict({"text": TEXTS, "label": CLASSES}, features)


@pytest.mark.parametrize(
    "documents",
    [
        Bunch(data=TEXTS, target=np.array(CLASSES), target_names=["a", "b"]),
        class_labels(),
        pd.DataFrame({"text": TEXTS, "label": pd.Categorical(["a", "b"] * 10)}),
        pl.DataFrame({"text": TEXTS, "label": ["a", "b"] * 10}),
        pa.table({"text": TEXTS, "label": ["a", "b"] * 10}),
    ],
    ids=["Bunch", "Dataset", "pandas", "polars", "pyarrow"],
)
def test_documents_in_python_are_saved_to_be_read(tmp_path: Path, paths: Paths, documents: Any) -> None:
    file = newsreel.save_documents(documents, tmp_path / "own.parquet")
    assert documents_of(load(paths, train=file, **NAMED)) == SINGLE


def test_other_objects_in_python_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.parquet"
    with pytest.raises(UserError, match="list is not a scikit-learn Bunch"):
        newsreel.save_documents([1], file)
    wrong = {
        "has 2 for document 1, and .* classes, 0 … 1, or -1": [0, 2],
        "has 0.9 for doc": [0.9, 1],
        "and 1 labels": [0],
    }
    for message, target in wrong.items():
        with pytest.raises(UserError, match=message):
            newsreel.save_documents(Bunch(data=["a", "b"], target=target, target_names=["neg", "pos"]), file)
    unlabeled = Bunch(data=["a", "b"], target=np.array([-1, 1]), target_names=["neg", "pos"])
    assert pl.read_parquet(newsreel.save_documents(unlabeled, file))["label"].to_list() == [None, "pos"]
    file.unlink()
    with pytest.raises(UserError, match="label=label: the columns are text"):
        newsreel.save_documents(pl.DataFrame({"text": ["a"]}), file)
    with pytest.raises(UserError, match="type int64, but must be strings"):
        newsreel.save_documents(pl.DataFrame({"text": [1], "label": [1]}), file)
    with pytest.raises(UserError, match=r"own\.parquet, as a column has values of several types .*column label"):
        newsreel.save_documents(pd.DataFrame({"text": ["a", "b"], "label": ["a", 5]}), file)
    with pytest.raises(UserError, match=r"must end in \.parquet"):
        newsreel.save_documents(pl.DataFrame({"text": ["a"], "label": [1]}), tmp_path / "own.csv")
    assert not list(tmp_path.iterdir())
