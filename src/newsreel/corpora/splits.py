"""Selecting and splitting documents by their labels."""

import math

import numpy as np
from scipy.sparse import csc_array


def first_of_each_class(targets: np.ndarray, num_documents: int) -> np.ndarray:
    """Rows of the first `num_documents` of each class, ascending.

    targets: (N,) class numbers or (N, L) indicators. With indicators, a row is selected if it is among the first of at
    least one of its labels. Documents without a label (-1, or no indicator) count as one class.
    """
    if targets.ndim == 1:
        groups = [np.flatnonzero(targets == value) for value in np.unique(targets)]
    else:
        groups = [np.flatnonzero(column) for column in targets.T] + [np.flatnonzero(~targets.any(axis=1))]
    return np.unique(np.concatenate([group[:num_documents] for group in groups]))


def stratified_holdout(
    targets: np.ndarray, fraction: float, seed: int, exact: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Split N rows into (training, held out), both ascending, with each class in the same proportion.

    fraction × N rows are held out, half a row rounded up; fewer where every other row is the only training document of
    a class. Iterative stratification may hold out a few more, unless `exact`.

    targets: (N,) class numbers: see `held_out_counts`. (N, L) indicators: iterative stratification (Sechidis, Tsoumakas
    and Vlahavas 2011, figure 1), which starts with the rarest label; every label keeps a document in training.
    """
    random = np.random.default_rng(seed)
    num_held_out = number_held_out(len(targets), fraction)
    if targets.ndim == 2:
        return _iterative_stratification(targets, fraction, num_held_out, exact, random)
    rows = shuffled_classes(targets, random)
    counts = held_out_counts(np.array([len(of_class) for of_class in rows]), fraction, num_held_out, random)
    return first_held_out(rows, counts.tolist())


def block_holdout(
    targets: np.ndarray, positions: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split N rows into (training, held out), both ascending, so that neighbours are held out together.

    The documents of each class, in the order of their positions, are K = ⌊1 / fraction⌋ blocks, of which number
    `seed` mod K is held out: seeds 0 … K - 1 are the folds of a cross-validation without shuffling. As many rows are
    held out as by `stratified_holdout`.

    targets: (N,) class numbers, or (N, L) indicators, of which all documents are one class, and every label keeps a
    document in training. positions: (N,) of the documents in the corpus.
    """
    num_held_out = number_held_out(len(targets), fraction)
    classes = targets if targets.ndim == 1 else np.zeros(len(targets), dtype=np.int64)
    order = np.argsort(positions, kind="stable")
    rows = [order[classes[order] == value] for value in np.unique(classes)]
    sizes = np.array([len(of_class) for of_class in rows])
    counts = held_out_counts(sizes, fraction, num_held_out, np.random.default_rng(seed))
    num_blocks = math.floor(round(1 / fraction, 9))
    starts = np.minimum(sizes * (seed % num_blocks) // num_blocks, sizes - counts)
    rolled = [np.roll(of_class, -start) for of_class, start in zip(rows, starts.tolist(), strict=True)]
    training, held_out = first_held_out(rolled, counts.tolist())
    if targets.ndim == 2:
        for of_label in targets.T:
            if of_label.any() and not of_label[training].any():
                kept = held_out[of_label[held_out].argmax()]
                training, held_out = np.sort(np.append(training, kept)), held_out[held_out != kept]
    return training, held_out


def rounded_holdout(targets: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split N rows into (training, held out), both ascending: round(fraction × n) of each class are held out.

    For splits that have been published: unlike `stratified_holdout`, it does not make up for what rounding loses.
    """
    rows = shuffled_classes(targets, np.random.default_rng(seed))
    return first_held_out(rows, [min(round(fraction * len(of_class)), len(of_class) - 1) for of_class in rows])


def number_held_out(num_documents: int, fraction: float) -> int:
    """fraction × documents, half a document rounded up, and one document fewer than there are at most."""
    return min(math.floor(round(fraction * num_documents, 9) + 0.5), max(0, num_documents - 1))


def shuffled_classes(targets: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    """The rows of each class in random order. targets: (N,) class numbers."""
    return [random.permutation(np.flatnonzero(targets == value)) for value in np.unique(targets)]


def stratified_folds(targets: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """(N,) the fold, 0 … num_folds - 1, of each row, by iterative stratification (see `stratified_holdout`).

    targets: (N, L) indicators.
    """
    random = np.random.default_rng(seed)
    folds, missing = _assign_labelled(targets, np.full(num_folds, 1 / num_folds), random)
    for row in random.permutation(np.flatnonzero(folds < 0)).tolist():
        folds[row] = missing.index(max(missing))
        missing[folds[row]] -= 1
    return folds


def block_folds(positions: np.ndarray, num_folds: int) -> np.ndarray:
    """(N,) the fold, 0 … num_folds - 1, of each row: neighbours are in one fold, and folds differ by at most one row.

    positions: (N,) of the documents in the corpus.
    """
    folds = np.empty(len(positions), dtype=np.int64)
    folds[np.argsort(positions, kind="stable")] = np.arange(len(positions)) * num_folds // max(len(positions), 1)
    return folds


def first_held_out(rows: list[np.ndarray], counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """(training, held out) rows, both ascending, with the first `counts` of each class held out."""
    parts = [of_class[:count] for of_class, count in zip(rows, counts, strict=True)]
    held_out = np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)
    return np.setdiff1d(np.concatenate(rows) if rows else held_out, held_out), held_out


def held_out_counts(sizes: np.ndarray, fraction: float, total: int, random: np.random.Generator) -> np.ndarray:
    """How many documents of each class are held out, (C,), by the method of largest remainders.

    sizes: (C,) number of documents of each class, at least 1. Each class has a quota of fraction × size, which is
    rounded; then the classes that are furthest from their quotas give one more or one less until the sum is `total`.
    Ties are drawn at random. A class keeps one document, and if the sum cannot be reached, all but one are held out.
    """
    quotas = fraction * sizes
    largest = sizes - 1
    counts: np.ndarray = np.minimum(np.rint(quotas).astype(np.int64), largest)
    tie_order = random.permutation(len(sizes))
    while missing := total - int(counts.sum()):
        step = 1 if missing > 0 else -1
        able = np.flatnonzero(counts < largest if step > 0 else counts > 0)
        if not len(able):
            break
        distance = np.round(step * (quotas - counts), 9)[able]  # quotas that differ by a rounding error are ties
        chosen = able[np.lexsort((tie_order[able], -distance))[: abs(missing)]]
        counts[chosen] += step
    return counts


def _iterative_stratification(
    targets: np.ndarray, fraction: float, total: int, exact: bool, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    side, missing_documents = _assign_labelled(targets, np.array([1 - fraction, fraction]), random)
    for label in range(targets.shape[1]):
        rows = np.flatnonzero(targets[:, label])
        if len(rows) and (side[rows] == 1).all():
            side[rows[0]] = 0
    without_labels = random.permutation(np.flatnonzero(side < 0))
    num_held_out = max(0, min(len(without_labels), round(missing_documents[1])))
    side[without_labels] = 0
    side[without_labels[:num_held_out]] = 1
    held_out = side == 1
    if exact or held_out.sum() < total:
        held_out = with_total(targets, held_out, fraction, total, random)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _assign_labelled(
    targets: np.ndarray, fractions: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, list[float]]:
    """Iterative stratification of the documents with labels into P parts.

    targets: (N, L) indicators. fractions: (P,) of the documents in each part. Returns the (N,) parts, -1 for documents
    without labels, and the (P,) numbers of documents that each part still needs.
    """
    num_documents, num_labels = targets.shape
    # Python numbers and lists: the loop handles one document at a time, and arrays of few elements are slow
    missing_documents = (fractions * num_documents).tolist()  # (P,) documents that each part still needs
    missing = np.outer(targets.sum(axis=0), fractions).tolist()  # (L, P) documents of each label that it still needs
    remaining = targets.sum(axis=0, dtype=np.int64).tolist()  # (L,) documents that are not assigned yet
    labels = np.nonzero(targets)[1].tolist()
    offsets = np.concatenate([[0], np.cumsum(targets.sum(axis=1, dtype=np.int64))]).tolist()
    parts = np.full(num_documents, -1, dtype=np.int8)
    while any(remaining):
        rarest = min((label for label in range(num_labels) if remaining[label]), key=remaining.__getitem__)
        missing_of_rarest = missing[rarest]
        for row in random.permutation(np.flatnonzero((targets[:, rarest] != 0) & (parts < 0))).tolist():
            # To the part that needs the label most; ties go to the one that needs more documents, then to the first.
            needs = list(zip(missing_of_rarest, missing_documents, strict=True))
            choice = needs.index(max(needs))
            parts[row] = choice
            missing_documents[choice] -= 1
            for label in labels[offsets[row] : offsets[row + 1]]:
                missing[label][choice] -= 1
                remaining[label] -= 1
    return parts, missing_documents


def with_total(
    targets: np.ndarray, held_out: np.ndarray, fraction: float, total: int, random: np.random.Generator
) -> np.ndarray:
    """A selection of documents, (N,) bool, with single documents added or removed until there are `total`.

    targets: (N, L) indicators. Each step moves the document after which the labels' counts are closest to
    fraction × their documents (least squares; ties are drawn at random), and no label's only training document.
    """
    order = random.permutation(len(targets))
    by_label = csc_array(targets[order] != 0)  # its rows are in the order that decides ties
    by_document = by_label.tocsr()
    selected = held_out[order]
    missing = total - int(selected.sum())
    step = 1 if missing > 0 else -1
    sizes = by_label.sum(axis=0)
    counts = by_label[selected].sum(axis=0)
    # (N,) growth of the labels' squared distances, rounded so that ties are ties; infinite where it is not allowed
    costs = np.round(by_label @ (1 + 2 * step * (counts - fraction * sizes)), 6)
    costs[selected == (step > 0)] = np.inf
    if step > 0:
        costs[by_label @ (sizes - counts == 1).astype(np.int64) > 0] = np.inf
    for _ in range(abs(missing)):
        document = costs.argmin()
        if np.isinf(costs[document]):
            break
        selected[document] = step > 0
        costs[document] = np.inf
        for label in by_document.indices[by_document.indptr[document] : by_document.indptr[document + 1]]:
            with_label = by_label.indices[by_label.indptr[label] : by_label.indptr[label + 1]]
            counts[label] += step
            costs[with_label] += 2
            if step > 0 and sizes[label] - counts[label] == 1:
                costs[with_label] = np.inf
    result = np.empty_like(held_out)
    result[order] = selected
    return result
