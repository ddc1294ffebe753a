"""Embeddings."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.documents import NOWHERE, make_corpus, tokenized_corpus
from newsreel.core.errors import UserError
from newsreel.embeddings.embedding import Learned, OneHotEmbedding, TableEmbedding

TOKEN_IDS = torch.tensor([[2, 3, 4], [4, 0, 0]])
WEIGHTS = torch.tensor([[1.0, 2.0, 0.5], [3.0, 0.0, 0.0]])


def learned(**changes: Any) -> TableEmbedding:
    settings = {"dimension": 6, "initial_std": None, "dropout": 0.0, "word_dropout": 0.0, "max_norm": None}
    return Learned(**{**settings, **changes}).build(tokenized_corpus("abc", []), make_corpus([]), NOWHERE)


def test_padding_is_a_row_of_zeros() -> None:
    embedded = learned()(TOKEN_IDS)
    assert embedded.shape == (2, 3, 6)
    assert torch.equal(embedded[1, 1:], torch.zeros(2, 6))
    assert embedded[1, 0].abs().sum() > 0


def test_values_start_as_spread_out_as_asked() -> None:
    torch.manual_seed(0)
    assert learned(dimension=400).rows()[1:].std().item() == pytest.approx(400**-0.5, rel=0.1)
    assert learned(dimension=400, initial_std=0.3).rows()[1:].std().item() == pytest.approx(0.3, rel=0.1)


def test_max_norm_bounds_the_rows_and_leaves_shorter_ones() -> None:
    assert learned(max_norm=0.1)(TOKEN_IDS).norm(dim=2).max() <= 0.1 + 1e-6
    assert learned()(TOKEN_IDS).norm(dim=2).max() > 0.1
    limited = learned(max_norm=1.0)
    with torch.no_grad():
        limited.table.weight.copy_(torch.diag(torch.tensor([0.0, 0.5, 3.0, 1.0, 2.0, 0.1]))[: len(limited.rows())])
    limited.limit_norms()
    assert limited.rows().norm(dim=1).tolist() == pytest.approx([0, 0.5, 1, 1, 1, 0.1][: len(limited.rows())])
    before = limited.rows().clone()
    limited.limit_norms()  # once more changes no bit
    assert torch.equal(limited.rows(), before)


def test_max_norm_applies_to_the_weights_of_a_checkpoint() -> None:
    weights = learned().state_dict()
    limited = learned(max_norm=0.1)
    limited.load_state_dict(weights)
    assert limited.rows().norm(dim=1).max() <= 0.1 + 1e-6


def test_dropout_zeroes_values_and_word_dropout_rows_while_training_only() -> None:
    torch.manual_seed(0)
    token_ids = torch.full((50, 40), 2)
    assert 0.45 < (learned(dropout=0.5)(token_ids) == 0).float().mean() < 0.55
    assert 0.2 < (learned(word_dropout=0.25)(token_ids) == 0).all(dim=2).float().mean() < 0.3
    assert (learned(dropout=0.5, word_dropout=0.25).eval()(token_ids) != 0).all()


def test_a_bag_of_dense_rows_is_their_weighted_sum_and_a_linear_layer() -> None:
    embedding = learned()
    layer = embedding.bag_layer(3)
    expected = layer.linear((embedding(TOKEN_IDS) * WEIGHTS[:, :, None]).sum(dim=1))
    assert torch.allclose(layer(TOKEN_IDS, WEIGHTS), expected, atol=1e-6)


def test_a_bag_of_one_hot_rows_is_a_linear_layer_on_the_bag() -> None:
    embedding = OneHotEmbedding(5)
    layer = embedding.bag_layer(3)
    bag = (embedding(TOKEN_IDS) * WEIGHTS[:, :, None]).sum(dim=1)  # (2, 5)
    assert bag.tolist() == [[0, 0, 1, 2, 0.5], [0, 0, 0, 0, 3]]
    expected = F.linear(bag, layer.table.weight.T, layer.bias)
    assert torch.allclose(layer(TOKEN_IDS, WEIGHTS), expected, atol=1e-6)


def test_a_normalised_table_has_mean_zero_and_equal_variances_weighted_by_the_words_frequencies() -> None:
    random = np.random.default_rng(0)
    values = (random.normal(size=(7, 4)) * [1, 2, 3, 4] + 5).astype(np.float32)
    values[0] = 0  # <pad>
    counts = np.array([0, 3, 5, 0, 1, 9, 2])
    frequencies = counts / counts.sum()
    mean = frequencies @ values
    variances = frequencies @ (values - mean) ** 2
    expected = (values - mean) / np.sqrt(variances) * np.sqrt(variances.mean())
    expected[0] = 0
    embedding = TableEmbedding(torch.from_numpy(values.copy()))
    before = set(embedding.state_dict())
    embedding.keep_normalized(torch.from_numpy(counts))
    assert embedding.std == pytest.approx(np.sqrt(variances.mean()), rel=1e-5)
    assert np.allclose(embedding.rows(), expected, atol=1e-5)
    assert set(embedding.state_dict()) == before  # checkpoints are those of any table
    with torch.no_grad():
        embedding.table.weight.mul_(3).add_(1)
    embedding.normalize()
    assert np.allclose(embedding.rows(), expected, atol=1e-5)


def test_a_normalised_table_of_a_single_frequent_word_has_no_bad_numbers() -> None:
    embedding = TableEmbedding(torch.randn(4, 3))
    embedding.keep_normalized(torch.tensor([0, 0, 8, 0]))
    assert embedding.rows().isfinite().all()


def test_an_embedding_without_a_table_cannot_be_normalised() -> None:
    with pytest.raises(UserError, match=r"training\.vat perturb word vectors, which this embedding does not have"):
        OneHotEmbedding(4).keep_normalized(torch.ones(4))
