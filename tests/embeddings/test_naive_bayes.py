"""Log-count ratios of words, and the rows of few documents that start with them."""

import math
from typing import Any

import pytest
import torch

from helpers.documents import NOWHERE, make_corpus, tokenized_corpus
from newsreel.corpora.corpus import Corpus
from newsreel.embeddings.embedding import Learned
from newsreel.embeddings.naive_bayes import ROW_SMOOTHING, training_ratios
from newsreel.text.tokens import TokenizedCorpus

WORDS = ["good", "bad", "film"]
DOCUMENTS = [("good good film", 1), ("good film", 1), ("bad film", 0), ("film odd", 0)]
SETTINGS: dict[str, Any] = {
    "dimension": 500,
    "initial_std": 1e-6,
    "dropout": 0.0,
    "word_dropout": 0.0,
    "max_norm": None,
}


def parts(documents: list[tuple[str, Any]], **kind: Any) -> tuple[TokenizedCorpus, Corpus]:
    return tokenized_corpus(WORDS, [text.split() for text, _ in documents]), make_corpus(documents, **kind)


def test_a_ratio_is_that_of_smoothed_document_frequencies() -> None:
    ratios = training_ratios(*parts(DOCUMENTS), smoothing=1)
    # good, bad, film: 1 + documents with label 1: 3, 1, 3 of 7; without: 1, 2, 3 of 6
    expected = [0, 0, math.log((3 / 7) / (1 / 6)), math.log((1 / 7) / (2 / 6)), math.log((3 / 7) / (3 / 6))]
    assert ratios[:, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("task", "labels"), [("multiclass", [2, 1, 0]), ("multilabel", [[2, 1], [1], []])])
def test_other_tasks_have_a_ratio_for_every_label(task: Any, labels: list[Any]) -> None:
    documents = list(zip(("good film", "bad film", "film"), labels, strict=True))
    ratios = training_ratios(*parts(documents, task=task, num_labels=3), smoothing=1)
    assert ratios.shape == (5, 3)
    assert ratios[2, 2] > 0 > ratios[3, 2]  # good, bad: of the label of the first document
    assert ratios[3, 1] > ratios[2, 1] or task == "multilabel"  # there, both words are in one such document


def test_rows_of_few_documents_add_the_ratios_of_their_words_in_one_direction() -> None:
    tokenized, corpus = parts(DOCUMENTS)
    torch.manual_seed(0)
    rows = Learned(**SETTINGS, adapt_below=5).build(tokenized, corpus, NOWHERE).rows()
    lengths = 2 * training_ratios(tokenized, corpus, ROW_SMOOTHING)[:, 0].abs()
    assert rows.norm(dim=1).tolist() == pytest.approx(lengths.tolist(), rel=0.1, abs=1e-4)
    assert torch.cosine_similarity(rows[2], rows[3], dim=0).item() == pytest.approx(-1, abs=1e-3)


@pytest.mark.parametrize(("task", "label"), [("binary", int), ("multilabel", lambda label: [label])])
def test_random_values_are_scaled_by_the_ratios_of_their_words(task: Any, label: Any) -> None:
    tokenized, corpus = parts([(text, label(target)) for text, target in DOCUMENTS], task=task)
    ratios = training_ratios(tokenized, corpus, ROW_SMOOTHING)
    size = ratios.square().mean(dim=1).sqrt()
    torch.manual_seed(0)
    settings = {**SETTINGS, "initial_std": None, "ratio_scale": 10.0}
    norms = Learned(**settings, adapt_below=5).build(tokenized, corpus, NOWHERE).rows().norm(dim=1)
    assert norms.tolist() == pytest.approx((size * (10**2 + 2**2) ** 0.5).tolist(), rel=0.1)  # 2: without the scale
    assert norms[1] == 0  # <unk>


def test_rows_of_more_documents_are_random_ones_alone() -> None:
    rows = []
    for below in (0, 4):
        torch.manual_seed(0)
        rows.append(Learned(**SETTINGS, adapt_below=below).build(*parts(DOCUMENTS), NOWHERE).rows())
    assert torch.equal(*rows)
    assert rows[0].abs().max() < 1e-5


def test_the_fewer_documents_the_more_words_are_dropped() -> None:
    dropped = [
        Learned(**{**SETTINGS, "word_dropout": 0.5}, adapt_below=below).build(*parts(DOCUMENTS), NOWHERE).word_dropout
        for below in (0, 4, 64)  # of 4 documents
    ]
    assert dropped == pytest.approx([0.5, 0.5, 0.5**0.5])
