"""The real IMDB reviews: every source and layout, killed and concurrent preparation, one result for all.

The documents come from the npm package; the other layouts are written from them.
"""

import json
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import polars as pl
import pytest

from helpers.files import local_copy, packed
from newsreel.corpora import imdb
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.corpora.imdb import IMDB

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(imdb.NPM_PACKAGE, imdb.NPM_TARBALL_BYTES, tmp_path_factory)


@pytest.fixture(scope="module")
def layouts(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The corpus as Parquet, as a tree and as a tar file."""
    folder = tmp_path_factory.mktemp("layouts")
    documents = imdb.read_npm_tarball(tarball)
    (folder / "parquet").mkdir()
    tree = folder / "aclImdb"
    for split, table in documents.items():
        table.reverse().write_parquet(folder / "parquet" / f"{split}.parquet")
        for label, name in ((0, "neg"), (1, "pos")):
            (tree / split / name).mkdir(parents=True)
            for number, text in enumerate(table.filter(pl.col("label") == label)["text"]):
                (tree / split / name / f"{number}_{7 * label + 2}.txt").write_bytes(text.encode())
    archive = folder / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(tree, arcname="aclImdb")
    return {"parquet": folder / "parquet", "tree": tree, "tar": archive}


def load(cache: Path, path: Path | None = None, corpora: str = "nowhere") -> Corpus:
    reader = IMDB(
        source="registry" if path is None and corpora == "nowhere" else "local",
        path=None if path is None else str(path),
        fingerprint=None,
        limit=None,
        train_limit=None,
        validation_fraction=0.1,
        split_seed=1,
    )
    return reader.load(Paths(corpora_dir=corpora, cache_dir=str(cache), output_dir="none"))


def test_every_source_and_layout_has_the_published_fingerprint_and_order(
    layouts: dict[str, Path], tmp_path: Path
) -> None:
    corpora = {"registry": load(tmp_path)} | {name: load(tmp_path, path) for name, path in layouts.items()}
    for name, corpus in corpora.items():
        assert corpus.fingerprint == imdb.IMDB_PUBLICATION.fingerprint, name
        assert {split: len(rows.rows) for split, rows in corpus.splits.items()} == {
            "train": 22_500,
            "validation": 2_500,
            "test": 25_000,
        }
        for split in ("train", "test"):
            assert corpus[split]["text"][:] == corpora["registry"][split]["text"][:], (name, split)
            assert corpus[split]["labels"][:] == corpora["registry"][split]["labels"][:], (name, split)


@pytest.mark.slow
def test_every_source_gives_the_same_test_accuracy(layouts: dict[str, Path], tmp_path: Path) -> None:
    found = {}
    sources = {name: f"data.path={path}" for name, path in layouts.items()}
    for name, source in {"registry": "data.source=registry", **sources}.items():
        command = ["train.py", "model=bow", "data=imdb", source, "data.limit=1000", "training.max_epochs=3"]
        own = [f"hydra.run.dir={tmp_path / name}", f"paths.cache_dir={tmp_path / 'cache' / name}"]
        subprocess.run([sys.executable, *command, *own], cwd=PROJECT, check=True, timeout=300)
        found[name] = json.loads((tmp_path / name / "metrics.json").read_text())
    assert {results["test/accuracy"] for results in found.values()} == {found["registry"]["test/accuracy"]}
    assert {results["test/loss"] for results in found.values()} == {found["registry"]["test/loss"]}
    assert found["registry"]["test/accuracy"] > 0.75


def test_a_local_copy_in_parquet_is_the_published_corpus(tmp_path: Path) -> None:
    corpora = str(local_copy("imdb/train.parquet").parents[1])
    assert load(tmp_path, corpora=corpora).fingerprint == imdb.IMDB_PUBLICATION.fingerprint


PREPARE = """
import sys
from pathlib import Path
from newsreel.corpora.corpus import Paths
from newsreel.corpora.imdb import IMDB
from newsreel.text.words import WordTokenizer
source, path, cache = sys.argv[1:]
reader = IMDB(
    source=source,
    path=path or None,
    fingerprint=None,
    limit=None,
    train_limit=None,
    validation_fraction=0.1,
    split_seed=1,
)
corpus = reader.load(Paths(corpora_dir="none", cache_dir=cache, output_dir="none"))
tokenizer = WordTokenizer(
    strip_html=True, normalization="NFC", lowercase=True, word_pattern="[a-z]+", punctuation="drop",
    mark_title=False, max_size=None, min_document_count=1,
)
tokenized = tokenizer.fit(corpus, Path(cache))
print(corpus.fingerprint, sum(len(table.ids) for table in tokenized.tables.values()))
"""


def prepare(source: str, path: Path | None, cache: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PREPARE, source, "" if path is None else str(path), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["local", "registry"])
def test_preparation_killed_at_random_completes_when_started_again(
    layouts: dict[str, Path], tmp_path: Path, source: str
) -> None:
    path = layouts["parquet"] if source == "local" else None
    begun = time.perf_counter()
    expected = prepare(source, path, tmp_path / "measure").communicate()[0].split()
    duration = time.perf_counter() - begun
    assert expected[0] == imdb.IMDB_PUBLICATION.fingerprint
    moments = random.Random(0)
    killed = 0
    for number in range(5):
        cache = tmp_path / f"cache{number}"
        for _ in range(2):  # the second one finds what the first has left
            process = prepare(source, path, cache)
            time.sleep(moments.uniform(0.1, 0.95) * duration)
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert prepare(source, path, cache).communicate()[0].split() == expected
        left = [path for path in cache.rglob("*partial*") if path.is_dir()]
        assert left == []
    assert killed >= 5


def test_two_at_once_do_not_disturb_each_other(layouts: dict[str, Path], tmp_path: Path) -> None:
    processes = [prepare("local", layouts["parquet"], tmp_path) for _ in range(2)]
    first, second = (process.communicate()[0].split() for process in processes)
    assert first == second
    assert first[0] == imdb.IMDB_PUBLICATION.fingerprint
    assert len(list((tmp_path / "corpora").glob("imdb-*"))) == 1
    assert not list(tmp_path.rglob("*partial*"))
