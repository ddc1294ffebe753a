"""What all peers share: the documents that a benchmark has written, the clock, and the line of figures."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Documents(NamedTuple):
    """Texts, with the index of the label of each, or a list of indices if the task is multi-label."""

    texts: list[str]
    labels: list[Any]

    def __add__(self, other: "Documents") -> "Documents":  # type: ignore[override]
        return Documents(self.texts + other.texts, self.labels + other.labels)


def read_documents(folder: Path, split: str) -> Documents:
    """The documents of `train`, `validation` or `test`."""
    with (folder / f"{split}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return Documents([row["text"] for row in rows], [row["labels"] for row in rows])


def read_all_training(folder: Path) -> Documents:
    """Training and validation documents, for peers that choose nothing by validation."""
    return read_documents(folder, "train") + read_documents(folder, "validation")


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def accuracy(preds: Sequence[Any], targets: Sequence[Any]) -> float:
    return sum(bool(pred == target) for pred, target in zip(preds, targets, strict=True)) / len(targets)


def documents_per_s(num_documents: int, epoch_ends: Sequence[float]) -> float:
    """Documents/s from the second epoch on. epoch_ends: the clock at the start, then at the end of each epoch."""
    if len(epoch_ends) < 3:
        raise ValueError("the first epoch warms up: measure at least two")
    return num_documents * (len(epoch_ends) - 2) / (epoch_ends[-1] - epoch_ends[1])


def print_figures(**figures: float) -> None:
    print(json.dumps(figures), flush=True)
