"""Output files that replace others only when they are complete, and do not pile up when processes are killed."""

import fcntl
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path

from newsreel.core.errors import UserError
from newsreel.core.storage import replacing


@contextmanager
def replacing_output(path: Path) -> Iterator[Path]:
    """Context with a temporary path to write to, which replaces `path` if the block ends without an error.

    Temporary files for the same path that killed processes have left are removed. Those of living processes are locked,
    and the system releases a lock when its process dies.
    """
    remove_abandoned(path)
    with ExitStack() as locks, replacing(path) as partial:
        locks.callback(os.close, lock_file(partial))  # after the file has replaced `path`
        yield partial


def remove_abandoned(path: Path) -> None:
    """Remove the temporary files for `path` that no process has locked."""
    for partial in path.parent.glob(f".{escape(path.name)}.partial-*"):
        with suppress(OSError), ExitStack() as closing:  # OSError: locked, already removed, or no locks at all
            descriptor = os.open(partial, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            closing.callback(os.close, descriptor)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                partial.unlink()


def lock_file(path: Path) -> int:
    """Create a file and lock it; returns the descriptor that holds the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with suppress(OSError):  # a file system without locks, where no process removes files of others
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # another process has removed it before it was locked


def require_distinct(paths: Mapping[str, Path | None]) -> None:
    """Raise UserError if two settings name the same file, also through links. None: standard input, or not set.

    paths: of the settings `input`, and then of those that are written.
    """
    named = {setting: path for setting, path in paths.items() if path is not None}
    for setting, path in named.items():
        for other, other_path in named.items():
            if setting < other and is_same(path, other_path):
                raise UserError(
                    f"{setting}={path} and {other}={other_path} are the same file: one would replace the other. Name "
                    "another one."
                )
        if "input" not in named and is_standard_input(path):
            raise UserError(
                f"{setting}={path} is the file that standard input is read from, and would be replaced. Name another."
            )


def is_same(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()


def is_standard_input(path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(sys.stdin.fileno()), path.stat())
    except (OSError, ValueError):  # there is no such file yet, or standard input is closed or no file
        return False
