"""Bag-of-words weights against scikit-learn and the equation of Naive Bayes ratios."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from newsreel.batches.bags import count_words
from newsreel.batches.batch import Batch
from newsreel.core.errors import UserError
from newsreel.embeddings.embedding import Embedding, OneHotEmbedding, TableEmbedding
from newsreel.models.bow import BagOfWords, distinct_words

NUM_WORDS = 30


def bow(num_outputs: int = 1, embedding: Embedding | None = None, **changes: Any) -> BagOfWords:
    settings: dict[str, Any] = {"weighting": "nb", "sublinear_tf": False, "hidden_sizes": [], "dropout": 0.0, **changes}
    return BagOfWords(embedding or OneHotEmbedding(NUM_WORDS), num_outputs, **settings)


def dense() -> Embedding:
    return TableEmbedding(torch.randn(NUM_WORDS, 5))


def random_batch(targets: Any = None) -> Batch:
    random = np.random.default_rng(0)
    lengths = random.integers(0, 25, 40)
    token_ids = np.zeros((40, 25), dtype=np.int64)
    for row, length in zip(token_ids, lengths, strict=True):
        row[:length] = random.integers(1, NUM_WORDS, length)  # <unk> among them
    targets = torch.zeros(40) if targets is None else torch.from_numpy(targets)
    return Batch(torch.from_numpy(token_ids), torch.from_numpy(lengths), targets, 40)


def halves(batch: Batch) -> list[Batch]:
    return [Batch(*(part[:15] for part in batch[:3]), 15), Batch(*(part[15:] for part in batch[:3]), 25)]


def scikit_learn_weights(batch: Batch, weighting: str, sublinear_tf: bool = False) -> np.ndarray:
    known = [[str(number) for number in row if number > 1] for row in batch.token_ids.tolist()]
    counter = CountVectorizer(analyzer=lambda words: words, vocabulary=[str(n) for n in range(NUM_WORDS)])
    counts = counter.transform(known)
    if weighting == "tfidf":
        return np.asarray(TfidfTransformer(sublinear_tf=sublinear_tf).fit_transform(counts).todense())
    if weighting == "binary":
        return (counts.toarray() > 0).astype(float)
    if sublinear_tf:
        counts = TfidfTransformer(norm=None, use_idf=False, sublinear_tf=True).fit_transform(counts)
    weights = counts.toarray()
    return weights / np.maximum(1, weights.sum(axis=1, keepdims=True)) if weighting == "tf" else weights


@pytest.mark.parametrize("sublinear_tf", [False, True])
@pytest.mark.parametrize("weighting", ["binary", "count", "tf", "tfidf"])
def test_weights_are_those_of_scikit_learn(weighting: str, sublinear_tf: bool) -> None:
    batch = random_batch()
    network = bow(weighting=weighting, sublinear_tf=sublinear_tf)
    network.fit_statistics(halves(batch))
    words, counts = distinct_words(batch.token_ids)
    weights = torch.zeros(40, NUM_WORDS).scatter_add_(1, words, network.weigh(words, counts))
    assert np.allclose(weights.numpy(), scikit_learn_weights(batch, weighting, sublinear_tf), atol=1e-6)


def test_the_perceptron_of_the_lecture_has_its_number_of_parameters() -> None:
    network = bow(1, OneHotEmbedding(10_002), weighting="binary", hidden_sizes=[16, 16])
    assert sum(map(torch.numel, network.parameters())) == 10_002 * 16 + 16 + 16 * 16 + 16 + 16 + 1


def test_dropout_drops_words_while_training() -> None:
    network, batch = bow(weighting="count", dropout=0.5), random_batch()
    assert not torch.allclose(network(*batch[:2]), network(*batch[:2]))
    network.eval()
    assert torch.equal(network(*batch[:2]), network(*batch[:2]))


def paper_ratios(batch: Batch, labels: np.ndarray) -> np.ndarray:
    """Wang and Manning 2012, eq. 1, on a dense document-word matrix; labels: (B,) bool."""
    present = scikit_learn_weights(batch, "binary")
    p, q = 1 + present[labels].sum(axis=0), 1 + present[~labels].sum(axis=0)
    p[:2] = q[:2] = 0
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.log((p / p.sum()) / (q / q.sum())))


@pytest.mark.parametrize(("num_outputs", "several"), [(1, False), (3, False), (3, True)])
def test_naive_bayes_ratios_are_those_of_the_paper(num_outputs: int, several: bool) -> None:
    random = np.random.default_rng(1)
    targets = random.integers(0, 2, (40, 3)) if several else random.integers(0, max(2, num_outputs), 40)
    batch = random_batch(targets.astype(np.float32) if several else targets)
    network = bow(num_outputs)
    network.fit_statistics(halves(batch))
    indicators = targets > 0 if several else targets[:, None] == (np.arange(3) if num_outputs == 3 else [1])
    ratios = np.stack([paper_ratios(batch, has_label) for has_label in indicators.T], axis=1)
    assert np.allclose(network.ratios.numpy(), ratios, atol=1e-5)
    weights = scikit_learn_weights(batch, "binary")[:, :, None] * ratios  # (B, V, num_outputs), then of unit length
    weights /= np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-12)
    logits = (weights * network.bag.table.weight.detach().numpy()).sum(axis=1)  # type: ignore[union-attr]
    assert np.allclose(network(*batch[:2]).detach().numpy(), logits, atol=1e-5)


@pytest.mark.parametrize("num_outputs", [1, 2])
def test_probabilities_count_as_fractions_of_documents(num_outputs: int) -> None:
    counts = count_words([np.array([2, 3]), np.array([2, 2]), np.array([3])], NUM_WORDS)
    network = bow(num_outputs)
    network.fit_word_statistics(counts, torch.tensor([[0.0, 1.0], [0.75, 0.25], [1.0, 0.0]]))
    with_label = {2: 1.25, 3: 1.0}  # of the two documents that contain each word
    others = NUM_WORDS - 4  # words that occur nowhere, <pad> and <unk> left out
    positive, negative = 1 + np.array(list(with_label.values())), 1 + 2 - np.array(list(with_label.values()))
    expected = np.log(positive / (positive.sum() + others)) - np.log(negative / (negative.sum() + others))
    assert network.ratios[2:4, -1].numpy() == pytest.approx(expected, rel=1e-5)


def test_ratios_of_several_labels_need_outputs_that_the_words_lead_to() -> None:
    for embedding, hidden in ((OneHotEmbedding(NUM_WORDS), [4]), (dense(), [])):
        with pytest.raises(UserError, match=r"model\.weighting=nb .* \(3 in this corpus\)"):
            bow(3, embedding, hidden_sizes=hidden)
        bow(1, embedding, hidden_sizes=hidden)


@pytest.mark.parametrize(
    ("weighting", "num_outputs", "one_hot"),
    [("tfidf", 1, True), ("tfidf", 3, False), ("nb", 1, False), ("nb", 3, True)],
)
def test_sparse_gradients_train_the_same_weights(weighting: str, num_outputs: int, one_hot: bool) -> None:
    batch = random_batch(np.random.default_rng(1).integers(0, max(2, num_outputs), 40))
    trained = []
    for sparse in (False, True):
        torch.manual_seed(0)
        network = bow(num_outputs, None if one_hot else dense(), weighting=weighting)
        network.fit_statistics([batch])
        for module in network.modules():
            if isinstance(module, torch.nn.Embedding):
                module.sparse = sparse
        optimizer = torch.optim.Adagrad(network.parameters(), lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            network(*batch[:2]).square().sum().backward()
            gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
            assert any(gradient.is_sparse for gradient in gradients) == sparse
            optimizer.step()
        trained.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
    assert torch.allclose(*trained, atol=1e-6)
