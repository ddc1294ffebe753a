"""The Hub source against a stand-in for the Hub on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from helpers import own_files, reuters_copy
from helpers.documents import contents
from helpers.hub_stand_in import HubServer, ask_hub_at, hub_stand_in
from helpers.imdb_copy import imdb_settings, made_up_fingerprint, read, write_parquet
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.corpora.custom import HubDataset

LOAD = """
import json, sys
from newsreel.corpora.corpus import Paths
from newsreel.corpora.imdb import IMDB
cache, settings = sys.argv[1:]
corpus = IMDB(**json.loads(settings)).load(Paths(corpora_dir="none", cache_dir=cache, output_dir="none"))
print(corpus.source, corpus.fingerprint, {name: len(table) for name, table in corpus.tables.items()})
"""
OWN = {**own_files.OWN, "name": "someone/news", "config_name": None, "revision": None, "train": "train"}
OWN |= {"text": "text", "label": "label"}


def write_card(folder: Path, configurations: dict[str, list[str]]) -> None:
    """The README that says which files each configuration and split has."""
    lines = ["---", "configs:"]
    for name, splits in configurations.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [f"  - {{split: {split}, path: plain/{split}-*}}" for split in splits]
    (folder / "README.md").write_text("\n".join([*lines, "---\n"]))


@pytest.fixture
def imdb(tmp_path: Path) -> Path:
    write_card(tmp_path, {"plain_text": ["train", "test", "unsupervised"]})
    return write_parquet(tmp_path / "plain", end="-00000-of-00001").parent


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve a folder as a data set, and let this process ask for it, while a function is called."""

    def call(folder: Path, dataset: str, function: Callable[[], Corpus]) -> tuple[Corpus, HubServer]:
        with hub_stand_in(folder, dataset) as server, monkeypatch.context() as patch:
            ask_hub_at(server.url, tmp_path / "hf", patch)
            return function(), server

    return call


@pytest.mark.slow
def test_a_download_that_breaks_off_is_taken_up_again(tmp_path: Path, imdb: Path, paths: Paths) -> None:
    """In a process of its own, which reads HF_ENDPOINT."""
    with hub_stand_in(imdb, "stanfordnlp/imdb", cut_after=100) as server:
        arguments = [str(paths.cache), json.dumps(imdb_settings(source="hub"))]
        variables = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf")}
        said = subprocess.check_output([sys.executable, "-c", LOAD, *arguments], env=variables, text=True, timeout=120)
        downloads = [request for request in server.requests if request.startswith("GET") and "train-00000" in request]
    assert said.startswith(f"hub: stanfordnlp/imdb on the Hugging Face Hub {made_up_fingerprint()} "), said
    assert "'unlabeled': 2" in said
    assert len(downloads) == 2
    from_hub = read(paths, source="hub")  # from the cache, without any Hub
    assert contents(from_hub) == contents(read(paths, path=write_parquet(paths.corpora / "imdb")))


def test_other_documents_on_the_hub_are_refused(imdb: Path, paths: Paths, serve: Any) -> None:
    file = imdb / "plain" / "test-00000-of-00001.parquet"
    pl.read_parquet(file).with_columns(text=pl.lit("changed")).write_parquet(file)
    with pytest.raises(UserError, match=r"(?s)not the published corpus.*test negative: 4 documents"):
        serve(imdb, "stanfordnlp/imdb", lambda: read(paths, source="hub"))


