"""Vectors learned from the corpus: which documents are read, when they are learned and what is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from helpers.documents import make_corpus, make_table, token_sequences, with_tables, word_tokenizer
from helpers.vectors import TABLE
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.embeddings import corpus_trained
from newsreel.embeddings.corpus_trained import CorpusTrained, Documents
from newsreel.embeddings.embedding import TableEmbedding
from newsreel.embeddings.pretrained import Vectors
from newsreel.text.subwords import SubwordTokenizer

TRAIN = [("good film", 0), ("film", 0), ("bad film", 1), ("odd film", 1)]
UNLABELED = ("good good", "elsewhere film")

learned_from: list[list[list[str]]] = []  # the documents of each training


@dataclass(frozen=True, kw_only=True)
class Counted(CorpusTrained):
    """A word's vector is how often it occurs, times a setting."""

    factor: float

    kind: ClassVar[str] = "counted"
    library: ClassVar[str] = "numpy"

    def train(self, documents: Documents, vocabulary: Sequence[str]) -> Vectors:
        learned_from.append([[vocabulary[number] for number in ids] for ids in documents])
        counts = documents.counts(len(vocabulary))
        return Vectors((self.factor * counts[:, None]).astype(np.float32), counts > 0)


@pytest.fixture(autouse=True)
def forget() -> None:
    learned_from.clear()


def corpus_of(train: Any = TRAIN, test: Any = (("a film", 0), ("a film", 1)), unlabeled: Any = UNLABELED) -> Corpus:
    table = make_table([(text, -1) for text in unlabeled]) if unlabeled else None
    return with_tables(make_corpus(train, test), unlabeled=table)


def build(corpus: Corpus, paths: Paths, tokenizer: Any = None, **changes: Any) -> TableEmbedding:
    tokenized = (tokenizer or word_tokenizer()).fit(corpus, paths.cache)
    return Counted(**{**TABLE, "unlabeled": True, "factor": 1.0, **changes}).build(tokenized, corpus, paths)


def test_vectors_come_from_training_and_unlabeled_documents(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rows = build(corpus_of(), paths).rows()
    documents = [["good", "film"], ["film"], ["bad", "film"], ["odd", "film"], ["good", "good"], ["film"]]
    assert learned_from == [documents]
    assert rows[:, 0].tolist() == [0, 0, 5, 1, 3, 1]  # <pad>, <unk>, film, bad, good, odd
    assert "vectors     counted from 4 training and 2 unlabelled documents" in caplog.text


def test_unlabeled_documents_are_looked_for_only_if_asked(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    corpus, table = corpus_of(unlabeled=()), corpus_of().tables["unlabeled"]
    build(replace(corpus, find_unlabeled=lambda: pytest.fail("looked for")), paths, unlabeled=False)
    build(replace(corpus, find_unlabeled=lambda: table), paths)
    assert [documents[4:] for documents in learned_from] == [[], [["good", "good"], ["film"]]]
    assert "counted from 4 training documents" in caplog.text


def test_validation_and_test_documents_are_never_read(paths: Paths) -> None:
    train = [(f"film number{place}", place % 2) for place in range(20)]
    corpus = corpus_of(train).with_validation(0.2, seed=0)
    expected = build(corpus, paths).rows()
    assert learned_from[0][:16] == [text.split() for text in corpus["train"]["text"]]

    hidden = set(corpus["validation"]["text"])
    changed = [(text if text not in hidden else "film film film", label) for text, label in train]
    other = corpus_of(changed, test=[("film film", 0), ("film film", 1)]).with_validation(0.2, seed=0)
    assert set(other["validation"]["text"]) == {"film film film"}
    assert build(other, paths).rows().tolist() == expected.tolist()
    assert len(learned_from) == 1


def test_vectors_are_learned_once_for_all_settings_of_the_table(paths: Paths) -> None:
    build(corpus_of(), paths)
    build(corpus_of(), paths, dropout=0.5, word_dropout=0.1, max_norm=1.0)
    tuned = build(corpus_of(), paths, fine_tune=True, unknown="random", value_std=1.0)
    assert len(learned_from) == 1
    assert tuned.table.weight.requires_grad
    (file,) = (paths.cache / "embeddings").glob("tiny-counted-*/vectors.npz")
    file.write_bytes(file.read_bytes()[:-100])
    build(corpus_of(), paths)
    assert len(learned_from) == 2


def test_what_the_vectors_depend_on_makes_others(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    build(corpus_of(), paths)
    build(corpus_of(), paths, factor=2.0)
    build(corpus_of(), paths, unlabeled=False)
    build(corpus_of(unlabeled=["film"]), paths)
    build(corpus_of([*TRAIN, ("film", 0)]), paths)
    build(corpus_of(), paths, tokenizer=word_tokenizer(max_size=2))
    assert len(learned_from) == 6
    build(corpus_of(unlabeled=()), paths)  # the same documents as unlabeled=False
    assert len(learned_from) == 6
    monkeypatch.setattr(CorpusTrained, "train_version", 2)
    build(corpus_of(), paths)
    monkeypatch.setattr(corpus_trained, "version", lambda package: f"{package} of tomorrow")
    build(corpus_of(), paths)
    assert len(learned_from) == 8


def test_subwords_are_learned_as_words_are(paths: Paths) -> None:
    tokenizer = SubwordTokenizer(strip_html=True, lowercase=True, max_size=300, min_pair_count=1)
    build(corpus_of(), paths, tokenizer=tokenizer)
    assert learned_from[0][0] == ["▁good", "▁film"]
    assert learned_from[0][4] == ["▁good", "▁good"]


def test_chunks_hold_whole_documents_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_trained, "CHUNK_TOKENS", 3)
    sequences = token_sequences([2, 3], [], [1, 4, 5], [0, 6])
    documents = Documents([(sequences, np.array([0, 1, 2, 3])), (sequences, np.array([3]))])
    chunks = [(ids.tolist(), lengths.tolist()) for ids, lengths in documents.chunks()]
    assert chunks == [([2, 3, 4, 5], [2, 0, 2]), ([6, 6], [1, 1])]
    assert documents.counts(7).tolist() == [0, 0, 1, 1, 1, 1, 2]
