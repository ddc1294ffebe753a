"""A user's own documents, in files of every format."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from helpers.documents import READING
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.corpora.custom import Files

OWN: dict[str, Any] = {**READING, **dict.fromkeys(("train", "validation", "test", "separator")), "test_fraction": 0.25}
Documents = list[tuple[str, Any]]
TRAIN: Documents = [(f"number {number}, “ünïcode”,\nand a second line", number % 3) for number in range(30)]
TEST: Documents = [(f"a {word} film", number % 3) for number, word in enumerate(["fair", "fine", "dull", "long"])]


def write_csv(file: Path, documents: Documents, delimiter: str = ",") -> Path:
    with file.open("w", newline="", encoding="utf-8") as output:
        writer = csv.writer(output, delimiter=delimiter)
        writer.writerow(["review", "id", "stars"])
        writer.writerows([text, number, label] for number, (text, label) in enumerate(documents))
    return file


def write_jsonl(file: Path, documents: Documents) -> Path:
    file.write_text("".join(json.dumps({"stars": label, "review": text}) + "\n" for text, label in documents))
    return file


def write_parquet(file: Path, documents: Documents) -> Path:
    texts, labels = zip(*documents, strict=True)
    pl.DataFrame({"review": texts, "stars": labels}, strict=False).write_parquet(file)
    return file


def write_tree(folder: Path, documents: Documents) -> Path:
    for number, (text, label) in enumerate(reversed(documents)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.txt").write_text(text + "\n", encoding="utf-8")
    return folder


def write_gz(file: Path, documents: Documents) -> Path:
    file.write_bytes(gzip.compress(write_csv(file.with_suffix(".plain"), documents).read_bytes()))
    return file


FORMATS: dict[str, Callable[[Path, Documents], Path]] = {
    ".tsv": lambda file, documents: write_csv(file, documents, "\t"),
    ".csv.gz": write_gz,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
    "": write_tree,
}


def load(paths: Paths, **settings: Any) -> Corpus:
    """A corpus of files; paths may be given as such."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    return Files(**{**OWN, "text": "review", "label": "stars", **settings}).load(paths)


def refusal(paths: Paths, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        load(paths, **settings)
    return str(error.value)


def everything(corpus: Corpus) -> dict[str, Any]:
    splits = {split: (corpus[split]["text"][:], corpus.targets(split).tolist()) for split in corpus.splits}
    return {"splits": splits, "fingerprint": corpus.fingerprint, "labels": corpus.label_names, "task": corpus.task}
