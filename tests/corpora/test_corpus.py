"""The Corpus: splits, limits and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.documents import make_corpus
from newsreel.core.errors import UserError
from newsreel.corpora.prepared import Description, open_prepared, record_batch, write_description, write_split


def test_validation_documents_leave_training() -> None:
    corpus = make_corpus([(f"document {number}", number % 2) for number in range(20)]).with_validation(0.2, seed=0)
    train, validation = set(corpus["train"]["text"]), set(corpus["validation"]["text"])
    assert len(train) == 16
    assert len(validation) == 4
    assert not train & validation
    assert corpus.targets("validation").sum() == 2


def test_an_official_validation_split_is_kept() -> None:
    corpus = make_corpus([("a", 0), ("b", 1)])
    corpus = type(corpus)(
        **{**vars(corpus), "tables": {**corpus.tables, "validation": corpus.tables["test"]}, "splits": {}}
    )
    assert corpus.with_validation(0.5, seed=0)["train"]["text"][:] == ["a", "b"]


def test_test_and_validation_documents_can_both_leave_training() -> None:
    corpus = make_corpus([(f"document {number}", number % 2) for number in range(20)])
    corpus = type(corpus)(**{**vars(corpus), "tables": {"train": corpus.tables["train"]}, "splits": {}})
    corpus = corpus.with_test(0.2, seed=0).with_validation(0.25, seed=0)
    assert {split: np.bincount(corpus.targets(split)).tolist() for split in corpus.splits} == {
        "train": [6, 6],
        "test": [2, 2],
        "validation": [2, 2],
    }
    assert sorted(text for split in corpus.splits for text in corpus[split]["text"]) == sorted(
        corpus.tables["train"]["text"]
    )
    assert corpus.with_test(0.5, seed=0) is corpus


def test_multilabel_targets_are_indicators() -> None:
    corpus = make_corpus([("a", [0, 2]), ("b", []), ("c", [1])], [("d", [2])], task="multilabel", num_labels=3)
    assert corpus.targets("train").tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert corpus.tables["train"].select([2, 0])["labels"][:] == [[1], [0, 2]]


def test_limit_takes_the_first_of_each_class_and_says_so() -> None:
    corpus = make_corpus([("a", 0), ("b", 0), ("c", 1), ("d", 0), ("e", 1)], [("f", 1), ("g", 1)])
    limited = corpus.limited(1)
    assert limited["train"]["text"][:] == ["a", "c"]
    assert limited["test"]["text"][:] == ["f"]
    assert "first 1 documents of each class" in limited.notes[0]
    assert limited.fingerprint != corpus.fingerprint
    assert limited.targets("train").tolist() == [0, 1]


def test_labels_that_training_never_saw_are_refused_by_name() -> None:
    corpus = make_corpus([("a", 0), ("b", 0)], [("c", 1)])
    with pytest.raises(UserError, match=r"1 labels that no training document has: label1"):
        corpus.checked()


def test_an_empty_split_is_refused() -> None:
    corpus = make_corpus([("a", 0)], [("b", 0)])
    empty = type(corpus)(
        **{**vars(corpus), "tables": {**corpus.tables, "test": corpus.tables["test"].select([])}, "splits": {}}
    )
    with pytest.raises(UserError, match="no documents in its test split"):
        empty.checked()


def test_a_split_too_small_to_validate_on_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.validation_fraction is 0\.1"):
        make_corpus([("a", 0), ("b", 1)]).with_validation(0.1, seed=0)


def test_texts_come_in_chunks_in_order() -> None:
    corpus = make_corpus([(str(number), 0) for number in range(10)]).limited(7)
    chunks = [chunk.to_pylist() for chunk in corpus.texts("train", chunk_size=3)]
    assert chunks == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert np.array_equal(corpus.splits["train"].rows, np.arange(7))


def test_labels_of_the_task_that_training_never_saw_are_noted() -> None:
    corpus = make_corpus([("a", [0])], [("c", [1])], task="multilabel")
    with pytest.raises(UserError, match=r"1 labels that no training document has: label1"):
        corpus.checked()
    (note,) = corpus.checked(unseen_labels=True).notes
    assert note.startswith("1 of the 2 labels have no training document")
    assert note.endswith("label1.")


def test_labels_of_a_table_are_read_once_and_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_corpus([(str(number), [number % 3]) for number in range(30)], task="multilabel", num_labels=3)
    before = corpus.targets("train")
    monkeypatch.setattr("newsreel.corpora.corpus.read_targets", lambda *arguments: pytest.fail("read again"))
    split = corpus.with_validation(0.2, seed=0)
    assert len(split.targets("train")) + len(split.targets("validation")) == len(before) == 30
    assert corpus.labels_present("train").all()
    with pytest.raises(ValueError, match="read-only"):
        corpus.targets("train")[0, 0] = 1


def test_a_prepared_corpus_keeps_its_hierarchy_and_may_have_none(tmp_path: Path) -> None:
    description = Description(
        "tiny", "multilabel", ["a", "b"], "f1_micro", "f", "s", [], ["train"], parents=[-1, 0], label_titles=["A", "B"]
    )
    write_split(tmp_path, "train", "multilabel", [record_batch(["text"], [[0, 1]], "multilabel")])
    write_description(tmp_path, description)
    corpus = open_prepared(tmp_path)
    assert (corpus.parents, corpus.label_titles) == ((-1, 0), ("A", "B"))
    old = {name: value for name, value in vars(description).items() if name not in ("parents", "label_titles")}
    (tmp_path / "corpus.json").write_text(json.dumps(old))
    corpus = open_prepared(tmp_path)
    assert (corpus.parents, corpus.label_titles) == ((), ())


def test_a_training_limit_leaves_the_other_splits_whole() -> None:
    corpus = make_corpus([(str(number), number % 2) for number in range(20)], [("t", 0), ("u", 1)])
    split = corpus.with_validation(0.2, seed=0)
    limited = split.with_training_limit(6)
    assert limited.targets("train").tolist().count(0) == 3
    assert set(limited["train"]["text"]) < set(split["train"]["text"])
    assert len(limited["train"]["text"]) == 6
    for other in ("validation", "test"):
        assert limited[other]["text"][:] == split[other]["text"][:]
    assert limited.notes == ("Trained on 6 of 16 training documents (data.train_limit=6).",)
    with pytest.raises(UserError, match=r"data\.train_limit is 16, and there are only 16"):
        split.with_training_limit(16)
