"""The generator of documents."""

from collections import Counter
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Paths
from newsreel.corpora.rcv1_stories import topics
from newsreel.corpora.synthetic import Synthetic

SETTINGS = Synthetic(
    num_documents=500,
    num_labels=3,
    multilabel=False,
    hierarchy=None,
    difficulty=0.2,
    vocabulary_size=1000,
    mean_length=40,
    seed=0,
    limit=None,
    train_limit=None,
    validation_fraction=0.1,
    split_seed=0,
)


def test_the_same_settings_make_the_same_documents(paths: Paths, tmp_path: object) -> None:
    other = Paths(corpora_dir="none", cache_dir=f"{tmp_path}/other", output_dir="none")
    first, second = SETTINGS.load(paths), SETTINGS.load(other)
    assert first["train"]["text"][:] == second["train"]["text"][:]
    assert first.fingerprint == second.fingerprint


def test_another_seed_makes_other_documents(paths: Paths) -> None:
    other = replace(SETTINGS, seed=1).load(paths)
    assert other["train"]["text"][:] != SETTINGS.load(paths)["train"]["text"][:]


def test_sizes_labels_and_lengths_are_as_asked(paths: Paths) -> None:
    corpus = SETTINGS.load(paths)
    assert {split: len(rows.rows) for split, rows in corpus.splits.items()} == {
        "train": 360,
        "validation": 40,
        "test": 100,
    }
    assert corpus.task == "multiclass"
    assert corpus.labels_present("train").all()
    lengths = [len(text.split()) for text in corpus["train"]["text"]]
    assert 32 < np.mean(lengths) < 48


def test_two_labels_are_binary_and_several_a_document_multilabel(paths: Paths) -> None:
    assert replace(SETTINGS, num_labels=2).load(paths).task == "binary"
    corpus = replace(SETTINGS, multilabel=True).load(paths)
    assert corpus.task == "multilabel"
    assert corpus.targets("train").sum(axis=1).max() > 1


def test_documents_are_what_they_were() -> None:
    """A loop over documents made these from the same draws; the digest is of what it made."""
    digest = sha256()
    for batch in replace(SETTINGS, num_labels=103, multilabel=True).generate(300, stream=0):
        digest.update(repr(batch.to_pylist()).encode())
    assert digest.hexdigest()[:16] == "791bf3fb9f3a0b1b"


def test_topics_of_rcv1_come_with_those_above_them(paths: Paths) -> None:
    shape = {"num_labels": 103, "multilabel": True, "hierarchy": "rcv1"}
    corpus = replace(SETTINGS, num_documents=4000, mean_length=5, **shape).load(paths)
    assert corpus.label_names == topics().codes
    assert corpus.parents == topics().parents
    assert corpus.label_titles == topics().titles
    targets = np.concatenate([corpus.targets(split) for split in ("train", "validation", "test")])
    for label, parent in enumerate(corpus.parents):
        if parent >= 0:
            assert (targets[:, parent] >= targets[:, label]).all()
    assert 3.0 < targets.sum(axis=1).mean() < 3.5  # 3.2 in RCV1-v2
    counts = np.sort(targets.sum(axis=0))
    assert counts[-1] > 1000
    assert counts[:20].max() < 10
    assert any("no training document" in note for note in corpus.notes)


def test_the_topics_of_rcv1_are_103_of_which_a_document_has_several() -> None:
    with pytest.raises(UserError, match=r"needs data\.multilabel=true and data\.num_labels=103"):
        replace(SETTINGS, hierarchy="rcv1", num_labels=103)
    with pytest.raises(UserError, match=r"needs data\.multilabel=true and data\.num_labels=103"):
        replace(SETTINGS, hierarchy="rcv1", multilabel=True)


def test_difficulty_decides_how_far_words_tell_the_label(paths: Paths) -> None:
    def words_of_one_label_only(difficulty: float) -> int:
        corpus = replace(SETTINGS, difficulty=difficulty).load(paths)
        texts, targets = corpus["train"]["text"], corpus.targets("train")
        seen = [
            set().union(*(text.split() for text, y in zip(texts, targets, strict=True) if y == label))
            for label in range(3)
        ]
        num_documents = Counter(word for text in texts for word in set(text.split()))
        frequent = [word for word in seen[0] if num_documents[word] >= 10]
        return sum(word not in seen[1] | seen[2] for word in frequent)

    assert words_of_one_label_only(0.0) > 10
    assert words_of_one_label_only(1.0) == 0


def test_it_says_that_it_is_made_up(paths: Paths) -> None:
    assert "made up" in SETTINGS.load(paths).notes[0]


def test_more_labels_than_words_for_them_are_refused(paths: Paths) -> None:
    with pytest.raises(UserError, match=r"data\.num_labels is 80 and data\.vocabulary_size 100"):
        replace(SETTINGS, num_labels=80, vocabulary_size=100).load(paths)
