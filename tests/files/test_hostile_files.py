"""Files that would take all memory or all time are refused in one message, whatever reads them."""

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest

from helpers.own_files import load, refusal, write_csv, write_tree
from newsreel.core.errors import UserError
from newsreel.corpora import imdb, rcv1_stories, reuters
from newsreel.corpora.corpus import Paths
from newsreel.corpora.rcv1_stories import BadFile, token_documents
from newsreel.corpora.reuters_stories import sgml_stories, story_text
from newsreel.embeddings.vector_files import read_blocks
from newsreel.files import archives, readers
from newsreel.files.labels import Columns, Labels, is_list_as_text, shown
from newsreel.inference import input_stream
from newsreel.inference.input_stream import Source, StreamLines, check_row, count_documents, file_source
from newsreel.text.rules import decode

NAMED = {"text": "text", "label": "label"}
PATIENCE_SECONDS = 5.0  # each of these took minutes, or would never have ended


@contextmanager
def within_patience() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < PATIENCE_SECONDS


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents of 40 characters, rows of 100, arrays of 200."""
    for module, name, limit in (
        (readers, "MAX_DOCUMENT", 40),
        (readers, "MAX_RECORD", 100),
        (readers, "MAX_ARRAY", 200),
        (input_stream, "MAX_RECORD", 100),
    ):
        monkeypatch.setattr(module, name, limit)
    monkeypatch.setattr("newsreel.files.tables.MAX_DOCUMENT", 40)


def zstandard(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as output:
        output.write(content)
    return bytes(sink.getvalue())


PACKERS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard,
}
ROWS = {
    "own.csv": "text,label\nfine,a\n{}\n",
    "own.jsonl": '{{"text": "fine", "label": "a"}}\n\n{}\n',
    "own.txt": "__label__a fine\n\n{}\n",
}


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("packer", [*PACKERS, ".zip"])
@pytest.mark.parametrize("name", ROWS)
def test_a_line_without_end_is_refused_by_its_number(name: str, packer: str, tmp_path: Path, paths: Paths) -> None:
    file = tmp_path / f"{name}{packer}"
    content = ROWS[name].format("x" * 101).encode()
    if packer == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name, content)
    else:
        file.write_bytes(PACKERS[packer](content))
    message = f"{file.name}, line 3: the row that begins there has more than 100 characters"
    assert message in refusal(paths, train=file, **NAMED)
    with pytest.raises(UserError, match=r"line 3: the row that begins there has more than 100 characters"):
        list(file_source(file, ["text"], [], readers.Layout(prefix="")).rows)


@pytest.mark.usefixtures("small_limits")
def test_a_row_of_many_lines_is_as_limited_as_one_line(tmp_path: Path, paths: Paths) -> None:
    file = tmp_path / "own.csv"
    file.write_text('text,label\nfine,a\n"' + "nine byte\n" * 11 + '",a\n')
    assert "own.csv, line 3: the row that begins there has more than 100 characters" in refusal(
        paths, train=file, **NAMED
    )


@pytest.mark.usefixtures("small_limits")
def test_a_document_is_limited_in_every_format(tmp_path: Path, paths: Paths) -> None:
    long = [("fine", "a"), ("x" * 41, "b")]
    for suffix, write in (("csv", write_csv), ("tree", write_tree)):
        message = refusal(paths, train=write(tmp_path / f"own.{suffix}", long))
        assert "the document has 41 characters; at most 40 are possible. Divide it" in message
    with pytest.raises(UserError, match=r"here, line 7: the document has 41 characters"):
        check_row(Source("here", "line", iter([])), (7, "x" * 41))


@pytest.mark.usefixtures("small_limits")
def test_a_text_file_of_a_folder_is_not_read_beyond_its_limit(tmp_path: Path, paths: Paths) -> None:
    tree = write_tree(tmp_path / "tree", [("fine", "a"), ("x" * 161, "b")])  # 40 characters have at most 160 bytes
    assert "b/0.txt has more than 160 bytes" in refusal(paths, train=tree)


@pytest.mark.usefixtures("small_limits")
def test_an_array_is_limited_as_a_whole_and_not_by_its_lines(tmp_path: Path, paths: Paths) -> None:
    documents = [{"text": f"fine {number}", "label": number % 2} for number in range(7)]
    file = tmp_path / "own.json"
    file.write_text("[\n" + json.dumps(documents[:3])[1:])
    assert len(list(file_source(file, ["text"], [], readers.Layout(prefix="")).rows)) == 3
    file.write_text(json.dumps(documents))
    assert "own.json is a JSON array of more than 200 characters" in refusal(paths, train=file, **NAMED)


@pytest.mark.usefixtures("small_limits")
def test_standard_input_is_limited_by_line() -> None:
    lines = StreamLines(io.BufferedReader(io.BytesIO(b"fine\n" + b"x" * 90)))
    assert list(lines) == [b"fine", b"x" * 90]

    class Endless(list[bytes]):
        def read1(self, size: int) -> bytes:
            return b"\0" * 60

    with pytest.raises(UserError, match="standard input has a line of more than 100 bytes"):
        list(StreamLines(Endless()))  # type: ignore[arg-type]


@pytest.fixture
def special_files(tmp_path: Path) -> Iterator[dict[str, Path]]:
    os.mkfifo(tmp_path / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.csv"))
        (tmp_path / "device.csv").symlink_to("/dev/zero")
        yield {
            "a pipe": tmp_path / "pipe.csv",
            "a socket": tmp_path / "socket.csv",
            "a device": tmp_path / "device.csv",
        }


def test_pipes_sockets_and_devices_are_refused_before_reading(
    special_files: dict[str, Path], tmp_path: Path, paths: Paths
) -> None:
    for kind, file in special_files.items():
        message = f"{file} is {kind}: only files and folders can be read"
        assert refusal(paths, train=file, **NAMED).startswith(message)
        assert refusal(paths, train=tmp_path / f"{file.stem[:-1]}*.csv", **NAMED).startswith(message)
        readings: list[Callable[[], Any]] = [
            lambda file=file: file_source(file, ["text"], [], readers.Layout(prefix="")),  # type: ignore[misc]
            lambda file=file: archives.open_bytes(file),  # type: ignore[misc]
            lambda file=file: archives.read_file(file),  # type: ignore[misc]
        ]
        for reading in readings:
            with pytest.raises(UserError, match=message):
                reading()


def test_stories_take_time_in_proportion_to_their_markup() -> None:
    head = '<REUTERS TOPICS="YES" LEWISSPLIT="TRAIN" NEWID="1">'
    for markup in (
        "<TOPICS>" * 300_000,
        "<TOPICS>" + "<D>" * 300_000 + "</TOPICS>",
        "<TEXT>" * 300_000,
        f"<TEXT{' ' * 300_000}",
        "</REUTERS><TEXT><TITLE>" * 200_000,
    ):
        with within_patience(), pytest.raises(UserError, match="line 1: the story has no"):
            list(sgml_stories(head + markup, "reut2-000.sgm"))
    with within_patience(), pytest.raises(UserError, match="line 1: the story has no NEWID"):
        list(sgml_stories(f"<REUTERS {'a' * 300_000}></REUTERS>", "reut2-000.sgm"))
    body = "said" + " " * 300_000 + "no more"
    with within_patience():
        assert story_text("", body) == body
        (story,) = sgml_stories(f"{head}<TEXT><BODY>{body}\n Reuter\n&#3;</BODY></TEXT></REUTERS>", "reut2-000.sgm")
    assert story.text == body


def test_a_file_without_a_story_and_an_impossible_number_are_one_message() -> None:
    with pytest.raises(UserError, match=r"^reut2-000\.sgm has no <REUTERS …>, which begins a story\.\nDownload"):
        list(sgml_stories("<html>not found</html>", "reut2-000.sgm"))
    record = '<REUTERS TOPICS="YES" LEWISSPLIT="TRAIN" NEWID="{}"><TEXT></TEXT></REUTERS>'
    for number in ("9" * 10, "9" * 5_000):
        with pytest.raises(UserError, match=r'line 1: the story has NEWID="9+…?", which is not a number of a story'):
            list(sgml_stories(record.format(number), "reut2-000.sgm"))
    assert next(sgml_stories(record.format("999999999"), "reut2-000.sgm")).id == 999_999_999


def test_members_of_archives_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives.read_bounded, "__defaults__", (1_000,))
    monkeypatch.setattr(imdb, "MAX_REVIEW_BYTES", 1_000)
    for name, read in (("reut2-000.sgm", reuters.read_archive), ("train/pos/1.txt", imdb.read_tar)):
        file = tmp_path / "bomb.tar.gz"
        with tarfile.open(file, "w:gz") as archive:
            member = tarfile.TarInfo(name)
            member.size = 1_001
            archive.addfile(member, io.BytesIO(bytes(1_001)))
        with pytest.raises(UserError, match=rf"bomb\.tar\.gz, {name} has more than 1,000 bytes"):
            read(file)


def test_token_files_hold_documents_of_a_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rcv1_stories, "MAX_STORY_BYTES", 20)
    lines = [b".I 1\n", b".W\n", b"ten bytes!\n", b"ten bytes!\n", b"one\n"]
    with pytest.raises(BadFile, match="has a document of more than 20 bytes that goes on in line 5"):
        list(token_documents(lines))
    assert list(token_documents([*lines[:4], b"\n", *lines[:3]])) == [
        (1, "ten bytes! ten bytes!"), (1, "ten bytes!"),
    ]  # fmt: skip


def labels() -> Labels:
    return Labels("own.jsonl", "line", Columns(("text",), ("label",)))


@pytest.mark.slow
def test_long_labels_and_lists_take_little_time(tmp_path: Path, paths: Paths) -> None:
    with within_patience():
        assert not is_list_as_text("[" + "," * 200_000 + ")")
        assert is_list_as_text("[" + "," * 200_000 + "]")
        assert not is_list_as_text("(" * 200_000 + ")")
        with pytest.raises(UserError, match="it has the label 'a' 2 times"):
            labels().names(1, [*map(str, range(200_000)), "a", "a"])
        with pytest.raises(UserError, match="is a text, but"):
            labels().names(1, [0, *["x"] * 200_000])
        assert "data.text=text: own.csv has the columns" in refusal_of_columns(["x" * 9, *["t" * 999] * 300_000])
    file = tmp_path / "own.txt"
    file.write_text("__label__a " * 500_000 + "fine\n__label__b bad\n")
    with within_patience():
        assert "own.txt, line 1: " in (message := refusal(paths, train=file, **NAMED))
        assert "it has the label 'a' 500000 times: remove the copies" in message


def refusal_of_columns(names: list[str]) -> str:
    with pytest.raises(UserError) as error:
        readers.find_columns("own.csv", names, [("data.text", "text")])
    return str(error.value)


def test_deep_values_are_named_without_their_content() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    assert shown(value) == "a list of many levels"
    with pytest.raises(UserError, match=r"own\.jsonl, line 1: data\.label=label is a list of many levels"):
        labels().names(1, [value])


def test_numbers_that_python_does_not_convert_are_text_or_refused(tmp_path: Path, paths: Paths) -> None:
    assert decode("&#65;&#" + "9" * 5_000 + ";&amp;") == "A\N{REPLACEMENT CHARACTER}&"
    file = tmp_path / "own.jsonl"
    file.write_text('{"text": "fine", "label": ' + "9" * 5_000 + "}\n")
    assert "own.jsonl, line 1: invalid JSON" in refusal(paths, train=file, **NAMED)


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "1e999", "[0, Infinity]"])
def test_an_infinite_label_is_refused_and_nan_is_missing(number: str, tmp_path: Path, paths: Paths) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(f'{{"text": "fine", "label": {number}}}\n{{"text": "bad", "label": NaN}}\n')
    assert "line 1: data.label=label is" in (message := refusal(paths, train=file, **NAMED))
    assert "an infinite number is no label" in message
    file.write_text('{"text": "fine", "label": 1}\n{"text": "bad", "label": NaN}\n')
    assert "1 has no label (line 2)" in refusal(paths, train=file, **NAMED)


def workbook(file: Path, cell: str, value: str) -> Path:
    book = openpyxl.Workbook()
    for row in [("text", "label"), *((f"film {number}", "ab"[number % 2]) for number in range(20))]:
        book.active.append(row)
    book.active[cell] = value
    book.save(file)
    return file


def with_sheet(file: Path, old: bytes, new: bytes) -> Path:
    """The workbook with other bytes in its sheet."""
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(old, new) if "sheet1" in name else content)
    return file


@pytest.mark.slow
def test_a_workbook_that_claims_more_cells_than_memory_holds_is_refused(tmp_path: Path, paths: Paths) -> None:
    file = workbook(tmp_path / "own.xlsx", "C21", "x")
    assert load(paths, train=file, **NAMED).label_names == ("a", "b")
    for reference in (b"XFD1048576", b"XFD1999999999", b"ZZZZ4000000000"):
        with_sheet(workbook(file, "C21", "x"), b'"C21"', b'"%s"' % reference)
        assert "own.xlsx cannot be read as Excel" in refusal(paths, train=file, **NAMED)
    with_sheet(workbook(file, "C21", "x"), b'"C21"', b'"XFD1048576"')  # the last cell that Excel has
    assert "within 4 GiB of memory. If its first sheet has a cell far" in refusal(paths, train=file, **NAMED)


def test_a_damaged_workbook_is_one_message(tmp_path: Path, paths: Paths) -> None:
    file = tmp_path / "own.xlsx"
    file.write_bytes(b"PK no")
    message = refusal(paths, train=file, **NAMED)
    assert message.startswith(f"{file} cannot be read as Excel: ")
    assert message.endswith("Save it as .xlsx.")
    assert message.count("\n") == 1


def test_the_limit_applies_to_what_is_read_and_not_to_what_is_kept() -> None:
    sizes = []

    class File(io.StringIO):
        def readline(self, size: int = -1) -> str:  # type: ignore[override]
            sizes.append(size)
            return super().readline(size)

    lines = readers.Lines(Path("own.csv"), File("one\n" + "x" * 100), readers.Layout())
    assert next(lines) == "one\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "MAX_RECORD", 10)
        with pytest.raises(UserError, match=r"own\.csv, line 1: .* more than 10 characters"):
            next(lines)
    assert sizes == [2**25 + 1, 7]  # of 10 characters, 4 were read before; one more shows that there are more


def zip_with_a_name_that_is_not_utf8(file: Path, name: str) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"é{name}", b"film 1.5 2.0\n")
    file.write_bytes(file.read_bytes().replace("é".encode(), b"\xff\xff"))
    return file


def test_names_in_zip_files_that_are_not_utf8_are_one_message(tmp_path: Path, paths: Paths) -> None:
    file = zip_with_a_name_that_is_not_utf8(tmp_path / "own.zip", "own.csv")
    assert "own.zip cannot be read: 'utf-8' codec can't decode" in refusal(paths, train=file, **NAMED)
    with pytest.raises(UserError, match=r"own\.zip cannot be read: UnicodeDecodeError"):
        list(read_blocks(file, 2))
    with pytest.raises(BadFile, match="cannot be read as a zip file: 'utf-8' codec"):
        list(rcv1_stories.ZipFile(str(tmp_path), "own.zip").stories([]))


def test_files_without_a_name_in_zip_files_are_left_out(tmp_path: Path, paths: Paths) -> None:
    file = tmp_path / "own.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("?name", b"nothing")
    file.write_bytes(file.read_bytes().replace(b"?name", b"\0name"))  # a null character ends a name
    assert "own.zip contains 0 files" in refusal(paths, train=file, **NAMED)


def test_a_packed_file_that_is_cut_and_not_utf8_is_one_message(tmp_path: Path, paths: Paths) -> None:
    file = tmp_path / "own.csv.gz"
    file.write_bytes(gzip.compress(b"text,label\nfine,a\n" + b"\xff" * 9)[:-5])
    assert "own.csv.gz cannot be read: Compressed file ended before" in refusal(paths, train=file, **NAMED)


@pytest.mark.parametrize("number", ["NaN", "sNaN"])
def test_a_decimal_that_is_no_number_is_missing(number: str) -> None:
    assert labels().names(1, Decimal(number)) is None


@pytest.mark.parametrize("encoding", ["hex", "rot13", "zlib", "utf-9", "a\0b"])
def test_codecs_of_something_else_than_text_are_no_encodings(encoding: str) -> None:
    with pytest.raises(UserError, match=r"data\.encoding=.* is not an encoding"):
        readers.Layout(encoding=encoding)


def test_a_damaged_parquet_file_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "own.parquet").write_bytes(b"PAR1 no")
    assert count_documents(tmp_path / "own.parquet") is None
