"""Bag-of-words weights against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from newsreel.batches.batch import Batch
from newsreel.core.errors import UserError
from newsreel.embeddings.embedding import OneHotEmbedding, TableEmbedding
from newsreel.models.bow import BagOfWords, distinct_words

VOCABULARY_SIZE = 30


def random_batch() -> Batch:
    random = np.random.default_rng(0)
    lengths = random.integers(0, 25, 40)
    token_ids = np.zeros((40, 25), dtype=np.int64)
    for row, length in zip(token_ids, lengths, strict=True):
        row[:length] = random.integers(1, VOCABULARY_SIZE, length)  # <unk> among them
    return Batch(torch.from_numpy(token_ids), torch.from_numpy(lengths), torch.zeros(40), 40)


def halves(batch: Batch) -> list[Batch]:
    tensors = batch[:3]
    return [Batch(*(part[:15] for part in tensors), 15), Batch(*(part[15:] for part in tensors), 25)]


def scikit_learn_weights(batch: Batch, weighting: str, sublinear_tf: bool) -> np.ndarray:
    known = [[str(number) for number in row if number > 1] for row in batch.token_ids.tolist()]
    counter = CountVectorizer(analyzer=lambda words: words, vocabulary=[str(n) for n in range(VOCABULARY_SIZE)])
    counts = counter.transform(known)
    if weighting == "tfidf":
        return np.asarray(TfidfTransformer(sublinear_tf=sublinear_tf).fit_transform(counts).todense())
    dense = np.asarray(counts.todense(), dtype=float)
    if weighting == "binary":
        return (dense > 0).astype(float)
    if sublinear_tf:
        dense = np.asarray(
            TfidfTransformer(norm=None, use_idf=False, sublinear_tf=True).fit_transform(counts).todense()
        )
    return dense / np.maximum(1, dense.sum(axis=1, keepdims=True)) if weighting == "tf" else dense


@pytest.mark.parametrize("sublinear_tf", [False, True])
@pytest.mark.parametrize("weighting", ["binary", "count", "tf", "tfidf"])
def test_weights_are_those_of_scikit_learn(weighting: str, sublinear_tf: bool) -> None:
    batch = random_batch()
    embedding = OneHotEmbedding(VOCABULARY_SIZE)
    options = {"weighting": weighting, "sublinear_tf": sublinear_tf}
    network = BagOfWords(embedding, 1, **options, hidden_sizes=[], dropout=0.0)  # type: ignore[arg-type]
    network.fit_statistics(halves(batch))
    words, counts = distinct_words(batch.token_ids)
    weights = torch.zeros(40, VOCABULARY_SIZE).scatter_add_(1, words, network.weigh(words, counts))
    assert np.allclose(weights.numpy(), scikit_learn_weights(batch, weighting, sublinear_tf), atol=1e-6)


def test_distinct_words_by_hand() -> None:
    words, counts = distinct_words(torch.tensor([[5, 2, 5, 1, 0], [0, 0, 0, 0, 0]]))
    assert words.tolist() == [[0, 1, 2, 5, 5], [0, 0, 0, 0, 0]]
    assert counts.tolist() == [[0, 0, 1, 2, 0], [0, 0, 0, 0, 0]]


def test_the_perceptron_of_the_lecture() -> None:
    embedding = OneHotEmbedding(10_002)
    network = BagOfWords(embedding, 1, weighting="binary", sublinear_tf=False, hidden_sizes=[16, 16], dropout=0.0)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert num_parameters == 10_002 * 16 + 16 + 16 * 16 + 16 + 16 + 1


def test_dropout_drops_words_while_training() -> None:
    embedding = OneHotEmbedding(VOCABULARY_SIZE)
    network = BagOfWords(embedding, 1, weighting="count", sublinear_tf=False, hidden_sizes=[], dropout=0.5)
    torch.manual_seed(0)
    batch = random_batch()
    first, second = (network(batch.token_ids, batch.lengths) for _ in range(2))
    assert not torch.allclose(first, second)
    network.eval()
    assert torch.equal(network(batch.token_ids, batch.lengths), network(batch.token_ids, batch.lengths))


def paper_ratios(batch: Batch, labels: np.ndarray) -> np.ndarray:
    """Wang and Manning 2012, eq. 1, on a dense document-word matrix; labels: (B,) bool."""
    held = scikit_learn_weights(batch, "binary", False)
    p, q = 1 + held[labels].sum(axis=0), 1 + held[~labels].sum(axis=0)
    p[:2] = q[:2] = 0
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.log((p / p.sum()) / (q / q.sum())))


def test_naive_bayes_ratios_on_paper() -> None:
    # "good film" is positive, "bad film" negative: p = (good 2, bad 1, film 2), q = (1, 2, 2), each 5 in all
    network = BagOfWords(OneHotEmbedding(5), 1, weighting="nb", sublinear_tf=False, hidden_sizes=[], dropout=0.0)
    network.fit_statistics([Batch(torch.tensor([[2, 4], [3, 4]]), torch.tensor([2, 2]), torch.tensor([1, 0]), 2)])
    assert torch.allclose(network.ratios[:, 0], torch.tensor([0, 0, np.log(2), -np.log(2), 0], dtype=torch.float))
    weights = network.weigh(*distinct_words(torch.tensor([[2, 4, 2], [2, 3, 0]])))  # of unit length
    assert torch.allclose(weights.sum(dim=1), torch.tensor([1.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_naive_bayes_ratios_are_those_of_the_paper(num_outputs: int) -> None:
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, max(2, num_outputs), 40))
    batch = random_batch()._replace(targets=labels)
    network = BagOfWords(
        OneHotEmbedding(VOCABULARY_SIZE), num_outputs, weighting="nb", sublinear_tf=False, hidden_sizes=[], dropout=0.0
    )
    network.fit_statistics(halves(batch))
    expected = [paper_ratios(batch, labels.numpy() == label) for label in (range(3) if num_outputs > 1 else [1])]
    assert np.allclose(network.ratios.numpy(), np.stack(expected, axis=1), atol=1e-5)
    held = scikit_learn_weights(batch, "binary", False)[:, :, None] * np.stack(expected, axis=1)  # (B, V, num_outputs)
    norms = np.maximum(np.linalg.norm(held, axis=1, keepdims=True), 1e-12)
    table = network.bag.table.weight.detach().numpy()  # type: ignore[union-attr]
    logits = (held / norms * table).sum(axis=1)
    assert np.allclose(network(batch.token_ids, batch.lengths).detach().numpy(), logits, atol=1e-5)


def test_naive_bayes_ratios_of_documents_with_several_labels() -> None:
    targets = torch.from_numpy(np.random.default_rng(1).integers(0, 2, (40, 3))).float()
    batch = random_batch()._replace(targets=targets)
    network = BagOfWords(
        OneHotEmbedding(VOCABULARY_SIZE), 3, weighting="nb", sublinear_tf=False, hidden_sizes=[], dropout=0.0
    )
    network.fit_statistics([batch])
    expected = [paper_ratios(batch, targets[:, label].numpy() > 0) for label in range(3)]
    assert np.allclose(network.ratios.numpy(), np.stack(expected, axis=1), atol=1e-5)


def test_ratios_of_several_labels_need_outputs_that_the_words_lead_to() -> None:
    dense = TableEmbedding(torch.randn(VOCABULARY_SIZE, 5))
    for embedding, hidden in ((OneHotEmbedding(VOCABULARY_SIZE), [4]), (dense, [])):
        with pytest.raises(UserError, match=r"model\.weighting=nb .* \(3 in this corpus\)"):
            BagOfWords(embedding, 3, weighting="nb", sublinear_tf=False, hidden_sizes=hidden, dropout=0.0)
        BagOfWords(embedding, 1, weighting="nb", sublinear_tf=False, hidden_sizes=hidden, dropout=0.0)


@pytest.mark.parametrize("num_outputs", [1, 3])
@pytest.mark.parametrize("weighting", ["tfidf", "nb"])
@pytest.mark.parametrize("dense", [False, True])
def test_sparse_gradients_train_the_same_weights(weighting: str, num_outputs: int, dense: bool) -> None:
    if dense and weighting == "nb" and num_outputs > 1:
        pytest.skip("refused")
    batch = random_batch()
    batch = batch._replace(targets=torch.from_numpy(np.random.default_rng(1).integers(0, max(2, num_outputs), 40)))
    trained = []
    for sparse in (False, True):
        torch.manual_seed(0)
        embedding = TableEmbedding(torch.randn(VOCABULARY_SIZE, 5)) if dense else OneHotEmbedding(VOCABULARY_SIZE)
        network = BagOfWords(
            embedding, num_outputs, weighting=weighting, sublinear_tf=False, hidden_sizes=[], dropout=0.0
        )  # type: ignore[arg-type]
        network.fit_statistics([batch])
        for module in network.modules():
            if isinstance(module, torch.nn.Embedding):
                module.sparse = sparse
        optimizer = torch.optim.Adagrad(network.parameters(), lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            network(batch.token_ids, batch.lengths).square().sum().backward()
            gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
            assert any(gradient.is_sparse for gradient in gradients) == sparse
            optimizer.step()
        trained.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
    assert torch.allclose(*trained, atol=1e-6)
