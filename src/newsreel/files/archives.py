"""Reading the user's files, with errors that name the file."""

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from newsreel.core.cache import digest
from newsreel.core.errors import UserError

DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError)  # raised for truncated files and files that are not tar


@contextmanager
def damage_named(archive: Path) -> Iterator[None]:
    """Context that turns errors in reading the user's tar file into a UserError that names it."""
    try:
        yield
    except DAMAGE as error:
        raise UserError(
            f"{archive} cannot be read as a tar file: {type(error).__name__}: {error}.\n"
            "The download is incomplete or damaged: download the file again."
        ) from error


def open_bytes(path: Path) -> IO[bytes]:
    """The file opened in binary mode, decompressed if its name ends in .gz."""
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def read_file(path: Path) -> bytes:
    """The content of the user's file. Raises UserError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Download the corpus again.") from error


def content_key(path: Path) -> str:
    """A key for the content of the user's file or folder, computed without reading the content."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return stats_key(path, ((file.relative_to(path).as_posix(), file.stat()) for file in files))


def stats_key(path: Path, files: Iterable[tuple[str, os.stat_result]]) -> str:
    """The path, with a digest of the names, sizes and modification times of its files."""
    lines = sorted(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files)
    return f"{path.resolve()} {digest(chr(10).join(lines))}"
