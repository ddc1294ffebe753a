"""The Hub source against a stand-in for the Hub on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from helpers import own_files, reuters_copy
from helpers.hub_stand_in import hub_stand_in
from helpers.imdb_copy import contents, made_up_fingerprint, read, write_parquet
from newsreel.corpora.corpus import Paths
from newsreel.corpora.custom import Files, HubDataset

README = """---
configs:
- config_name: plain_text
  default: true
  data_files:
  - {split: train, path: plain_text/train-*}
  - {split: test, path: plain_text/test-*}
  - {split: unsupervised, path: plain_text/unsupervised-*}
---
Made up.
"""

LOAD = """
import json
import sys
from newsreel.corpora.corpus import Paths
from newsreel.corpora.imdb import IMDB
from newsreel.corpora.custom import HubDataset
from newsreel.corpora.reuters import Reuters
from newsreel.core.errors import UserError
reader, cache, settings = sys.argv[1:]
readers = {"imdb": IMDB, "reuters": Reuters, "own": HubDataset}
paths = Paths(corpora_dir="none", cache_dir=cache, output_dir="none")
try:
    corpus = readers[reader](**json.loads(settings)).load(paths)
    print("source", corpus.source, corpus.fingerprint, {name: len(table) for name, table in corpus.tables.items()})
except UserError as error:
    print("refused", error)
"""
COMMON = {
    "limit": None,
    "train_limit": None,
    "validation_fraction": 0.25,
    "split_seed": 0,
}
PUBLISHED = {"source": "hub", "path": None}
REUTERS = {"subset": "reuters90", "keep_unlabeled": False, "unprocessed": True}
OWN = {
    "name": "someone/news",
    "config_name": None,
    "revision": None,
    "train": "train",
    "validation": None,
    "test": None,
    "text": "text",
    "label": "label",
    "separator": None,
    "test_fraction": 0.25,
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A data set as the Hub lays it out, with the made-up documents."""
    folder = tmp_path / "repository"
    write_parquet(folder / "plain_text")
    for file in (folder / "plain_text").iterdir():
        file.rename(file.with_name(f"{file.stem}-00000-of-00001.parquet"))
    (folder / "README.md").write_text(README)
    return folder


def load(tmp_path: Path, endpoint: str, reader: str = "imdb", **changes: str) -> str:
    """What a process of its own says: the Hub's client reads its settings when it is imported."""
    variables = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
    own = {
        "imdb": {**PUBLISHED, "fingerprint": made_up_fingerprint()},
        "reuters": {**PUBLISHED, **REUTERS, "fingerprint": reuters_copy.made_up_fingerprint()},
        "own": {**OWN, **changes},
    }
    process = subprocess.run(
        [sys.executable, "-c", LOAD, reader, str(tmp_path / "cache"), json.dumps({**COMMON, **own[reader]})],
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_hub_gives_the_same_documents(tmp_path: Path, repository: Path, paths: Paths) -> None:
    with hub_stand_in(repository, "stanfordnlp/imdb") as server:
        said = load(tmp_path, server.url)
    assert said.startswith(f"source hub: stanfordnlp/imdb on the Hugging Face Hub {made_up_fingerprint()} "), said
    assert "'unlabeled': 2" in said
    write_parquet(paths.corpora / "imdb")
    local = read(paths)
    from_hub = read(paths, source="hub")  # from the cache, without any Hub
    assert contents(from_hub) == contents(local)


def test_a_download_that_breaks_off_is_taken_up_again(tmp_path: Path, repository: Path) -> None:
    with hub_stand_in(repository, "stanfordnlp/imdb", cut_after=100) as server:
        said = load(tmp_path, server.url)
        downloads = [request for request in server.requests if request.startswith("GET") and "train-00000" in request]
    assert said.startswith("source hub"), said
    assert len(downloads) == 2


def test_other_documents_on_the_hub_are_refused(tmp_path: Path, repository: Path) -> None:
    file = repository / "plain_text" / "test-00000-of-00001.parquet"
    pl.read_parquet(file).with_columns(text=pl.lit("changed")).write_parquet(file)
    with hub_stand_in(repository, "stanfordnlp/imdb") as server:
        said = load(tmp_path, server.url)
    assert said.startswith("refused"), said
    assert "not the published corpus" in said
    assert "test negative: 4 documents" in said


def test_a_hub_that_does_not_answer_is_reported_at_once(tmp_path: Path) -> None:
    said = load(tmp_path, "http://127.0.0.1:9")
    assert said.startswith("refused"), said
    assert "http://127.0.0.1:9 does not give it" in said


@pytest.fixture
def conversion(tmp_path: Path) -> Path:
    """What the Hub keeps of a data set that is a script: one Parquet file a split and configuration, no README."""
    folder = tmp_path / "conversion"
    rows = [story.hub_row() for story in reuters_copy.STORIES]
    for configuration, split, part in (
        ("ModHayes", "train", rows[:20]),
        ("ModHayes", "test", rows[20:]),
        ("ModApte", "train", rows[:1]),
    ):
        (folder / configuration / split).mkdir(parents=True)
        pl.DataFrame(part).write_parquet(folder / configuration / split / "0000.parquet")
    return folder


def test_the_hub_gives_the_same_stories(tmp_path: Path, conversion: Path, paths: Paths) -> None:
    with hub_stand_in(conversion, "ucirvine/reuters21578") as server:
        said = load(tmp_path, server.url, "reuters")
        downloads = [request for request in server.requests if request.startswith("GET") and ".parquet" in request]
        revisions = [request for request in server.requests if "/revision/refs%2Fconvert%2Fparquet" in request]
    assert said.startswith("source hub: ucirvine/reuters21578 on the Hugging Face Hub"), said
    assert revisions
    assert len(downloads) == 2
    assert all("/ModHayes/" in request for request in downloads)
    from_hub = reuters_copy.reader(source="hub", unprocessed=True).load(paths)  # from the cache, without any Hub
    local = reuters_copy.reader(reuters_copy.write_folder(tmp_path), unprocessed=True).load(paths)
    assert reuters_copy.contents(from_hub) == reuters_copy.contents(local)
    assert from_hub.fingerprint == local.fingerprint


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("new_id", "one", "KeyError: 'one'"),
        pytest.param("title", None, "TypeError", marks=pytest.mark.slow),
        pytest.param("topics", None, "TypeError", marks=pytest.mark.slow),
    ],
)
def test_a_table_of_another_form_is_named(
    tmp_path: Path, conversion: Path, column: str, value: str | None, problem: str
) -> None:
    file = conversion / "ModHayes" / "test" / "0000.parquet"
    pl.read_parquet(file).with_columns(pl.lit(value).alias(column)).write_parquet(file)
    with hub_stand_in(conversion, "ucirvine/reuters21578") as server:
        said = load(tmp_path, server.url, "reuters")
    assert said.startswith("refused"), said
    assert f"is not what it should be: {problem}" in said


