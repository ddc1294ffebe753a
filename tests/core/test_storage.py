"""Folders are whole or absent."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from newsreel.core import storage
from newsreel.core.errors import UserError
from newsreel.core.storage import build_once, lock_dir, write_atomically

FORK = multiprocessing.get_context("fork")


def started(function: Callable[..., object], *arguments: Any) -> Any:
    process = FORK.Process(target=function, args=arguments)
    process.start()
    return process


def write_slowly(folder: Path) -> None:
    for number in range(20):
        (folder / str(number)).write_text("x" * 1000)
        time.sleep(0.01)


def test_a_failed_build_leaves_nothing_and_its_error_as_it_is(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ValueError("disk full")

    with pytest.raises(ValueError, match=r"^disk full$"):
        build_once(tmp_path / "target", build, "a test folder")
    assert [path.name for path in tmp_path.iterdir() if "lock" not in path.name] == []


def test_a_folder_takes_its_name_by_one_rename_and_is_not_built_again(tmp_path: Path) -> None:
    built: list[int] = []
    target = build_once(tmp_path / "target", lambda folder: built.append(folder.stat().st_ino), "a test folder")
    assert target.stat().st_ino == built[0]
    build_once(tmp_path / "target", lambda folder: pytest.fail("built twice"), "a test folder")


def test_killed_builders_leave_no_folder_and_the_next_one_completes(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for delay_s in (0.02, 0.1):
        process = started(build_once, target, write_slowly, "a test folder")
        time.sleep(delay_s)
        process.kill()
        process.join()
        assert not target.exists()
    build_once(target, write_slowly, "a test folder")
    assert len(list(target.iterdir())) == 20
    assert not list(tmp_path.glob("*partial*"))


def test_of_concurrent_processes_one_builds(tmp_path: Path) -> None:
    target, counter = tmp_path / "target", tmp_path / "counter"

    def build(folder: Path) -> None:
        with counter.open("a") as file:
            file.write("built\n")
        write_slowly(folder)

    processes = [started(build_once, target, build, "a test folder") for _ in range(3)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert counter.read_text() == "built\n"
    assert len(list(target.iterdir())) == 20


def hold(folder: Path, ready: Event) -> None:
    with lock_dir(folder):
        ready.set()
        time.sleep(60)


@contextmanager
def holder(folder: Path) -> Iterator[Any]:
    """A process that holds the folder until it is killed."""
    ready = FORK.Event()
    process = started(hold, folder, ready)
    assert ready.wait(timeout=30)
    yield process
    process.kill()
    process.join()


def test_a_folder_is_held_by_one_process_until_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.3)
    with (
        holder(tmp_path),
        pytest.raises(UserError, match="is being written by another process"),
        lock_dir(tmp_path),
    ):
        pytest.fail("held twice")
    for _ in range(2):  # and it is free again after the block
        with lock_dir(tmp_path):
            assert list(tmp_path.iterdir()) == []


def test_who_asks_for_a_folder_waits_for_the_process_that_ends(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        killer = threading.Timer(0.5, process.kill)
        killer.start()
        with lock_dir(tmp_path):
            assert not killer.is_alive()


def test_write_atomically_replaces_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, "a long first content")
    with file.open() as reader:
        write_atomically(file, "second")
        assert reader.read() == "a long first content"  # who has opened it reads the old one
    assert file.read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
