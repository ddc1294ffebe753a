"""The exact solver against scikit-learn and against the gradient of the network's own loss."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, random_array
from sklearn.linear_model import LogisticRegression

from helpers.marks import with_fast
from helpers.pairwise import pairwise_cover
from newsreel.batches.bags import count_words
from newsreel.corpora.corpus import Task
from newsreel.embeddings.embedding import OneHotEmbedding
from newsreel.models.bow import BagOfWords
from newsreel.models.convex import BinaryLoss, ConvexLoss, ConvexProblem, Features, SoftmaxLoss, minimize
from newsreel.models.loss import Loss, LossSettings
from newsreel.models.newton import parts_of

NUM_DOCUMENTS, NUM_WORDS, NUM_LABELS = 120, 40, 3
LOSSES: dict[str, tuple[Task, dict[str, Any]]] = {
    "binary": ("binary", {}),
    "binary, balanced": ("binary", {"class_balance": 0.7, "label_smoothing": 0.1}),
    "multiclass": ("multiclass", {}),
    "multiclass, balanced": ("multiclass", {"class_balance": 1.0, "label_smoothing": 0.1}),
    "one vs rest": ("multiclass", {"one_vs_rest": True, "class_balance": 0.5, "label_smoothing": 0.05}),
    "multilabel": ("multilabel", {}),
    "multilabel, balanced": ("multilabel", {"class_balance": 0.5, "label_smoothing": 0.1}),
}
FACTORS = (list(LOSSES), ["tfidf", "nb", "count"], ["hard", "soft"])
random = np.random.default_rng(0)
LABELS = random.integers(0, NUM_LABELS, NUM_DOCUMENTS)
DOCUMENT_WEIGHTS = random.uniform(0.2, 3, NUM_DOCUMENTS)


def made_up_words() -> csr_array:
    """Float64 counts in which the first words tell the labels."""
    words = random_array((NUM_DOCUMENTS, NUM_WORDS), density=0.2, rng=np.random.default_rng(1), format="lil")
    words[np.arange(NUM_DOCUMENTS), LABELS] += np.where(np.random.default_rng(2).random(NUM_DOCUMENTS) < 0.8, 1.0, 0.0)
    return csr_array(words)


def scaled_for_reference(words: csr_array) -> tuple[np.ndarray, np.ndarray, float]:
    """x / sqrt(c), sqrt(c), and the mean squared norm of the former, straight from the definition."""
    dense = words.toarray()
    factors = np.sqrt((dense**2).sum(axis=0))
    scaled = dense / np.sqrt(np.maximum(factors, 1e-300))
    return scaled, np.sqrt(factors), (scaled**2).sum() / len(dense)


def solve(loss: ConvexLoss, l2: float, num_threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    words = made_up_words()
    features = Features.of(words, np.ones((NUM_DOCUMENTS, 1)), np.ones((NUM_WORDS, 1)), num_threads)
    problem = ConvexProblem(features, loss, l2)
    size = loss.targets.shape[1]
    start = problem.parameters(np.zeros((NUM_WORDS, size)), np.zeros(size))
    return problem.weights_and_bias(minimize(problem, start, tolerance=1e-9))


@pytest.mark.parametrize("l2", [3.0, 0.1])
@pytest.mark.parametrize("weights", [np.ones(NUM_DOCUMENTS), DOCUMENT_WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("kind", ["binary", "softmax"])
def test_the_optimum_is_that_of_scikit_learn(kind: str, weights: np.ndarray, l2: float) -> None:
    scaled, roots, square_norm = scaled_for_reference(made_up_words())
    labels = LABELS if kind == "softmax" else (LABELS > 0).astype(int)
    reference = LogisticRegression(C=1 / (l2 * square_norm), tol=1e-12, max_iter=10_000)
    reference.fit(scaled, labels, sample_weight=weights)
    targets = np.eye(NUM_LABELS)[labels] if kind == "softmax" else labels[:, None].astype(float)
    loss = (SoftmaxLoss if kind == "softmax" else BinaryLoss)(targets, weights[:, None])
    found, bias = solve(loss, l2)
    assert np.allclose(found * roots[:, None], reference.coef_.T, atol=1e-5)
    assert np.allclose(bias - bias.mean() * (kind == "softmax"), reference.intercept_, atol=1e-5)


@pytest.mark.parametrize("kind", ["binary", "softmax"])
def test_probabilities_as_targets_are_copies_of_the_document_with_each_label(kind: str) -> None:
    scaled, roots, square_norm = scaled_for_reference(made_up_words())
    size, l2 = NUM_LABELS if kind == "softmax" else 2, 0.3
    probs = np.random.default_rng(4).dirichlet(np.ones(size), NUM_DOCUMENTS)  # (N, size)
    copies, labels = np.repeat(scaled, size, axis=0), np.tile(np.arange(size), NUM_DOCUMENTS)
    reference = LogisticRegression(C=1 / (l2 * square_norm), tol=1e-12, max_iter=10_000)
    reference.fit(copies, labels, sample_weight=(DOCUMENT_WEIGHTS[:, None] * probs).ravel())
    loss = (SoftmaxLoss if kind == "softmax" else BinaryLoss)(
        probs if kind == "softmax" else probs[:, 1:], DOCUMENT_WEIGHTS[:, None]
    )
    found, bias = solve(loss, l2)
    assert np.allclose(found * roots[:, None], reference.coef_.T, atol=1e-5)
    assert np.allclose(bias - bias.mean() * (kind == "softmax"), reference.intercept_, atol=1e-5)


def test_the_number_of_threads_changes_no_bit() -> None:
    loss = SoftmaxLoss(np.eye(NUM_LABELS)[LABELS], DOCUMENT_WEIGHTS[:, None])
    single, several = solve(loss, 0.3), solve(loss, 0.3, num_threads=3)
    assert np.array_equal(single[0], several[0])
    assert np.array_equal(single[1], several[1])


def documents(num_documents: int = 60) -> list[np.ndarray]:
    generator = np.random.default_rng(5)
    lengths = [0, *generator.integers(1, 20, num_documents - 1)]
    return [generator.integers(1, NUM_WORDS, length).astype(np.int32) for length in lengths]


def padded(texts: list[np.ndarray]) -> torch.Tensor:
    token_ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
    for row, text in zip(token_ids, texts, strict=True):
        row[: len(text)] = torch.from_numpy(text)
    return token_ids


def network(task: Task, weighting: str, targets: torch.Tensor, sublinear_tf: bool = False) -> BagOfWords:
    settings: dict[str, Any] = {"weighting": weighting, "sublinear_tf": sublinear_tf}
    size = 1 if task == "binary" else NUM_LABELS
    built = BagOfWords(OneHotEmbedding(NUM_WORDS), size, hidden_sizes=[], dropout=0.0, **settings)
    built.fit_word_statistics(count_words(documents(), NUM_WORDS), targets)
    return built


def targets_of(task: Task) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    if task == "multilabel":
        return (torch.rand(60, NUM_LABELS, generator=generator) < 0.3).float()
    return torch.randint(0, 2 if task == "binary" else NUM_LABELS, (60,), generator=generator)


def softened(targets: torch.Tensor, task: Task) -> torch.Tensor:
    """(60, L) probabilities of which three quarters are at the targets."""
    if task == "multilabel":
        return 0.75 * targets + 0.125
    indicators = torch.eye(2 if task == "binary" else NUM_LABELS)[targets]
    return 0.75 * indicators + 0.25 / indicators.shape[1]


@pytest.mark.parametrize("sublinear_tf", [False, True])
@pytest.mark.parametrize("weighting", ["binary", "count", "tf", "tfidf", "nb"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_features_give_the_logits_of_the_network(task: Task, weighting: str, sublinear_tf: bool) -> None:
    model = network(task, weighting, targets_of(task), sublinear_tf)
    weights, bias = model.word_layer()
    features = model.features(count_words(documents(), NUM_WORDS))
    logits = features.logits(weights.detach().numpy()) + bias.detach().numpy()
    expected = model(padded(documents()), torch.tensor([len(text) for text in documents()]))
    assert np.allclose(logits, expected.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "weighting", "target"),
    with_fast({row[0]: row for row in pairwise_cover(*FACTORS)}.values(), product(*FACTORS)),  # one for each loss
)
def test_the_loss_that_training_reports_has_no_gradient_at_the_optimum(kind: str, weighting: str, target: str) -> None:
    """By automatic differentiation of the network's forward and of `Loss`, which the solver does not use."""
    (task, changes), is_soft = LOSSES[kind], target == "soft"
    targets, l2 = targets_of(task), 0.3
    counts = targets.sum(dim=0).long() if task == "multilabel" else torch.bincount(targets)
    document_weights = None
    if is_soft:  # pseudo-labels
        targets = softened(targets, task)
        document_weights = torch.linspace(0.1, 1, 60)
    model = network(task, weighting, targets)
    settings = {"class_balance": 0.0, "focal_gamma": 0.0, "label_smoothing": 0.0, "one_vs_rest": False, **changes}
    loss = Loss(task, counts, 60, LossSettings(**settings))
    features = model.features(count_words(documents(), NUM_WORDS))
    table, bias = (part.detach().clone() for part in model.word_layer())
    for part in parts_of(features, loss, targets, document_weights):
        problem = ConvexProblem(part.features, part.loss, l2)
        start = problem.parameters(np.zeros_like(table[:, part.outputs]), np.zeros_like(bias[part.outputs]))
        weights, biases = problem.weights_and_bias(minimize(problem, start, tolerance=1e-6))
        table[:, part.outputs], bias[part.outputs] = torch.from_numpy(weights), torch.from_numpy(biases)
    assert table.abs().max() > 0.01
    factors = torch.stack([word_weights(model, output).norm(dim=0) for output in range(table.shape[1])], dim=1)  # c
    scales = factors.sum(dim=0) / 60  # s of each output
    joint = task == "multiclass" and not settings["one_vs_rest"]
    penalties = l2 * factors * (scales.mean() if joint else scales)
    num_terms = 60 * (NUM_LABELS if task == "multilabel" else 1)

    def gradient_norm(table: torch.Tensor, bias: torch.Tensor) -> float:
        set_word_layer(model, table, bias)
        objective = num_terms * loss(model(padded(documents()), torch.zeros(60)), targets, document_weights)
        objective = objective + 0.5 * (penalties * model.word_layer()[0].square()).sum()
        gradients = torch.autograd.grad(objective, list(model.word_layer()))
        return float(torch.cat([gradient.flatten() for gradient in gradients]).norm())

    assert gradient_norm(table, bias) < 2e-3 * gradient_norm(torch.zeros_like(table), bias)


def set_word_layer(model: BagOfWords, table: torch.Tensor, bias: torch.Tensor) -> None:
    with torch.no_grad():
        for part, values in zip(model.word_layer(), (table, bias), strict=True):
            part.copy_(values)


def word_weights(model: BagOfWords, output: int) -> torch.Tensor:
    """(N, V) x of one output, read off the network's logits for weights that select one word each."""
    table, bias = (torch.zeros_like(part) for part in model.word_layer())
    columns = []
    for word in range(NUM_WORDS):
        table.zero_()
        table[word, output] = 1
        set_word_layer(model, table, bias)
        columns.append(model(padded(documents()), torch.zeros(60)).detach()[:, output])
    return torch.stack(columns, dim=1)
