"""RCV1-v2: 804,414 newswire stories of 1996 and 1997 with 103 topics in a hierarchy (Lewis et al. 2004)."""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Le
from tqdm import tqdm

from newsreel.core.cache import Cache, digest
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, CorpusReader, Paths
from newsreel.corpora.prepared import FORMAT_VERSION, Description, open_prepared, write_description, write_table
from newsreel.corpora.rcv1_parts import (
    DOCUMENTS,
    Part,
    PartsInOrder,
    part_folders,
    read_bad_files,
    read_parts,
    write_bad_files,
)
from newsreel.corpora.rcv1_stories import TokenFile, XmlFiles, ZipFile, topics
from newsreel.corpora.sources import Source, SourceName, find_prepared
from newsreel.files.archives import stats_key

log = logging.getLogger(__name__)

NAME = "rcv1"
READER_VERSION = 1  # raise it when the same files give other documents
LAST_TRAINING_ID = 26150  # LYRL2004: the training stories are those of 20 to 31 August 1996
PUBLISHED = {"train": 23_149, "test": 781_265}
TOKEN_FILES = [f"lyrl2004_tokens_{name}.dat" for name in ("train", "test_pt0", "test_pt1", "test_pt2", "test_pt3")]
QRELS = "rcv1-v2.topics.qrels"
FILES_OF_A_PART = 2_000  # unpacked XML files, about as many as a day has
WRITE_BATCH = 5_000  # documents; the fingerprint does not depend on it
NUM_NAMED = 20  # bad files that a message lists
REMEDY = f"""Ways to go on:
  - put the discs' zip files, or the XML files in them, under <paths.corpora_dir>/{NAME}, in folders or not,
    or the public files {TOKEN_FILES[0]}.gz … and {QRELS}.gz; or name the folder with data.path=…
  - try things out on made-up documents with the same topics: data=synthetic_rcv1"""


@dataclass(frozen=True, kw_only=True)
class RCV1(CorpusReader):
    """Reads the licensed discs or the public token files from the user's disk, by the split LYRL2004."""

    path: str | None
    max_bad_files: Annotated[int, Ge(0)] | None
    num_processes: Annotated[int, Ge(1), Le(1024)] | None

    def __post_init__(self) -> None:
        if self.path is not None and not Path(self.path).expanduser().is_dir():
            raise UserError(f"data.path={self.path}: there is no such folder.")

    @property
    def unseen_labels(self) -> bool:
        """101 of the 103 topics have a training story."""
        return True

    @property
    def nests_labels(self) -> bool:
        return True

    def read(self, paths: Paths) -> Corpus:
        place = Path(self.path).expanduser() if self.path is not None else paths.corpora / NAME
        files = LocalFiles(
            place,
            paths.cache,
            named=self.path is not None,
            max_bad_files=self.max_bad_files,
            num_processes=self.num_processes or os.cpu_count() or 1,
        )
        folder = find_prepared(NAME, [files], None, paths.cache, REMEDY)
        files.remove_parts(paths.cache)
        files.check_bad_files(read_bad_files(folder))  # there may have been more of them when it was prepared
        return open_prepared(folder)


@dataclass(frozen=True)
class Layout:
    """What is in the user's folder."""

    parts: Sequence[Part]
    max_bad_files: int  # unless the user sets it
    identity: str  # of the files, from their number, sizes and times


