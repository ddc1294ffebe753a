"""Results of the cache are made once and whole, and damage to them names their folder."""

import json
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import polars as pl
import pyarrow as pa
import pytest

from newsreel.core.cache import DIGESTS_FILE, Cache, CorruptCacheError, digest
from newsreel.core.errors import UserError


def write(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "result").write_text(text)


def read(folder: Path) -> str:
    return (folder / "result").read_text()


def get(root: Path, build: Callable[..., object], load: Callable[[Path], str] = read, seed: int = 0) -> str:
    return Cache(root).get_or_build("kind", "name", (1, seed), build, load, "the results of a test")  # type: ignore[arg-type]


def test_a_result_is_built_once_for_its_identity(tmp_path: Path) -> None:
    assert get(tmp_path, write("first")) == "first"
    assert get(tmp_path, write("again")) == "first"
    assert get(tmp_path, write("another"), seed=1) == "another"
    assert len([path for path in (tmp_path / "kind").glob("name-*") if path.is_dir()]) == 2
    assert Cache(tmp_path).folder("kind", "name", (1, 0)).is_dir()


@pytest.mark.parametrize(
    "error",
    [
        OSError("gone"),
        EOFError(),
        ValueError("no JSON\nat all"),
        KeyError("values"),
        IndexError(),
        BadZipFile("bad CRC"),
        pl.exceptions.ComputeError("no parquet"),
        pa.ArrowInvalid("no stream"),
        pa.ArrowNotImplementedError("no such type"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_files_that_cannot_be_read_are_named_with_the_remedy(tmp_path: Path, error: Exception) -> None:
    def load(folder: Path) -> str:
        raise error

    folder = Cache(tmp_path).folder("kind", "name", (1, 0))
    with pytest.raises(CorruptCacheError, match="Delete this directory; the next run rebuilds it") as raised:
        get(tmp_path, write("result"), load)
    first, _ = str(raised.value).splitlines()
    assert first.startswith(f"The results of a test in {folder} cannot be read: {type(error).__name__}: ")
    assert raised.value.__cause__ is error


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "problem"),
    [
        ("result", flip_a_bit, "result has changed since it was written"),
        ("result", lambda file: file.write_text("firs"), "result has changed since it was written"),
        ("result", lambda file: file.write_text(""), "result has changed since it was written"),
        ("result", Path.unlink, "result is missing"),
        (DIGESTS_FILE, Path.unlink, f"{DIGESTS_FILE} is missing"),
        (DIGESTS_FILE, flip_a_bit, ""),
        (DIGESTS_FILE, lambda file: file.write_text("[1]"), f"{DIGESTS_FILE} or a file in it cannot be read"),
    ],
)
def test_damaged_files_are_told_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], object], problem: str
) -> None:
    get(tmp_path, write("first"))
    folder = Cache(tmp_path).folder("kind", "name", (1, 0))
    assert Cache(tmp_path).has("kind", "name", (1, 0), "the results of a test")
    damage(folder / name)
    assert get(tmp_path, write("second")) == "second"
    assert f"the results of a test in {folder} are damaged and made anew: {problem}" in caplog.text
    assert get(tmp_path, lambda _: pytest.fail("built again")) == "second"


def test_digests_of_files_are_those_of_xxhash(tmp_path: Path) -> None:
    get(tmp_path, write("abc"))
    digests = json.loads((Cache(tmp_path).folder("kind", "name", (1, 0)) / DIGESTS_FILE).read_text())
    assert digests == {"result": "06b05ab6733a618578af5f94892f3950"}  # XXH3-128 of "abc"


@pytest.mark.parametrize("error", [UserError("a rule"), ZeroDivisionError()], ids=["a user's mistake", "a bug"])
def test_what_is_no_damage_stays_as_it_is(tmp_path: Path, error: Exception) -> None:
    def load(folder: Path) -> str:
        raise error

    with pytest.raises(type(error)) as raised:
        get(tmp_path, write("result"), load)
    assert raised.value is error


def test_digests_are_those_of_the_joined_text() -> None:
    assert digest("a", 1, None) == digest("a 1 None") == digest(b"a 1 None")
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
