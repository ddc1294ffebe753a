"""The user's own corpus: the same documents from every format, and what is said of files that are not right."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from helpers.documents import split_sizes
from helpers.own_files import (
    FORMATS,
    OWN,
    TEST,
    TRAIN,
    everything,
    load,
    refusal,
    write_csv,
    write_jsonl,
    write_parquet,
    write_tree,
)
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.corpora.custom import Files, HubDataset, hub_rows
from newsreel.files.labels import Columns, label_name
from newsreel.files.tables import collect


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "train.csv", TRAIN)


def all_documents(corpus: Corpus) -> list[tuple[str, str]]:
    return [
        (text, corpus.label_names[label])
        for split in corpus.splits
        for text, label in zip(corpus[split]["text"], corpus.targets(split), strict=True)
    ]


def counts(corpus: Corpus) -> dict[str, list[int]]:
    return {split: np.bincount(corpus.targets(split)).tolist() for split in corpus.splits}


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_documents_are_the_same_corpus_in_every_format(tmp_path: Path, paths: Paths, suffix: str) -> None:
    expected = load(paths, train=write_csv(tmp_path / "a.csv", TRAIN[::-1]), test=write_csv(tmp_path / "b.csv", TEST))
    write = FORMATS[suffix]
    found = load(paths, train=write(tmp_path / f"c{suffix}", TRAIN), test=write(tmp_path / f"d{suffix}", TEST))
    assert everything(found) == everything(expected)
    # of 30 documents, round(0.25 × 30) = 8 validate
    assert split_sizes(found) == {"train": 22, "test": 4, "validation": 8}
    assert set(all_documents(found)) == {(text, str(label)) for text, label in [*TRAIN, *TEST]}


def test_the_task_and_the_labels_come_from_the_training_documents(tmp_path: Path, paths: Paths) -> None:
    documents = [(f"text {number}", ["10", "9.5", "-1"][number % 3]) for number in range(30)]
    corpus = load(paths, train=write_csv(tmp_path / "train.csv", documents))
    assert (corpus.task, corpus.label_names, corpus.metric) == ("multiclass", ("-1", "9.5", "10"), "accuracy")
    assert corpus.notes[0] == (
        "The training documents make this a multiclass task with 3 labels: -1 (10), 9.5 (10), 10 (10)."
    )


@pytest.mark.parametrize(
    ("value", "name"),
    [(1, "1"), (1.0, "1"), ("1.0", "1"), (" 1 ", "1"), ("01", "01"), (True, "true"), ("False", "false"), (4.5, "4.5"),
     ("1.10", "1.10"), ("NA", "NA"), ("None", "None"), ("e\u0301", "é")],
)  # fmt: skip
def test_a_label_has_one_name_however_it_is_written(value: Any, name: str) -> None:
    assert label_name(value) == name


def test_booleans_are_the_same_label_in_csv_and_json(tmp_path: Path, paths: Paths) -> None:
    documents = [(text, number % 2 == 0) for text, number in TRAIN]
    from_csv = load(paths, train=write_csv(tmp_path / "a.csv", documents))  # True and False
    from_json = load(paths, train=write_jsonl(tmp_path / "b.jsonl", documents))  # true and false
    assert (from_csv.task, from_csv.label_names) == ("binary", ("false", "true"))
    assert everything(from_csv) == everything(from_json)


def test_lists_and_a_separator_make_the_same_labels(tmp_path: Path, paths: Paths) -> None:
    lists = [(text, [["trade"], ["oil", "trade"], ["oil"], []][number % 4]) for number, (text, _) in enumerate(TRAIN)]
    joined = [(text, " ; ".join([*labels[::-1], *labels[:1]])) for text, labels in lists]
    from_json = load(paths, train=write_jsonl(tmp_path / "a.jsonl", lists))
    from_parquet = load(paths, train=write_parquet(tmp_path / "b.parquet", lists))
    from_csv = load(paths, train=write_csv(tmp_path / "c.csv", joined), separator=";")
    assert (from_csv.task, from_csv.label_names, from_csv.metric) == ("multilabel", ("oil", "trade"), "f1_micro")
    assert everything(from_csv) == everything(from_json) == everything(from_parquet)
    assert "7 of the 30 documents in train have none of the labels." in from_csv.notes
    assert from_csv.notes == from_json.notes
    # a quarter of the 15 documents of each label: divided off iteratively
    assert from_csv.targets("test").sum(axis=0).tolist() == [4, 4]


def test_missing_splits_are_divided_off_stratified_and_said(tmp_path: Path, csv_file: Path, paths: Paths) -> None:
    corpus = load(paths, train=csv_file, test_fraction=0.2, split_seed=1)
    assert counts(corpus) == {"train": [6, 6, 6], "test": [2, 2, 2], "validation": [2, 2, 2]}
    assert sorted(text for text, _ in all_documents(corpus)) == sorted(text for text, _ in TRAIN)
    assert corpus.notes[1:] == (
        "No test documents were provided: 6 of the 30 training documents are used (stratified; "
        "data.test_fraction=0.2, data.split_seed=1).",
        "No validation documents were provided: 6 of the 30 training documents are used (stratified; "
        "data.validation_fraction=0.25, data.split_seed=1).",
    )
    other = load(paths, train=csv_file, test_fraction=0.2, split_seed=2)
    assert other["test"]["text"][:] != corpus["test"]["text"][:]
    assert other.fingerprint == corpus.fingerprint  # the documents are the same
    limited = load(paths, train=csv_file, limit=4, validation_fraction=0.3)
    assert counts(limited) == {"train": [2, 2, 2], "test": [1, 1, 1], "validation": [1, 1, 1]}
    given = load(paths, train=csv_file, validation=write_jsonl(tmp_path / "given.jsonl", TEST))
    assert sorted(given["validation"]["text"]) == sorted(text for text, _ in TEST)
    assert [note[:17] for note in given.notes[1:]] == ["No test documents"]


def test_neighbours_in_the_file_are_held_out_together(tmp_path: Path, paths: Paths) -> None:
    rows = [(f"number {number}", "ab"[number % 2]) for number in range(40)]
    settings = {"test_fraction": 0.25, "validation_fraction": 0.2, "split_method": "blocks"}
    file = write_csv(tmp_path / "train.csv", rows)
    corpus = load(paths, train=file, split_seed=0, **settings)
    numbers = {split: sorted(int(text[7:]) for text in corpus[split]["text"]) for split in corpus.splits}
    assert numbers == {"test": [*range(10)], "validation": [*range(10, 16)], "train": [*range(16, 40)]}
    assert "10 of the 40 training documents are used (blocks of neighbours; data.split_method=blocks" in corpus.notes[1]
    assert (
        len({load(paths, train=file, split_seed=seed, **settings).splits["test"].rows.tobytes() for seed in range(5)})
        == 4
    )
    parts = [write_csv(tmp_path / f"{name}.csv", part) for name, part in (("b", rows[:30]), ("a", rows[30:]))]
    in_parts = load(paths, train=[str(part) for part in parts], split_seed=0, **settings)
    assert sorted(in_parts["test"]["text"]) == sorted(corpus["test"]["text"])
    assert in_parts.fingerprint == corpus.fingerprint
    # in another order the same documents have other blocks, so they are not the same corpus
    assert load(paths, train=write_csv(tmp_path / "b.csv", rows[::-1]), **settings).fingerprint != corpus.fingerprint


def test_small_classes_are_drawn_and_the_untested_ones_counted(tmp_path: Path, paths: Paths) -> None:
    documents = [(f"text {number} of {label}", label) for label in range(50) for number in range(4)]
    corpus = load(paths, train=write_csv(tmp_path / "train.csv", documents), test_fraction=0.1, validation_fraction=0.1)
    assert split_sizes(corpus) == {"train": 162, "test": 20, "validation": 18}
    assert corpus.notes[-1].startswith("Of the 50 labels, no test document has 30 and no validation document has 32: ")


def test_odd_cells_survive_and_repeated_documents_are_counted(tmp_path: Path, paths: Paths) -> None:
    texts = ['He said "no", twice', "a\ttab, a comma", "line one\n\nline three", "NA", "né 日本 🎬", "x" * 200_000, "'"]
    file = write_csv(tmp_path / "train.csv", [(text, label) for text in texts for label in "ab"])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # a byte order mark, as Excel writes it
    test = write_csv(tmp_path / "test.csv", [("NA", "a"), ("é", "b"), ("NA", "b")])
    corpus = load(paths, train=file, test=test)
    assert {text for text, _ in all_documents(corpus)} == {*texts, "é"}
    assert len(corpus.tables["train"]) == 14
    assert "2 of the 3 documents in test have the text of one in train" in str(corpus.notes)
    assert "7 of the 14 documents in train and validation together repeat the text of another" in str(corpus.notes)


def test_changed_files_are_read_anew_and_unchanged_ones_are_not(csv_file: Path, paths: Paths, monkeypatch: Any) -> None:
    first = load(paths, train=csv_file)
    with monkeypatch.context() as patch:
        patch.setattr(Files, "read_tables", lambda self: pytest.fail("read again"))
        assert everything(load(paths, train=csv_file)) == everything(first)
    csv_file.write_bytes(csv_file.read_bytes().replace(b"number 0", b"number X"))  # of the same size
    assert load(paths, train=csv_file).fingerprint != first.fingerprint


HEADER = "review,stars\n"
CSV = HEADER + "".join(f"film {number},{number % 2}\n" for number in range(6))  # 7 lines
JSON = "".join(json.dumps({"review": f"film {number}", "stars": number % 2}) + "\n" for number in range(6))
BROKEN: list[tuple[str, str | bytes, dict[str, str], list[str]]] = [  # suffix, content, settings, messages
    ("csv", CSV, {"text": "reviw"}, ["csv has the columns review, stars", "did you mean data.text=review?"]),
    ("csv", "Text ä,stars\n", {"text": "text ä"}, ["""did you mean "data.text='Text ä'"?"""]),
    ("csv", CSV, {"label": "topic"},
     [": name one of them, or a list, with data.label=…", "The first line must name the columns"]),
    ("csv", HEADER.replace(",", ";"), {}, ["train.csv has the columns review;stars: only one", "data.delimiter=';'"]),
    ("csv", "review,stars,review\n", {}, ["2 have this name. Rename all but one"]),
    ("jsonl", JSON, {"text": "reviews"}, ["train.jsonl has the columns review, stars", "data.text=review?"]),
    ("csv", HEADER + 'a,"1\n2"\nb,c\n' + '"good\nbad", and long,1\n', {},
     ["train.csv, line 5: 3 fields, but the first line names 2 columns (review, stars)", "double quotes"]),
    ("csv", HEADER + 'a,1\n"no end,1\nb,2\n', {}, ["line 3: the row that begins there cannot", "must be doubled"]),
    ("csv", HEADER + '"a "b" c",1\n', {}, ["train.csv, line 2: the row", "must be doubled"]),
    ("csv", CSV + ",1\n\n  ,0\n", {}, ["of its documents, 2 have no text (lines 8, 10)", "Remove them, fill in"]),
    ("csv", CSV + "fine,\n" * 7, {}, ["7 have no label (lines 8, 9, 10, 11, 12 …)"]),
    ("csv", HEADER, {}, ["train.csv has no documents", "Training, validation and test need at least one each"]),
    ("csv", "", {}, ["train.csv has no documents"]),
    ("csv", CSV.encode() + b"sch\xf6n,1\n", {}, ["line 8: byte 0xf6 at 4 is not UTF-8", "iconv -f LATIN1 -t"]),
    ("csv", CSV.encode("utf-16"), {}, ["train.csv, line 1: byte 0xff", "iconv -f UTF-16"]),
    ("csv.gz", gzip.compress((CSV * 99).encode(), mtime=0)[:-40], {}, ["train.csv.gz cannot be read"]),
    ("jsonl", JSON + '{"review": "a", "stars": 1\n', {},
     ["train.jsonl, line 7: invalid JSON: Expecting ',' delimiter", 'such as {"review": "…", "stars": "…"}']),
    ("jsonl", '[{"review": "a", "stars": 1},\n 7]', {}, ["train.jsonl, line 2: 7 is not an object"]),
    ("jsonl", JSON + '{"review": "a", "stars": "good"}', {},
     ['line 7: data.label=stars is "good"; this is a text, but 0 in line 1 is a number',
      "Write all labels in the same form"]),
    ("jsonl", JSON + '{"review": "a", "stars": [1]}', {}, ["line 7", "is [1]; this is a list"]),
    ("jsonl", JSON + '{"review": "a", "stars": true}', {}, ["line 7", "this is true or false"]),
    ("jsonl", JSON + '{"review": "a", "stars": {"n": 1}}', {}, ["line 7", "labels must be texts"]),
    ("jsonl", '{"review": "a", "stars": ["x", null]}', {}, ['line 1: data.label=stars is ["x", null]']),
    ("jsonl", '{"review": "a", "stars": ["x", ""]}', {}, ["line 1", "contains an empty label: remove that"]),
    ("jsonl", JSON + '{"review": 7, "stars": 1}', {}, ["line 7: data.text=review is 7; it must be a text"]),
    ("jsonl", JSON + '{"review": "a"}\n{"review": null}', {}, ["1 has no text (line 8) and 2 have no label (lines 7"]),
    ("jsonl", JSON + '{"review": "\\ud83c", "stars": 1}', {}, ["line 7: '\\ud83c' is half of a surrogate pair"]),
    ("jsonl", JSON + '{"review": "a", "stars": 1, "review": "b"}', {},
     ["train.jsonl, line 7: invalid JSON: it has the key 'review' 2 times"]),
    ("json", '[{"review": "a", "stars": 1},\n{"stars": 1, "review": "a", "stars": 2}]', {},
     ["train.json, line 2: invalid JSON: it has the key 'stars' 2 times"]),
    ("csv", HEADER + "a,x;y\nb,\"['x', 'y']\"\n", {"separator": ","}, ["line 3", "a list that was saved as text"]),
    ("csv", HEADER + "a,0 1 0 \nb,1 0 0 \n", {}, ["line 2", "a list that was saved as text"]),
    ("csv", "\ufeff" + CSV, {"encoding": "latin-1"},
     ["begins with the byte order mark of utf-8. Set data.encoding=utf-8"]),
    ("csv", CSV.encode("utf-16"), {"encoding": "utf-16-be"}, ["byte order mark of utf-16. Set data.encoding=utf-16"]),
    ("parquet", b"PAR1 not really", {}, ["train.parquet cannot be read as Parquet", "Write the file again"]),
    ("csv", HEADER + "a,1\nb,1\n", {}, ["train.csv: all documents have the label '1'", "another column"]),
    ("csv", HEADER + "a,x;y\nb,x\nc,y;x\n", {}, ["each of the 3 documents has", "such as 'x;y'", "data.separator"]),
    ("csv", HEADER + "a,x;y\nb,x\nc,x\n", {"separator": "|"}, ["'|' occurs in no label", "the first is 'x;y'"]),
    ("doc", b"PK", {}, ["train.doc: unknown file extension", ".csv, .tsv, .jsonl, .ndjson", "data.format=csv"]),
    ("xlsx", b"PK", {}, ["train.xlsx cannot be read as Excel", "Save it as .xlsx"]),
    ("csv", HEADER + "a,1\nb,2\nc,1\n", {}, ["data.validation_fraction is 0.25: of 2", "same labels"]),
    ("csv", CSV, {"text": "stars"}, ["data.text and data.label are both stars"]),
    ("csv", CSV, {"separator": ""}, ["data.separator is empty"]),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "content", "settings", "messages"), BROKEN)
def test_broken_files_are_answered_with_the_line_the_value_and_the_remedy(
    tmp_path: Path, paths: Paths, suffix: str, content: str | bytes, settings: dict[str, str], messages: list[str]
) -> None:
    file = tmp_path / f"train.{suffix}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refusal(paths, train=file, **settings)
    for message in messages:
        assert message in said


def test_missing_files_and_settings_are_named(paths: Paths, csv_file: Path) -> None:
    assert "data.train is null: name the training documents, such as data.train=train.csv" in refusal(paths)
    said = refusal(paths, train=csv_file.with_name("trian.csv"))
    assert "trian.csv: there is no such file or folder; did you mean" in said
    assert said.endswith("train.csv?")
    assert "data.test=nowhere.csv: there is no such file" in refusal(paths, train=csv_file, test="nowhere.csv")
    assert "data.train and data.test are both" in refusal(paths, train=csv_file, test=csv_file)


def test_test_documents_with_other_labels_are_refused(tmp_path: Path, paths: Paths, csv_file: Path) -> None:
    test = write_csv(tmp_path / "test.csv", [*TEST, ("odd", 7), ("odder", 8), ("fine", 1)])
    said = refusal(paths, train=csv_file, test=test)
    assert f"{test} has labels that no training document in {csv_file} has: 7, 8 (lines 6, 7)." in said
    assert "remove these test documents, or add training documents with each label" in said
    lists = write_jsonl(tmp_path / "test.jsonl", [("a", ["1", "2"])])
    said = refusal(paths, train=csv_file, test=lists)
    assert f"{lists} has lists of labels, but {csv_file} has one label per document" in said


def test_rows_of_parquet_files_are_counted_from_one(tmp_path: Path, paths: Paths) -> None:
    file = tmp_path / "train.parquet"
    pl.DataFrame({"review": ["a", None, "c"], "stars": [1.0, 2.0, None]}).write_parquet(file)
    assert "1 has no text (row 2) and 1 has no label (row 3)" in refusal(paths, train=file)
    pl.DataFrame({"review": ["a"] * 6000 + [""], "stars": ["1"] * 6001}).write_parquet(file)
    assert "no text (row 6001)" in refusal(paths, train=file)
    assert "has the columns review, stars; did you mean data.label=stars?" in refusal(paths, train=file, label="star")
    bad = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 1, 5], np.int32)), pa.py_buffer(b"acaf\xe9"))
    pq.write_table(pa.table({"review": bad, "stars": ["1", "2"]}), file)
    assert f"{file}, row 2: the column review is not UTF-8" in refusal(paths, train=file)


def test_folders_that_are_no_folders_of_labels_are_refused(tmp_path: Path, paths: Paths) -> None:
    def refused(problem: str) -> None:
        assert problem in refusal(paths, train=folder)

    folder = tmp_path / "train"
    folder.mkdir()
    refused(f"{folder} has no subfolders")
    write_tree(folder, TRAIN)
    (folder / "notes").mkdir()
    refused(f"{folder / 'notes'} has no files")
    (folder / "notes" / "more").mkdir()
    refused(f"{folder / 'notes' / 'more'} is not a file")
    shutil.rmtree(folder / "notes")
    (folder / "0" / "text.doc").write_text("film")
    refused("text.doc is not a .txt file like 30 of the 31 files")
    (folder / "0" / "text.doc").unlink()
    bad = folder / "0" / "bad.txt"
    bad.write_bytes(b"one\ntwo \xff\n")
    refused(f"{bad}, line 2: byte 0xff")
    said = refusal(paths, train=folder, encoding="utf-16")
    assert ".txt is not utf-16: UTF-16 stream does not start with BOM. Set data.encoding" in said
    bad.write_text(" \n")
    refused(f"{folder}: of its documents, 1 has no text (file 0/bad.txt)")


def test_a_name_of_the_hub_is_not_taken_for_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "news").mkdir()
    settings = {**OWN, "text": "text", "label": "label", "train": "train", "config_name": None, "revision": None}
    with pytest.raises(UserError, match=r"data\.name=news is a file or folder here: read it with data=files"):
        HubDataset(**settings, name="news")
    with pytest.raises(UserError, match=r"data\.name is null or empty: name a data set"):
        HubDataset(**settings, name=None)
    with pytest.raises(UserError, match=r"data\.train is empty: name the train documents"):
        HubDataset(**{**settings, "train": ""}, name="other")


def test_lists_of_class_numbers_get_their_names() -> None:
    features = Features({"text": Value("string"), "label": List(ClassLabel(names=["z", "a"]))})
    dataset = Dataset.from_dict({"text": ["one", "two", "three"], "label": [[0, 1], [], [0]]}, features)
    columns = Columns(("text",), ("label",))
    table = collect("here", "row", hub_rows(dataset, columns), columns)
    assert table.several
    assert table.documents["labels"].to_list() == [["a", "z"], [], ["z"]]
