"""What costs time to make, kept on disk under a digest of all that it depends on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import polars as pl

from newsreel.core.errors import UserError
from newsreel.core.storage import build_once

T = TypeVar("T")

# What reading a damaged file raises; pyarrow's errors are among these, without importing it.
DAMAGE = (OSError, EOFError, ValueError, TypeError, LookupError, NotImplementedError, BadZipFile,
          pl.exceptions.PolarsError)  # fmt: skip


@dataclass(frozen=True)
class Cache:
    """A folder of results, each made once for the same identity.

    `root` holds all of them: `paths.cache_dir`.
    """

    root: Path

    def folder(self, kind: str, name: str, identity: tuple[object, ...]) -> Path:
        """Return the folder of a result; it exists, whole, if the result has been made.

        Parameters
        ----------
        kind
            The folder of `root` in which results of this kind are.
        name
            How the folder's name begins, for those who look for it.
        identity
            All that the result depends on: as text, these decide which result it is.
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
        """Return what `load` reads from the result's folder, which `build` fills if it is not there yet.

        As `build_once` makes it, a folder is whole or absent, and several processes build it once.

        Parameters
        ----------
        kind, name, identity
            As in `folder`.
        build
            Writes the result into the empty folder that it is given.
        load
            Reads the result from its folder.
        what
            The result in messages, such as "the tokens of 'imdb'".

        Raises
        ------
        CorruptCacheError
            If `load` finds the folder damaged.
        """
        folder = build_once(self.folder(kind, name, identity), build, what)
        with reading(folder, what):
            return load(folder)


class CorruptCacheError(UserError):
    """A folder of the cache whose content is not as it was written."""

    def __init__(self, what: str, folder: Path, reason: Exception) -> None:
        first_line = str(reason).partition("\n")[0]
        super().__init__(
            f"{what[0].upper()}{what[1:]} in {folder} cannot be read: {type(reason).__name__}: {first_line}.\n"
            "Something changed the files after they were written. Delete that folder: the next run makes it anew."
        )


@contextmanager
def reading(folder: Path, what: str) -> Iterator[None]:
    """Raise CorruptCacheError, which names the folder, for what a damaged file of it raises within the block."""
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        raise CorruptCacheError(what, folder, error) from error


def digest(*parts: object) -> str:
    """Return the SHA-256 of the parts with a space between them, in hex; what is not bytes counts as its text."""
    return sha256(b" ".join(part if isinstance(part, bytes) else str(part).encode() for part in parts)).hexdigest()
