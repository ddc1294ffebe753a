"""Published corpora: a copy from any source is verified by its content and prepared in the same form."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from newsreel.core.cache import Cache, digest
from newsreel.core.errors import UserError
from newsreel.core.paths import user_path
from newsreel.corpora.corpus import CorpusReader, Paths
from newsreel.corpora.prepared import FORMAT_VERSION
from newsreel.corpora.sources import Source, SourceName, Unavailable, find_prepared
from newsreel.files.archives import content_key

Documents = TypeVar("Documents")
Parts = dict[str, tuple[int, str]]  # name of a part → number of its documents, and their `part_digest`


def part_digest(document_digests: Iterable[bytes]) -> str:
    """SHA-256 over the sorted digests of a part's documents, so it does not depend on their order."""
    return digest(b"".join(sorted(document_digests)))


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A corpus as published."""

    name: str  # of the corpus, and of its directory under paths.corpora_dir
    title: str  # in messages
    parts: Parts
    optional: str  # the part that some sources lack; not in the fingerprint
    part_titles: dict[str, str]  # of parts whose names are not clear enough for messages
    layouts: str  # the supported files of the user, in words
    remedy: str  # what the user can do if no source has the corpus

    @property
    def fingerprint(self) -> str:
        return self.fingerprint_of(self.parts)

    def fingerprint_of(self, parts: Parts) -> str:
        """One digest of all parts except the optional one; it depends neither on the source nor on the order."""
        lines = [f"{name} {count} {part}" for name, (count, part) in sorted(parts.items()) if name != self.optional]
        return digest("\n".join(lines))

    def differences(self, parts: Parts) -> list[str]:
        """The parts that differ from the published ones, in words. A missing optional part is not a difference."""
        differences = []
        for name in [*self.parts, *sorted(parts.keys() - self.parts.keys())]:
            if name not in parts and name == self.optional:
                continue
            count, actual_digest = parts.get(name, (0, ""))
            published_count, published_digest = self.parts.get(name, (0, ""))
            title = self.part_titles.get(name, name)
            if count != published_count:
                differences.append(f"{title}: {count:,} documents instead of {published_count:,}")
            elif actual_digest != published_digest:
                differences.append(f"{title}: {count:,} documents, but not the published ones")
        return differences


class PublishedSource(Source, Generic[Documents]):
    """A source of a published corpus. The documents of every source are verified and written in the same order."""

    publication: ClassVar[Publication]

    def __init__(self, fingerprint: str | None) -> None:
        """fingerprint: of an altered copy that the user accepts; None: only the published documents."""
        self.fingerprint = fingerprint

    @abstractmethod
    def read(self, folder: Path) -> Documents:
        """The documents; `folder` is for temporary files. Raises Unavailable or UserError."""

    @abstractmethod
    def write(self, folder: Path, documents: Documents) -> None:
        """Verify the documents with `notes_on` and write them. Raises Unavailable or UserError."""

    def identity(self) -> str | None:
        """A key for this source's content, computed without reading it; None if the source has no files."""
        return self.where

    def prepared_folder(self, cache: Path) -> Path | None:
        identity = self.identity()
        if identity is None:
            return None
        expected = self.fingerprint or self.publication.fingerprint
        name = f"{self.publication.name}-{self.name}"
        return Cache(cache).folder("corpora", name, (FORMAT_VERSION, identity, expected))

    def prepare(self, folder: Path) -> None:
        documents = self.read(folder)
        for leftover in folder.iterdir():
            leftover.unlink()
        self.write(folder, documents)

    def notes_on(self, parts: Parts) -> list[str]:
        """Notes on these documents for the report. Raises `mismatch` if they are neither published nor accepted."""
        differences = self.publication.differences(parts)
        if not differences:
            return []
        fingerprint = self.publication.fingerprint_of(parts)
        if fingerprint != self.fingerprint:
            raise self.mismatch(self._explain(differences, fingerprint))
        return [
            f"These are not the published documents (data.fingerprint={fingerprint} accepts an altered copy): "
            f"{'; '.join(differences)}. Metrics are not comparable with others on this corpus."
        ]

    def mismatch(self, difference: str) -> Exception:
        """The error for documents that are not the expected ones."""
        return Unavailable(f"its documents are not the published corpus:\n{difference}")

    def _explain(self, differences: list[str], fingerprint: str) -> str:
        """The differences, the fingerprints and the remedy."""
        expected = (
            f"data.fingerprint is {self.fingerprint}"
            if self.fingerprint
            else f"the published one is {self.publication.fingerprint}"
        )
        return "\n".join(
            [
                *(f"  {difference}" for difference in differences),
                f"Their fingerprint is {fingerprint}; {expected}.",
                "Download the corpus again. If it was changed on purpose, accept exactly these documents with",
                f"data.fingerprint={fingerprint}",
            ]
        )


class LocalSource(PublishedSource[Documents]):
    """Files of the user."""

    name: ClassVar[SourceName] = "local"

    def __init__(self, path: Path, is_explicit: bool, fingerprint: str | None) -> None:
        """path: file or folder. is_explicit: whether it comes from data.path, not from paths.corpora_dir."""
        super().__init__(fingerprint)
        self.path = path
        self.is_explicit = is_explicit

    @property
    def where(self) -> str:
        return str(self.path)

    @abstractmethod
    def layout(self) -> tuple[Callable[[Path], Documents], Path] | None:
        """A reader, and the exact file or folder for it; None if there is no supported layout at the path."""

    def looks_empty(self) -> bool:
        """Whether nothing at the path suggests that the corpus was meant to be there."""
        return not any(self.path.iterdir())

    def identity(self) -> str | None:
        layout = self.layout()
        if layout is None:
            if self.path.exists() and (self.is_explicit or not self.looks_empty()):
                raise UserError(
                    f"{self.path} exists, but has none of the layouts of the {self.publication.title}: "
                    f"{self.publication.layouts}."
                )
            return None
        _, path = layout
        return content_key(path)

    def read(self, folder: Path) -> Documents:
        layout = self.layout()
        assert layout is not None, "identity() is called before"
        reader, path = layout
        return reader(path)

    def mismatch(self, difference: str) -> Exception:
        return UserError(
            f"The documents in {self.path} are not those of the published {self.publication.title}:\n{difference}"
        )


@dataclass(frozen=True, kw_only=True)
class PublishedReader(CorpusReader):
    """Reads a published corpus from the user's disk, the Hub or a package registry."""

    source: SourceName | None
    path: str | None
    fingerprint: str | None

    def __post_init__(self) -> None:
        if self.path is None:
            return
        if self.source not in (None, "local"):
            raise UserError(
                f"data.path={self.path} names files on this machine, but data.source={self.source} is another source: "
                "omit one of the two."
            )
        if not user_path(self.path, "data.path").exists():
            raise UserError(f"data.path={self.path}: there is no such file or folder.")

    def prepared(
        self, paths: Paths, local: type[LocalSource[Documents]], downloads: Sequence[type[PublishedSource[Documents]]]
    ) -> Path:
        """The directory of the prepared corpus, from the first source that has it. Raises UserError."""
        publication = local.publication
        path = user_path(self.path, "data.path") if self.path is not None else paths.corpora / publication.name
        sources = [
            local(path, self.path is not None, self.fingerprint),
            *(download(self.fingerprint) for download in downloads),
        ]
        only: SourceName | None = "local" if self.path is not None else self.source
        return find_prepared(publication.name, sources, only, paths.cache, publication.remedy)
