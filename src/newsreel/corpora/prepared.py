"""Prepared corpora on disk: one memory-mapped Arrow file per split, and a description."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from newsreel.core.cache import reading
from newsreel.corpora.corpus import Corpus, Task

if TYPE_CHECKING:
    from datasets import Dataset

FORMAT_VERSION = 3  # raise it when the format changes; part of the cache key
DESCRIPTION = "corpus.json"
SINGLE_LABEL = pa.schema([("text", pa.large_string()), ("labels", pa.int64())])
MULTI_LABEL = pa.schema([("text", pa.large_string()), ("labels", pa.list_(pa.int64()))])


@dataclass(frozen=True)
class Description:
    """The description of a prepared corpus, with the fields of Corpus; `tables` are names.

    Fields with a default were added later, so older directories stay readable.
    """

    name: str
    task: Task
    label_names: list[str]
    metric: str
    fingerprint: str
    source: str
    notes: list[str]
    tables: list[str]
    parents: list[int] = field(default_factory=list)
    label_titles: list[str] = field(default_factory=list)


def write_split(
    folder: Path, split: str, task: Task, batches: Iterable[pa.RecordBatch], has_positions: bool = False
) -> None:
    """Write a split's documents to `<folder>/<split>.arrow`, one batch at a time."""
    write_table(folder, split, schema_of(task, has_positions), batches)


def write_table(folder: Path, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write documents with the columns of `schema` to `<folder>/<name>.arrow`, one batch at a time."""
    with pa.OSFile(str(folder / f"{name}.arrow"), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def schema_of(task: Task, has_positions: bool = False) -> pa.Schema:
    schema = MULTI_LABEL if task == "multilabel" else SINGLE_LABEL
    return schema.append(pa.field("position", pa.int64())) if has_positions else schema


def record_batch(texts: Any, labels: Any, task: Task, positions: Any = None) -> pa.RecordBatch:
    """Texts and labels (integers, or lists of them) as a batch of the prepared schema.

    positions: those of the documents in their source, if the batches have another order.
    """
    given = (texts, labels) if positions is None else (texts, labels, positions)
    schema = schema_of(task, positions is not None)
    columns = [
        pa.array(column, type=kind) if not isinstance(column, pa.Array) else column.cast(kind)
        for column, kind in zip(given, schema.types, strict=True)
    ]
    return pa.record_batch(columns, schema=schema)


def write_description(folder: Path, description: Description) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(vars(description), indent=1), encoding="utf-8")


def open_prepared(folder: Path) -> Corpus:
    """The corpus in a prepared directory; its texts stay on disk until they are read."""
    description, tables = read_prepared(folder)
    return Corpus(
        name=description.name,
        task=description.task,
        label_names=tuple(description.label_names),
        metric=description.metric,
        tables=tables,
        fingerprint=description.fingerprint,
        source=description.source,
        notes=tuple(description.notes),
        parents=tuple(description.parents),
        label_titles=tuple(description.label_titles),
    )


def read_prepared(folder: Path) -> tuple[Description, dict[str, "Dataset"]]:
    """The description and the memory-mapped tables of a prepared directory. Raises UserError if it is damaged."""
    import datasets

    with reading(folder, "the prepared corpus"):
        description = Description(**json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
        tables = {name: datasets.Dataset.from_file(str(folder / f"{name}.arrow")) for name in description.tables}
    return description, tables
