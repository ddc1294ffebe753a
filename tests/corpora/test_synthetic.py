"""The generator of documents."""

from collections import Counter
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from helpers.documents import READING, split_sizes
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Paths
from newsreel.corpora.rcv1_stories import topics
from newsreel.corpora.synthetic import Synthetic, pseudo_words

SETTINGS = Synthetic(
    **READING,
    num_documents=500,
    num_labels=3,
    multilabel=False,
    hierarchy=None,
    difficulty=0.2,
    vocabulary_size=1000,
    mean_length=40,
    seed=0,
)


def test_sizes_labels_and_lengths_are_as_set_and_the_seed_decides(paths: Paths, tmp_path: object) -> None:
    corpus = SETTINGS.load(paths)
    assert split_sizes(corpus) == {"train": 300, "validation": 100, "test": 100}
    assert corpus.task == "multiclass"
    assert corpus.labels_present("train").all()
    assert 32 < np.mean([len(text.split()) for text in corpus["train"]["text"]]) < 48
    assert "documents are generated" in corpus.notes[0]
    again = SETTINGS.load(Paths(corpora_dir="none", cache_dir=f"{tmp_path}/other", output_dir="none"))
    assert again["train"]["text"][:] == corpus["train"]["text"][:]
    assert again.fingerprint == corpus.fingerprint
    assert replace(SETTINGS, seed=1).load(paths)["train"]["text"][:] != corpus["train"]["text"][:]


def test_documents_are_what_they_were() -> None:
    """A loop over documents made these from the same draws; the digest is of what it made."""
    digest = sha256()
    for batch in replace(SETTINGS, num_labels=103, multilabel=True).generate(300, stream=0):
        digest.update(repr(batch.to_pylist()).encode())
    assert digest.hexdigest()[:16] == "791bf3fb9f3a0b1b"


def test_training_and_test_documents_are_drawn_apart() -> None:
    train, test = (next(SETTINGS.generate(100, stream))["text"].to_pylist() for stream in (0, 1))
    assert not set(train) & set(test)


def test_topics_of_rcv1_come_with_those_above_them(paths: Paths) -> None:
    shape = {"num_labels": 103, "multilabel": True, "hierarchy": "rcv1"}
    corpus = replace(SETTINGS, num_documents=4000, mean_length=5, **shape).load(paths)
    assert (corpus.label_names, corpus.parents, corpus.label_titles) == topics()
    targets = np.concatenate([corpus.targets(split) for split in ("train", "validation", "test")])
    for label, parent in enumerate(corpus.parents):
        assert parent < 0 or (targets[:, parent] >= targets[:, label]).all()
    assert 3.0 < targets.sum(axis=1).mean() < 3.5  # 3.2 in RCV1-v2
    counts = np.sort(targets.sum(axis=0))
    assert counts[-1] > 1000
    assert counts[:20].max() < 10
    assert any(note.startswith("No training document has") for note in corpus.notes)


def test_settings_that_do_not_fit_are_refused(paths: Paths) -> None:
    for changes in ({"num_labels": 103}, {"multilabel": True}):
        with pytest.raises(UserError, match=r"set data\.multilabel=true and data\.num_labels=103"):
            replace(SETTINGS, hierarchy="rcv1", **changes)
    with pytest.raises(UserError, match=r"data\.num_labels is 80 and data\.vocabulary_size is 100"):
        replace(SETTINGS, num_labels=80, vocabulary_size=100).load(paths)


def triples(text: str, markers: set[str]) -> list[tuple[int, str, str, str]]:
    """A marker, another word and a marker, with their position, as they are put at every third word."""
    words = text.split()
    at = range(0, len(words) - 2, 3)
    return [(i, *words[i : i + 3]) for i in at if words[i] in markers and words[i + 2] in markers]


def test_with_the_signal_order_the_order_of_two_markers_alone_says_the_label(paths: Paths) -> None:
    corpus = replace(SETTINGS, signal="order", num_labels=2, num_documents=2000).load(paths)
    assert corpus.task == "binary"
    names = pseudo_words(SETTINGS.vocabulary_size)[500:503]  # the first three after the common half
    found: dict[int, Counter] = {0: Counter(), 1: Counter()}
    counts: dict[int, Counter] = {0: Counter(), 1: Counter()}
    for text, label in zip(corpus["train"]["text"], corpus.targets("train"), strict=True):
        pairs = [(names.index(first), names.index(second)) for _, first, _, second in triples(text, set(names))]
        assert pairs
        found[label].update(pairs)
        counts[label].update(word for word in text.split() if word in names)
    assert set(found[0]) == {(0, 1), (1, 2), (2, 0)}
    assert set(found[1]) == {(0, 2), (1, 0), (2, 1)}
    shares = [[counts[label][name] / counts[label].total() for name in names] for label in (0, 1)]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)
    words = sum(len(text.split()) for text in corpus["train"]["text"])
    fraction = (counts[0].total() + counts[1].total()) / words
    assert 0.19 < fraction < 0.24  # 0.25 × (1 - 0.2), and more where a document would have no triple


def test_without_any_signal_the_order_says_nothing(paths: Paths) -> None:
    corpus = replace(SETTINGS, signal="order", difficulty=1.0).load(paths)
    assert not set(pseudo_words(SETTINGS.vocabulary_size)[500:]) & set(" ".join(corpus["train"]["text"][:]).split())
    with pytest.raises(UserError, match=r"data\.signal is order, .* but data\.multilabel is true: omit one"):
        replace(SETTINGS, signal="order", multilabel=True)


def test_difficulty_decides_how_far_words_tell_the_label(paths: Paths) -> None:
    def words_of_one_label_only(difficulty: float) -> int:
        corpus = replace(SETTINGS, difficulty=difficulty).load(paths)
        documents = [set(text.split()) for text in corpus["train"]["text"]]
        counts = Counter(word for words in documents for word in words)
        of = [Counter(), Counter(), Counter()]
        for words, label in zip(documents, corpus.targets("train"), strict=True):
            of[label].update(words)
        return sum(counts[word] >= 10 and of[0][word] == counts[word] for word in counts)

    assert words_of_one_label_only(0.0) > 10
    assert words_of_one_label_only(1.0) == 0
