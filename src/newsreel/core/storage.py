"""Folders and files that are either whole or absent, whoever is killed and however many ask at once."""

import fcntl
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from newsreel.core.errors import UserError

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0  # for the workers of a process that was killed, which notice it within five


def build_once(folder: Path, build: Callable[[Path], None], what: str) -> Path:
    """Return `folder`, built by `build(empty folder)` if it is not there yet.

    The work happens in a sibling folder that takes the final name by one rename when it is complete, under a lock
    that the system frees when its holder dies: a killed process leaves nothing that could be taken for the result,
    and of several processes one builds while the others wait for it.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info(f"Waiting for another process that is preparing {what} …")
        lock.acquire()
    try:
        if folder.is_dir():
            return folder
        for abandoned in folder.parent.glob(f".{folder.name}.partial-*"):  # its builder died: we hold the lock
            shutil.rmtree(abandoned, ignore_errors=True)
        partial = folder.with_name(f".{folder.name}.partial-{uuid.uuid4().hex[:8]}")
        partial.mkdir()
        try:
            build(partial)
            for path in sorted(partial.rglob("*")):
                if path.is_file():
                    flush_to_disk(path)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        lock.release()
    return folder


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part of it."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name of a file to write, which takes the place of `path` by one rename when the block ends without error."""
    partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        flush_to_disk(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove what processes that were killed while they wrote have left under a folder."""
    for partial in folder.rglob(".*.partial-*"):
        partial.unlink(missing_ok=True)


@contextmanager
def lock_dir(folder: Path) -> Iterator[None]:
    """Around the work of the one process that may write into a folder; the system frees it when that process dies.

    Raises UserError if another process holds it, some seconds after which those that died are not taken for alive.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not try_lock(descriptor):
            if time.monotonic() > give_up:
                raise UserError(f"{folder} is being written by another process: wait until it ends, or stop it.")
            time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Whether this process now has the only lock; True too on disks that know no locks.

    By `flock` rather than filelock: on the folder itself, so that a run folder gets no file for it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def flush_to_disk(path: Path) -> None:
    """Wait until the file's content would survive a power cut, so that a rename never outruns it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
