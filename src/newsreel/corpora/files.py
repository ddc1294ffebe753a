"""The user's files, read so that what is wrong with one names it."""

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from newsreel.errors import UserError

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


def read_file(path: Path) -> bytes:
    """The content of the user's file. Raises UserError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Get the corpus again.") from error


def content_key(place: Path) -> str:
    """What tells the content of the user's file or folder from another's without reading it all."""
    files = [place] if place.is_file() else place.rglob("*")
    stats = [file.stat() for file in files if file.is_file()]
    newest = max((stat.st_mtime_ns for stat in stats), default=0)
    return f"{place.resolve()} {len(stats)} {sum(stat.st_size for stat in stats)} {newest}"
