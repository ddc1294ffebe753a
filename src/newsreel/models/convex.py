"""Linear classifiers of bags of words, trained to the optimum of a convex problem by a truncated Newton method.

Axes: N documents, V words, K outputs that are trained together: one for each binary decision, all for a softmax.

The objective of weights w (V, K) and biases b (K,) is

    Σ_i loss(z_i) + (λ / 2) s Σ_jk c_jk w_jk²,    z_ik = Σ_j x_ijk w_jk + b_k,    c_jk = sqrt(Σ_i x_ijk²),

over training documents i, where x_ijk is the weight of word j in document i for output k. The factors c are those of
Adagrad (Duchi, Hazan and Singer 2011, section 1.1), whose steps are short for words with much evidence: the penalty of
a rare word's weight is small. They classify better than c = 1 at every number of documents. s = Σ_jk c_jk / (N K) makes
λ independent of the scale of x: it is the penalty for documents of mean squared norm 1 in coordinates u = w sqrt(c),
and so 1 / C in scikit-learn's LogisticRegression on x / sqrt(c) scaled to that norm.

The method is that of LIBLINEAR since version 2.40 (Galli and Lin 2021): Newton directions by conjugate gradients
preconditioned with the diagonal of the Hessian, each ended when a step adds less than half of the mean decrease of the
quadratic model so far (Nash and Sofer 1990), and a backtracking line search (Armijo 1966), which needs no product with
the matrix because logits are linear in the weights.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Floats = npt.NDArray[np.floating]  # float32 in training

TOLERANCE = 5e-3  # of the gradient's norm, relative to that of a classifier that knows only the labels' frequencies
MAX_NEWTON_STEPS = 100
MAX_CG_STEPS = 200  # in one Newton step
MODEL_DECREASE = 0.5  # ends conjugate gradients: decrease in the last step, relative to the mean of all steps
ARMIJO = 0.01  # sufficient decrease, relative to that of the linear model
MIN_STEP = 2.0**-20


class ThreadedMatrix:
    """A sparse matrix whose products with dense ones are computed in blocks of rows, one thread for each.

    SciPy releases the GIL. A row of a product does not depend on the others, so the number of threads changes no bit.
    """

    def __init__(self, matrix: csr_array, num_threads: int) -> None:
        self.matrix = matrix
        bounds = np.searchsorted(matrix.indptr, np.linspace(0, matrix.nnz, num_threads + 1)[1:-1])
        limits = [0, *bounds.tolist(), matrix.shape[0]]
        self._blocks = [matrix] if num_threads == 1 else [row_block(matrix, *pair) for pair in pairwise(limits)]
        self._threads = ThreadPoolExecutor(num_threads) if num_threads > 1 else None

    def __matmul__(self, dense: Floats) -> Floats:
        """(R, C) times (C, K) → (R, K)."""
        if self._threads is None:
            return np.asarray(self.matrix @ dense)
        return np.concatenate(list(self._threads.map(lambda block: block @ dense, self._blocks)))


def row_block(matrix: csr_array, begin: int, end: int) -> csr_array:
    """Rows of a matrix, without a copy of its values."""
    first, last = matrix.indptr[begin], matrix.indptr[end]
    parts = (matrix.data[first:last], matrix.indices[first:last], matrix.indptr[begin : end + 1] - first)
    return csr_array(parts, shape=(end - begin, matrix.shape[1]))


@dataclass(frozen=True)
class Features:
    """The weights x_ijk = rows_ik · matrix_ij · columns_jk of words in documents; never stored as such."""

    matrix: ThreadedMatrix  # (N, V)
    transposed: ThreadedMatrix  # (V, N), stored by rows too: twice as fast as products with matrix.T
    squares: ThreadedMatrix  # (V, N), of the squared values
    rows: Floats  # (N, 1), or (N, K)
    columns: Floats  # (V, 1), or (V, K)

    @classmethod
    def of(cls, matrix: csr_array, rows: Floats, columns: Floats, num_threads: int = 1) -> "Features":
        transposed = ThreadedMatrix(matrix.T.tocsr(), num_threads)
        if (matrix.data == 1).all():
            return cls(ThreadedMatrix(matrix, num_threads), transposed, transposed, rows, columns)
        stored = transposed.matrix
        squares = csr_array((stored.data**2, stored.indices, stored.indptr), shape=stored.shape)
        return cls(ThreadedMatrix(matrix, num_threads), transposed, ThreadedMatrix(squares, num_threads), rows, columns)

    def of_output(self, output: int) -> "Features":
        """The features of one output: K = 1."""
        rows, columns = (part[:, [output if part.shape[1] > 1 else 0]] for part in (self.rows, self.columns))
        return replace(self, rows=rows, columns=columns)

    def logits(self, weights: Floats) -> Floats:
        """(V, K) weights → (N, K): Σ_j x_ijk weights_jk."""
        return np.asarray(self.rows * (self.matrix @ (self.columns * weights)))

    def sums(self, values: Floats) -> Floats:
        """(N, K) values → (V, K): Σ_i x_ijk values_ik."""
        return np.asarray(self.columns * (self.transposed @ (self.rows * values)))

    def square_sums(self, values: Floats) -> Floats:
        """(N, K) values → (V, K): Σ_i x_ijk² values_ik."""
        return np.asarray(self.columns**2 * (self.squares @ (self.rows**2 * values)))


class ConvexLoss(ABC):
    """A sum of convex losses over documents, as a function of their (N, K) logits."""

    targets: Floats  # (N, K) probabilities
    weights: Floats  # (N, 1) of documents

    @abstractmethod
    def value(self, logits: Floats) -> float:
        """The sum of losses."""

    @abstractmethod
    def probs(self, logits: Floats) -> Floats:
        """(N, K) probabilities of the logits."""

    @abstractmethod
    def hessian_product(self, probs: Floats, values: Floats) -> Floats:
        """(N, K): the Hessian with respect to the logits, times (N, K) values."""

    @abstractmethod
    def prior_logits(self) -> Floats:
        """(K,) logits with the smallest sum of losses of those that are the same for all documents."""

    def gradient(self, logits: Floats) -> Floats:
        """(N, K) with respect to the logits."""
        return self.weights * (self.probs(logits) - self.targets)

    def hessian_diagonal(self, probs: Floats) -> Floats:
        """(N, K) of the Hessian with respect to the logits."""
        return self.weights * probs * (1 - probs)

    def _prior_probs(self) -> Floats:
        probs = (self.weights * self.targets).sum(axis=0, dtype=np.float64) / self.weights.sum(dtype=np.float64)
        return np.asarray(np.clip(probs, 1e-9, 1 - 1e-9))


@dataclass(frozen=True)
class BinaryLoss(ConvexLoss):
    """Log loss of one binary decision: K = 1."""

    targets: Floats
    weights: Floats

    def value(self, logits: Floats) -> float:
        return float((self.weights * (np.logaddexp(0, logits) - self.targets * logits)).sum(dtype=np.float64))

    def probs(self, logits: Floats) -> Floats:
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits))

    def hessian_product(self, probs: Floats, values: Floats) -> Floats:
        return self.hessian_diagonal(probs) * values

    def prior_logits(self) -> Floats:
        probs = self._prior_probs()
        return np.asarray(np.log(probs / (1 - probs)))


@dataclass(frozen=True)
class SoftmaxLoss(ConvexLoss):
    """Log loss of K classes that exclude each other."""

    targets: Floats
    weights: Floats

    def value(self, logits: Floats) -> float:
        highest = logits.max(axis=1, keepdims=True)
        normalizers = highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))  # (N, 1)
        return float((self.weights * self.targets * (normalizers - logits)).sum(dtype=np.float64))

    def probs(self, logits: Floats) -> Floats:
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))

    def hessian_product(self, probs: Floats, values: Floats) -> Floats:
        products = probs * values
        return np.asarray(self.weights * (products - probs * products.sum(axis=1, keepdims=True)))

    def prior_logits(self) -> Floats:
        return np.asarray(np.log(self._prior_probs()))


class ConvexProblem:
    """The objective for one λ, as a function of flat parameters: (V, K) values u = w sqrt(c), then (K,) biases."""

    def __init__(self, features: Features, loss: ConvexLoss, l2: float) -> None:
        num_documents, num_outputs = loss.targets.shape
        factors = np.sqrt(features.square_sums(np.ones((num_documents, features.rows.shape[1]), features.rows.dtype)))
        self.scales = np.divide(1, np.sqrt(factors), out=np.zeros_like(factors), where=factors > 0)  # w / u; 0: unseen
        self.features = replace(features, columns=features.columns * self.scales)
        self.loss = loss
        self.penalty: float = l2 * float(factors.sum(dtype=np.float64)) / num_documents / factors.shape[1]
        self.shape = (len(features.columns), num_outputs)

    def parameters(self, weights: Floats, bias: Floats) -> Floats:
        """Flat parameters of (V, K) weights and (K,) biases."""
        scaled = np.divide(weights, self.scales, out=np.zeros(self.shape, self.scales.dtype), where=self.scales > 0)
        return np.concatenate([scaled.ravel(), bias])

    def weights_and_bias(self, parameters: Floats) -> tuple[Floats, Floats]:
        """(V, K) weights and (K,) biases of flat parameters."""
        values, bias = self._split(parameters)
        return self.scales * values, bias

    def logits(self, parameters: Floats) -> Floats:
        """(N, K)."""
        values, bias = self._split(parameters)
        return self.features.logits(values) + bias

    def value(self, logits: Floats, square_norm: float) -> float:
        """The objective. square_norm: Σ_jk u_jk²."""
        return float(self.loss.value(logits) + 0.5 * self.penalty * square_norm)

    def gradient(self, parameters: Floats, logits: Floats) -> Floats:
        return self._penalized(self._sums(self.loss.gradient(logits)), parameters)

    def hessian_diagonal(self, probs: Floats) -> Floats:
        curvatures = self.loss.hessian_diagonal(probs)
        diagonal = np.concatenate([self.features.square_sums(curvatures).ravel(), curvatures.sum(axis=0)])
        diagonal[: -self.shape[1]] += self.penalty
        return np.asarray(np.maximum(diagonal, np.finfo(diagonal.dtype).tiny))

    def hessian_product(self, probs: Floats, direction: Floats, logits: Floats) -> Floats:
        """The Hessian times a direction. logits: (N, K) of the direction."""
        return self._penalized(self._sums(self.loss.hessian_product(probs, logits)), direction)

    def prior_gradient_norm(self) -> float:
        """The gradient's norm at zero weights and the best biases for them."""
        priors = self.loss.prior_logits().astype(self.scales.dtype)
        gradient = self._sums(self.loss.gradient(np.broadcast_to(priors, self.loss.targets.shape)))
        return math.sqrt(dot(gradient, gradient))

    def square_norm(self, parameters: Floats) -> float:
        return dot(parameters[: -self.shape[1]], parameters[: -self.shape[1]])

    def _split(self, parameters: Floats) -> tuple[Floats, Floats]:
        num_outputs = self.shape[1]
        return parameters[:-num_outputs].reshape(self.shape), parameters[-num_outputs:]

    def _sums(self, values: Floats) -> Floats:
        return np.concatenate([self.features.sums(values).ravel(), values.sum(axis=0)])

    def _penalized(self, gradient: Floats, parameters: Floats) -> Floats:
        """The gradient plus that of the penalty, which biases are free of."""
        num_biases = self.shape[1]
        gradient[:-num_biases] += self.penalty * parameters[:-num_biases]
        return gradient


