"""The files of RCV1-v2, read by several processes, part by part, so that a preparation that was killed goes on."""

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

from newsreel.core.cache import reading
from newsreel.core.errors import UserError
from newsreel.core.storage import build_once
from newsreel.corpora.prepared import MULTI_LABEL, write_table
from newsreel.corpora.rcv1_stories import BadFile, Story

DOCUMENTS = MULTI_LABEL.append(pa.field("id", pa.int64()))  # of the parts and of the tables made from them
TABLE_KEY_SUFFIX = "stories"
BAD_FILES = "bad_files.json"
BATCH = 2_000  # documents that a process holds at a time
OPEN_PARTS = 8  # parts that are mapped into memory at a time


class Part(Protocol):
    """Files that are read in one go, by whatever process; it has to be picklable."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def stories(self, bad_files: list[str]) -> Iterator[Story]:
        """The documents; a file that cannot be read goes to `bad_files`. Raises BadFile if all of it is bad."""


def read_parts(parts: Sequence[Part], folder: Path, num_processes: int) -> Iterator[list[str]]:
    """Read every part into a folder of its own in `folder`, unless an earlier call has done it.

    Yields the bad files of each part as it is done, in no particular order. Raises UserError.
    """
    places = dict(zip(part_folders(folder, len(parts)), parts, strict=True))
    todo = {place: part for place, part in places.items() if not place.is_dir()}
    for place in places.keys() - todo.keys():
        yield read_bad_files(place)
    if min(num_processes, len(todo)) <= 1:
        for place, part in todo.items():
            yield read_part(part, place)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(num_processes, len(todo)), mp_context=context, initializer=end_with_parent)
    try:
        for done in as_completed([pool.submit(read_part, part, place) for place, part in todo.items()]):
            yield done.result()
    except BrokenProcessPool as error:
        raise UserError(
            "A process that read a part of the corpus was killed, perhaps for want of memory. Run the command again: "
            "it goes on from the parts that are done. data.num_processes=1 takes the least memory."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Let a process of the pool end without a word when its parent is killed, or by Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def part_folders(folder: Path, num_parts: int) -> list[Path]:
    return [folder / f"{number:05}" for number in range(num_parts)]


def read_part(part: Part, place: Path) -> list[str]:
    """Read a part into the folder `dist_env`, which is whole or absent; returns its bad files."""

    def build(partial: Path) -> None:
        bad_files: list[str] = []
        try:
            write_table(partial, TABLE_KEY_SUFFIX, DOCUMENTS, batches(part.stories(bad_files)))
        except BadFile as reason:
            bad_files = [f"{part.name}: {reason}"]
            write_table(partial, TABLE_KEY_SUFFIX, DOCUMENTS, [])
        write_bad_files(partial, bad_files)

    return read_bad_files(build_once(place, build, part.name))


def batches(stories: Iterator[Story]) -> Iterator[pa.RecordBatch]:
    while chunk := list(islice(stories, BATCH)):
        ids, labels, texts = zip(*chunk, strict=True)
        yield pa.record_batch([pa.array(texts, pa.large_string()), pa.array(labels, DOCUMENTS.field("labels").type),
                               pa.array(ids, pa.int64())], schema=DOCUMENTS)  # fmt: skip


def write_bad_files(folder: Path, bad_files: Sequence[str]) -> None:
    (folder / BAD_FILES).write_text(json.dumps(bad_files, indent=1), encoding="utf-8")


def read_bad_files(folder: Path) -> list[str]:
    """The bad files that were left out of what is in the folder. Raises UserError if that cannot be told."""
    with reading(folder, "the documents"):
        return [str(file) for file in json.loads((folder / BAD_FILES).read_text(encoding="utf-8"))]


class PartsInOrder:
    """The documents of all parts in ascending order of their ids."""

    def __init__(self, folders: Sequence[Path], names: Sequence[str]) -> None:
        """names: of the parts, in messages. Raises UserError if two documents have the same id."""
        self._folders = folders
        ids, parts, places, rows = [], [], [], []
        for part, folder in enumerate(folders):
            for place, batch in enumerate(part_batches(folder)):
                ids.append(np.array(batch["id"]))
                parts.append(np.full(len(batch), part))
                places.append(np.full(len(batch), place))
                rows.append(np.arange(len(batch)))
        none = [np.empty(0, dtype=np.int64)]
        found = np.concatenate(ids or none)
        order = np.argsort(found, kind="stable")
        self.ids = found[order]  # (N,)
        self._parts, self._places, self._rows = (np.concatenate(of or none)[order] for of in (parts, places, rows))
        twice = np.flatnonzero(self.ids[1:] == self.ids[:-1])
        if len(twice):
            first, second = (names[self._parts[place]] for place in (twice[0], twice[0] + 1))
            raise UserError(
                f"{len(twice):,} stories are there twice: {self.ids[twice[0]]} is in {first} and in {second}, for one. "
                "CheckpointPolicy one copy of the corpus in the folder."
            )

    def batches(self, start: int, end: int, size: int) -> Iterator[pa.RecordBatch]:
        """The documents from `start` to `end` of that order, at most `size` at a time."""
        opened = lru_cache(OPEN_PARTS)(part_batches)
        for begin in range(start, end, size):
            chunk = slice(begin, min(begin + size, end))
            # from (part, batch of it) to the documents wanted of it, one after the other
            sources = self._parts[chunk] << 32 | self._places[chunk]
            pieces, positions = [], []
            for source in np.unique(sources):
                wanted = np.flatnonzero(sources == source)
                batch = opened(self._folders[source >> 32])[source & 0xFFFFFFFF]
                pieces.append(batch.take(pa.array(self._rows[chunk][wanted])))
                positions.append(wanted)
            table = pa.Table.from_batches(pieces).combine_chunks()
            yield from table.take(pa.array(np.argsort(np.concatenate(positions)))).combine_chunks().to_batches()


def part_batches(folder: Path) -> list[pa.RecordBatch]:
    """The documents of a part, memory-mapped. Raises UserError if they are not whole."""
    path = str(folder / f"{TABLE_KEY_SUFFIX}.arrow")
    with reading(folder, "the documents"), pa.memory_map(path) as file, pa.ipc.open_stream(file) as reader:
        return list(reader)
