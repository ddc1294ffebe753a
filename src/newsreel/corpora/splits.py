"""Ways to divide documents by their labels."""

import numpy as np


def first_of_each_class(targets: np.ndarray, num_documents: int) -> np.ndarray:
    """Rows of the first `num_documents` of each class, ascending.

    targets: (N,) class numbers or (N, L) indicators; with indicators, the rows that are among the first of at least
    one of their labels. Documents without a label (-1, or no indicator) count as one class.
    """
    if targets.ndim == 1:
        groups = [np.flatnonzero(targets == value) for value in np.unique(targets)]
    else:
        groups = [np.flatnonzero(column) for column in targets.T] + [np.flatnonzero(~targets.any(axis=1))]
    return np.unique(np.concatenate([group[:num_documents] for group in groups]))


def stratified_holdout(targets: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into (kept, held out), both ascending, each class divided in the same proportion.

    targets: (N,) class numbers: round(fraction × n) of each class are held out, never a class's only document.
    (N, L) indicators: iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, figure 1), which serves the
    rarest label first; where it would hold out all documents of a label, one of them is kept.
    """
    random = np.random.default_rng(seed)
    if targets.ndim == 2:
        return _iterative_stratification(targets, fraction, random)
    held_out = []
    for value in np.unique(targets):
        rows = random.permutation(np.flatnonzero(targets == value))
        held_out.append(rows[: min(round(fraction * len(rows)), len(rows) - 1)])
    validation = np.sort(np.concatenate(held_out)) if held_out else np.empty(0, dtype=np.int64)
    return np.setdiff1d(np.arange(len(targets)), validation), validation


def _iterative_stratification(
    targets: np.ndarray, fraction: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    num_documents, num_labels = targets.shape
    shares = np.array([1 - fraction, fraction])
    # Plain numbers and lists: the loop takes documents one by one, and arrays of two are slow
    wanted_documents = (shares * num_documents).tolist()  # (2,) how many more documents each side wants
    wanted = np.outer(targets.sum(axis=0), shares).tolist()  # (L, 2) how many more documents of each label
    remaining = targets.sum(axis=0, dtype=np.int64).tolist()  # (L,) documents of no side yet
    labels = np.nonzero(targets)[1].tolist()
    offsets = np.concatenate([[0], np.cumsum(targets.sum(axis=1, dtype=np.int64))]).tolist()
    side = np.full(num_documents, -1, dtype=np.int8)
    while any(remaining):
        rarest = min((label for label in range(num_labels) if remaining[label]), key=remaining.__getitem__)
        wanted_of_rarest = wanted[rarest]
        for row in random.permutation(np.flatnonzero((targets[:, rarest] != 0) & (side < 0))).tolist():
            # Where the label is wanted most; ties go to the side that wants more documents, then to training.
            training, validation = zip(wanted_of_rarest, wanted_documents, strict=True)
            choice = int(validation > training)
            side[row] = choice
            wanted_documents[choice] -= 1
            for label in labels[offsets[row] : offsets[row + 1]]:
                wanted[label][choice] -= 1
                remaining[label] -= 1
    for label in range(targets.shape[1]):
        rows = np.flatnonzero(targets[:, label])
        if len(rows) and (side[rows] == 1).all():
            side[rows[0]] = 0
    without_labels = random.permutation(np.flatnonzero(side < 0))
    num_held_out = max(0, min(len(without_labels), round(wanted_documents[1])))
    side[without_labels] = 0
    side[without_labels[:num_held_out]] = 1
    return np.flatnonzero(side == 0), np.flatnonzero(side == 1)
