"""The Corpus: documents and labels in splits, the common form of all corpora."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from weakref import WeakKeyDictionary

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from newsreel.core.cache import digest
from newsreel.core.errors import UserError
from newsreel.core.paths import user_path
from newsreel.corpora.duplicates import duplicate_notes
from newsreel.corpora.splits import block_holdout, first_of_each_class, stratified_holdout

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from newsreel.corpora.pseudo_labels import PseudoLabels

Task = Literal["binary", "multiclass", "multilabel"]
PseudoTargets = Literal["soft", "hard"]
SplitMethod = Literal["random", "blocks"]
NO_LABEL = -1  # of an unlabelled document in tables with one label per document
IntArray = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Paths:
    """The section `paths` of the config: the directories of corpora, prepared data and runs."""

    corpora_dir: str
    cache_dir: str
    output_dir: str

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value.strip():
                raise UserError(f"paths.{name} is empty: name a folder, or omit the setting")
            user_path(value, f"paths.{name}")

    @property
    def corpora(self) -> Path:
        return user_path(self.corpora_dir, "paths.corpora_dir")

    @property
    def cache(self) -> Path:
        return user_path(self.cache_dir, "paths.cache_dir")


@dataclass(frozen=True)
class Rows:
    """A split as rows of one of the corpus's document tables."""

    table: str
    rows: IntArray  # (N,) ascending


