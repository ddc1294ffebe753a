"""Documents that occur more than once, beside comparisons of all pairs in plain Python."""

import random
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from helpers.documents import make_corpus, make_table, with_tables
from helpers.own_files import load, write_csv
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.corpora.duplicates import (
    NUM_HASHES,
    DuplicateCounts,
    candidates,
    duplicate_notes,
    exact_similarities,
    find_duplicates,
    find_near_repeats,
    find_unlabeled_duplicates,
    label_keys,
    read_word_sets,
    unlabeled_notes,
    word_sets,
)

TRAIN = [
    ("a fine film", 1),
    ("a dull film", 0),
    ("a fine film", 1),
    ("so long", 0),
    ("so long", 1),
    ("", 0),
    (" \n", 1),
]
TEST = [("a fine film", 1), ("so long", 1), ("a dull film", 1), ("A fine film!", 0), ("", 1), ("new", 0)]


def counts_by_words(corpus: Corpus) -> DuplicateCounts:
    return find_duplicates(corpus, {split: read_word_sets(corpus, split).keys for split in ("train", "test")})


def test_repeats_overlaps_and_contradictions_are_those_counted_by_hand() -> None:
    counts = find_duplicates(make_corpus(TRAIN, TEST))
    train, test = counts.repeats
    assert (train.num_documents, train.empty, train.repeated, train.contradictory) == (7, 2, 2, 2)
    assert (test.num_documents, test.empty, test.repeated, test.contradictory) == (6, 1, 0, 0)
    (overlap,) = counts.overlaps
    assert (overlap.split, overlap.others) == ("test", ("train",))
    assert overlap.shared.tolist() == [True, True, True, False, False, False]
    # `so long` has both labels in train, of which one is another; `a dull film` has the label 0 there
    assert overlap.contradictory.tolist() == [False, True, True, False, False, False]
    assert counts.of_test() is overlap


def test_the_same_words_are_found_apart_from_case_spaces_and_punctuation() -> None:
    assert (
        find_duplicates(make_corpus([("Dull, dull film!", 0)], [("dull   dull\nfilm", 0)])).overlaps[0].shared[0] == 0
    )
    for text, is_same in (("dull   dull\nfilm", 1), ("film dull dull", 0), ("dull film", 0), ("DULL dull film 🎬", 1)):
        (overlap,) = counts_by_words(make_corpus([("Dull, dull film!", 0)], [(text, 0)])).overlaps
        assert overlap.shared.sum() == is_same, text
    (overlap,) = counts_by_words(make_corpus([("🎬", 0), (" ", 1)], [("🎬", 0), ("👍", 0), ("", 0)])).overlaps
    assert overlap.shared.tolist() == [True, False, False]


def test_labels_are_the_same_only_if_all_of_them_are() -> None:
    indicators = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 1], [0, 0, 0]], dtype=np.uint8)
    keys = label_keys(indicators).tolist()
    assert [keys.index(key) for key in keys] == [0, 1, 0, 3]
    corpus = make_corpus([("oil", [0, 1]), ("corn", [])], [("oil", [0]), ("corn", [])], "multilabel")
    assert find_duplicates(corpus).overlaps[0].contradictory.tolist() == [True, False]


def test_split_off_documents_are_compared_with_those_that_stay_and_test_documents_with_both(
    tmp_path: Path, paths: Paths
) -> None:
    train = write_csv(tmp_path / "train.csv", [(f"film {number // 2}", "ab"[number % 2]) for number in range(16)])
    corpus = load(paths, train=train, test=write_csv(tmp_path / "test.csv", [("film 1", "a"), ("film 9", "b")]))
    shared = len(set(corpus["train"]["text"]) & set(corpus["validation"]["text"]))
    assert corpus.notes[-3:] == (
        f"{shared} of the 4 documents in validation have the text of one in train: metrics on them are too optimistic. "
        f"{shared} of them have other labels there.",
        "1 of the 2 documents in test have the text of one in train or validation: metrics on them are too optimistic. "
        "1 of them have other labels there.",
        "8 of the 16 documents in train and validation together repeat the text of another: every copy counts. 16 "
        "documents have the text of another one with other labels, so no model can be right about all of them.",
    )


def test_unlabelled_documents_are_compared_with_each_other_and_with_each_split() -> None:
    texts = ["seen in both", "of test", "twice", "twice", " ", "new", "of train", "of train"]
    corpus = make_corpus([("seen in both", 0), ("of train", 1)], [("of test", 1), ("seen in both", 1), ("", 0)])
    found = find_unlabeled_duplicates(with_tables(corpus, unlabeled=make_table([(text, -1) for text in texts])))
    (repeats,) = found.repeats
    assert (repeats.num_documents, repeats.empty, repeats.repeated) == (8, 1, 2)
    assert {overlap.others: np.flatnonzero(overlap.shared).tolist() for overlap in found.overlaps} == {
        ("train",): [0, 6, 7],
        ("test",): [0, 1],
    }


