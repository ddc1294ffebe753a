"""The user's own corpus: documents and labels from files, or from a data set of the Hugging Face Hub."""

import logging
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import pyarrow as pa
from annotated_types import Gt, Lt

from newsreel.core.cache import Cache, digest
from newsreel.core.errors import UserError, suggest
from newsreel.corpora import hub
from newsreel.corpora.corpus import Corpus, CorpusReader, Paths, Task
from newsreel.corpora.prepared import (
    FORMAT_VERSION,
    Description,
    open_prepared,
    record_batch,
    write_description,
    write_split,
)
from newsreel.corpora.sources import Unavailable
from newsreel.corpora.verified import part_digest
from newsreel.files.archives import content_key
from newsreel.files.readers import (
    CHUNK,
    Columns,
    Row,
    Table,
    collect,
    find_columns,
    in_words,
    read_table,
    require_there,
)

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
READING_VERSION = 3  # raise it when the same files result in other documents, labels or notes
SHOWN_LABELS = 10
NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class OwnCorpus(CorpusReader):
    """Documents in one table per split. The task and the label names are inferred from the training labels."""

    train: str | None
    validation: str | None
    test: str | None
    text: str
    label: str
    separator: str | None
    test_fraction: Annotated[float, Gt(0), Lt(1)]

    def __post_init__(self) -> None:
        if self.text == self.label:
            raise UserError(f"data.text and data.label are both {self.text}: name the column of each.")
        if self.separator == "":
            raise UserError("data.separator is empty: set it to the separator between two labels, or omit it.")
        for name in ("train", "validation", "test"):
            if getattr(self, name) == "":
                raise UserError(f"data.{name} is empty: name the {name} documents, or omit the setting.")
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            if getattr(self, one) is not None and getattr(self, one) == getattr(self, other):
                raise UserError(
                    f"data.{one} and data.{other} are both {getattr(self, one)}: splits must not share documents. "
                    f"Without data.{other}, the {other} documents are split off."
                )

    @property
    @abstractmethod
    def example(self) -> str:
        """Settings that name training documents."""

    @property
    @abstractmethod
    def corpus_name(self) -> str:
        """The corpus's name in reports and in the cache."""

    @property
    @abstractmethod
    def source(self) -> str:
        """Where the documents come from, in words."""

    @abstractmethod
    def identity(self) -> str:
        """A key for the content of these documents, computed without reading them. Raises UserError."""

    @abstractmethod
    def read_tables(self) -> dict[str, Table]:
        """The documents of `train` and, if they exist, of `validation` and `test`. Raises UserError."""

    @property
    def columns(self) -> Columns:
        return Columns(self.text, self.label, self.separator)

    def read(self, paths: Paths) -> Corpus:
        if self.train is None:
            raise UserError(f"data.train is null: name the training documents, such as {self.example}")
        identity = (FORMAT_VERSION, READING_VERSION, self.columns, self.identity())
        what = f"the documents from {self.source}"
        corpus = Cache(paths.cache).get_or_build("corpora", "own", identity, self.prepare, open_prepared, what)
        return replace(corpus, has_html_entities=True)

    def divided(self, corpus: Corpus) -> Corpus:
        """The corpus with all splits, and a note on each split that the user has not provided."""
        divided = super().divided(corpus.with_test(self.test_fraction, self.split_seed))
        total = len(corpus.splits["train"].rows)
        notes = [
            f"No {split} documents were provided: {len(divided.splits[split].rows):,} of the {total:,} training "
            f"documents are used (stratified; data.{split}_fraction={fraction}, data.split_seed={self.split_seed})."
            for split, fraction in (("test", self.test_fraction), ("validation", self.validation_fraction))
            if split not in corpus.splits
        ]
        return replace(divided, notes=(*corpus.notes, *notes))

    def load_split(self, split: str, paths: Paths) -> Corpus:
        """Like that of every corpus; without training documents, the split alone, with the labels that it has."""
        if self.train is not None:
            return super().load_split(split, paths)
        from datasets import Dataset

        self.identity()  # raises an error for missing files
        tables = self.read_tables()
        if split not in tables:
            raise UserError(f"data.{split} is null: name the {split} documents.")
        documents = tables[split].documents.sort("digest")
        names = label_names(tables[split])
        task: Task = "multilabel" if tables[split].several else "multiclass"
        corpus = Corpus(
            name=self.corpus_name,
            task=task,
            label_names=tuple(names),
            metric="f1_micro" if task == "multilabel" else "accuracy",
            tables={split: Dataset(pa.Table.from_batches(batches(documents, names, task)))},
            fingerprint=part_digest(documents["digest"]),
            source=self.source,
            has_html_entities=True,
        )
        return corpus if self.limit is None else corpus.limited(self.limit)

    def prepare(self, folder: Path) -> None:
        """Write the checked documents in the order of their digests, which is the same for all formats."""
        log.info(f"{self.corpus_name}: preparing the documents from {self.source}")
        tables = self.read_tables()
        names = label_names(tables["train"])
        task = task_of(tables, names)
        require_learnable(tables, task, names, self.columns)
        fingerprint: list[str] = [task]
        for split, table in tables.items():
            documents = table.documents.sort("digest")
            fingerprint.append(f"{split} {len(documents)} {part_digest(documents['digest'])}")
            write_split(folder, split, task, batches(documents, names, task))
        write_description(
            folder,
            Description(
                name=self.corpus_name,
                task=task,
                label_names=names,
                metric="f1_micro" if task == "multilabel" else "accuracy",
                fingerprint=digest("\n".join(fingerprint)),
                source=self.source,
                notes=[labels_in_words(tables["train"], task, names), *warnings(tables, names)],
                tables=list(tables),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Files(OwnCorpus):
    """Reads files and folders of the user."""

    corpus_name = "files"
    example = "data.train=train.csv (CSV, TSV, JSON Lines, Parquet, or a folder with one folder of .txt for each label)"

    @property
    def paths(self) -> dict[str, Path]:
        """The file or folder of each split that has one."""
        names = {split: getattr(self, split) for split in SPLITS}
        return {split: Path(name).expanduser() for split, name in names.items() if name is not None}

    @property
    def source(self) -> str:
        return ", ".join(str(path) for path in self.paths.values())

    def identity(self) -> str:
        identity = []
        for split, path in self.paths.items():
            require_there(path, f"data.{split}")
            identity.append(f"{split} {content_key(path)}")
        return "\n".join(identity)

    def read_tables(self) -> dict[str, Table]:
        return {split: read_table(path, self.columns) for split, path in self.paths.items()}


@dataclass(frozen=True, kw_only=True)
class HubDataset(OwnCorpus):
    """Reads a data set of the Hugging Face Hub; train, validation and test are names of its splits."""

    name: str | None
    config_name: str | None
    revision: str | None

    example = "data.train=train"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name:
            raise UserError("data.name is null or empty: name a data set of the Hub, such as data.name=ag_news")
        if Path(self.name).exists():  # `datasets` would read that instead
            raise UserError(
                f"data.name={self.name} is a file or folder here: read it with data=files data.train={self.name}, or, "
                "if you mean the data set of the Hub, run the command in another folder."
            )

    @property
    def corpus_name(self) -> str:
        return str(self.name).rpartition("/")[2]

    @property
    def source(self) -> str:
        parts = [self.name, self.config_name, self.revision and f"revision {self.revision}"]
        return f"{', '.join(part for part in parts if part)} on the Hugging Face Hub"

    def identity(self) -> str:
        return f"{self.name} {self.config_name} {self.revision} {self.train} {self.validation} {self.test}"

    def read_tables(self) -> dict[str, Table]:
        try:
            options = {"name": self.config_name, "revision": self.revision}
            splits = hub.load(str(self.name), **{key: value for key, value in options.items() if value is not None})
        except Unavailable as reason:
            raise UserError(
                f"The data set {self.source} cannot be loaded: {reason}\n"
                "Check data.name, data.config_name, data.revision (a data set that is a script may have Parquet files "
                "under data.revision=refs/convert/parquet) and the connection, or use your own files with data=files."
            ) from reason
        return {split: self.read_split(name, splits[name]) for split, name in self.chosen_splits(list(splits)).items()}

    def chosen_splits(self, available: list[str]) -> dict[str, str]:
        """The data set's split for each of ours: the one that the user chose, else the unused one of the same name."""
        chosen = {split: name for split in SPLITS if (name := getattr(self, split)) is not None}
        for split, name in chosen.items():
            if name not in available:
                raise UserError(
                    f"data.{split}={name}: {self.source} has the splits {', '.join(available)}"
                    f"{suggest(name, available)}"
                )
        unused = {split: split for split in SPLITS if split in available and split not in chosen.values()}
        chosen = unused | chosen
        return {split: chosen[split] for split in SPLITS if split in chosen}

    def read_split(self, name: str, dataset: "Dataset") -> Table:
        where = f"the split {name!r} of {self.name}"
        find_columns(where, dataset.column_names, self.columns.named)
        return collect(where, "row", hub_rows(dataset, self.columns), self.columns)


def hub_rows(dataset: "Dataset", columns: Columns) -> Iterator[Row]:
    """The rows of a data set, numbered from 1, with class names in place of class numbers."""
    feature = dataset.features[columns.label]
    class_names = getattr(getattr(feature, "feature", feature), "names", None)
    begin = 1
    for batch in dataset.select_columns([columns.text, columns.label]).with_format("arrow").iter(CHUNK):
        labels = batch[columns.label].to_pylist()
        if class_names is not None:
            labels = [class_name(label, class_names) for label in labels]
        yield from zip(range(begin, begin + len(batch)), batch[columns.text].to_pylist(), labels, strict=True)
        begin += len(batch)


def class_name(label: Any, names: list[str]) -> Any:
    """The name of a class number, or the names of a list of them; None for -1, which means no label on the Hub."""
    if isinstance(label, list):
        return [class_name(item, names) for item in label]
    return None if label is None or label < 0 else names[label]


def label_names(table: Table) -> list[str]:
    """The table's labels, sorted as numbers if all of them are numbers, else as texts."""
    names = table.documents["labels"].explode(empty_as_null=False).unique().to_list()
    if all(NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names)


def task_of(tables: dict[str, Table], names: list[str]) -> Task:
    """The task, inferred from the labels. Raises UserError if some tables have lists of labels and others do not."""
    lists = [table.where for table in tables.values() if table.several]
    if lists and len(lists) < len(tables):
        others = [table.where for table in tables.values() if not table.several]
        raise UserError(
            f"{', '.join(lists)} has lists of labels, but {', '.join(others)} has one label per document: "
            "use the same form in all files."
        )
    if lists:
        return "multilabel"
    return "binary" if len(names) == 2 else "multiclass"


def require_learnable(tables: dict[str, Table], task: Task, names: list[str], columns: Columns) -> None:
    """Raise UserError for labels that no model can learn, or that no training document has."""
    train = tables["train"]
    example = train.documents["labels"].list.join(", ")[0]
    if len(names) < 2:
        raise UserError(
            f"{train.where}: all documents have the label {names[0]!r} (data.label={columns.label}); at least two "
            "labels are needed.\nName another column, or add documents with another label."
            if names
            else f"{train.where}: no document has a label (data.label={columns.label})."
        )
    if columns.separator is not None and train.documents["labels"].list.len().max() == 1:
        raise UserError(
            f"{train.where}: data.separator={columns.separator!r} occurs in no label (data.label={columns.label}); the "
            f"first is {example!r}.\nSet it to the separator between two labels, or omit it if every document has one "
            "label."
        )
    if task != "multilabel" and len(names) == len(train.documents):
        raise UserError(
            f"{train.where}: each of the {len(names):,} documents has a label of its own, such as {example!r} "
            f"(data.label={columns.label}).\nName the column of the labels; if a text has several labels, set "
            "data.separator to the separator between them."
        )
    for split, table in tables.items():
        labels = table.documents.explode("labels", empty_as_null=False)
        unseen = labels.filter(~pl.col("labels").is_in(names))
        if len(unseen):
            unseen_names = unseen["labels"].unique(maintain_order=True).to_list()
            more = f" and {len(unseen_names) - SHOWN_LABELS:,} more" if len(unseen_names) > SHOWN_LABELS else ""
            listed = ", ".join(unseen_names[:SHOWN_LABELS]) + more
            raise UserError(
                f"{table.where} has labels that no training document in {train.where} has: {listed} "
                f"({in_words(table.unit, unseen['position'].to_list())}).\nNo model can learn them: remove these "
                f"{split} documents, or add training documents with each label."
            )


def batches(documents: pl.DataFrame, names: list[str], task: Task) -> Iterator[pa.RecordBatch]:
    """Documents with their labels as numbers, in batches of CHUNK."""
    numbers = {name: number for number, name in enumerate(names)}
    for part in documents.iter_slices(CHUNK):
        labels: list[Any] = [sorted(numbers[name] for name in of_document) for of_document in part["labels"].to_list()]
        if task != "multilabel":
            labels = [label for (label,) in labels]
        yield record_batch(part["text"].to_arrow(), labels, task)


def labels_in_words(train: Table, task: Task, names: list[str]) -> str:
    """A note on the inferred task and labels."""
    counts = Counter(chain.from_iterable(train.documents["labels"].to_list()))
    listed = ", ".join(f"{name} ({counts[name]:,})" for name in names[:SHOWN_LABELS])
    rest = f" and {len(names) - SHOWN_LABELS:,} more" if len(names) > SHOWN_LABELS else ""
    return f"The training documents make this a {task} task with {len(names):,} labels: {listed}{rest}."


def warnings(tables: dict[str, Table], names: list[str]) -> list[str]:
    """Notes on what is allowed but probably unintended."""
    notes = []
    for split, table in tables.items():
        without = table.documents["labels"].list.len().eq(0).sum()
        if without:
            notes.append(f"{without:,} of the {len(table.documents):,} documents in {split} have none of the labels.")
    numbers = [name for name in names if NUMBER.fullmatch(name)]
    if numbers and len(numbers) < len(names):
        words = [name for name in names if name not in numbers]
        notes.append(f"Some labels are numbers ({numbers[0]}), others are not ({words[0]}).")
    return notes
