"""Documents that nobody would write, through whole trainings."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from helpers.documents import make_corpus
from helpers.tiny_runs import read_tiny
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, CorpusReader, Paths
from newsreel.training.run import train_run
from newsreel.training.spec import RunSpec

ODD = [
    "",
    "...",
    "<br /><br />",
    "word " * 100_000,
    "\x00\x08\x85\u200b\u202e \ufeff",
    "e\u0301" * 500 + " 👩‍👩‍👧‍👦 ﷽ 𝔣𝔦𝔩𝔪 کتاب 電影",
    "\n\t\r \u2028\u2029",
    "< < <<br /> &nbsp; </",
    "a" * 50_000,
]
CHOICES = {"model": "tiny", "data": "tiny", "embedding": "tiny", "tokenizer": "tiny", "trainer": "cpu"}


@dataclass(frozen=True, kw_only=True)
class GivenCorpus(CorpusReader):
    """A corpus that a test has made."""

    corpus: Corpus

    def read(self, paths: Paths) -> Corpus:
        return self.corpus


def train_on(corpus: Corpus, tmp_path: Path, *overrides: str) -> dict[str, object]:
    reader = GivenCorpus(corpus=corpus, limit=None, train_limit=None, validation_fraction=0.3, split_seed=0)
    experiment = replace(read_tiny(tmp_path, *overrides), reader=reader)
    return train_run(RunSpec(experiment, tmp_path / "run", CHOICES, [], time.perf_counter()))


@pytest.mark.parametrize("tokenizer", ["words", "subwords"])
@pytest.mark.parametrize("model", ["bow", "lstm"])
def test_odd_documents_train_and_are_predicted(tmp_path: Path, model: str, tokenizer: str) -> None:
    documents = [(text, number % 2) for number, text in enumerate(ODD * 2)]
    corpus = make_corpus(documents, [*documents, ("never seen", 0)])
    results = train_on(
        corpus, tmp_path, f"model={model}", f"tokenizer={tokenizer}", "embedding=learned", "batches.batch_size=4"
    )
    assert np.isfinite([value for key, value in results.items() if key.startswith(("test/", "val/"))]).all()  # type: ignore[arg-type]
    predictions = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    assert len(predictions) == len(documents) + 1
    assert predictions["p(label1)"].is_finite().all()


def test_a_corpus_without_documents_is_refused(tmp_path: Path) -> None:
    corpus = make_corpus([("a film", 0), ("a show", 1)] * 5, [("a film", 0)])
    empty = {**corpus.tables, "test": corpus.tables["test"].select([])}
    with pytest.raises(UserError, match="no documents in its test split"):
        train_on(replace(corpus, tables=empty, splits={}), tmp_path)
    assert not (tmp_path / "run" / "labels.json").exists()


def test_a_label_that_training_never_saw_is_refused(tmp_path: Path) -> None:
    corpus = make_corpus([("a film", 0), ("a show", 0)] * 5, [("a film", 1)])
    with pytest.raises(UserError, match="no training document has: label1"):
        train_on(corpus, tmp_path)
    assert not (tmp_path / "run" / "labels.json").exists()
