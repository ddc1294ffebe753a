"""Bag-of-words weights against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from newsreel.batches.batch import Batch
from newsreel.embeddings.embedding import OneHotEmbedding
from newsreel.models.bow import BagOfWords, distinct_words

VOCABULARY_SIZE = 30


def random_batch() -> Batch:
    random = np.random.default_rng(0)
    lengths = random.integers(0, 25, 40)
    token_ids = np.zeros((40, 25), dtype=np.int64)
    for row, length in zip(token_ids, lengths, strict=True):
        row[:length] = random.integers(1, VOCABULARY_SIZE, length)  # <unk> among them
    return Batch(torch.from_numpy(token_ids), torch.from_numpy(lengths), torch.zeros(40))


def scikit_learn_weights(batch: Batch, weighting: str) -> np.ndarray:
    known = [[str(number) for number in row if number > 1] for row in batch.token_ids.tolist()]
    counter = CountVectorizer(analyzer=lambda words: words, vocabulary=[str(n) for n in range(VOCABULARY_SIZE)])
    counts = counter.transform(known)
    if weighting == "tfidf":
        return np.asarray(TfidfTransformer().fit_transform(counts).todense())
    dense = np.asarray(counts.todense(), dtype=float)
    if weighting == "binary":
        return (dense > 0).astype(float)
    return dense / np.maximum(1, dense.sum(axis=1, keepdims=True)) if weighting == "tf" else dense


@pytest.mark.parametrize("weighting", ["binary", "count", "tf", "tfidf"])
def test_weights_are_those_of_scikit_learn(weighting: str) -> None:
    batch = random_batch()
    embedding = OneHotEmbedding(VOCABULARY_SIZE)
    network = BagOfWords(embedding, 1, weighting=weighting, hidden_sizes=[], dropout=0.0)  # type: ignore[arg-type]
    network.fit_statistics([Batch(*(part[:15] for part in batch)), Batch(*(part[15:] for part in batch))])
    words, counts = distinct_words(batch.token_ids)
    weights = torch.zeros(40, VOCABULARY_SIZE).scatter_add_(1, words, network.weigh(words, counts))
    assert np.allclose(weights.numpy(), scikit_learn_weights(batch, weighting), atol=1e-6)


def test_distinct_words_by_hand() -> None:
    words, counts = distinct_words(torch.tensor([[5, 2, 5, 1, 0], [0, 0, 0, 0, 0]]))
    assert words.tolist() == [[0, 1, 2, 5, 5], [0, 0, 0, 0, 0]]
    assert counts.tolist() == [[0, 0, 1, 2, 0], [0, 0, 0, 0, 0]]


def test_the_perceptron_of_the_lecture() -> None:
    embedding = OneHotEmbedding(10_002)
    network = BagOfWords(embedding, 1, weighting="binary", hidden_sizes=[16, 16], dropout=0.0)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert num_parameters == 10_002 * 16 + 16 + 16 * 16 + 16 + 16 + 1


def test_dropout_drops_words_while_training() -> None:
    embedding = OneHotEmbedding(VOCABULARY_SIZE)
    network = BagOfWords(embedding, 1, weighting="count", hidden_sizes=[], dropout=0.5)
    torch.manual_seed(0)
    batch = random_batch()
    first, second = (network(batch.token_ids, batch.lengths) for _ in range(2))
    assert not torch.allclose(first, second)
    network.eval()
    assert torch.equal(network(batch.token_ids, batch.lengths), network(batch.token_ids, batch.lengths))
