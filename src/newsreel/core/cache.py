"""An on-disk cache of expensive results, keyed by a digest of everything that they depend on."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import polars as pl

from newsreel.core.errors import UserError, first_line
from newsreel.core.storage import build_once, file_digest

log = logging.getLogger(__name__)

T = TypeVar("T")
DIGESTS_FILE = "digests.json"

# What reading a damaged file raises; pyarrow's errors are among these, without importing it.
DAMAGE = (OSError, EOFError, ValueError, TypeError, LookupError, NotImplementedError, BadZipFile,
          pl.exceptions.PolarsError)  # fmt: skip


@dataclass(frozen=True)
class Cache:
    """A directory of results, each built once per identity.

    `root` is `paths.cache_dir`.
    """

    root: Path

    def folder(self, kind: str, name: str, identity: tuple[object, ...]) -> Path:
        """Return the directory of a result. It exists if and only if the result is complete.

        Parameters
        ----------
        kind
            The subdirectory of `root` for results of this kind.
        name
            Prefix of the directory's name, for human readers.
        identity
            Everything that the result depends on. Its digest, as text, is the cache key.
        """
        return self.root / kind / f"{name}-{digest(*identity)[:16]}"

    def get_or_build(
        self,
        kind: str,
        name: str,
        identity: tuple[object, ...],
        build: Callable[[Path], None],
        load: Callable[[Path], T],
        what: str,
    ) -> T:
        """Return what `load` reads from the result's directory; `build` fills it if it does not exist.

        Like `build_once`, it leaves no incomplete directory, and of several processes only one builds. Files that have
        changed since they were written are built anew.

        Parameters
        ----------
        kind, name, identity
            As in `folder`.
        build
            Writes the result into an empty directory.
        load
            Reads the result from its directory.
        what
            The result in messages, such as "the tokens of 'imdb'".

        Raises
        ------
        CorruptCacheError
            If `load` fails although the files are as they were written.
        """
        path = build_verified(self.folder(kind, name, identity), build, what)
        with reading(path, what):
            return load(path)

    def has(self, kind: str, name: str, identity: tuple[object, ...], what: str) -> bool:
        """Whether the result exists as it was written."""
        path = self.folder(kind, name, identity)
        problem = find_damage(path) if path.is_dir() else ""
        if problem:
            log.warning(f"note        {what} in {path} are damaged: {problem}")
        return path.is_dir() and not problem


def build_verified(path: Path, build: Callable[[Path], None], what: str) -> Path:
    """`build_once` with digests of all files, which are checked whenever the directory is opened."""

    def build_and_digest(partial: Path) -> None:
        build(partial)
        digests = {str(file.relative_to(partial)): file_digest(file) for file in sorted(partial.rglob("*"))
                   if file.is_file()}  # fmt: skip
        (partial / DIGESTS_FILE).write_text(json.dumps(digests, indent=1), encoding="utf-8")

    return build_once(path, build_and_digest, what, find_damage)


def find_damage(path: Path) -> str:
    """What is wrong with a directory of `build_verified`; empty if nothing is."""
    try:
        digests = json.loads((path / DIGESTS_FILE).read_text(encoding="utf-8"))
        for name, expected in digests.items():
            if file_digest(path / name) != expected:
                return f"{name} has changed since it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"{DIGESTS_FILE} or a file in it cannot be read: {error}"
    return ""


class CorruptCacheError(UserError):
    """A directory of the cache cannot be read."""

    def __init__(self, what: str, path: Path, reason: Exception) -> None:
        super().__init__(
            f"{what[0].upper()}{what[1:]} in {path} cannot be read: {type(reason).__name__}: {first_line(reason)}.\n"
            "Another version of newsreel or of a library may have written them. Delete this directory; the next run "
            "rebuilds it."
        )


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Context that turns errors caused by damaged files into a CorruptCacheError that names their directory."""
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        raise CorruptCacheError(what, path, error) from error


def digest(*parts: object) -> str:
    """Return the SHA-256, in hex, of the parts joined by spaces; parts other than bytes are converted with `str`."""
    return sha256(b" ".join(part if isinstance(part, bytes) else str(part).encode() for part in parts)).hexdigest()
