"""Atomic writes of files and directories, and locks, safe against killed and concurrent processes."""

import fcntl
import hashlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import xxhash
from filelock import FileLock, Timeout

from newsreel.core.errors import UserError

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0  # data-loader workers of a killed process hold the lock for up to 5 s


def build_once(
    path: Path, build: Callable[[Path], None], what: str, find_damage: Callable[[Path], str] = lambda _: ""
) -> Path:
    """Return the directory `path`; if it does not exist, `build` fills an empty directory that becomes it.

    The work happens in a sibling directory that is renamed when it is complete, under a lock that the system releases
    if the process dies. So a killed process leaves no incomplete result, and of several processes one builds while
    the others wait. A directory in which `find_damage` finds a reason is removed and built anew.
    """
    if path.is_dir() and not find_damage(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info(f"Waiting for another process that is preparing {what} …")
        lock.acquire()
    try:
        if path.is_dir():
            if not (reason := find_damage(path)):
                return path
            log.warning(f"note        {what} in {path} are damaged and made anew: {reason}")
            shutil.rmtree(path)
        for abandoned in path.parent.glob(f".{path.name}.partial-*"):  # of a killed process, since we hold the lock
            shutil.rmtree(abandoned, ignore_errors=True)
        build_dir(path, build)
    finally:
        lock.release()
    return path


def build_dir(path: Path, build: Callable[[Path], None]) -> None:
    """Let `build` fill an empty directory, which becomes `path` if it succeeds. Raises OSError if `path` has files."""
    partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")
    partial.mkdir(parents=True)
    try:
        build(partial)
        for file in sorted(partial.rglob("*")):
            if file.is_file():
                flush_to_disk(file)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see either the old or the new content, never a part."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context with a temporary path to write to, which replaces `path` if the block ends without an error."""
    partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        flush_to_disk(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(path: Path) -> None:
    """Remove the temporary files that killed processes have left below a directory."""
    for partial in path.rglob(".*.partial-*"):
        partial.unlink(missing_ok=True)


def check_zip(file: Path) -> None:
    """Raise BadZipFile if a zip file, such as a checkpoint, is damaged, or larger when unpacked than it is itself."""
    with ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != ZIP_STORED for member in members):
            raise BadZipFile("its members are compressed")
        if sum(member.file_size for member in members) > file.stat().st_size:
            raise BadZipFile("its members are larger than the file")
        if (damaged := archive.testzip()) is not None:
            raise BadZipFile(f"its member {damaged} has changed since it was written")


@contextmanager
def lock_dir(path: Path) -> Iterator[None]:
    """Context with an exclusive lock on a directory, which the system releases if the process dies.

    Raises UserError if another process holds the lock for more than PATIENCE_SECONDS.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not try_lock(descriptor):
            if time.monotonic() > give_up:
                raise UserError(f"{path} is being written by another process: wait until it ends, or stop it.")
            time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Try to lock an open directory; returns whether it succeeded, and True on file systems without locks.

    Uses `flock` rather than filelock, since it needs no lock file in the run directory.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def flush_to_disk(path: Path) -> None:
    """Flush a file to disk, so that a later rename cannot become durable before its content."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def file_digest(file: Path) -> str:
    """The 128-bit XXH3 digest of a file's content, in hex: against damage, not against forgery."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, xxhash.xxh3_128).hexdigest()
