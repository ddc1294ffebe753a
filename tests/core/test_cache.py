"""Results of the cache are made once and whole, and damage to them names their folder."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import polars as pl
import pyarrow as pa
import pytest

from newsreel.core.cache import Cache, CorruptCacheError, digest
from newsreel.core.errors import UserError


def write(text: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        (folder / "result").write_text(text)

    return build


def read(folder: Path) -> str:
    return (folder / "result").read_text()


def get(root: Path, build: Callable[[Path], None], load: Callable[[Path], str] = read, seed: int = 0) -> str:
    return Cache(root).get_or_build("kind", "name", (1, seed), build, load, "the results of a test")


def build_slowly(root: Path, counter: Path) -> None:
    def build(folder: Path) -> None:
        with counter.open("a") as file:
            file.write("built\n")
        time.sleep(0.3)
        write("slow")(folder)

    assert get(root, build) == "slow"


def test_a_result_is_built_once_for_its_identity(tmp_path: Path) -> None:
    assert get(tmp_path, write("first")) == "first"
    assert get(tmp_path, write("again")) == "first"
    assert get(tmp_path, write("another"), seed=1) == "another"
    assert len([path for path in (tmp_path / "kind").glob("name-*") if path.is_dir()]) == 2
    assert Cache(tmp_path).folder("kind", "name", (1, 0)).is_dir()


def test_of_concurrent_processes_one_builds_and_all_read(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    counter = tmp_path / "counter"
    processes = [context.Process(target=build_slowly, args=(tmp_path, counter)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert counter.read_text() == "built\n"


def test_a_failed_build_leaves_nothing_and_its_error_as_it_is(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        write("half")(folder)
        raise ValueError("disk full")

    with pytest.raises(ValueError, match=r"^disk full$"):
        get(tmp_path, build)
    assert not [path for path in (tmp_path / "kind").iterdir() if path.is_dir()]
    assert get(tmp_path, write("whole")) == "whole"


@pytest.mark.parametrize(
    "damage",
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
    ids=lambda damage: type(damage).__name__,
)
def test_damage_names_the_folder_and_the_remedy(tmp_path: Path, damage: Exception) -> None:
    def load(folder: Path) -> str:
        raise damage

    folder = Cache(tmp_path).folder("kind", "name", (1, 0))
    with pytest.raises(CorruptCacheError, match="Delete that folder: the next run makes it anew") as error:
        get(tmp_path, write("result"), load)
    first, _ = str(error.value).splitlines()
    assert first.startswith(f"The results of a test in {folder} cannot be read: {type(damage).__name__}: ")
    assert error.value.__cause__ is damage


def test_a_removed_file_is_damage_and_the_next_run_makes_it_anew(tmp_path: Path) -> None:
    get(tmp_path, write("first"))
    folder = Cache(tmp_path).folder("kind", "name", (1, 0))
    (folder / "result").unlink()
    with pytest.raises(CorruptCacheError, match=str(folder)):
        get(tmp_path, write("second"))
    folder.rmdir()
    assert get(tmp_path, write("second")) == "second"


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
