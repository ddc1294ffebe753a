"""The user's files, read so that what is wrong with one names it."""

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

DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError)  # what a file that is cut short or no tar file raises


@contextmanager
def damage_named(archive: Path) -> Iterator[None]:
    """Around the reading of the user's tar file: a UserError names it if it cannot be read."""
    try:
        yield
    except DAMAGE as error:
        raise UserError(
            f"{archive} cannot be read as a tar file: {type(error).__name__}: {error}.\n"
            "The download was cut short or is damaged: get the file again."
        ) from error


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked if its name ends in .gz."""
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def read_file(path: Path) -> bytes:
    """The content of the user's file. Raises UserError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Get the corpus again.") from error


def content_key(place: Path) -> str:
    """What tells the content of the user's file or folder from another's without reading it all."""
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return stats_key(place, ((file.relative_to(place).as_posix(), file.stat()) for file in files))


def stats_key(place: Path, files: Iterable[tuple[str, os.stat_result]]) -> str:
    """The place, with a digest of the names, sizes and times of its files."""
    lines = sorted(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files)
    return f"{place.resolve()} {digest(chr(10).join(lines))}"