@dataclass(frozen=True)
class Corpus:
    """Documents with labels, in splits, and their description.

    `tables` are the splits as published (`train`, `test`, perhaps `validation`, `unlabeled`), each a memory-mapped
    `datasets.Dataset` with the columns `text` and `labels`: an integer, or a list of integers for `multilabel`; -1 or
    an empty list for documents without labels. Some corpora have more columns, such as `position`. `splits` selects the
    rows of each split: validation documents are rows of the training table, so encoded tables do not depend on it.
    """

    name: str
    task: Task
    label_names: tuple[str, ...]
    metric: str  # decides early stopping and the best checkpoint; higher is better
    tables: dict[str, "Dataset"]
    fingerprint: str  # hex digest of the labelled documents, whatever the source
    source: str  # of this copy, for messages and reports
    notes: tuple[str, ...] = ()  # for readers of the run's report
    parents: tuple[int, ...] = ()  # (L,) the parent of each label, -1 for none; empty if there is no hierarchy
    label_titles: tuple[str, ...] = ()  # the labels' names in reports; empty: `label_names`
    splits: dict[str, Rows] = field(default_factory=dict)
    find_unlabeled: Callable[[], "Dataset | None"] | None = None  # looks elsewhere if the source has only labelled ones
    has_html_entities: bool = False  # whether tokenizers decode `&amp;` unless a setting says; the user's corpora
    pseudo: "PseudoLabels | None" = None  # of the training documents that a teacher has labelled

    def __post_init__(self) -> None:
        if not self.splits:
            splits = {name: Rows(name, np.arange(len(table), dtype=np.int64)) for name, table in self.tables.items()}
            object.__setattr__(self, "splits", splits)

    def __getitem__(self, split: str) -> "Dataset":
        rows = self.splits[split]
        return self.tables[rows.table].select(rows.rows)

    def text(self, split: str, row: int) -> str:
        """One document of a split, without selecting the split's table."""
        rows = self.splits[split]
        return str(self.tables[rows.table][int(rows.rows[row])]["text"])

    @property
    def num_labels(self) -> int:
        return len(self.label_names)

    def targets(self, split: str) -> np.ndarray:
        """Labels of a split, read-only: (N,) int64 class numbers, or (N, L) uint8 indicators for `multilabel`."""
        rows = self.splits[split]
        targets = table_targets(self.tables[rows.table], self.num_labels, self.task)
        return targets if len(rows.rows) == len(targets) else targets[rows.rows]

    def positions(self, split: str) -> np.ndarray:
        """(N,) int64: where the source has the documents of a split, by their column `position`, or else their row."""
        rows = self.splits[split]
        table = self.tables[rows.table]
        if "position" not in table.column_names:
            return rows.rows
        return np.asarray(table.select_columns("position").with_format("numpy")[:]["position"])[rows.rows]

    def texts(self, table: str, chunk_size: int = 5_000) -> Iterator["pa.ChunkedArray"]:
        """The documents of a table as Arrow arrays of at most `chunk_size` strings."""
        documents = self.tables[table].select_columns("text").with_format("arrow")
        for start in range(0, len(documents), chunk_size):
            yield documents[start : start + chunk_size]["text"]

    def limited(self, num_documents: int) -> "Corpus":
        """The first documents of each class in every table; for `multilabel`, of each label."""
        tables = {}
        for name, table in self.tables.items():
            targets = table_targets(table, self.num_labels, self.task)
            tables[name] = table.select(first_of_each_class(targets, num_documents))
        find = None if self.find_unlabeled is None else partial(first_documents, self.find_unlabeled, num_documents)
        note = f"Limited to the first {num_documents:,} documents of each class (data.limit={num_documents})."
        fingerprint = digest(self.fingerprint, f"limit={num_documents}")
        notes = (*self.notes, note)
        return replace(self, tables=tables, splits={}, fingerprint=fingerprint, notes=notes, find_unlabeled=find)

    def with_unlabeled(self) -> "Corpus":
        """The corpus with a table `unlabeled`, if such documents are available.

        If the source has none, `find_unlabeled` is called, only now because it may be slow. Raises UserError if the
        documents are not the published ones.
        """
        if "unlabeled" in self.tables or self.find_unlabeled is None:
            return self
        unlabeled = self.find_unlabeled()
        if unlabeled is None:
            return self
        rows = Rows("unlabeled", np.arange(len(unlabeled), dtype=np.int64))
        splits = {**self.splits, "unlabeled": rows}
        return replace(self, tables={**self.tables, "unlabeled": unlabeled}, splits=splits)

    def unlabeled_digest(self) -> str:
        """Digest, in hex, of the texts of the table `unlabeled`."""
        return digest(*(digest(text) for texts in self.texts("unlabeled") for text in texts.to_pylist()))

    def with_validation(self, fraction: float, seed: int, method: SplitMethod = "random") -> "Corpus":
        """Split off stratified validation documents from `train`, unless the corpus has an official split."""
        if "validation" in self.splits:
            return self
        return self._with_holdout("validation", "validate", fraction, seed, method)

    def pooled(self) -> "Corpus":
        """The corpus with the validation documents among those for training, and without test documents."""
        train, validation = self.splits["train"], self.splits["validation"]
        others = {name: rows for name, rows in self.splits.items() if name not in ("train", "validation", "test")}
        if train.table == validation.table:
            rows = Rows(train.table, np.union1d(train.rows, validation.rows))
            return replace(self, splits={"train": rows, **others})
        from datasets import concatenate_datasets

        parts = [self[split].select_columns(["text", "labels"]) for split in ("train", "validation")]
        table = concatenate_datasets(parts)
        tables = {"train": table, **{rows.table: self.tables[rows.table] for rows in others.values()}}
        splits = {"train": Rows("train", np.arange(len(table), dtype=np.int64)), **others}
        fingerprint = digest(self.fingerprint, "pooled", train.rows.tobytes(), validation.rows.tobytes())
        return replace(self, tables=tables, splits=splits, fingerprint=fingerprint)

    def with_test(self, fraction: float, seed: int, method: SplitMethod = "random") -> "Corpus":
        """Split off stratified test documents from `train`, unless the corpus has an official split."""
        return self if "test" in self.splits else self._with_holdout("test", "test", fraction, seed, method)

    def _with_holdout(
        self, split: Literal["validation", "test"], purpose: str, fraction: float, seed: int, method: SplitMethod
    ) -> "Corpus":
        train = self.splits["train"]
        if not len(train.rows):
            notes = "".join(f"\n{note}" for note in self.notes)
            raise UserError(f"The corpus {self.name!r} ({self.source}) has no training documents.{notes}")
        targets, fingerprint = self.targets("train"), self.fingerprint
        if method == "blocks":
            positions = self.positions("train")
            training, held_out = block_holdout(targets, positions, fraction, seed)
            fingerprint = digest(fingerprint, "blocks", positions.tobytes())  # the same documents in another order
        else:
            training, held_out = stratified_holdout(targets, fraction, seed)
        if not len(held_out):
            raise UserError(_nothing_held_out(targets, split, purpose, fraction))
        parts = {"train": training, split: held_out}
        divided = {name: Rows(train.table, train.rows[part]) for name, part in parts.items()}
        return replace(self, splits={**self.splits, **divided}, fingerprint=fingerprint)

    def with_training_limit(self, num_documents: int) -> "Corpus":
        """Use only `num_documents` of the training documents, stratified; the other splits are unchanged."""
        rows = self.splits["train"].rows
        if num_documents >= len(rows):
            raise UserError(
                f"data.train_limit is {num_documents}, but there are only {len(rows):,} training documents: lower or "
                "omit it."
            )
        subset = _training_subset(self.targets("train"), num_documents)
        if len(subset) != num_documents:
            raise UserError(
                f"data.train_limit is {num_documents}, but every label keeps a training document: use "
                f"data.train_limit={_next_training_limit(self.targets('train'), len(subset))} or more."
            )
        note = f"Trained on {len(subset):,} of {len(rows):,} training documents (data.train_limit={num_documents})."
        splits = {**self.splits, "train": Rows(self.splits["train"].table, rows[subset])}
        return replace(self, splits=splits, notes=(*self.notes, note))

    def checked(self, unseen_labels: bool = False) -> "Corpus":
        """The corpus, after checks that it can be used for training and testing.

        unseen_labels: whether labels without training documents are allowed; if so, a note lists them. Raises
        UserError for empty splits and for labels without training documents that are not allowed.
        """
        for split in ("train", "validation", "test"):
            if split in self.splits and not len(self.splits[split].rows):
                raise UserError(
                    f"The corpus {self.name!r} ({self.source}) has no documents in its {split} split.\n"
                    "Training, validation and test need at least one each: check the files, or data.limit."
                )
        in_training = self.labels_present("train")
        if unseen_labels:
            names = [self.label_names[label] for label in np.flatnonzero(~in_training)]
            note = (
                f"No training document has {len(names)} of the {self.num_labels} labels, so no model can learn them: "
                f"{abbreviated(names)}."
            )
            return replace(self, notes=(*self.notes, note)) if names else self
        for split in ("validation", "test"):
            if split not in self.splits:
                continue
            unseen = self.labels_present(split) & ~in_training
            if unseen.any():
                names = [self.label_names[label] for label in np.flatnonzero(unseen)]
                raise UserError(
                    f"The {split} documents of {self.name!r} ({self.source}) have labels that no training document "
                    f"has ({len(names)} of {self.num_labels}): {abbreviated(names)}.\n"
                    "No model can learn them: remove these documents, or add training documents with each label."
                )
        return self

    def with_coverage_note(self) -> "Corpus":
        """The corpus with a note on how many labels have no test or no validation document, if there are any."""
        counts = {
            split: int((~self.labels_present(split)).sum()) for split in ("test", "validation") if split in self.splits
        }
        missing = [f"no {split} document has {count:,}" for split, count in counts.items() if count]
        if not missing:
            return self
        note = (
            f"Of the {self.num_labels:,} labels, {' and '.join(missing)}: accuracy and micro averages say nothing "
            "about them, macro averages count them as 0, and f1_macro_present leaves them out."
        )
        return replace(self, notes=(*self.notes, note))

    @property
    def labelled(self) -> "Corpus":
        """The corpus without pseudo-labelled documents."""
        return self if self.pseudo is None else self.pseudo.labelled

    @property
    def training_digest(self) -> str:
        """Of all that a training has labels for: the fingerprint, and the teacher's labels, if there are any."""
        return self.fingerprint if self.pseudo is None else digest(self.fingerprint, self.pseudo.digest)

    def label_probabilities(self) -> np.ndarray:
        """(N, L) float32 of the training documents: the teacher's for pseudo-labelled ones, else 1 for the labels."""
        targets = self.labelled.targets("train")
        known = targets if self.task == "multilabel" else np.eye(self.num_labels, dtype=np.float32)[targets]
        parts = [known] if self.pseudo is None else [known, self.pseudo.teacher.probabilities]
        return np.concatenate(parts, dtype=np.float32)

    def loss_targets(self, split: str) -> np.ndarray:
        """What the loss compares with: `targets`, or for training on soft targets (N, L) float32 probabilities."""
        is_soft = split == "train" and self.pseudo is not None and self.pseudo.targets == "soft"
        return self.label_probabilities() if is_soft else self.targets(split)

    def loss_weights(self, split: str) -> np.ndarray | None:
        """(N,) float32: the weight of each document of a split in the loss; None: all have 1."""
        if split != "train" or self.pseudo is None:
            return None
        num_labelled = len(self.labelled.splits["train"].rows)
        return np.concatenate([np.ones(num_labelled, dtype=np.float32), self.pseudo.weights])

    def weighted_label_counts(self) -> tuple[np.ndarray, float]:
        """(L,) weights of the training documents with each label, summed, and of all: their numbers if all have 1."""
        weights = self.loss_weights("train")
        if weights is None:
            return self.label_counts("train"), len(self.splits["train"].rows)
        targets = self.loss_targets("train")
        if targets.ndim == 1:
            return np.bincount(targets, weights, minlength=self.num_labels), float(weights.sum(dtype=np.float64))
        return weights.astype(np.float64) @ targets, float(weights.sum(dtype=np.float64))

    def labels_present(self, split: str) -> np.ndarray:
        """(L,) bool: whether any document of the split has each label."""
        return self.label_counts(split) > 0

    def label_counts(self, split: str) -> np.ndarray:
        """(L,) int64: number of documents of the split with each label."""
        targets = self.targets(split)
        if self.task == "multilabel":
            return np.asarray(targets.sum(axis=0, dtype=np.int64))
        return np.bincount(targets, minlength=self.num_labels)


