"""Paths that the user names in settings."""

import os
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from newsreel.core.errors import UserError


def user_path(path: str | Path, setting: str) -> Path:
    """The path with `~` replaced by a home directory. Raises UserError if the home directory is unknown.

    setting: its name, for the message.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{setting}={path}: ~ is a home directory that is not known here: there is no such user, or HOME is not "
            f"set and this user has no entry in the system's list of users.\nSet HOME, or write {setting} without ~."
        ) from error


@contextmanager
def working_directory(path: Path) -> Iterator[None]:
    """Context with another current directory, from which no module is imported.

    Where Python looks for modules in the current directory, as in a notebook, it goes on looking in the one before.
    """
    here = os.getcwd()
    before = sys.path
    sys.path = [entry or here for entry in sys.path]
    try:
        with chdir(path):
            yield
    finally:
        sys.path = before
