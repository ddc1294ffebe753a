"""Documents that nobody would write, through whole trainings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from helpers.documents import make_corpus, reader_of
from helpers.marks import slow
from helpers.tiny_runs import train_tiny
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus

ODD = [
    "",
    "...",
    "<br /><br />",
    "word " * 20_000,
    "\x00\x08\x85\u200b\u202e \ufeff",
    "e\u0301" * 500 + " 👩‍👩‍👧‍👦 ﷽ 𝔣𝔦𝔩𝔪 کتاب 電影",
    "\n\t\r \u2028\u2029",
    "< < <<br /> &nbsp; </",
    "a" * 50_000,
]


def train_on(corpus: Corpus, tmp_path: Path, *overrides: str) -> dict[str, Any]:
    return train_tiny(tmp_path, *overrides, reader=reader_of(corpus, validation_fraction=0.3))


@pytest.mark.parametrize(("model", "tokenizer"), [("bow", "words"), slow("lstm", "subwords")])
def test_odd_documents_train_and_are_predicted(tmp_path: Path, model: str, tokenizer: str) -> None:
    documents = [(text, number % 2) for number, text in enumerate(ODD * 2)]
    corpus = make_corpus(documents, [*documents, ("never seen", 0)])
    small = ["embedding=learned", "embedding.dimension=8", "batches.batch_size=4", "training.max_epochs=1"]
    results = train_on(corpus, tmp_path, f"model={model}", f"tokenizer={tokenizer}", *small)
    assert np.isfinite([value for key, value in results.items() if key.startswith(("test/", "val/"))]).all()
    predictions = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    assert len(predictions) == len(documents) + 1
    assert predictions["p(label1)"].is_finite().all()


def test_a_corpus_that_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    corpus = make_corpus([("a film", 0), ("a show", 1)] * 5, [("a film", 0)])
    empty = replace(corpus, tables={**corpus.tables, "test": corpus.tables["test"].select([])}, splits={})
    unseen = make_corpus([("a film", 0), ("a show", 0)] * 5, [("a film", 1)])
    for wrong, message in (
        (empty, "no documents in its test split"),
        (unseen, r"no training document has \(1 of 2\): label1"),
    ):
        with pytest.raises(UserError, match=message):
            train_on(wrong, tmp_path)
    assert not (tmp_path / "run" / "labels.json").exists()
