"""The Corpus: splits, limits and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.documents import contents, make_corpus, make_table, split_sizes, with_tables
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus
from newsreel.corpora.prepared import Description, open_prepared, record_batch, write_description, write_split


def numbered(count: int = 20, test: Any = (("t", 0), ("u", 1))) -> Corpus:
    """Documents of two classes in turn."""
    return make_corpus([(f"document {number}", number % 2) for number in range(count)], test)


def test_test_and_validation_documents_can_both_leave_training() -> None:
    whole = with_tables(numbered(), test=None)
    corpus = whole.with_test(0.2, seed=0).with_validation(0.25, seed=0)
    counts = {split: np.bincount(corpus.targets(split)).tolist() for split in corpus.splits}
    assert counts == {"train": [6, 6], "test": [2, 2], "validation": [2, 2]}
    texts = [text for split in corpus.splits for text in corpus[split]["text"]]
    assert sorted(texts) == sorted(whole.tables["train"]["text"])
    assert corpus.with_test(0.5, seed=0) is corpus  # official splits are kept
    assert corpus.with_validation(0.5, seed=0) is corpus


def test_limit_takes_the_first_of_each_class_and_says_so() -> None:
    corpus = make_corpus([("a", 0), ("b", 0), ("c", 1), ("d", 0), ("e", 1)], [("f", 1), ("g", 1)])
    limited = corpus.limited(1)
    assert contents(limited) == {"train": [("a", 0), ("c", 1)], "test": [("f", 1)]}
    assert "first 1 documents of each class" in limited.notes[0]
    assert limited.fingerprint != corpus.fingerprint
    assert limited.targets("train").tolist() == [0, 1]


def test_a_training_limit_leaves_the_other_splits_whole() -> None:
    split = numbered().with_validation(0.2, seed=0)
    limited = split.with_training_limit(6)
    assert np.bincount(limited.targets("train")).tolist() == [3, 3]
    assert set(limited["train"]["text"]) < set(split["train"]["text"])
    for other in ("validation", "test"):
        assert limited[other]["text"][:] == split[other]["text"][:]
    assert limited.notes == ("Trained on 6 of 16 training documents (data.train_limit=6).",)
    with pytest.raises(UserError, match=r"data\.train_limit is 16, but there are only 16"):
        split.with_training_limit(16)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_training_limit_is_exact_and_the_smallest_possible_one_is_named(task: Any) -> None:
    labels = [0] * 9 + [1] * 5 + [2] * 3 + [3]
    documents = [(str(row), label if task == "multiclass" else [label, 4]) for row, label in enumerate(labels)]
    corpus = make_corpus(documents, task=task, num_labels=5)
    for number in range(4, 18):
        assert split_sizes(corpus.with_training_limit(number))["train"] == number
    with pytest.raises(
        UserError, match=r"data\.train_limit is 3, but every label keeps .* data\.train_limit=4 or more"
    ):
        corpus.with_training_limit(3)


def test_a_fraction_that_splits_off_nothing_is_answered_with_one_that_does() -> None:
    corpus = make_corpus([(str(row), row % 2) for row in range(7)])
    with pytest.raises(
        UserError, match=r"data\.validation_fraction is 0\.05: of 7 training .* none to validate"
    ) as caught:
        corpus.with_validation(0.05, seed=0)
    assert str(caught.value).endswith("Use data.validation_fraction=0.15 or more, or at least 11 documents.")
    assert split_sizes(corpus.with_validation(0.15, seed=0))["validation"] == 1
    enough = make_corpus([(str(row), row % 2) for row in range(11)])
    assert split_sizes(enough.with_validation(0.05, seed=0))["validation"] == 1
    for documents in ([("a", 0), ("b", 1)], [("a", 0)]):
        with pytest.raises(UserError, match=r"No fraction does: .*\nAdd training documents with the same labels"):
            make_corpus(documents).with_validation(0.1, seed=0)


def test_labels_without_documents_to_measure_them_on_are_counted() -> None:
    corpus = make_corpus([(str(row), row % 4) for row in range(8)], [("t", 0)], task="multiclass", num_labels=4)
    (note,) = corpus.with_coverage_note().notes
    assert note == (
        "Of the 4 labels, no test document has 3: accuracy and micro averages say nothing about them, macro averages "
        "count them as 0, and f1_macro_present leaves them out."
    )
    (note,) = corpus.with_validation(0.25, seed=0).with_coverage_note().notes
    assert note.startswith("Of the 4 labels, no test document has 3 and no validation document has 2: accuracy")
    assert numbered().with_validation(0.2, seed=0).with_coverage_note().notes == ()


def test_labels_that_training_never_saw_are_refused_or_noted_by_name() -> None:
    corpora = [
        make_corpus([("a", 0), ("b", 0)], [("c", 1)]),
        make_corpus([("a", [0])], [("c", [1])], task="multilabel"),
    ]
    for corpus in corpora:
        with pytest.raises(UserError, match=r"labels that no training document has \(1 of 2\): label1"):
            corpus.checked()
    (note,) = corpora[1].checked(unseen_labels=True).notes
    assert note.startswith("No training document has 1 of the 2 labels")
    assert note.endswith("label1.")


def test_texts_come_in_chunks_in_order() -> None:
    corpus = make_corpus([(str(number), 0) for number in range(10)]).limited(7)
    chunks = [chunk.to_pylist() for chunk in corpus.texts("train", chunk_size=3)]
    assert chunks == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert corpus.splits["train"].rows.tolist() == list(range(7))


def test_labels_of_a_table_are_read_once_and_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_corpus([(str(number), [number % 3]) for number in range(30)], task="multilabel", num_labels=3)
    targets = corpus.targets("train")
    monkeypatch.setattr("newsreel.corpora.corpus.read_targets", lambda *arguments: pytest.fail("read again"))
    split = corpus.with_validation(0.2, seed=0)
    assert len(split.targets("train")) + len(split.targets("validation")) == 30
    assert corpus.labels_present("train").all()
    with pytest.raises(ValueError, match="read-only"):
        targets[0, 0] = 1


def test_a_prepared_corpus_keeps_its_hierarchy_and_may_have_none(tmp_path: Path) -> None:
    common: dict[str, Any] = {"name": "tiny", "task": "multilabel", "label_names": ["a", "b"], "metric": "f1_micro"}
    common |= {"fingerprint": "f", "source": "s", "notes": [], "tables": ["train"]}
    write_split(tmp_path, "train", "multilabel", [record_batch(["text"], [[0, 1]], "multilabel")])
    write_description(tmp_path, Description(**common, parents=[-1, 0], label_titles=["A", "B"]))
    corpus = open_prepared(tmp_path)
    assert (corpus.parents, corpus.label_titles) == ((-1, 0), ("A", "B"))
    (tmp_path / "corpus.json").write_text(json.dumps(common))  # of an older version
    corpus = open_prepared(tmp_path)
    assert (corpus.parents, corpus.label_titles) == ((), ())


def test_training_and_validation_documents_are_pooled_without_the_test() -> None:
    corpus = numbered().with_validation(0.25, seed=0)
    pooled = corpus.pooled()
    assert split_sizes(pooled) == {"train": 20}
    assert pooled["train"]["text"][:] == numbered()["train"]["text"][:]
    own = with_tables(numbered(4), validation=make_table([("another", 1)]), unlabeled=make_table([("more", -1)]))
    pooled = own.pooled()
    assert split_sizes(pooled) == {"train": 5, "unlabeled": 1}
    assert pooled["train"]["text"][:] == [*own["train"]["text"][:], "another"]
    assert pooled.targets("train").tolist() == [0, 1, 0, 1, 1]
    assert set(pooled.tables) == {"train", "unlabeled"}
    assert pooled.fingerprint != own.fingerprint