@pytest.fixture
def news(tmp_path: Path) -> Path:
    """A data set of someone's, with class labels, in a configuration of three splits; those to test have no labels."""
    folder = tmp_path / "news"
    features = Features({"text": Value("string"), "label": ClassLabel(names=["World", "Sports"])})
    for split, labels in (("train", [0, 1] * 8), ("validation", [1, 0, 0, 1]), ("test", [-1, -1])):
        texts = [f"{split} {number}" for number in range(len(labels))]
        (folder / "plain").mkdir(parents=True, exist_ok=True)
        Dataset.from_dict({"text": texts, "label": labels}, features).to_parquet(
            folder / "plain" / f"{split}-0.parquet"
        )
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: plain\n  data_files:\n"
        + "".join(f"  - {{split: {split}, path: plain/{split}-*}}\n" for split in ("train", "validation", "test"))
        + "- config_name: other\n  data_files: plain/train-*\n---\n"
    )
    return folder


def test_any_data_set_is_read_by_its_columns_and_class_names(tmp_path: Path, news: Path, paths: Paths) -> None:
    changes = {"config_name": "plain", "test": "validation"}
    with hub_stand_in(news, "someone/news") as server:
        said = load(tmp_path, server.url, "own", **changes)
    assert said.startswith("source someone/news, plain on the Hugging Face Hub"), said
    assert said.endswith("{'train': 16, 'test': 4}\n")
    from_hub = HubDataset(**{**COMMON, **OWN, **changes}).load(paths)  # from the cache, without any Hub
    assert from_hub.label_names == ("Sports", "World")
    names = {0: "World", 1: "Sports"}
    written = {
        split: own_files.write_csv(tmp_path / f"{split}.csv", [(f"{part} {n}", names[label]) for n, label in rows])
        for split, part, rows in (
            ("train", "train", list(enumerate([0, 1] * 8))),
            ("test", "validation", list(enumerate([1, 0, 0, 1]))),
        )
    }
    columns = {"text": "review", "label": "stars", "train": str(written["train"]), "test": str(written["test"])}
    settings = {key: value for key, value in OWN.items() if key not in ("name", "config_name", "revision")}
    local = Files(**{**COMMON, **settings, **columns}).load(paths)
    assert own_files.contents(from_hub) == own_files.contents(local)


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"config_name": "plain"}, ["the split 'test' of someone/news", "2 have no label (rows 1, 2)", "name other"]),
        ({}, ["cannot be had: ValueError: Config name is missing", "'plain'", "data.config_name"]),
        ({"config_name": "plain", "train": "trian"}, ["data.train=trian", "validation, test; did you mean train?"]),
        ({"config_name": "plain", "label": "labels"}, ["has the columns text, label; did you mean data.label=label?"]),
        ({"name": "someone/new s"}, ["The data set someone/new s on the Hugging Face Hub cannot be had", "Not Found"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_data_set_is_named(
    tmp_path: Path, news: Path, changes: dict[str, str], messages: list[str]
) -> None:
    with hub_stand_in(news, "someone/news") as server:
        said = load(tmp_path, server.url, "own", **changes)
    assert said.startswith("refused"), said
    for message in messages:
        assert message in said


def test_a_data_set_without_a_hub_is_reported_with_the_ways_to_go_on(tmp_path: Path) -> None:
    said = load(tmp_path, "http://127.0.0.1:9", "own")
    assert "someone/news on the Hugging Face Hub cannot be had: http://127.0.0.1:9 does not give it" in said
    assert "data=files" in said
