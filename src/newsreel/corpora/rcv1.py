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
from newsreel.core.paths import user_path
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
from newsreel.files.archives import require_inside, stats_key

log = logging.getLogger(__name__)

NAME = "rcv1"
READER_VERSION = 1  # raise it when the same files result in other documents
LAST_TRAINING_ID = 26150  # LYRL2004: the training stories are those from 20 to 31 August 1996
PUBLISHED = {"train": 23_149, "test": 781_265}
TOKEN_FILES = [f"lyrl2004_tokens_{name}.dat" for name in ("train", "test_pt0", "test_pt1", "test_pt2", "test_pt3")]
QRELS = "rcv1-v2.topics.qrels"
FILES_OF_A_PART = 2_000  # unpacked XML files, about the number per day
WRITE_BATCH = 5_000  # documents; the fingerprint does not depend on it
MAX_LISTED = 20  # bad files in a message
REMEDY = f"""You can:
  - put the zip files of the discs, or the XML files in them, under <paths.corpora_dir>/{NAME} or its subfolders,
    or the public files {TOKEN_FILES[0]}.gz … and {QRELS}.gz; or name the folder with data.path=…
  - try newsreel on generated documents with the same topics: data=synthetic_rcv1"""


@dataclass(frozen=True, kw_only=True)
class RCV1(CorpusReader):
    """Reads the licensed discs or the public token files from the user's disk, in the split LYRL2004."""

    path: str | None
    max_bad_files: Annotated[int, Ge(0)] | None
    num_processes: Annotated[int, Ge(1), Le(1024)] | None

    def __post_init__(self) -> None:
        if self.path is not None and not user_path(self.path, "data.path").is_dir():
            raise UserError(f"data.path={self.path}: there is no such folder.")

    @property
    def unseen_labels(self) -> bool:
        """Two of the 103 topics have no training stories."""
        return True

    @property
    def nests_labels(self) -> bool:
        return True

    def read(self, paths: Paths) -> Corpus:
        root = user_path(self.path, "data.path") if self.path is not None else paths.corpora / NAME
        files = LocalFiles(
            root,
            paths.cache,
            is_explicit=self.path is not None,
            max_bad_files=self.max_bad_files,
            num_processes=self.num_processes or os.cpu_count() or 1,
        )
        folder = find_prepared(NAME, [files], None, paths.cache, REMEDY)
        files.remove_parts(paths.cache)
        files.check_bad_files(read_bad_files(folder))  # it may have been prepared with a higher limit
        return open_prepared(folder)


@dataclass(frozen=True)
class Layout:
    """The content of the user's folder."""

    parts: Sequence[Part]
    max_bad_files: int  # unless the user sets it
    identity: str  # of the files, from their names, sizes and modification times


class LocalFiles(Source):
    """The user's files."""

    name: ClassVar[SourceName] = "local"

    def __init__(
        self, root: Path, cache: Path, *, is_explicit: bool, max_bad_files: int | None, num_processes: int
    ) -> None:
        """root: the user's folder. is_explicit: whether it comes from data.path, not from paths.corpora_dir."""
        self.root = root
        self.is_explicit = is_explicit
        self.cache = cache
        self.num_processes = num_processes
        self._layout = find_layout(root)
        if max_bad_files is None and self._layout is not None:
            max_bad_files = self._layout.max_bad_files
        self.max_bad_files = max_bad_files or 0

    @property
    def where(self) -> str:
        return str(self.root)

    def prepared_folder(self, cache: Path) -> Path | None:
        if self._layout is None:
            if self.root.is_dir() and (self.is_explicit or any(self.root.iterdir())):
                raise UserError(
                    f"{self.root} exists, but has neither zip or XML files of the discs nor the public files "
                    f"{TOKEN_FILES[0]} … (or .gz)."
                )
            return None
        return Cache(cache).folder("corpora", f"{NAME}-{self.name}", self._identity)

    def parts_folder(self, cache: Path) -> Path:
        """The directory of the parts until the corpus is complete, so that a killed preparation can be resumed."""
        return Cache(cache).folder("corpora", self._parts_prefix, self._identity)

    @property
    def _parts_prefix(self) -> str:
        """Common prefix of the names of all directories with parts read from this folder."""
        return f".{NAME}-parts-{digest(self.root.absolute())[:8]}"

    def remove_parts(self, cache: Path, exclude: Path | None = None) -> None:
        """Remove the parts left by killed preparations of this folder, including those of earlier versions of it."""
        for path in (cache / "corpora").glob(f"{self._parts_prefix}-*"):
            if path != exclude:
                shutil.rmtree(path, ignore_errors=True)

    @property
    def _identity(self) -> tuple[object, ...]:
        assert self._layout is not None, "prepared_folder() checks it"
        return FORMAT_VERSION, READER_VERSION, self._layout.identity

    def prepare(self, folder: Path) -> None:
        assert self._layout is not None, "prepared_folder() checks it"
        parts = self._layout.parts
        parts_dir = self.parts_folder(self.cache)
        self.remove_parts(self.cache, exclude=parts_dir)
        parts_dir.mkdir(exist_ok=True)
        bad_files = self._read(parts, parts_dir)
        stories = PartsInOrder(part_folders(parts_dir, len(parts)), [part.name for part in parts])
        if not len(stories.ids):
            raise UserError(f"{self.root} has no story with a topic and a region in {len(parts):,} files.")
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

    def _read(self, parts: Sequence[Part], parts_dir: Path) -> list[str]:
        """Read all parts and return the bad files in alphabetical order. Raises UserError if there are too many."""
        num_done = sum(path.is_dir() for path in part_folders(parts_dir, len(parts)))
        if num_done:
            log.info(f"{NAME}: resuming an interrupted preparation: {num_done} of {len(parts)} parts are done")
        bad_files: list[str] = []
        with tqdm(total=len(parts), unit=" parts", desc=f"reading {NAME}", disable=None) as bar:
            for bad_files_of_part in read_parts(parts, parts_dir, self.num_processes):
                bad_files += bad_files_of_part
                self.check_bad_files(bad_files)
                bar.update()
        return sorted(bad_files)

    def check_bad_files(self, bad_files: Sequence[str]) -> None:
        """Raise UserError if there are more than `max_bad_files`."""
        if len(bad_files) <= self.max_bad_files:
            return
        listed = [f"  {file}" for file in sorted(bad_files)[:MAX_LISTED]]
        raise UserError(
            "\n".join(
                [
                    f"{len(bad_files):,} files in {self.root} cannot be read, but data.max_bad_files allows only "
                    f"{self.max_bad_files:,}:",
                    *listed,
                    *(["  …"] if len(bad_files) > MAX_LISTED else []),
                    "Get a new copy of these files, or skip them with a higher data.max_bad_files.",
                ]
            )
        )