def _nothing_held_out(targets: np.ndarray, split: str, purpose: str, fraction: float) -> str:
    """The message for a fraction that splits off nothing. targets: of the training documents, as in `Corpus`."""
    num_documents = len(targets)
    setting = f"data.{split}_fraction"
    problem = f"{setting} is {fraction}: of {num_documents} training documents, this leaves none to {purpose} on."
    digits = 2 + int(math.log10(num_documents))
    enough = math.ceil(10**digits / num_documents) / 10**digits  # at least 1 document, with two significant digits
    if enough >= 1 or not len(stratified_holdout(targets, enough, seed=0)[1]):
        return (
            f"{problem} No fraction does: each of them is the only one with some label, and stays in training.\n"
            "Add training documents with the same labels."
        )
    return f"{problem}\nUse {setting}={enough} or more, or at least {math.floor(0.5 / fraction) + 1} documents."


def _training_subset(targets: np.ndarray, num_documents: int) -> IntArray:
    """Rows of `num_documents` documents, stratified; more of them where every label needs one."""
    return stratified_holdout(targets, 1 - num_documents / len(targets), seed=0, exact=True)[0]


def _next_training_limit(targets: np.ndarray, num_documents: int) -> int:
    """The smallest number of documents from `num_documents` on that `_training_subset` can select exactly."""
    return next(number for number in count(num_documents) if len(_training_subset(targets, number)) == number)


