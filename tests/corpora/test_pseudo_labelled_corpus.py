"""Documents that a teacher has labelled become training documents."""

from typing import Any

import numpy as np
import pytest

from helpers.documents import READING, contents, make_corpus, make_table, split_sizes, with_tables
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, Paths, PseudoTargets, Task
from newsreel.corpora.pseudo_labels import TeacherLabels, add_pseudo_labels, confidences, unlabeled_documents
from newsreel.corpora.synthetic import Synthetic

GENERATED: dict[str, Any] = {
    **READING,
    **{"num_documents": 40, "num_labels": 3, "hierarchy": None, "difficulty": 0.2, "vocabulary_size": 100},
    **{"mean_length": 5, "seed": 0},
}
TRAIN = [("one", 0), ("two", 1), ("three", 2), ("four", 0), ("five", 1), ("six", 2), ("seven", 0), ("eight", 1)]
UNKNOWN = [("new", -1), ("a film", -1), ("newer", -1), ("one", -1)]
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25]], dtype=np.float32)


def divided(**tables: Any) -> Corpus:
    corpus = make_corpus(TRAIN, [("a film", 0), (" ", 1)], "multiclass", 3)
    return with_tables(corpus, **tables).with_validation(0.25, seed=0)


def labelled_by_teacher(targets: PseudoTargets, weight: float = 0.5) -> tuple[Corpus, Corpus]:
    """The corpus without and with pseudo-labels."""
    corpus = divided(unlabeled=make_table([("new", -1), ("newer", -1), ("newest", -1)]))
    table, num_left_out = unlabeled_documents(corpus)
    assert num_left_out == 0
    labels = TeacherLabels(PROBABILITIES, PROBABILITIES.argmax(axis=1), "a run")
    return corpus, add_pseudo_labels(corpus, table, labels, targets, weight, num_left_out)


def test_they_follow_the_labelled_ones_and_leave_the_other_splits_alone() -> None:
    corpus, more = labelled_by_teacher("soft")
    assert contents(more)["train"] == [*TRAIN, ("new", 0), ("newer", 2), ("newest", 0)]
    num_labelled = split_sizes(corpus)["train"]
    assert split_sizes(more) == {"train": num_labelled + 3, "validation": 2, "test": 2}
    for split in ("validation", "test"):
        assert more[split]["text"][:] == corpus[split]["text"][:]
    assert more["train"]["text"][:] == [*corpus["train"]["text"][:], "new", "newer", "newest"]
    assert more.labelled is corpus
    assert more.fingerprint != corpus.fingerprint
    assert more.with_unlabeled() is more  # they are not unlabelled any more
    assert f"with a weight of 0.5 beside 1 for the {num_labelled} labelled ones" in more.notes[-1]


def test_soft_targets_are_the_probabilities_of_the_teacher() -> None:
    corpus, more = labelled_by_teacher("soft")
    known = np.eye(3)[corpus.targets("train")]
    assert np.array_equal(more.loss_targets("train"), np.concatenate([known, PROBABILITIES], dtype=np.float32))
    assert np.array_equal(more.loss_targets("test"), corpus.targets("test"))
    assert more.loss_weights("train").tolist() == [1] * len(known) + [0.5] * 3  # type: ignore[union-attr]
    assert more.loss_weights("test") is None
    counts, total = more.weighted_label_counts()
    assert counts == pytest.approx(np.add(known.sum(axis=0), [0.65, 0.325, 0.525]))
    assert total == len(known) + 1.5


def test_hard_targets_weigh_as_much_as_the_teacher_is_sure() -> None:
    corpus, more = labelled_by_teacher("hard")
    assert more.loss_targets("train").tolist() == [*corpus.targets("train").tolist(), 0, 2, 0]
    weights = more.loss_weights("train")
    assert weights is not None
    assert weights[-3:] == pytest.approx([0.35, 0.275, 0.05])  # half of (p - 1/3) / (2/3)
    counts, _ = more.weighted_label_counts()
    assert counts == pytest.approx(np.add(corpus.label_counts("train"), [0.4, 0, 0.275]))
    assert np.array_equal(more.label_probabilities()[-3:], PROBABILITIES)  # of naive-Bayes ratios


