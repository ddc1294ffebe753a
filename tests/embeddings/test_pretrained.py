"""Tables of given vectors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from helpers.documents import NOWHERE, make_corpus, tokenized_corpus
from helpers.vectors import TABLE
from newsreel.core.errors import UserError
from newsreel.embeddings.embedding import TableEmbedding
from newsreel.embeddings.pretrained import Pretrained, Vectors, align

GIVEN = {"film": [1.0, 2.0], "good": [3.0, 4.0], "elsewhere": [9.0, 9.0], "<unk>": [7.0, 7.0]}
DOCUMENTS = [["good", "film", "film"], ["odd", "film", "outside"]]


@dataclass(frozen=True, kw_only=True)
class Given(Pretrained):
    def vectors(self, tokenized: Any, corpus: Any, paths: Any) -> Vectors:
        return align(tokenized.tokenizer.tokens, list(GIVEN), np.array(list(GIVEN.values()), dtype=np.float32))


def built(words: tuple[str, ...] = ("odd", "film", "good"), **changes: Any) -> TableEmbedding:
    corpus = make_corpus([(" ".join(document), 0) for document in DOCUMENTS])
    return Given(**{**TABLE, **changes}).build(tokenized_corpus(words, DOCUMENTS), corpus, NOWHERE)


def test_rows_are_those_of_the_vocabulary_and_train_only_if_asked() -> None:
    assert built().rows().tolist() == [[0, 0], [0, 0], [0, 0], [1, 2], [3, 4]]
    assert not built().table.weight.requires_grad
    assert built(fine_tune=True).table.weight.requires_grad


def test_unknown_words_are_random_if_asked_and_padding_never() -> None:
    torch.manual_seed(0)
    rows = built(unknown="random").rows()
    assert rows[0].tolist() == [0, 0]
    assert (rows[1:3] != 0).all()
    assert rows[3:].tolist() == [[1, 2], [3, 4]]


def test_one_factor_gives_the_values_their_standard_deviation() -> None:
    rows = built(value_std=0.5).rows()
    assert rows[3:].std().item() == pytest.approx(0.5)
    assert torch.allclose(rows[3:] / rows[3, 0], torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def test_coverage_counts_types_and_running_words() -> None:
    found = built().coverage
    assert (found.known_types, found.types, found.known_tokens, found.tokens) == (2, 3, 4, 6)
    assert str(found) == "2 of 3 words (66.7%), 66.7% of the running words of the training documents"
    with pytest.raises(UserError, match=r"None of the 2 words of 'tiny' has a vector: .*tokenizer\.lowercase"):
        built(words=("odd", "stranger"))
