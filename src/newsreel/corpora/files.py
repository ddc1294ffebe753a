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
