"""The user's own corpus: documents and labels from files, or from a data set of the Hugging Face Hub."""

import logging
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import pyarrow as pa
from annotated_types import Gt, Lt

from newsreel.core.cache import Cache, digest
from newsreel.core.errors import UserError, suggest
from newsreel.core.paths import user_path
from newsreel.corpora import hub
from newsreel.corpora.corpus import NO_LABEL, Corpus, CorpusReader, Paths, Task, abbreviated
from newsreel.corpora.in_memory import class_name, class_names_of
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
from newsreel.files.labels import Columns, MissingLabelsError, Names, as_names, in_brackets
from newsreel.files.readers import (
    CHUNK,
    FormatName,
    Layout,
    Row,
    find_columns,
    in_words,
    require_there,
    unlabeled_lines,
    unlabeled_subfolders,
    unlabeled_tree_rows,
)
from newsreel.files.tables import Table, collect, concatenate, open_document, read_table

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
UNLABELED = "unlabeled"
READING_VERSION = 5  # raise it when the same files result in other documents, labels or notes
SHOWN_LABELS = 10
ONE_TEXT = Columns(("text",), ())  # of documents without columns and labels
NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class OwnCorpus(CorpusReader):
    """Documents in one table per split. The task and the label names are inferred from the training labels.

    Settings with a default are missing in run directories of newsreel 0.2.
    """

    train: str | list[str] | None
    validation: str | list[str] | None
    test: str | list[str] | None
    unlabeled: str | list[str] | None = None
    text: Names
    label: Names
    separator: str | None
    labels: list[str] | None = None
    test_fraction: Annotated[float, Gt(0), Lt(1)]

    def __post_init__(self) -> None:
        if shared := set(self.columns.text) & set(self.columns.label):
            raise UserError(f"data.text and data.label are both {min(shared)}: name the column of each.")
        for setting, names in (("text", self.columns.text), ("label", self.columns.label), ("labels", self.labels)):
            if names is not None and len(set(names)) < max(1, len(names)):
                raise UserError(f"data.{setting} is {in_brackets(names)}: name at least one, and each once.")
        if self.separator == "":
            raise UserError("data.separator is empty: set it to the separator between two labels, or omit it.")
        several = {"data.separator": self.separator, "data.labels": self.labels}
        given = [setting for setting, value in several.items() if value is not None]
        if given and len(self.columns.label) > 1:
            raise UserError(f"{given[0]} describes the values of one column, but data.label names several: omit one.")
        for name in (*SPLITS, UNLABELED):
            if getattr(self, name) in ("", []):
                raise UserError(f"data.{name} is empty: name the {name} documents, or omit the setting.")
        for one, other in combinations(SPLITS, 2):
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
        """The documents of `train` and, if they exist, of the other splits and `unlabeled`. Raises UserError."""

    @property
    def columns(self) -> Columns:
        labels = None if self.labels is None else tuple(self.labels)
        return Columns(as_names(self.text), as_names(self.label), self.separator, labels)

    def check(self, split: str = "train") -> None:
        if split == "train" and self.train is None:
            raise UserError(f"data.train is null: name the training documents, such as {self.example}")

    def read(self, paths: Paths) -> Corpus:
        self.check()
        identity = (FORMAT_VERSION, READING_VERSION, self.columns, self.identity())
        what = f"the documents from {self.source}"
        corpus = Cache(paths.cache).get_or_build("corpora", "own", identity, self.prepare, open_prepared, what)
        return replace(corpus, has_html_entities=True)

    def divided(self, corpus: Corpus) -> Corpus:
        """The corpus with all splits, and a note on each split that the user has not provided."""
        divided = super().divided(corpus.with_test(self.test_fraction, self.split_seed, self.split_method))
        total = len(corpus.splits["train"].rows)
        notes = [
            f"No {split} documents were provided: {len(divided.splits[split].rows):,} of the {total:,} training "
            f"documents are used ({self.method_in_words}; data.{split}_fraction={fraction}, "
            f"data.split_seed={self.split_seed})."
            for split, fraction in (("test", self.test_fraction), ("validation", self.validation_fraction))
            if split not in corpus.splits
        ]
        return replace(divided, notes=(*corpus.notes, *notes))

    @property
    def method_in_words(self) -> str:
        return "stratified" if self.split_method == "random" else "blocks of neighbours; data.split_method=blocks"

    def load_split(self, split: str, paths: Paths) -> Corpus:
        """Like that of every corpus; without training documents, the split alone, with the labels that it has."""
        if self.train is not None:
            return super().load_split(split, paths)
        from datasets import Dataset

        self.check(split)
        tables = self.read_tables()
        if split not in tables:
            raise UserError(f"data.{split} is null: name the {split} documents.")
        documents = in_order_of_digests(tables[split])
        names = label_names(tables[split])
        task: Task = "multilabel" if tables[split].several else "multiclass"  # several: None without several labels
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
        unlabeled = tables.pop(UNLABELED, None)
        names = label_names(tables["train"])
        task = task_of(tables, names)
        require_learnable(tables, task, names, self.columns)
        fingerprint: list[str] = [task]
        for split, table in tables.items():
            documents = in_order_of_digests(table)
            fingerprint.append(f"{split} {len(documents)} {part_digest(documents['digest'])}")
            write_split(folder, split, task, batches(documents, names, task), has_positions=True)
        if unlabeled is not None:
            documents = in_order_of_digests(unlabeled)
            write_split(folder, UNLABELED, task, batches(documents, names, task), has_positions=True)
        write_description(
            folder,
            Description(
                name=self.corpus_name,
                task=task,
                label_names=names,
                metric="f1_micro" if task == "multilabel" else "accuracy",
                fingerprint=digest("\n".join(fingerprint)),
                source=self.source,
                notes=[
                    labels_in_words(tables["train"], task, names),
                    *(note for table in tables.values() for note in table.notes),
                    *absent_labels(self.columns, names),
                    *warnings(tables, names),
                ],
                tables=[*tables, *([] if unlabeled is None else [UNLABELED])],
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Files(OwnCorpus):
    """Reads files and folders of the user."""

    format: FormatName | None = None
    delimiter: str | None = None
    quoting: bool = True
    header: bool = True
    encoding: str = "utf-8"

    corpus_name = "files"
    example = (
        "data.train=train.csv (CSV, TSV, JSON Lines, Parquet, …, or a folder with one folder of texts for each label)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.layout  # checks its values

    @property
    def layout(self) -> Layout:
        return Layout.of(self, prefix="data.")

    def paths_of(self, split: str) -> list[Path]:
        """The files and folders of a split, empty if it has none. Raises UserError for those that do not exist."""
        value = getattr(self, split)
        names = value if isinstance(value, list) else [] if value is None else [value]
        paths = [path for name in names for path in matching_paths(name, f"data.{split}")]
        once: dict[Path, Path] = {}  # also if links or other spellings name a file again
        for path in paths:
            once.setdefault(path.resolve(), path)
        return list(once.values())

    @property
    def source(self) -> str:
        values = [getattr(self, split) for split in (*SPLITS, UNLABELED)]
        return ", ".join(in_brackets(as_names(value)) for value in values if value is not None)

    def file_name(self, corpus: Corpus) -> str:
        path = self.paths_of("train")[0].with_suffix("")
        return "_".join([corpus.name, *re.findall(r"\w+", "/".join(path.parts[-2:]))])

    def check(self, split: str = "train") -> None:
        """Raise UserError also for files that do not exist, that are in two splits, or whose format is not known."""
        super().check(split)
        paths = {split: self.paths_of(split) for split in (*SPLITS, UNLABELED)}
        for one, other in combinations(paths, 2):
            if shared := {path.resolve() for path in paths[one]} & {path.resolve() for path in paths[other]}:
                raise UserError(
                    f"data.{one} and data.{other} both have {min(shared)}: splits must not share documents."
                )
        documents = [open_document(path, self.columns, self.layout) for split in paths.values() for path in split]
        formats = {document.layout.format for document in documents if not document.path.is_dir()}
        for setting, is_default, where in (
            ("delimiter", self.delimiter is None, {"csv", "tsv"}),
            ("quoting", self.quoting, {"csv", "tsv"}),
            ("header", self.header, {"csv", "tsv", "xlsx"}),
        ):
            if not is_default and formats.isdisjoint(where):
                raise UserError(
                    f"data.{setting}={getattr(self, setting)} has an effect on {', '.join(sorted(where))} only, but "
                    f"{self.source} is not such a file: omit it, or set data.format."
                )

    def identity(self) -> str:
        keys = [f"{split} {content_key(path)}" for split in (*SPLITS, UNLABELED) for path in self.paths_of(split)]
        return "\n".join([*keys, repr(self.layout)])

    def read_tables(self) -> dict[str, Table]:
        tables = {split: self.read_split(split, paths) for split in SPLITS if (paths := self.paths_of(split))}
        unlabeled = self.read_unlabeled()
        return tables if unlabeled is None else {**tables, UNLABELED: unlabeled}

    def read_split(self, split: str, paths: Sequence[Path]) -> Table:
        try:
            return concatenate([read_table(path, self.columns, self.layout) for path in paths])
        except MissingLabelsError as error:
            if split != "test":
                raise
            raise UserError(
                f"{error}\nDocuments without labels cannot be tested; to classify them with a finished run: python "
                "predict.py run=<its directory> input=<file>"
            ) from error

    def read_unlabeled(self) -> Table | None:
        """The documents of data.unlabeled, and of folders in data.train whose name says that they have no label."""
        columns = replace(self.columns, label=(), separator=None, label_names=None)
        tables = []
        named = self.paths_of(UNLABELED)
        for path in named:
            document = open_document(path, columns, self.layout)
            if path.is_dir():
                tables.append(unlabeled_table(path, self.layout, path))
            elif document.layout.format == "fasttext":
                tables.append(collect(str(path), "line", unlabeled_lines(document), ONE_TEXT))
            else:
                tables.append(collect(str(path), document.format.unit, document.rows(), columns))
        known = {path.resolve() for path in named}
        for folder in filter(Path.is_dir, self.paths_of("train")):
            unlabeled = [child for child in unlabeled_subfolders(folder) if child.resolve() not in known]
            tables += [unlabeled_table(child, self.layout, folder) for child in unlabeled]
        return concatenate(tables) if tables else None


def unlabeled_table(folder: Path, layout: Layout, root: Path) -> Table:
    return collect(str(folder), "file", unlabeled_tree_rows(folder, layout, root), ONE_TEXT)


def matching_paths(name: str, setting: str) -> list[Path]:
    """The path of this name, or those that match a pattern such as `parts/*.csv`. Raises UserError if there is none."""
    path = user_path(name, setting)
    if path.exists() or not has_magic(name):
        require_there(path, setting)
        return [path]
    matches = sorted(Path(match) for match in glob(str(path), recursive=True))
    for match in matches:
        require_there(match, setting)
    if not matches:
        raise UserError(f"{setting}={name}: no file matches this pattern. Paths are relative to the current folder.")
    return matches


@dataclass(frozen=True, kw_only=True)
class HubDataset(OwnCorpus):
    """Reads a data set of the Hugging Face Hub; train, validation and test are names of its splits."""

    train: str | None
    validation: str | None
    test: str | None
    unlabeled: str | None = None
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
        splits = " ".join(str(getattr(self, split)) for split in (*SPLITS, UNLABELED))
        return f"{self.name} {self.config_name} {self.revision} {splits}"

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
        chosen = self.chosen_splits(list(splits))
        return {split: self.read_split(split, name, splits[name]) for split, name in chosen.items()}

    def chosen_splits(self, available: list[str]) -> dict[str, str]:
        """The data set's split for each of ours: the one that the user chose, else the unused one of the same name."""
        ours = (*SPLITS, UNLABELED)
        chosen = {split: name for split in ours if (name := getattr(self, split)) is not None}
        for split, name in chosen.items():
            if name not in available:
                raise UserError(
                    f"data.{split}={name}: {self.source} has the splits {', '.join(available)}"
                    f"{suggest(name, available)}"
                )
        unused = {split: split for split in SPLITS if split in available and split not in chosen.values()}
        chosen = unused | chosen
        return {split: chosen[split] for split in ours if split in chosen}

    def read_split(self, split: str, name: str, dataset: "Dataset") -> Table:
        where = f"the split {name!r} of {self.name}"
        columns = self.columns if split != UNLABELED else Columns(self.columns.text, ())
        find_columns(where, dataset.column_names, columns.named)
        return collect(where, "row", hub_rows(dataset, columns), columns)


def hub_rows(dataset: "Dataset", columns: Columns) -> Iterator[Row]:
    """The rows of a data set, numbered from 1, with class names in place of class numbers."""
    names = [*columns.text, *columns.label]
    class_names: list[str] | None = None
    if len(columns.label) == 1:
        class_names = class_names_of(dataset.features[columns.label[0]])
    begin = 1
    for batch in dataset.select_columns(names).with_format("arrow").iter(CHUNK):
        values = [batch[name].to_pylist() for name in names]
        if class_names is not None:
            values[-1] = [class_name(label, class_names) for label in values[-1]]
        yield from zip(range(begin, begin + len(batch)), *values, strict=True)
        begin += len(batch)


def label_names(table: Table) -> list[str]:
    """The table's labels, sorted as numbers if all of them are numbers, else as texts."""
    names = table.documents["labels"].explode(empty_as_null=False).unique().to_list()
    if all(NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names)


def task_of(tables: dict[str, Table], names: list[str]) -> Task:
    """The task, inferred from the labels. Raises UserError if some tables have lists of labels and others do not."""
    lists = [table.where for table in tables.values() if table.several]
    others = [table.where for table in tables.values() if table.several is False]
    if lists and others:
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
    label = in_brackets(columns.label)
    example = train.documents["labels"].list.join(", ")[0]
    if len(names) < 2:
        raise UserError(
            f"{train.where}: all documents have the label {names[0]!r} (data.label={label}); at least two "
            "labels are needed.\nName another column, or add documents with another label."
            if names
            else f"{train.where}: no document has a label (data.label={label})."
        )
    if columns.separator is not None and train.documents["labels"].list.len().max() == 1:
        raise UserError(
            f"{train.where}: data.separator={columns.separator!r} occurs in no label (data.label={label}); the "
            f"first is {example!r}.\nSet it to the separator between two labels, or omit it if every document has one "
            "label."
        )
    if task != "multilabel" and len(names) == len(train.documents):
        raise UserError(
            f"{train.where}: each of the {len(names):,} documents has a label of its own, such as {example!r} "
            f"(data.label={label}).\nName the column of the labels; if a text has several labels, set "
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


def in_order_of_digests(table: Table) -> pl.DataFrame:
    """The documents in an order that is the same for all formats, with the row that each has in the table."""
    return table.documents.with_row_index("row").sort("digest", "row")


def batches(documents: pl.DataFrame, names: list[str], task: Task) -> Iterator[pa.RecordBatch]:
    """Documents with their labels as numbers, in batches of CHUNK."""
    numbers = {name: number for number, name in enumerate(names)}
    for part in documents.iter_slices(CHUNK):
        labels: list[Any] = [sorted(numbers[name] for name in of_document) for of_document in part["labels"].to_list()]
        if task != "multilabel":
            labels = [of_document[0] if of_document else NO_LABEL for of_document in labels]
        yield record_batch(part["text"].to_arrow(), labels, task, part["row"].to_arrow())


def labels_in_words(train: Table, task: Task, names: list[str]) -> str:
    """A note on the inferred task and labels."""
    counts = Counter(chain.from_iterable(train.documents["labels"].to_list()))
    listed = ", ".join(f"{name} ({counts[name]:,})" for name in names[:SHOWN_LABELS])
    rest = f" and {len(names) - SHOWN_LABELS:,} more" if len(names) > SHOWN_LABELS else ""
    return f"The training documents make this a {task} task with {len(names):,} labels: {listed}{rest}."


def absent_labels(columns: Columns, names: list[str]) -> list[str]:
    """A note on labels that the user has named, but that no training document has."""
    given = columns.label_names or (columns.label if len(columns.label) > 1 else ())
    absent = [name for name in given if name not in names]
    return [f"No training document has the labels {', '.join(absent)}: they are left out."] if absent else []


def warnings(tables: dict[str, Table], names: list[str]) -> list[str]:
    """Notes on what is allowed but probably unintended."""
    notes = []
    for split, table in tables.items():
        without = table.documents["labels"].list.len().eq(0).sum()
        if without:
            notes.append(f"{without:,} of the {len(table.documents):,} documents in {split} have none of the labels.")
    by_folded = Counter(" ".join(name.casefold().split()) for name in names)
    alike = [name for name in names if by_folded[" ".join(name.casefold().split())] > 1]
    if alike:
        notes.append(f"Some labels differ only in case or spaces, and are different labels: {abbreviated(alike)}.")
    numbers = [name for name in names if NUMBER.fullmatch(name)]
    if numbers and len(numbers) < len(names):
        words = [name for name in names if name not in numbers]
        notes.append(f"Some labels are numbers ({numbers[0]}), others are not ({words[0]}).")
    return notes
