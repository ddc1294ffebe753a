"""The Hub source against a stand-in for the Hub on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from newsreel.corpora.corpus import Paths

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
import sys
from newsreel.corpora.corpus import Paths
from newsreel.corpora.imdb import IMDB
from newsreel.errors import UserError
paths = Paths(corpora_dir="none", cache_dir=sys.argv[1], output_dir="none")
reader = IMDB(
    source="hub",
    path=None,
    fingerprint=sys.argv[2],
    limit=None,
    train_limit=None,
    validation_fraction=0.25,
    split_seed=0,
)
try:
    corpus = reader.load(paths)
    print("source", corpus.source, corpus.fingerprint, len(corpus.tables["unlabeled"]))
except UserError as error:
    print("refused", error)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A data set as the Hub lays it out, with the made-up documents."""
    folder = tmp_path / "repository"
    write_parquet(folder / "plain_text")
    for file in (folder / "plain_text").iterdir():
        file.rename(file.with_name(f"{file.stem}-00000-of-00001.parquet"))
    (folder / "README.md").write_text(README)
    return folder


def load(tmp_path: Path, endpoint: str, cache: str = "cache", **environment: str) -> str:
    """What a process of its own says: the Hub's client reads its settings when it is imported."""
    variables = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), **environment}
    process = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / cache), made_up_fingerprint()],
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
        said = load(tmp_path, server.url, cache="cache")
    assert said.startswith(f"source hub: stanfordnlp/imdb on the Hugging Face Hub {made_up_fingerprint()} 2"), said
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
    import polars as pl

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
