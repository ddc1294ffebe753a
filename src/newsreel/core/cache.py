"""An on-disk cache of expensive results, keyed by a digest of everything that they depend on."""

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

        Like `build_once`, it leaves no incomplete directory, and of several processes only one builds.

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
            If `load` fails on damaged files.
        """
        path = build_once(self.folder(kind, name, identity), build, what)
        with reading(path, what):
            return load(path)


class CorruptCacheError(UserError):
    """A directory of the cache is damaged."""

    def __init__(self, what: str, path: Path, reason: Exception) -> None:
        first_line = str(reason).partition("\n")[0]
        super().__init__(
            f"{what[0].upper()}{what[1:]} in {path} cannot be read: {type(reason).__name__}: {first_line}.\n"
            "The files were changed after they were written. Delete this directory; the next run rebuilds it."
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
