"""Labels that a finished run has given to a corpus's unlabelled documents, which become training documents.

Axes: N training documents, the last M of which are pseudo-labelled, L labels.

One round of self-training (Yarowsky 1995; pseudo-labels in Lee 2013): a teacher, trained on the labelled documents,
labels the others, and a student is trained on all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from newsreel.core.cache import digest
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, PseudoTargets, Rows, Task
from newsreel.corpora.duplicates import EMPTY, text_keys

if TYPE_CHECKING:
    from datasets import Dataset

CHUNK = 5_000  # documents that are read at a time


@dataclass(frozen=True)
class TeacherLabels:
    """What a teacher says about M unlabelled documents."""

    probabilities: np.ndarray  # (M, L) float32
    decisions: np.ndarray  # (M,) class numbers, or (M, L) uint8 indicators for `multilabel`
    teacher: str  # in words, for notes


@dataclass(frozen=True)
class PseudoLabels:
    """The part of a corpus's training that comes from a teacher: its last M training documents."""

    labelled: Corpus  # the corpus without them
    teacher: TeacherLabels
    weights: np.ndarray  # (M,) float32: of the documents in the loss, beside 1 for labelled ones
    targets: PseudoTargets  # what the loss compares with: the probabilities, or the labels in the table

    @property
    def digest(self) -> str:
        return digest(
            self.targets, self.teacher.probabilities.tobytes(), self.teacher.decisions.tobytes(), self.weights.tobytes()
        )


def unlabeled_documents(corpus: Corpus) -> tuple["Dataset", int]:
    """The unlabelled documents to label, and how many others are left out: those with the text of a held-out document.

    Raises UserError if the corpus has none.
    """
    corpus = corpus.with_unlabeled()
    if not len(corpus.tables.get("unlabeled", ())):
        raise UserError(
            f"data.pseudo_labels needs documents without labels, and the corpus {corpus.name!r} ({corpus.source}) has "
            "none: with data=files and data=hub, name them with data.unlabeled=…; data=imdb has them in the published "
            "aclImdb_v1.tar.gz or in unsupervised.parquet, and data=synthetic with data.num_unlabeled=…"
        )
    held_out = np.concatenate([text_keys(corpus, split) for split in ("validation", "test")])
    keys = text_keys(corpus, "unlabeled")
    kept = np.flatnonzero(~np.isin(keys, held_out[held_out != EMPTY]))
    table = corpus.tables["unlabeled"]
    return table.select(kept) if len(kept) < len(table) else table, len(table) - len(kept)


def texts_digest(table: "Dataset") -> str:
    """A digest of a table's texts, in their order."""
    key = sha256()
    for texts in text_chunks(table):
        for text in texts:
            key.update(sha256(text.encode()).digest())
    return key.hexdigest()


def text_chunks(table: "Dataset") -> Iterator[list[str]]:
    """The texts of a table, CHUNK of them at a time."""
    documents = table.select_columns("text").with_format("arrow")
    for start in range(0, len(documents), CHUNK):
        yield documents[start : start + CHUNK]["text"].to_pylist()


def confidences(probabilities: np.ndarray, task: Task) -> np.ndarray:
    """(M,) how sure a teacher is of its decisions, between 0 and 1. probabilities: (M, L).

    (p - 1/L) / (1 - 1/L) of the largest probability p, which is |2p - 1| for two labels; for `multilabel`, the mean of
    |2p - 1| over the labels.
    """
    if task == "multilabel":
        return np.asarray(np.abs(2 * probabilities - 1).mean(axis=1))
    uniform = 1 / probabilities.shape[1]
    return np.asarray((probabilities.max(axis=1) - uniform) / (1 - uniform))


def add_pseudo_labels(
    corpus: Corpus,
    table: "Dataset",
    labels: TeacherLabels,
    targets: PseudoTargets,
    weight: float,
    num_left_out: int,
) -> Corpus:
    """The corpus with the documents of `table` as training documents, after the labelled ones.

    weight: of each of them in the loss; with hard targets, multiplied by the teacher's confidence. num_left_out: other
    unlabelled documents, for a note. Validation and test documents are unchanged.
    """
    from datasets import concatenate_datasets

    train = corpus.splits["train"]
    published = corpus.tables[train.table].select_columns(["text", "labels"])
    schema = published.features.arrow_schema
    together = concatenate_datasets([published, with_labels(table, labels.decisions, corpus.task, schema)])
    rows = np.concatenate([train.rows, np.arange(len(published), len(together), dtype=np.int64)])
    factors = confidences(labels.probabilities, corpus.task) if targets == "hard" else np.ones(len(table))
    pseudo = PseudoLabels(corpus, labels, (weight * factors).astype(np.float32), targets)
    tables = {name: of for name, of in corpus.tables.items() if name != "unlabeled"}
    splits = {name: of for name, of in corpus.splits.items() if name != "unlabeled"}
    what = "the teacher's probabilities" if targets == "soft" else "the teacher's decisions, by its confidence"
    note = (
        f"{len(table):,} unlabelled documents are training documents with labels of {labels.teacher}: {what}, each "
        f"with a weight of {'' if targets == 'soft' else 'at most '}{weight:g} beside 1 for the "
        f"{len(train.rows):,} labelled ones."
    )
    left_out = (
        f"{num_left_out:,} unlabelled documents are not used: they have the text of a validation or test document."
    )
    return replace(
        corpus,
        tables={**tables, train.table: together},
        splits={**splits, "train": Rows(train.table, rows)},
        fingerprint=digest(corpus.fingerprint, texts_digest(table)),
        notes=(*corpus.notes, note, *([left_out] if num_left_out else [])),
        find_unlabeled=None,
        pseudo=pseudo,
    )


def with_labels(table: "Dataset", decisions: np.ndarray, task: Task, schema: pa.Schema) -> "Dataset":
    """The texts of a table with other labels. decisions: as in `TeacherLabels`. schema: of the columns."""
    from datasets import Dataset

    texts = table.select_columns("text").with_format("arrow")[:]["text"]
    values = [np.flatnonzero(row) for row in decisions] if task == "multilabel" else decisions
    columns = {"text": texts.cast(schema.field("text").type), "labels": pa.array(values, schema.field("labels").type)}
    return Dataset(pa.table(columns, schema=schema))
