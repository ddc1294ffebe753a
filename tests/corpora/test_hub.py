"""The Hub source against a stand-in for the Hub on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from newsreel.corpora.corpus import Paths

import test_reuters
from hub_stand_in import hub_stand_in
from test_imdb import contents, made_up_fingerprint, read, write_parquet

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
from newsreel.corpora.reuters import Reuters
from newsreel.errors import UserError
reader, cache, settings = sys.argv[1:]
readers = {"imdb": IMDB, "reuters": Reuters}
paths = Paths(corpora_dir="none", cache_dir=cache, output_dir="none")
try:
    corpus = readers[reader](**json.loads(settings)).load(paths)
    print("source", corpus.source, corpus.fingerprint, {name: len(table) for name, table in corpus.tables.items()})
except UserError as error:
    print("refused", error)
"""
COMMON = {
    "source": "hub",
    "path": None,
    "limit": None,
    "train_limit": None,
    "validation_fraction": 0.25,
    "split_seed": 0,
}
REUTERS = {"subset": "reuters90", "keep_unlabeled": False, "unprocessed": True}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A data set as the Hub lays it out, with the made-up documents."""
    folder = tmp_path / "repository"
    write_parquet(folder / "plain_text")
    for file in (folder / "plain_text").iterdir():
        file.rename(file.with_name(f"{file.stem}-00000-of-00001.parquet"))
    (folder / "README.md").write_text(README)
    return folder


def load(tmp_path: Path, endpoint: str, reader: str = "imdb") -> str:
    """What a process of its own says: the Hub's client reads its settings when it is imported."""
    variables = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
    own = {
        "imdb": {"fingerprint": made_up_fingerprint()},
        "reuters": {**REUTERS, "fingerprint": test_reuters.made_up_fingerprint()},
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
    rows = [story.hub_row() for story in test_reuters.STORIES]
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
    from_hub = test_reuters.reader(source="hub", unprocessed=True).load(paths)  # from the cache, without any Hub
    local = test_reuters.reader(test_reuters.write_folder(tmp_path), unprocessed=True).load(paths)
    assert test_reuters.contents(from_hub) == test_reuters.contents(local)
    assert from_hub.fingerprint == local.fingerprint


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [("new_id", "one", "KeyError: 'one'"), ("title", None, "TypeError"), ("topics", None, "TypeError")],
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
