"""Where a corpus can come from, and which of the places is taken."""

import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from newsreel.core.errors import UserError
from newsreel.core.storage import build_once

log = logging.getLogger(__name__)

SourceName = Literal["local", "hub", "registry"]


class Unavailable(Exception):  # noqa: N818  (an outcome that the caller deals with, not an error of its own)
    """This source cannot give the corpus now; the message says why, so that the next one can be tried."""


class Source(ABC):
    """One place that a corpus can come from."""

    name: ClassVar[SourceName]

    @property
    @abstractmethod
    def where(self) -> str:
        """The place in words, as shown to the user and kept with the run."""

    @abstractmethod
    def prepared_folder(self, cache: Path) -> Path | None:
        """Where the prepared corpus of exactly this content lives; None if the source has nothing (no network)."""

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """Write the prepared, verified corpus into an empty folder. Raises Unavailable or UserError."""


def find_prepared(corpus: str, sources: Sequence[Source], wanted: SourceName | None, cache: Path, remedy: str) -> Path:
    """The prepared folder of the first source that has the corpus; what is on disk comes before any download.

    Raises UserError naming every source that was tried and why it failed.
    """
    candidates = [source for source in sources if wanted in (None, source.name)]
    downloads: list[tuple[Source, Path]] = []
    for source in candidates:
        folder = source.prepared_folder(cache)
        if folder is None:
            continue
        if source.name == "local":  # the user's own files: they are used, or the run stops and says what is wrong
            return _prepare(corpus, source, folder)
        if folder.is_dir():
            return folder
        downloads.append((source, folder))
    failures = [f"  {source.name}: {source.where}: not there" for source in candidates if source.name == "local"]
    for source, folder in downloads:
        try:
            return _prepare(corpus, source, folder)
        except Unavailable as reason:
            log.info(f"{corpus}: no luck with {source.where}: {_first_line(reason)}")
            failures.append(f"  {source.name}: {source.where}: {reason}")
    raise UserError(f"The corpus {corpus!r} was not found. Tried:\n" + "\n".join(failures) + f"\n{remedy}")


def _prepare(corpus: str, source: Source, folder: Path) -> Path:
    if not folder.is_dir():
        log.info(f"{corpus}: preparing the documents from {source.where}")
    return build_once(folder, source.prepare, f"the corpus {corpus!r}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def require_free_space(folder: Path, num_bytes: int) -> None:
    """Raise UserError before a download that the disk cannot hold."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise UserError(
            f"{folder} has {free / 1e6:.0f} MB free and the download needs {num_bytes / 1e6:.0f} MB.\n"
            "Free some space, or put the cache elsewhere with paths.cache_dir=…"
        )