def minimize(problem: ConvexProblem, parameters: Floats, tolerance: float = TOLERANCE) -> Floats:
    """The parameters of the optimum, from a starting point.

    tolerance: of the gradient's norm, relative to `prior_gradient_norm`. Ends earlier where a step would change the
    objective by less than its rounding.
    """
    resolution = float(np.finfo(parameters.dtype).eps)
    target_norm = tolerance * problem.prior_gradient_norm()
    logits, square_norm = problem.logits(parameters), problem.square_norm(parameters)
    value = problem.value(logits, square_norm)
    for num_steps in range(MAX_NEWTON_STEPS):
        gradient = problem.gradient(parameters, logits)
        if num_steps and math.sqrt(dot(gradient, gradient)) <= target_norm:  # a new penalty has a step at least
            break
        direction, direction_logits = newton_direction(problem, gradient, logits)
        slope = dot(gradient, direction)
        if -slope <= resolution * value:
            break
        for step in step_sizes():
            new_parameters = parameters + parameters.dtype.type(step) * direction
            new_logits = logits + logits.dtype.type(step) * direction_logits
            new_value = problem.value(new_logits, problem.square_norm(new_parameters))
            if new_value <= value + ARMIJO * step * slope:
                break
        else:
            break
        parameters, logits, value = new_parameters, new_logits, new_value
    return parameters