def test_a_corpus_without_repeats_has_no_note() -> None:
    assert duplicate_notes(make_corpus([("a", 0), ("b", 1), ("", 0), ("", 0)], [("c", 0), ("", 1)])) == []


def random_documents(num_documents: int) -> list[str]:
    """Documents of 1 to 60 words; a third of them are changed copies of others."""
    chance = random.Random(3)
    texts = [" ".join(chance.choices("abcdefghij", k=chance.randint(1, 60))) for _ in range(num_documents)]
    for number in range(0, num_documents, 3):
        words = texts[chance.randrange(num_documents)].split()
        for _ in range(chance.randint(0, 2)):
            words[chance.randrange(len(words))] = chance.choice("abcdefghij")
        texts[number] = " ".join(words)
    return texts


def jaccard(one: str, other: str) -> float:
    """By sets of shingles as texts."""

    def shingles(text: str) -> set[str]:
        words = re.findall(r"\w+", text.lower())
        return {" ".join(words[start : start + 3]) for start in range(max(1, len(words) - 2))} if words else set()

    sets = shingles(one), shingles(other)
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


def test_near_repeats_are_those_of_a_comparison_of_all_pairs() -> None:
    texts = [*random_documents(200), "", "!", "One. Two?"]
    expected = {
        pair: similarity
        for pair in combinations(range(len(texts)), 2)
        if (similarity := jaccard(texts[pair[0]], texts[pair[1]])) >= 0.7
        and texts[pair[0]].split() != texts[pair[1]].split()
    }
    series = pl.Series(texts)
    found = find_near_repeats(word_sets(series), series.gather, 0.7)
    similarities = dict(zip(map(tuple, found.pairs.tolist()), found.similarities.tolist(), strict=True))
    assert len(expected) > 20
    assert similarities == {pair: pytest.approx(expected[pair]) for pair in similarities}  # no other pair
    assert len(similarities) >= 0.97 * len(expected)  # bands miss 1.2% of those with 0.7, and fewer of the others


def test_a_signature_agrees_in_about_as_many_places_as_the_documents_are_similar() -> None:
    words = [f"w{number}" for number in range(300)]
    texts = [" ".join(words[: 200 + shift]) for shift in (0, 25, 50, 100)]
    signatures = word_sets(pl.Series(texts)).signatures
    for other in (1, 2, 3):
        estimate = (signatures[0] == signatures[other]).mean()
        exact = jaccard(texts[0], texts[other])
        assert estimate == pytest.approx(exact, abs=3 * (exact * (1 - exact) / NUM_HASHES) ** 0.5)


def test_many_copies_of_a_document_are_candidates_in_number_proportional_to_them() -> None:
    texts = pl.Series([f"the same notice of the day {number % 500}" for number in range(2_000)])
    pairs = candidates(word_sets(texts).signatures)
    assert len(np.unique(pairs)) == 2_000
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(pairs) < 2_000 * 16 * 12


def test_exact_similarities_are_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = random_documents(30)
    pairs = np.array(list(combinations(range(30), 2)))
    expected = [jaccard(texts[one], texts[other]) for one, other in pairs]
    monkeypatch.setattr("newsreel.corpora.duplicates.CHUNK_SHINGLES", 50)
    assert exact_similarities(pl.Series(texts).gather, pairs).tolist() == pytest.approx(expected)


def test_a_document_shorter_than_a_shingle_is_compared_whole_and_apart_from_the_next_one() -> None:
    texts = pl.Series(["A film!", "good story", "a film", "bad weather today"])
    assert exact_similarities(texts.gather, np.array([[0, 2], [0, 1]])).tolist() == [1.0, 0.0]


def test_unlabelled_documents_that_stand_in_validation_or_test_are_counted() -> None:
    corpus = with_tables(
        make_corpus(TRAIN, TEST),
        validation=make_table([("so long", 0)]),
        unlabeled=make_table([("new", -1), ("new", -1), ("a dull film", -1), ("so long", -1), ("", -1), ("more", -1)]),
    )
    beginning = "of the 6 unlabelled documents, which the training reads without labels, have the text of one in"
    assert unlabeled_notes(corpus) == [f"1 {beginning} validation.", f"4 {beginning} test."]
    assert unlabeled_notes(with_tables(corpus, validation=None, test=make_table([("other", 0)]))) == []