def digested(batches: Iterable[pa.RecordBatch], digest: "hashlib._Hash", bar: "tqdm[None]") -> Iterator[pa.RecordBatch]:
    """Pass the batches through, and update the digest with their documents and the progress bar."""
    for batch in batches:
        for row in zip(*(batch[name].to_pylist() for name in ("id", "labels", "text")), strict=True):
            digest.update("{} {} {}\n".format(*row).encode())
        yield batch
        bar.update(len(batch))


def notes_on(sizes: dict[str, int], bad_files: Sequence[str]) -> list[str]:
    """Notes on these documents for the report."""
    notes = []
    if bad_files:
        listed = "; ".join(bad_files[:5])
        count = len(bad_files)
        subject = "1 file could not be read and was" if count == 1 else f"{count:,} files could not be read and were"
        notes.append(f"{subject} skipped: {listed}.")
    if sizes != PUBLISHED:
        actual, published = (" and ".join(f"{n:,} {split}" for split, n in of.items()) for of in (sizes, PUBLISHED))
        notes.append(
            f"There are {actual} documents instead of the {published} of RCV1-v2: metrics are not comparable with "
            "others on it."
        )
    return notes


def find_layout(root: Path) -> Layout | None:
    """The layout of the user's folder. Raises UserError for incomplete public files, and for public files with others.

    None if the folder has no files of the corpus.
    """
    if not root.is_dir():
        return None
    public = {name: existing for name in (*TOKEN_FILES, QRELS) if (existing := packed_or_not(root, name))}
    files = {
        os.path.relpath(entry.path, root): entry.stat()
        for entry in files_below(root, root)
        if entry.name in public.values() or entry.name.lower().endswith((".zip", ".xml"))
    }
    identity = stats_key(root, files.items())
    zips = sorted(name for name in files if name.lower().endswith(".zip"))
    xmls = sorted(name for name in files if name.lower().endswith(".xml"))
    if not public:
        starts = range(0, len(xmls), FILES_OF_A_PART)
        parts: list[Part] = [
            *(ZipFile(str(root), name) for name in zips),
            *(XmlFiles(str(root), xmls[start : start + FILES_OF_A_PART]) for start in starts),
        ]
        return Layout(parts, 10, identity) if parts else None
    if missing := [name for name in (*TOKEN_FILES, QRELS) if name not in public]:
        raise UserError(
            f"{root} has {', '.join(public.values())}, but no {', '.join(missing)} (or .gz): all public files are "
            "needed. Download the missing ones."
        )
    if zips or xmls:
        raise UserError(
            f"{root} has the public token files, but also {(zips or xmls)[0]} like the discs: name a folder with only "
            "one of the two by data.path=…"
        )
    return Layout([TokenFile(str(root), public[name], public[QRELS]) for name in TOKEN_FILES], 0, identity)


def packed_or_not(folder: Path, name: str) -> str | None:
    """`name` or `name`.gz, whichever exists. Raises UserError if both exist."""
    existing = [file for file in (name, f"{name}.gz") if (folder / file).is_file()]
    if len(existing) == 2:
        raise UserError(f"{folder} has both {existing[0]} and {existing[1]}: keep one of them.")
    return existing[0] if existing else None


def files_below(folder: str | Path, root: Path) -> Iterator["os.DirEntry[str]"]:
    """All files below a folder; there may be 800,000. Links to folders are not followed.

    Raises UserError for links out of `root`.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                require_inside(root, [Path(entry.path)])
            if entry.is_dir(follow_symlinks=False):
                yield from files_below(entry.path, root)
            elif entry.is_file():
                yield entry