def step_sizes() -> Iterator[float]:
    """1, 1/2, 1/4, … down to MIN_STEP."""
    step = 1.0
    while step >= MIN_STEP:
        yield step
        step /= 2


def newton_direction(problem: ConvexProblem, gradient: Floats, logits: Floats) -> tuple[Floats, Floats]:
    """An approximate solution d of H d = -gradient, and its (N, K) logits."""
    number = gradient.dtype.type
    probs = problem.loss.probs(logits)
    diagonal = problem.hessian_diagonal(probs)
    solution, solution_logits = np.zeros_like(gradient), np.zeros_like(logits)
    residual = -gradient
    preconditioned = residual / diagonal
    direction, product = preconditioned, dot(residual, preconditioned)
    decrease = 0.0  # of the quadratic model
    for num_steps in range(1, MAX_CG_STEPS + 1):
        direction_logits = problem.logits(direction)
        hessian_product = problem.hessian_product(probs, direction, direction_logits)
        curvature = dot(direction, hessian_product)
        if curvature <= 0:  # below the resolution of the numbers
            break
        step = product / curvature
        solution += number(step) * direction
        solution_logits += number(step) * direction_logits
        residual -= number(step) * hessian_product
        last_decrease = 0.5 * step * product
        decrease += last_decrease
        if num_steps * last_decrease <= MODEL_DECREASE * decrease:
            break
        preconditioned = residual / diagonal
        product, last_product = dot(residual, preconditioned), product
        direction = preconditioned + number(product / last_product) * direction
    return solution, solution_logits


def dot(first: Floats, second: Floats) -> float:
    """Inner product, with pairwise summation: precise in float32, and independent of the number of threads."""
    return float(np.multiply(first, second).sum())
