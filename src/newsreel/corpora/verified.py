"""Corpora that were published once: a copy from any source is accepted by its content, and is the same everywhere."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from newsreel.core.cache import Cache, digest
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import CorpusReader, Paths
from newsreel.corpora.prepared import FORMAT_VERSION
from newsreel.corpora.sources import Source, SourceName, Unavailable, find_prepared
from newsreel.files.archives import content_key

Documents = TypeVar("Documents")
Parts = dict[str, tuple[int, str]]  # name of a part → how many documents it has, and their digest (`part_digest`)


def part_digest(document_digests: Iterable[bytes]) -> str:
    """SHA-256 over the sorted digests of a part's documents: it does not depend on their order."""
    return digest(b"".join(sorted(document_digests)))


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A corpus as it was published."""

    name: str  # of the corpus, and of its folder under paths.corpora_dir
    title: str  # in messages
    parts: Parts
    optional: str  # the part that some sources do not have; the fingerprint leaves it out
    part_titles: dict[str, str]  # of the parts whose names say too little
    layouts: str  # the user's files that can be read, in words
    remedy: str  # ways to go on where no source has the corpus

    @property
    def fingerprint(self) -> str:
        return self.fingerprint_of(self.parts)

    def fingerprint_of(self, parts: Parts) -> str:
        """One digest for all parts but the optional one, wherever the documents came from and in whatever order."""
        lines = [f"{name} {count} {found}" for name, (count, found) in sorted(parts.items()) if name != self.optional]
        return digest("\n".join(lines))

    def differences(self, found: Parts) -> list[str]:
        """The parts that are not as published, in words. The lack of the optional part is no difference."""
        differences = []
        for name in [*self.parts, *sorted(found.keys() - self.parts.keys())]:
            if name not in found and name == self.optional:
                continue
            count, found_digest = found.get(name, (0, ""))
            published_count, published_digest = self.parts.get(name, (0, ""))
            title = self.part_titles.get(name, name)
            if count != published_count:
                differences.append(f"{title}: {count:,} documents instead of {published_count:,}")
            elif found_digest != published_digest:
                differences.append(f"{title}: {count:,} documents, but not the published ones")
        return differences


class PublishedSource(Source, Generic[Documents]):
    """A source of a published corpus; whatever it is, its documents are verified and written in one order."""

    publication: ClassVar[Publication]

    def __init__(self, fingerprint: str | None) -> None:
        """fingerprint: of an altered copy that the user accepts; None for the published documents only."""
        self.fingerprint = fingerprint

    @abstractmethod
    def read(self, folder: Path) -> Documents:
        """The documents, with `folder` to work in. Raises Unavailable or UserError."""

    @abstractmethod
    def write(self, folder: Path, documents: Documents) -> None:
        """Verify the documents with `notes_on` and write them. Raises what `notes_on` raises, or UserError."""

    def identity(self) -> str | None:
        """What tells this source's content from another's without reading it all; None if there is nothing."""
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

    def notes_on(self, found: Parts) -> list[str]:
        """What a run has to say of these documents; raises `refusal` if they are neither published nor accepted."""
        differences = self.publication.differences(found)
        if not differences:
            return []
        fingerprint = self.publication.fingerprint_of(found)
        if fingerprint != self.fingerprint:
            raise self.refusal(self._explain(differences, fingerprint))
        return [
            f"These are not the published documents (data.fingerprint={fingerprint} accepted an altered copy): "
            f"{'; '.join(differences)}. Figures are not comparable with others on this corpus."
        ]

    def refusal(self, difference: str) -> Exception:
        """What to raise about documents that are not the expected ones."""
        return Unavailable(f"what it gave is not the published corpus:\n{difference}")

    def _explain(self, differences: list[str], found: str) -> str:
        """What is different, by which digest, and how to go on."""
        expected = (
            f"data.fingerprint asks for {self.fingerprint}"
            if self.fingerprint
            else f"the published one is {self.publication.fingerprint}"
        )
        return "\n".join(
            [
                *(f"  {difference}" for difference in differences),
                f"Their fingerprint is {found}; {expected}.",
                "Get the corpus again. If it was changed on purpose, accept exactly these documents with",
                f"data.fingerprint={found}",
            ]
        )


class LocalSource(PublishedSource[Documents]):
    """Files of the user."""

    name: ClassVar[SourceName] = "local"

    def __init__(self, place: Path, named: bool, fingerprint: str | None) -> None:
        """named: whether the user has named the place, rather than it being where corpora are looked for."""
        super().__init__(fingerprint)
        self.place = place
        self.named = named

    @property
    def where(self) -> str:
        return str(self.place)

    @abstractmethod
    def layout(self) -> tuple[Callable[[Path], Documents], Path] | None:
        """How to read what is at the place, and the exact file or folder; None if no known layout is there."""

    def looks_empty(self) -> bool:
        """Whether nothing at the place suggests that the corpus was meant to be there."""
        return not any(self.place.iterdir())

    def identity(self) -> str | None:
        found = self.layout()
        if found is None:
            if self.place.exists() and (self.named or not self.looks_empty()):
                raise UserError(
                    f"{self.place} is there, but holds none of the layouts of the {self.publication.title}: "
                    f"{self.publication.layouts}."
                )
            return None
        _, place = found
        return content_key(place)

    def read(self, folder: Path) -> Documents:
        found = self.layout()
        assert found is not None, "identity() has found the layout"
        reader, place = found
        return reader(place)

    def refusal(self, difference: str) -> Exception:
        return UserError(
            f"The documents in {self.place} are not those of the published {self.publication.title}:\n{difference}"
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
                f"data.path={self.path} names files on this machine and data.source={self.source} asks for another "
                "source: leave one of the two out."
            )
        if not Path(self.path).expanduser().exists():
            raise UserError(f"data.path={self.path}: there is no such file or folder.")

    def prepared(
        self, paths: Paths, local: type[LocalSource[Documents]], downloads: Sequence[type[PublishedSource[Documents]]]
    ) -> Path:
        """The prepared folder of the first of the sources that has the corpus. Raises UserError."""
        publication = local.publication
        place = Path(self.path).expanduser() if self.path is not None else paths.corpora / publication.name
        sources = [
            local(place, self.path is not None, self.fingerprint),
            *(download(self.fingerprint) for download in downloads),
        ]
        wanted: SourceName | None = "local" if self.path is not None else self.source
        return find_prepared(publication.name, sources, wanted, paths.cache, publication.remedy)
