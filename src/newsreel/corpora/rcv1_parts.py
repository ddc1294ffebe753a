"""Reads the files of RCV1-v2 in parts, with several processes, so that a killed preparation can be resumed."""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from newsreel.core.cache import build_verified, find_damage, reading
from newsreel.core.errors import UserError
from newsreel.corpora.prepared import MULTI_LABEL, write_table
from newsreel.corpora.rcv1_stories import BadFile, Story

DOCUMENTS = MULTI_LABEL.append(pa.field("id", pa.int64()))  # schema of the parts and of the final tables
TABLE_KEY_SUFFIX = "stories"
BAD_FILES = "bad_files.json"
BATCH = 2_000  # documents that a process holds in memory
OPEN_PARTS = 8  # parts that are memory-mapped at the same time


class Part(Protocol):
    """Files that one process reads; picklable."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    def stories(self, bad_files: list[str]) -> Iterator[Story]:
        """The documents. Unreadable files are appended to `bad_files`. Raises BadFile if the whole part is bad."""


def read_parts(parts: Sequence[Part], folder: Path, num_processes: int) -> Iterator[list[str]]:
    """Read every part into its own directory in `folder`, unless an earlier call has done it.

    Yields the bad files of each part when it is done, in arbitrary order. Raises UserError.
    """
    part_dirs = dict(zip(part_folders(folder, len(parts)), parts, strict=True))
    todo = {path: part for path, part in part_dirs.items() if not path.is_dir() or find_damage(path)}
    for path in part_dirs.keys() - todo.keys():
        yield read_bad_files(path)
    if min(num_processes, len(todo)) <= 1:
        for path, part in todo.items():
            yield read_part(part, path)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(num_processes, len(todo)), mp_context=context, initializer=end_with_parent)
    try:
        for done in as_completed([pool.submit(read_part, part, path) for path, part in todo.items()]):
            yield done.result()
    except BrokenProcessPool as error:
        raise UserError(
            "A process that reads a part of the corpus was killed, perhaps because memory ran out. Run the command "
            "again to resume after the parts that are done. data.num_processes=1 needs the least memory."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Make a worker process exit silently on Ctrl-C and when its parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def part_folders(folder: Path, num_parts: int) -> list[Path]:
    return [folder / f"{number:05}" for number in range(num_parts)]


def documents_of(part: Part) -> str:
    """A part in messages about its directory."""
    return f"the documents of {part.name}"


def read_part(part: Part, path: Path) -> list[str]:
    """Read a part into the directory `path`, which is complete or absent; returns its bad files."""

    def build(partial: Path) -> None:
        bad_files: list[str] = []
        try:
            write_table(partial, TABLE_KEY_SUFFIX, DOCUMENTS, batches(part.stories(bad_files)))
        except BadFile as reason:
            bad_files = [f"{part.name}: {reason}"]
            write_table(partial, TABLE_KEY_SUFFIX, DOCUMENTS, [])
        write_bad_files(partial, bad_files)

    return read_bad_files(build_verified(path, build, documents_of(part)))


def batches(stories: Iterator[Story]) -> Iterator[pa.RecordBatch]:
    while chunk := list(islice(stories, BATCH)):
        ids, labels, texts = zip(*chunk, strict=True)
        yield pa.record_batch([pa.array(texts, pa.large_string()), pa.array(labels, DOCUMENTS.field("labels").type),
                               pa.array(ids, pa.int64())], schema=DOCUMENTS)  # fmt: skip


def write_bad_files(folder: Path, bad_files: Sequence[str]) -> None:
    (folder / BAD_FILES).write_text(json.dumps(bad_files, indent=1), encoding="utf-8")


def read_bad_files(folder: Path) -> list[str]:
    """The files that were skipped for the documents in a directory. Raises UserError if the list is damaged."""
    with reading(folder, "the documents"):
        return [str(file) for file in json.loads((folder / BAD_FILES).read_text(encoding="utf-8"))]


class PartsInOrder:
    """The documents of all parts, in ascending order of their ids."""

    def __init__(self, folders: Sequence[Path], names: Sequence[str]) -> None:
        """names: of the parts, for messages. Raises UserError if two documents have the same id."""
        self._folders = folders
        ids, parts, batches, rows = [], [], [], []
        for part, folder in enumerate(folders):
            for number, batch in enumerate(part_batches(folder)):
                ids.append(np.array(batch["id"]))
                parts.append(np.full(len(batch), part))
                batches.append(np.full(len(batch), number))
                rows.append(np.arange(len(batch)))
        none = [np.empty(0, dtype=np.int64)]
        all_ids = np.concatenate(ids or none)
        order = np.argsort(all_ids, kind="stable")
        self.ids = all_ids[order]  # (N,)
        self._parts, self._batches, self._rows = (np.concatenate(of or none)[order] for of in (parts, batches, rows))
        repeated = np.flatnonzero(self.ids[1:] == self.ids[:-1])
        if len(repeated):
            first, second = (names[self._parts[index]] for index in (repeated[0], repeated[0] + 1))
            raise UserError(
                f"{len(repeated):,} stories occur twice, such as {self.ids[repeated[0]]} in {first} and in {second}. "
                "Keep only one copy of the corpus in the folder."
            )

    def batches(self, start: int, end: int, size: int) -> Iterator[pa.RecordBatch]:
        """The documents from `start` to `end` in this order, at most `size` per batch."""
        opened = lru_cache(OPEN_PARTS)(part_batches)
        for begin in range(start, end, size):
            chunk = slice(begin, min(begin + size, end))
            # Take the documents from one batch of one part after the other
            sources = self._parts[chunk] << 32 | self._batches[chunk]
            pieces, positions = [], []
            for source in np.unique(sources):
                selected = np.flatnonzero(sources == source)
                batch = opened(self._folders[source >> 32])[source & 0xFFFFFFFF]
                pieces.append(batch.take(pa.array(self._rows[chunk][selected])))
                positions.append(selected)
            table = pa.Table.from_batches(pieces).combine_chunks()
            yield from table.take(pa.array(np.argsort(np.concatenate(positions)))).combine_chunks().to_batches()


def part_batches(folder: Path) -> list[pa.RecordBatch]:
    """The documents of a part, memory-mapped. Raises UserError if the file is damaged."""
    path = str(folder / f"{TABLE_KEY_SUFFIX}.arrow")
    with reading(folder, "the documents"), pa.memory_map(path) as file, pa.ipc.open_stream(file) as reader:
        return list(reader)