@pytest.mark.parametrize(
    ("task", "probabilities", "expected"),
    [
        ("binary", [[0.5, 0.5], [0.1, 0.9], [1, 0]], [0, 0.8, 1]),
        ("multiclass", [[0.25, 0.25, 0.25, 0.25], [0.5, 0.2, 0.2, 0.1]], [0, 1 / 3]),
        ("multilabel", [[0.5, 1, 0.2], [0.5, 0.5, 0.5]], [(0 + 1 + 0.6) / 3, 0]),
    ],
)
def test_confidence_is_none_for_a_guess_and_one_for_certainty(task: Task, probabilities: Any, expected: Any) -> None:
    assert confidences(np.array(probabilities), task) == pytest.approx(expected)


def test_digests_tell_other_labels_weights_and_texts_apart() -> None:
    base = labelled_by_teacher("soft")[1]
    assert labelled_by_teacher("soft")[1].training_digest == base.training_digest
    others = [labelled_by_teacher("hard")[1], labelled_by_teacher("soft", weight=0.4)[1]]
    assert len({corpus.training_digest for corpus in [base, *others]}) == 3
    assert {corpus.fingerprint for corpus in others} == {base.fingerprint}  # tokens do not depend on labels


def test_unlabelled_documents_that_are_held_out_too_are_left_out() -> None:
    corpus = divided(unlabeled=make_table([*UNKNOWN, (" ", -1)]))
    held_out = {*corpus["validation"]["text"][:], "a film"}
    table, num_left_out = unlabeled_documents(corpus)
    expected = [text for text, _ in UNKNOWN if text not in held_out]
    assert table["text"][:] == [*expected, " "]  # empty texts are no repeats
    assert num_left_out == 4 - len(expected)
    labels = TeacherLabels(np.full((len(table), 3), 1 / 3, np.float32), np.zeros(len(table), np.int64), "a run")
    note = add_pseudo_labels(corpus, table, labels, "soft", 1.0, num_left_out).notes[-1]
    assert note.startswith(f"{num_left_out} unlabelled documents are not used: they have the text of a validation or")


def test_several_labels_stay_lists() -> None:
    rows = [("one", [0]), ("two", [0, 1]), ("three", []), ("four", [1])]
    corpus = make_corpus(rows, [("a film", [1])], "multilabel").with_validation(0.25, seed=0)
    labels = TeacherLabels(
        np.array([[0.9, 0.6], [0.2, 0.1]], np.float32), np.array([[1, 1], [0, 0]], np.uint8), "a run"
    )
    more = add_pseudo_labels(corpus, make_table([("new", []), ("newer", [])]), labels, "hard", 1.0, 0)
    assert contents(more)["train"][-2:] == [("new", [0, 1]), ("newer", [])]
    assert more.targets("train")[-2:].tolist() == [[1, 1], [0, 0]]
    assert more.loss_weights("train")[-2:] == pytest.approx([0.5, 0.7])  # type: ignore[index]


def test_a_corpus_without_unlabelled_documents_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.pseudo_labels needs documents without labels, and the corpus 'tiny'"):
        unlabeled_documents(divided())


@pytest.mark.parametrize("multilabel", [False, True])
def test_generated_documents_without_labels_do_not_change_the_others(paths: Paths, multilabel: bool) -> None:
    plain, more = (Synthetic(**GENERATED, multilabel=multilabel, num_unlabeled=number).load(paths) for number in (0, 7))
    assert contents(plain) == contents(more)
    assert plain.fingerprint == more.fingerprint
    assert len(set(more.tables["unlabeled"]["text"][:])) == 7
    assert more.tables["unlabeled"]["labels"][:] == [[] if multilabel else -1] * 7
