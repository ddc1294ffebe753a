"""Vectors learned from the corpus: which documents are read, when they are learned and what is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from datasets import Dataset

from helpers.documents import make_corpus, word_tokenizer
from helpers.vectors import TABLE_KEY_SUFFIX
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.embeddings import corpus_trained
from newsreel.embeddings.corpus_trained import CorpusTrained, Documents
from newsreel.embeddings.embedding import TableEmbedding
from newsreel.embeddings.pretrained import Vectors
from newsreel.text.subwords import SubwordTokenizer
from newsreel.text.tokens import Tokenizer, TokenSequences

TRAIN = [("good film", 0), ("film", 0), ("bad film", 1), ("odd film", 1)]
UNLABELED = ["good good", "elsewhere film"]

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


def corpus_of(
    train: Sequence[tuple[str, object]] = TRAIN,
    test: Sequence[tuple[str, object]] = (("a film", 0), ("a film", 1)),
    unlabeled: Sequence[str] | None = UNLABELED,
) -> Corpus:
    corpus = make_corpus(train, test)
    if unlabeled is None:
        return corpus
    table = Dataset.from_dict({"text": list(unlabeled), "labels": [-1] * len(unlabeled)})
    return replace(corpus, tables={**corpus.tables, "unlabeled": table}, splits={})


def build(corpus: Corpus, paths: Paths, tokenizer: Tokenizer | None = None, **changes: object) -> TableEmbedding:
    settings = {**TABLE_KEY_SUFFIX, "factor": 1.0, **changes}
    tokenized = (tokenizer or word_tokenizer()).fit(corpus, paths.cache)
    return Counted(**settings).build(tokenized, corpus, paths)  # type: ignore[arg-type]


def test_vectors_come_from_training_and_unlabeled_documents(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rows = build(corpus_of(), paths).rows()
    documents = [["good", "film"], ["film"], ["bad", "film"], ["odd", "film"], ["good", "good"], ["film"]]
    assert learned_from == [documents]
    assert rows[:, 0].tolist() == [0, 0, 5, 1, 3, 1]  # <pad>, <unk>, film, bad, good, odd
    assert "vectors     counted from 4 training and 2 unlabelled documents" in caplog.text


def test_unlabeled_documents_are_neither_read_nor_looked_for_unless_asked(
    paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    corpus = replace(corpus_of(unlabeled=None), find_unlabeled=lambda: pytest.fail("looked for"))
    build(corpus, paths, unlabeled=False)
    assert len(learned_from[0]) == 4
    assert "counted from 4 training documents" in caplog.text


def test_unlabeled_documents_from_elsewhere_are_found(paths: Paths) -> None:
    table = corpus_of().tables["unlabeled"]
    build(replace(corpus_of(unlabeled=None), find_unlabeled=lambda: table), paths)
    assert learned_from[0][4:] == [["good", "good"], ["film"]]


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
    (folder,) = (paths.cache / "embeddings").glob("tiny-counted-*")
    assert [file.name for file in folder.iterdir()] == ["vectors.npz"]


def test_other_settings_documents_or_vocabularies_are_learned_anew(paths: Paths) -> None:
    build(corpus_of(), paths)
    build(corpus_of(), paths, factor=2.0)
    build(corpus_of(), paths, unlabeled=False)
    build(corpus_of(unlabeled=["film"]), paths)
    build(corpus_of([*TRAIN, ("film", 0)]), paths)
    build(corpus_of(), paths, tokenizer=word_tokenizer(max_size=2))
    assert len(learned_from) == 6
    build(corpus_of(unlabeled=None), paths)  # the same documents as unlabeled=False
    assert len(learned_from) == 6


def test_another_version_of_the_code_or_the_library_learns_anew(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    build(corpus_of(), paths)
    monkeypatch.setattr(corpus_trained, "VECTORS_VERSION", 0)
    build(corpus_of(), paths)
    monkeypatch.setattr(corpus_trained, "version", lambda package: f"{package} of tomorrow")
    build(corpus_of(), paths)
    assert len(learned_from) == 3


def test_subwords_are_learned_as_words_are(paths: Paths) -> None:
    tokenizer = SubwordTokenizer(strip_html=True, lowercase=True, max_size=300, min_pair_count=1)
    build(corpus_of(), paths, tokenizer=tokenizer)
    assert learned_from[0][0] == ["▁good", "▁film"]
    assert learned_from[0][4] == ["▁good", "▁good"]


def test_damaged_vectors_in_the_cache_are_named(paths: Paths) -> None:
    build(corpus_of(), paths)
    (file,) = (paths.cache / "embeddings").glob("*/vectors.npz")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="Delete that folder"):
        build(corpus_of(), paths)


def test_chunks_hold_whole_documents_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_trained, "CHUNK_TOKENS", 3)
    sequences = TokenSequences(np.array([2, 3, 1, 4, 5, 0, 6], dtype=np.int32), np.array([0, 2, 2, 5, 7]))
    documents = Documents([(sequences, np.array([0, 1, 2, 3])), (sequences, np.array([3]))])
    chunks = [(ids.tolist(), lengths.tolist()) for ids, lengths in documents.chunks()]
    assert chunks == [([2, 3, 4, 5], [2, 0, 2]), ([6, 6], [1, 1])]
    assert documents.counts(7).tolist() == [0, 0, 1, 1, 1, 1, 2]