def test_a_hub_that_does_not_answer_is_reported_at_once(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_hub_at("http://127.0.0.1:9", paths.cache, monkeypatch)
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9 does not provide it"):
        read(paths, source="hub")
    refusal = r"someone/news on the Hugging Face Hub cannot be loaded: http://127\.0\.0\.1:9 does(?s:.*)data=files"
    with pytest.raises(UserError, match=refusal):
        HubDataset(**OWN).load(paths)


@pytest.fixture
def conversion(tmp_path: Path) -> Path:
    """What the Hub keeps of a data set that is a script: one Parquet file a split and configuration, no README."""
    rows = [story.hub_row() for story in reuters_copy.STORIES]
    for name, part in (("ModHayes/train", rows[:20]), ("ModHayes/test", rows[20:]), ("ModApte/train", rows[:1])):
        (tmp_path / "conversion" / name).mkdir(parents=True)
        pl.DataFrame(part).write_parquet(tmp_path / "conversion" / name / "0000.parquet")
    return tmp_path / "conversion"


def test_the_hub_gives_the_same_stories(tmp_path: Path, conversion: Path, paths: Paths, serve: Any) -> None:
    reader = reuters_copy.reader(source="hub", unprocessed=True)
    from_hub, server = serve(conversion, "ucirvine/reuters21578", lambda: reader.load(paths))
    downloads = [request for request in server.requests if request.startswith("GET") and ".parquet" in request]
    assert from_hub.source.startswith("hub: ucirvine/reuters21578 on the Hugging Face Hub")
    assert any("/revision/refs%2Fconvert%2Fparquet" in request for request in server.requests)
    assert len(downloads) == 2
    assert all("/ModHayes/" in request for request in downloads)
    local = reuters_copy.reader(reuters_copy.write_folder(tmp_path), unprocessed=True).load(paths)
    assert contents(from_hub) == contents(local)
    assert from_hub.fingerprint == local.fingerprint


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [("new_id", "one", "KeyError: 'one'"), ("title", None, "TypeError"), ("topics", None, "TypeError")],
)
def test_a_table_of_another_form_is_named(
    conversion: Path, paths: Paths, serve: Any, column: str, value: str | None, problem: str
) -> None:
    file = conversion / "ModHayes" / "test" / "0000.parquet"
    pl.read_parquet(file).with_columns(pl.lit(value).alias(column)).write_parquet(file)
    reader = reuters_copy.reader(source="hub")
    with pytest.raises(UserError, match=f"has unexpected content: {problem}"):
        serve(conversion, "ucirvine/reuters21578", lambda: reader.load(paths))


LABELS = {"train": [0, 1] * 8, "validation": [1, 0, 0, 1], "test": [-1, -1]}


@pytest.fixture
def news(tmp_path: Path) -> Path:
    """A data set of someone's, with class labels, in a configuration of three splits; those to test have no labels."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=["World", "Sports"])})
    (tmp_path / "news" / "plain").mkdir(parents=True)
    for split, labels in LABELS.items():
        rows = {"text": [f"{split} {number}" for number in range(len(labels))], "label": labels}
        Dataset.from_dict(rows, features).to_parquet(tmp_path / "news" / "plain" / f"{split}-0.parquet")
    write_card(tmp_path / "news", {"plain": list(LABELS), "other": ["train"]})
    return tmp_path / "news"


def test_any_data_set_is_read_by_its_columns_and_class_names(
    tmp_path: Path, news: Path, paths: Paths, serve: Any
) -> None:
    reader = HubDataset(**{**OWN, "config_name": "plain", "test": "validation"})
    from_hub, _ = serve(news, "someone/news", lambda: reader.load(paths))
    assert from_hub.source == "someone/news, plain on the Hugging Face Hub"
    files = {}
    for split, part in (("train", "train"), ("test", "validation")):
        rows = [(f"{part} {number}", ["World", "Sports"][label]) for number, label in enumerate(LABELS[part])]
        files[split] = own_files.write_csv(tmp_path / f"{split}.csv", rows)
    assert own_files.everything(from_hub) == own_files.everything(own_files.load(paths, **files))
    assert own_files.everything(reader.load(paths)) == own_files.everything(from_hub)  # from the cache, without any Hub


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"the split 'test' of someone/news.* 2 have no label \(rows 1, 2\).*use other"),
        ({"config_name": None}, r"cannot be loaded: ValueError: Config name is missing.*'plain'.*data\.config_name"),
        ({"train": "trian"}, r"data\.train=trian.*validation, test; did you mean train\?"),
        ({"label": "labels"}, r"has the columns text, label; did you mean data\.label=label\?"),
        ({"name": "someone/new s"},
         r"The data set someone/new s.* on the Hugging Face Hub cannot be loaded.*Not Found"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_data_set_is_named(
    news: Path, paths: Paths, serve: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        serve(news, "someone/news", lambda: HubDataset(**{**OWN, "config_name": "plain", **changes}).load(paths))