class LocalFiles(Source):
    """The user's files."""

    name: ClassVar[SourceName] = "local"

    def __init__(self, place: Path, cache: Path, *, named: bool, max_bad_files: int | None, num_processes: int) -> None:
        """named: whether the user has named the place, rather than it being where corpora are looked for."""
        self.place = place
        self.named = named
        self.cache = cache
        self.num_processes = num_processes
        self._layout = find_layout(place)
        if max_bad_files is None and self._layout is not None:
            max_bad_files = self._layout.max_bad_files
        self.max_bad_files = max_bad_files or 0

    @property
    def where(self) -> str:
        return str(self.place)

    def prepared_folder(self, cache: Path) -> Path | None:
        if self._layout is None:
            if self.place.is_dir() and (self.named or any(self.place.iterdir())):
                raise UserError(
                    f"{self.place} is there, but holds neither zip or XML files of the discs nor {TOKEN_FILES[0]} and "
                    "its like, packed (.gz) or not."
                )
            return None
        return Cache(cache).folder("corpora", f"{NAME}-{self.name}", self._identity)

    def parts_folder(self, cache: Path) -> Path:
        """Where the parts are kept until the corpus is whole: they outlive a preparation that is killed."""
        return Cache(cache).folder("corpora", self._parts_prefix, self._identity)

    @property
    def _parts_prefix(self) -> str:
        """How the names of all folders of parts begin that were read from this place."""
        return f".{NAME}-parts-{digest(self.place.absolute())[:8]}"

    def remove_parts(self, cache: Path, but: Path | None = None) -> None:
        """Remove what preparations of this place that did not end have left, of the files as they were then too."""
        for folder in (cache / "corpora").glob(f"{self._parts_prefix}-*"):
            if folder != but:
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def _identity(self) -> tuple[object, ...]:
        assert self._layout is not None, "prepared_folder() has looked for it"
        return FORMAT_VERSION, READER_VERSION, self._layout.identity

    def prepare(self, folder: Path) -> None:
        assert self._layout is not None, "prepared_folder() has looked for it"
        parts = self._layout.parts
        kept = self.parts_folder(self.cache)
        self.remove_parts(self.cache, but=kept)
        kept.mkdir(exist_ok=True)
        bad_files = self._read(parts, kept)
        stories = PartsInOrder(part_folders(kept, len(parts)), [part.name for part in parts])
        if not len(stories.ids):
            raise UserError(f"{self.place} has no story with a topic and a region in {len(parts):,} files.")
        num_training = int(np.searchsorted(stories.ids, LAST_TRAINING_ID, side="right"))
        splits = {"train": (0, num_training), "test": (num_training, len(stories.ids))}
        fingerprint = hashlib.sha256()
        with tqdm(total=len(stories.ids), unit=" stories", desc=f"writing {NAME}", disable=None) as bar:
            for split, (start, end) in splits.items():
                batches = digested(stories.batches(start, end, WRITE_BATCH), fingerprint, bar)
                write_table(folder, split, DOCUMENTS, batches)
        write_bad_files(folder, bad_files)
        write_description(
            folder,
            Description(
                name=NAME,
                task="multilabel",
                label_names=list(topics().codes),
                metric="f1_micro",
                fingerprint=fingerprint.hexdigest(),
                source=f"{self.name}: {self.where}",
                notes=notes_on({split: end - start for split, (start, end) in splits.items()}, bad_files),
                tables=list(splits),
                parents=list(topics().parents),
                label_titles=list(topics().titles),
            ),
        )

    def _read(self, parts: Sequence[Part], kept: Path) -> list[str]:
        """Read all parts and return the bad files in alphabetical order. Raises UserError if they are too many."""
        done = sum(place.is_dir() for place in part_folders(kept, len(parts)))
        if done:
            log.info(f"{NAME}: going on with a preparation that was stopped: {done} of {len(parts)} parts are done")
        bad_files: list[str] = []
        with tqdm(total=len(parts), unit=" parts", desc=f"reading {NAME}", disable=None) as bar:
            for bad_of_part in read_parts(parts, kept, self.num_processes):
                bad_files += bad_of_part
                self.check_bad_files(bad_files)
                bar.update()
        return sorted(bad_files)

    def check_bad_files(self, bad_files: Sequence[str]) -> None:
        """Raise UserError if more files are bad than may be."""
        if len(bad_files) <= self.max_bad_files:
            return
        listed = [f"  {file}" for file in sorted(bad_files)[:NUM_NAMED]]
        raise UserError(
            "\n".join(
                [
                    f"{len(bad_files):,} files in {self.place} cannot be read, and data.max_bad_files allows "
                    f"{self.max_bad_files:,}:",
                    *listed,
                    *(["  …"] if len(bad_files) > NUM_NAMED else []),
                    "Get these files again, or leave them out with a higher data.max_bad_files.",
                ]
            )
        )


def digested(batches: Iterable[pa.RecordBatch], digest: "hashlib._Hash", bar: "tqdm[None]") -> Iterator[pa.RecordBatch]:
    """The batches as they are, after the digest has taken their documents in."""
    for batch in batches:
        for row in zip(*(batch[name].to_pylist() for name in ("id", "labels", "text")), strict=True):
            digest.update("{} {} {}\n".format(*row).encode())
        yield batch
        bar.update(len(batch))


def notes_on(sizes: dict[str, int], bad_files: Sequence[str]) -> list[str]:
    """What a run has to say of these documents."""
    notes = []
    if bad_files:
        named = "; ".join(bad_files[:5])
        notes.append(f"{len(bad_files):,} files could not be read and were left out: {named}.")
    if sizes != PUBLISHED:
        found, published = (" and ".join(f"{n:,} {split}" for split, n in of.items()) for of in (sizes, PUBLISHED))
        notes.append(
            f"These are {found} documents, and RCV1-v2 has {published}: figures are not comparable with others on it."
        )
    return notes


def find_layout(place: Path) -> Layout | None:
    """How to read what is in the folder. Raises UserError for public files that are not complete, or beside others."""
    if not place.is_dir():
        return None
    public = {name: found for name in (*TOKEN_FILES, QRELS) if (found := packed_or_not(place, name))}
    files = {
        os.path.relpath(entry.path, place): entry.stat()
        for entry in files_below(place)
        if entry.name in public.values() or entry.name.lower().endswith((".zip", ".xml"))
    }
    identity = stats_key(place, files.items())
    zips = sorted(name for name in files if name.lower().endswith(".zip"))
    xmls = sorted(name for name in files if name.lower().endswith(".xml"))
    if not public:
        starts = range(0, len(xmls), FILES_OF_A_PART)
        parts: list[Part] = [
            *(ZipFile(str(place), name) for name in zips),
            *(XmlFiles(str(place), xmls[start : start + FILES_OF_A_PART]) for start in starts),
        ]
        return Layout(parts, 10, identity) if parts else None
    if missing := [name for name in (*TOKEN_FILES, QRELS) if name not in public]:
        raise UserError(
            f"{place} has {', '.join(public.values())}, but no {', '.join(missing)} (or .gz): the public files belong "
            "together. Get the missing ones."
        )
    if zips or xmls:
        raise UserError(
            f"{place} has the public token files, and {(zips or xmls)[0]} as the discs have: name a folder with one of "
            "the two by data.path=…"
        )
    return Layout([TokenFile(str(place), public[name], public[QRELS]) for name in TOKEN_FILES], 0, identity)


def packed_or_not(folder: Path, name: str) -> str | None:
    """The name of the file or of the file packed, if one is there. Raises UserError if both are."""
    found = [spelled for spelled in (name, f"{name}.gz") if (folder / spelled).is_file()]
    if len(found) == 2:
        raise UserError(f"{folder} has both {found[0]} and {found[1]}: keep one of them.")
    return found[0] if found else None


def files_below(folder: str | Path) -> Iterator["os.DirEntry[str]"]:
    """All files in a folder and those in it; there may be 800,000."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from files_below(entry.path)
            elif entry.is_file():
                yield entry
