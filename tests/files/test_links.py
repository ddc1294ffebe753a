"""Links in the user's folders are followed only within the folder."""

import os
from pathlib import Path
from typing import Any

import pytest

from helpers.own_files import TRAIN, everything, load, refusal, write_csv, write_tree
from newsreel.core.errors import UserError
from newsreel.corpora import imdb, reuters
from newsreel.corpora.corpus import Paths
from newsreel.corpora.custom import Files
from newsreel.corpora.rcv1 import find_layout


def test_links_in_a_folder_of_texts_stay_within_it(tmp_path: Path, paths: Paths) -> None:
    tree = write_tree(tmp_path / "tree", TRAIN)
    expected = everything(load(paths, train=tree))
    first = tree / "0" / "29.txt"
    (tree / ".store").mkdir()
    first.rename(tree / ".store" / "29.txt")
    first.symlink_to("../.store/29.txt")
    assert everything(load(paths, train=tree)) == expected
    (tmp_path / "link").symlink_to(tree)
    assert everything(load(paths, train=tmp_path / "link")) == expected  # named by the user
    (tmp_path / "secret.txt").write_text("outside")
    first.unlink()
    first.symlink_to(tmp_path / "secret.txt")
    for folder in (tree, tmp_path / "link"):
        message = refusal(paths, train=folder)
        assert f"29.txt is a link to {tmp_path / 'secret.txt'}, outside of {folder}" in message
        assert "Copy what it leads to into the folder" in message


def test_links_to_folders_of_labels_and_to_unlabelled_texts_stay_within_too(tmp_path: Path, paths: Paths) -> None:
    tree = write_tree(tmp_path / "tree", TRAIN)
    outside = write_tree(tmp_path / "outside", TRAIN)
    (tree / "9").symlink_to(outside / "1")
    assert f"9 is a link to {outside / '1'}, outside of {tree}" in refusal(paths, train=tree)
    (tree / "9").unlink()
    (tree / "unsup").mkdir()
    (tree / "unsup" / "1.txt").symlink_to(outside / "1" / "1.txt")
    assert "1.txt is a link to" in refusal(paths, train=tree)
    plain = write_csv(tmp_path / "plain.csv", TRAIN)
    assert "1.txt is a link to" in refusal(paths, train=plain, unlabeled=tree / "unsup")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("train/pos/1.txt", lambda root: imdb.read_members(root, "*/*/*.txt")),
        ("reut2-000.sgm", reuters.read_folder),
        ("a/2286newsML.xml", find_layout),
    ],
)
def test_links_in_folders_of_published_corpora_stay_within_them(name: str, read: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    link = tmp_path / "corpus" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=rf"{name} is a link to {tmp_path / 'secret'}, outside of"):
        read(tmp_path / "corpus")


def test_a_link_to_a_folder_above_does_not_multiply_the_files_of_rcv1(tmp_path: Path) -> None:
    (tmp_path / "2286newsML.xml").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    layout = find_layout(tmp_path)
    assert layout is not None
    assert [part.name for part in layout.parts] == ["2286newsML.xml …"]


def test_a_file_with_the_old_size_and_modification_time_is_read_anew(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_csv(tmp_path / "train.csv", TRAIN)
    os.utime(file, ns=(1, 1))
    load(paths, train=file)
    file.write_bytes(file.read_bytes().replace(b"number 0", b"number X"))
    os.utime(file, ns=(1, 1))
    monkeypatch.setattr(Files, "read_tables", lambda self: pytest.fail("read anew"))
    with pytest.raises(pytest.fail.Exception, match="read anew"):
        load(paths, train=file)