def first_documents(find: Callable[[], "Dataset | None"], num_documents: int) -> "Dataset | None":
    """The first documents of the data set that `find` returns, if any."""
    dataset = find()
    return None if dataset is None else dataset.select(range(min(num_documents, len(dataset))))


def abbreviated(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}"


_read_targets: "WeakKeyDictionary[Dataset, np.ndarray]" = WeakKeyDictionary()  # labels are needed often: read them once


def table_targets(table: "Dataset", num_labels: int, task: Task) -> np.ndarray:
    """Labels of a document table, read-only and cached: (N,) int64, or (N, L) uint8 for `multilabel`."""
    if table not in _read_targets:
        targets = read_targets(table, num_labels, task)
        targets.setflags(write=False)
        _read_targets[table] = targets
    return _read_targets[table]


def read_targets(table: "Dataset", num_labels: int, task: Task) -> np.ndarray:
    import pyarrow as pa

    column = table.select_columns("labels").with_format("arrow")[:]["labels"]
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if task != "multilabel":
        return np.array(column.to_numpy(zero_copy_only=False), dtype=np.int64)
    counts = np.asarray(column.value_lengths().to_numpy(zero_copy_only=False), dtype=np.int64)
    targets = np.zeros((len(column), num_labels), dtype=np.uint8)
    targets[np.repeat(np.arange(len(column)), counts), np.asarray(column.flatten())] = 1
    return targets


@dataclass(frozen=True, kw_only=True)
class CorpusReader(ABC):
    """Reads a corpus, then limits and splits it; configured by a file in configs/data."""

    limit: Annotated[int, Ge(1)] | None
    train_limit: Annotated[int, Ge(1)] | None
    validation_fraction: Annotated[float, Gt(0), Lt(1)]
    split_seed: Annotated[int, Ge(0)]
    split_method: SplitMethod = "random"  # settings with a default are missing in older run directories
    pseudo_labels: str | list[str] | None = None
    pseudo_targets: PseudoTargets = "soft"
    pseudo_weight: Annotated[float, Gt(0), Le(1)] = 1.0

    @property
    def unseen_labels(self) -> bool:
        """Whether labels without training documents are allowed."""
        return False

    @property
    def nests_labels(self) -> bool:
        """Whether the labels are a hierarchy."""
        return False

    def file_name(self, corpus: Corpus) -> str:
        """A name for files about the corpus, without an extension."""
        return corpus.name

    def check(self, split: str = "train") -> None:  # noqa: B027  (nothing to check is common)
        """Raise UserError if documents of the split that a command needs are missing. Reads no documents."""

    @abstractmethod
    def read(self, paths: Paths) -> Corpus:
        """The corpus as published."""

    def divided(self, corpus: Corpus) -> Corpus:
        """The corpus with all splits that a run needs."""
        return corpus.with_validation(self.validation_fraction, self.split_seed, self.split_method)

    def load(self, paths: Paths) -> Corpus:
        """The corpus, limited and split, ready for training on its labelled documents. Raises UserError."""
        corpus = self.read(paths)
        if self.limit is not None:
            corpus = corpus.limited(self.limit)
        corpus = self.divided(corpus)
        if self.train_limit is not None:
            corpus = corpus.with_training_limit(self.train_limit)
        corpus = corpus.checked(self.unseen_labels).with_coverage_note()
        return replace(corpus, notes=(*corpus.notes, *duplicate_notes(corpus)))

    def load_split(self, split: str, paths: Paths) -> Corpus:
        """A corpus with the split to evaluate, even if the corpus is not suitable for training. Raises UserError."""
        return self.load(paths)
