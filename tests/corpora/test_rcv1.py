"""RCV1-v2 from both of its formats, on made-up stories and on files that are not as they should be."""

import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rcv1_like
from helpers.documents import READING, contents
from helpers.files import truncate
from helpers.marks import slow
from helpers.odd_parts import DeadlyPart, EndlessPart
from newsreel.core.errors import UserError
from newsreel.corpora import rcv1, rcv1_parts
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.corpora.rcv1 import LAST_TRAINING_ID, RCV1
from newsreel.corpora.rcv1_stories import BadFile, labels_of, newsml_story, read_qrels, token_documents, topics

NUM_STORIES, NUM_TRAINING = 1_000, 200
XML = '<?xml version="1.0" encoding="iso-8859-1" ?>\n'


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same stories in both formats."""
    folder = tmp_path_factory.mktemp("rcv1") / "made_up"
    rcv1_like.main([str(folder), "--documents", str(NUM_STORIES), "--words", "20", "--vocabulary", "1000"])
    return folder


def reader(path: Path | None, **changes: Any) -> RCV1:
    path_or_none = None if path is None else str(path)
    return RCV1(**{**READING, "path": path_or_none, "max_bad_files": None, "num_processes": 1, **changes})


def with_cache(folder: Path) -> Paths:
    return Paths(corpora_dir="none", cache_dir=str(folder), output_dir="none")


def newsml(story_id: object, codes: tuple[str, ...] = ("C15",), region: str = "UK", headline: str = "H") -> str:
    """A story like the discs it."""
    of_class = {"countries": [region] if region else [], "industries": ["I1"], "topics": codes}
    coded = ""
    for name, of in of_class.items():
        inner = "".join(f'<code code="{code}"><editdetail/></code>' for code in of)
        coded += f'<codes class="bip:{name}:1.0">{inner}</codes>'
    return (
        f'{XML}<newsitem itemid="{story_id}" id="root" date="1996-08-20" xml:lang="en"><title>UK: {headline}</title>'
        f"<headline>{headline}</headline><dateline>LONDON</dateline><text>\n<p>One  &amp;\ntwo.</p><p> </p>\n"
        f"<p>Three.</p></text><copyright>(c)</copyright><metadata>{coded}</metadata></newsitem>"
    )


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    folder = tmp_path / "discs"
    folder.mkdir()
    return folder


def write_zip(file: Path, stories: dict[str, str]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in stories.items():
            archive.writestr(name, content.encode("iso-8859-1"))
    return file


def write_public(folder: Path) -> Path:
    """The public files with a story each."""
    folder.mkdir(parents=True)
    ids = range(LAST_TRAINING_ID, LAST_TRAINING_ID + 5)
    for name, story_id in zip(rcv1.TOKEN_FILES, ids, strict=True):
        (folder / name).write_text(f".I {story_id}\n.W\na b\nc\n\n")
    (folder / rcv1.QRELS).write_text("".join(f"C15 {story_id} 1\nCCAT {story_id} 1\n" for story_id in ids))
    return folder


def codes(labels: list[int]) -> list[str]:
    return [topics().codes[label] for label in labels]


def train_ids(corpus: Corpus) -> list[int]:
    return list(corpus.tables["train"]["id"])


def test_both_formats_give_the_same_ids_labels_and_splits(made_up: Path, paths: Paths) -> None:
    stories = list(rcv1_like.made_up_stories(NUM_STORIES, 20, 1000, seed=0))
    discs, public = (reader(made_up / name).load(paths) for name in ("discs", "public"))
    found = contents(discs, "id")
    assert found == contents(public, "id")
    together = [*found["train"], *found["test"]]
    assert [(number, codes(labels)) for number, labels in together] == [(story.id, story.codes) for story in stories]
    assert len(found["train"]) == NUM_TRAINING
    assert found["train"][-1][0] == LAST_TRAINING_ID
    for split in ("train", "validation", "test"):
        assert np.array_equal(discs.splits[split].rows, public.splits[split].rows)
    assert discs.tables["test"]["text"][0] == "\n".join(" ".join(line) for line in stories[NUM_TRAINING].lines)
    assert public.tables["test"]["text"][0] == discs.tables["test"]["text"][0].replace("\n", " ")
    assert discs.fingerprint != public.fingerprint
    assert (discs.task, discs.metric) == ("multilabel", "f1_micro")
    assert (discs.label_names, discs.parents, discs.label_titles) == topics()
    assert "200 train and 800 test documents instead of the 23,149 train" in discs.notes[0]
    missing = codes(np.flatnonzero(~discs.labels_present("train")).tolist())
    assert discs.notes[-2].startswith(f"No training document has {len(missing)} of the 103 labels")
    assert missing[0] in discs.notes[-2]


@pytest.mark.parametrize("layout", [slow("discs"), slow("public")])
def test_any_number_of_processes_and_unpacked_files_give_the_same(made_up: Path, tmp_path: Path, layout: str) -> None:
    one, two = (reader(made_up / layout, num_processes=n).read(with_cache(tmp_path / str(n))) for n in (1, 2))
    assert one.fingerprint == two.fingerprint
    assert contents(one, "id") == contents(two, "id")
    for number, file in enumerate(sorted((made_up / "discs").glob("*.zip"))):
        shutil.unpack_archive(file, tmp_path / "unpacked" / f"disc{number % 2}" / file.stem)
    if layout == "discs":
        assert reader(tmp_path / "unpacked").read(with_cache(tmp_path / "3")).fingerprint == one.fingerprint


def test_stories_come_in_the_order_of_their_ids_wherever_they_are(paths: Paths, discs: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(rcv1_parts, "BATCH", 3)
    monkeypatch.setattr(rcv1_parts, "OPEN_PARTS", 2)
    monkeypatch.setattr(rcv1, "WRITE_BATCH", 7)
    ids = np.random.default_rng(0).permutation(np.arange(LAST_TRAINING_ID - 19, LAST_TRAINING_ID + 21))
    for number in range(4):
        write_zip(discs / f"{number}.zip", {f"{i}.xml": newsml(i, headline=f"h{i}") for i in ids[number::4]})
    corpus = reader(discs).read(paths)
    for split, expected in (("train", sorted(ids)[:20]), ("test", sorted(ids)[20:])):
        assert corpus.tables[split]["id"][:] == expected
        assert [text.partition("\n")[0] for text in corpus.tables[split]["text"]] == [f"h{i}" for i in expected]


def test_a_story_has_headline_paragraphs_and_the_topics_above_its_own() -> None:
    story = newsml_story(newsml(7, ("C1511", "GMIL", "G11", "XYZ"), headline="Caf\xe9 &lt;AB&gt;").encode("latin-1"))
    assert story is not None
    assert (story.id, story.text) == (7, "Caf\xe9 <AB>\nOne & two.\nThree.")
    assert codes(story.labels) == ["C15", "C151", "C1511", "CCAT", "GCAT", "GMIL"]


def test_the_topics_are_those_of_the_publication() -> None:
    names, parents, titles = topics()
    assert len(names) == 103
    assert list(names) == sorted(names)
    assert [name for name, parent in zip(names, parents, strict=True) if parent < 0] == ["CCAT", "ECAT", "GCAT", "MCAT"]
    assert names[parents[names.index("E411")]] == "E41"
    assert titles[names.index("GCRIM")] == "CRIME, LAW ENFORCEMENT"
    assert labels_of([]) == []
    assert labels_of(["M143"]) == [names.index(name) for name in ("M14", "M143", "MCAT")]


def test_stories_without_a_topic_or_a_region_are_left_out() -> None:
    for topic_codes, region in (((), "UK"), (("G11", "1POL"), "UK"), (("C15",), "")):
        assert newsml_story(newsml(1, topic_codes, region).encode()) is None


MAY_DECLARE = "has <!DOCTYPE newsitem …>, which is not allowed because it can declare entities"
NOT_XML = "is not valid XML: "
BAD_XML = [
    ('<!DOCTYPE newsitem [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><newsitem itemid="1"/>', MAY_DECLARE),
    ('<!DOCTYPE newsitem [<!ENTITY secret SYSTEM "file:///etc/passwd">]><newsitem itemid="1"/>', MAY_DECLARE),
    ('<!DOCTYPE newsitem SYSTEM "http://localhost/a.dtd"><newsitem itemid="1"/>', MAY_DECLARE),
    (newsml(1, headline="&undeclared;"), f"{NOT_XML}undefined entity: line 2"),
    (newsml(1)[:-20], NOT_XML),
    (newsml(1, headline="Caf\xe9").replace("iso-8859-1", "utf-8"), f"{NOT_XML}not well-formed"),
    (newsml(1).replace("iso-8859-1", "utf-16"), f"{NOT_XML}encoding specified"),
    (newsml(1).replace("iso-8859-1", "klingon"), f"{NOT_XML}unknown encoding"),
    ("", f"{NOT_XML}no element found"),
    ("<codes/>", "has the root <codes> instead of <newsitem>"),
    (newsml("seven"), 'has itemid="seven", which is not a number'),
    ("<newsitem/>", 'has itemid="", which is not a number'),
]


def test_xml_that_is_not_a_story_is_refused_and_the_file_named(paths: Paths, discs: Path) -> None:
    write_zip(discs / "day.zip", {"1.xml": newsml(1), **{f"{n:02}.xml": xml for n, (xml, _) in enumerate(BAD_XML)}})
    with pytest.raises(UserError) as error:
        reader(discs, max_bad_files=0).read(paths)
    listed = [line for line in str(error.value).splitlines() if line.startswith("  ")]
    for number, (line, (_, problem)) in enumerate(zip(listed, BAD_XML, strict=True)):
        assert line.startswith(f"  day.zip, {number:02}.xml: {problem}")


def test_a_zip_file_with_a_path_that_climbs_out_is_refused_whole(paths: Paths, discs: Path) -> None:
    members = ["../out.xml", "/out.xml", "a/../../out.xml", "..\\out.xml", "C:\\out.xml", "a/.."]
    for number, member in enumerate(members):
        write_zip(discs / f"{number}.zip", {"1.xml": newsml(1), member: newsml(2)})
    with pytest.raises(UserError) as error:
        reader(discs, max_bad_files=5).read(paths)
    for number, member in enumerate(members):
        assert f"  {number}.zip: has a file with the path {member}, which is outside its folder" in str(error.value)
    assert not list(discs.parent.rglob("out.xml"))
    write_zip(discs / "fine.zip", {"a..b/1..xml": newsml(1), "..2.xml": newsml(2), "README.TXT": "not a story"})
    corpus = reader(discs).read(paths)
    assert train_ids(corpus) == [1, 2]
    assert corpus.notes[0].startswith("6 files could not be read")


def test_damaged_files_and_those_too_long_to_be_a_story_are_left_out(
    paths: Paths, discs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newsreel.corpora.rcv1_stories.MAX_STORY_BYTES", 1000)
    long = newsml(2, headline="h" * 1000)
    (discs / "0.xml").write_text(long)
    write_zip(discs / "a.zip", {"1.xml": newsml(1), "2.xml": long})
    damaged = write_zip(discs / "b.zip", {"3.xml": newsml(3)})
    damaged.write_bytes(damaged.read_bytes().replace(b"Three.", b"Threa."))  # the checksum no longer fits
    truncate(write_zip(discs / "c.zip", {"4.xml": newsml(4)}))
    corpus = reader(discs).read(paths)
    assert train_ids(corpus) == [1]
    names = ["0.xml: has 2,521", "a.zip, 2.xml: has 2,521", "b.zip, 3.xml: cannot be read: Bad CRC-32",
             "c.zip: cannot be read as a zip file: "]  # fmt: skip
    for name in ("4 files could not be read and were skipped: 0.xml", *names):
        assert name in corpus.notes[0]


def test_bad_files_beyond_the_limit_are_listed_whenever_the_limit_is_set(paths: Paths, discs: Path) -> None:
    write_zip(discs / "a.zip", {"good.xml": newsml(1), **{f"{number:02}.xml": "" for number in range(10)}})
    assert train_ids(reader(discs).read(paths)) == [1]
    (discs / "4.xml").write_text(newsml(4)[:100])
    refusal = (
        r"11 files in .* cannot be read, but data\.max_bad_files allows only 10:\n  4\.xml: .*\n  a\.zip, 00\.xml: "
    )
    with pytest.raises(UserError, match=refusal):
        reader(discs).read(paths)
    assert train_ids(reader(discs, max_bad_files=11).read(paths)) == [1]
    with pytest.raises(UserError, match=refusal):
        reader(discs).read(paths)


def test_a_killed_preparation_goes_on_from_the_parts_that_are_done(
    made_up: Path, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    read_part = rcv1_parts.read_part

    def read_and_count(part: rcv1_parts.Part, place: Path) -> list[str]:
        if place.name == "00003" and os.getpid() != this_process:
            os.kill(os.getpid(), signal.SIGKILL)
        read.append(place.name)
        return read_part(part, place)

    this_process = os.getpid()
    monkeypatch.setattr(rcv1_parts, "read_part", read_and_count)
    process = multiprocessing.get_context("fork").Process(target=reader(made_up / "discs").read, args=(paths,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    corpus = reader(made_up / "discs").read(paths)
    assert read == ["00003", "00004"]
    assert corpus.fingerprint == reader(made_up / "discs").read(with_cache(tmp_path / "other")).fingerprint
    assert not [path for path in (paths.cache / "corpora").iterdir() if "parts" in path.name or "partial" in path.name]


def stop_before_the_corpus_is_written(monkeypatch: pytest.MonkeyPatch, path: Path, paths: Paths) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(rcv1, "PartsInOrder", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reader(path).read(paths)


def test_parts_of_files_that_have_changed_since_are_removed(
    paths: Paths, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parts() -> list[Path]:
        return list((paths.cache / "corpora").glob(".rcv1-parts-*"))

    write_zip(discs / "a.zip", {"1.xml": newsml(1)})
    shutil.copytree(discs, tmp_path / "others")
    left = []
    for number in range(2):
        stop_before_the_corpus_is_written(monkeypatch, discs, paths)
        left += parts()
        os.utime(discs / "a.zip", (number, number))
    assert len(left) == len(set(left)) == 2  # those of the first files made way for those of the second
    stop_before_the_corpus_is_written(monkeypatch, tmp_path / "others", paths)
    assert len(parts()) == 2  # another place
    reader(discs).read(paths)
    reader(tmp_path / "others").read(paths)
    assert parts() == []


@pytest.mark.slow
def test_a_process_that_is_killed_is_reported(tmp_path: Path) -> None:
    places = rcv1_parts.part_folders(tmp_path, 2)
    with pytest.raises(UserError, match=r"was killed, perhaps because memory ran out"):
        list(rcv1_parts.read_parts([DeadlyPart("a"), DeadlyPart("b")], tmp_path, num_processes=2))
    assert not any(place.exists() for place in places)


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    pids = [tmp_path / "a", tmp_path / "b"]

    def read() -> None:
        list(rcv1_parts.read_parts([EndlessPart(str(pid)) for pid in pids], tmp_path, 2))

    parent = multiprocessing.get_context("fork").Process(target=read)
    parent.start()
    wait_until(lambda: all(pid.exists() and pid.read_text() for pid in pids))
    parent.kill()
    parent.join()
    wait_until(lambda: not any(is_running(int(pid.read_text())) for pid in pids))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("file", ["bad_files.json", "stories.arrow"])
def test_damaged_parts_are_read_again(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, file: str
) -> None:
    public = write_public(tmp_path / "public")
    stop_before_the_corpus_is_written(monkeypatch, public, paths)
    (part,) = (paths.cache / "corpora").glob(".rcv1-parts-*/00002")
    truncate(part / file)
    monkeypatch.undo()
    assert len(reader(public).read(paths)["train"])
    assert f"in {part} are damaged and made anew: {file} has changed" in caplog.text


def test_changed_files_are_read_anew_and_repeated_stories_refused(paths: Paths, discs: Path) -> None:
    write_zip(discs / "a.zip", {"1.xml": newsml(LAST_TRAINING_ID + 1)})
    assert [len(table) for table in reader(discs).read(paths).tables.values()] == [0, 1]
    with pytest.raises(UserError, match="has no training documents"):
        reader(discs).load(paths)
    write_zip(discs / "a.zip", {"1.xml": newsml(1), "2.xml": newsml(2)})
    assert train_ids(reader(discs).read(paths)) == [1, 2]
    write_zip(discs / "b.zip", {"2.xml": newsml(2)})
    with pytest.raises(UserError, match=r"1 stories occur twice, such as 2 in a\.zip and in b\.zip"):
        reader(discs).read(paths)


def test_public_files_are_looked_for_under_corpora_dir_packed_or_not(paths: Paths) -> None:
    with pytest.raises(UserError) as error:
        reader(None).read(paths)
    assert f"local: {paths.corpora / 'rcv1'}: not found" in str(error.value)
    assert "data=synthetic_rcv1" in str(error.value)
    folder = write_public(paths.corpora / "rcv1")
    corpus = reader(None).read(paths)
    assert corpus.source == f"local: {folder}"
    assert corpus.tables["train"]["text"][:] == ["a b c"]
    assert [codes(labels) for labels in corpus.tables["test"]["labels"]] == [["C15", "CCAT"]] * 4
    layout = rcv1.find_layout(folder)
    assert pickle.loads(pickle.dumps(layout)) == layout  # as other processes get the parts


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has no document"),
        (b".W\na\n", "line 1 is '.W' instead of .I"),
        (b".I one\n.W\na\n", "line 1 is '.I one' instead of .I and a number"),
        (b".I 1\na\n", "line 2 is 'a' instead of .W"),
        (b".I 1\n.I 2\n.W\n", "has a document without .W before line 2"),
        (b".I 1\n.W\na\n\n.I 2\n", "has a document without .W before line 6"),
        (b".I 1\n.W\na b", "ends in the middle of line 3"),
        (b".I 1\n.W\na\x00b\x00\n", "has control codes before line 4"),
        (".I 1\n.W\na\n".encode("utf-16"), r"line 1 is 'ÿþ.\x00I\x00 \x001\x00' instead of .I"),
    ],
)  # fmt: skip
def test_token_files_of_another_form_are_refused_by_line(content: bytes, problem: str) -> None:
    with pytest.raises(BadFile) as error:
        list(token_documents(content.splitlines(keepends=True)))
    assert str(error.value).startswith(problem)


def test_documents_may_be_empty_or_have_a_letter_beyond_ascii() -> None:
    lines = b".I 1\n.W\n\n.I 2\n.W\ncaf\xe9\n".splitlines(keepends=True)
    assert list(token_documents(lines)) == [(1, ""), (2, "caf\xe9")]


def test_a_truncated_file_stops_the_reading_unless_allowed(made_up: Path, paths: Paths, tmp_path: Path) -> None:
    folder = shutil.copytree(made_up / "public", tmp_path / "public")
    truncate(folder / "lyrl2004_tokens_test_pt2.dat.gz")
    problem = r"lyrl2004_tokens_test_pt2\.dat\.gz: cannot be read: Compressed file ended before"
    with pytest.raises(UserError, match=rf"1 files in .* allows only 0:\n  {problem}"):
        reader(folder).read(paths)
    corpus = reader(folder, max_bad_files=1).read(paths)
    assert len(corpus.tables["test"]) == 600
    assert "1 file could not be read and was skipped: lyrl2004_tokens_test_pt2.dat.gz" in corpus.notes[0]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("C15 26150 1\nC15 26151\n", "line 2 is not one of the 103 topics, a number and 1"),
        ("C15 26150 1\n\nC15 26151 1\n", "line 2 is not"),
        ("C15 26150 1\nC15 26151 0\n", "line 2 is not"),
        ("C15 26150 1\nC15 one 1\n", "line 2 is not"),
        ("C15 26150 1\nC15 26151 1 2\n", "cannot be read: found more fields"),
        ("G11 26150 1\n", "line 1 is not"),
        ("", "is empty"),
    ],
)
def test_topics_of_another_form_are_refused_by_line(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / rcv1.QRELS).write_text(content)
    with pytest.raises(UserError, match=rf"rcv1-v2\.topics\.qrels,? {problem}"):
        read_qrels(tmp_path / rcv1.QRELS)


def test_folders_that_hold_nothing_a_part_or_two_layouts_are_refused(paths: Paths, tmp_path: Path) -> None:
    def refused(problem: str) -> None:
        with pytest.raises(UserError, match=problem):
            reader(folder).read(paths)

    folder = tmp_path / "public"
    folder.mkdir()
    refused("has neither zip or XML files of the discs nor the public files lyrl2004_tokens_train")
    folder.rmdir()
    write_public(folder)
    (folder / "a.zip").write_bytes(b"")
    refused(r"has the public token files, but also a\.zip like the discs")
    (folder / "a.zip").unlink()
    packed = folder / f"{rcv1.QRELS}.gz"
    packed.write_bytes(b"")
    refused(r"has both rcv1-v2\.topics\.qrels and rcv1-v2\.topics\.qrels\.gz")
    packed.unlink()
    (folder / "lyrl2004_tokens_test_pt1.dat").unlink()
    refused(r"but no lyrl2004_tokens_test_pt1\.dat \(or \.gz\)")
