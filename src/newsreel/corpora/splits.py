"""Selecting and splitting documents by their labels."""

import numpy as np


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


def stratified_holdout(targets: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into (training, held out), both ascending, with each class in the same proportion.

    targets: (N,) class numbers: round(fraction × n) of each class are held out, but never the only document of a class.
    (N, L) indicators: iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, figure 1), which starts with the
    rarest label; if it would hold out all documents of a label, one of them stays in training.
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
    fractions = np.array([1 - fraction, fraction])
    # Python numbers and lists: the loop handles one document at a time, and arrays of two elements are slow
    missing_documents = (fractions * num_documents).tolist()  # (2,) documents that each side still needs
    missing = np.outer(targets.sum(axis=0), fractions).tolist()  # (L, 2) documents of each label that it still needs
    remaining = targets.sum(axis=0, dtype=np.int64).tolist()  # (L,) documents that are not assigned yet
    labels = np.nonzero(targets)[1].tolist()
    offsets = np.concatenate([[0], np.cumsum(targets.sum(axis=1, dtype=np.int64))]).tolist()
    side = np.full(num_documents, -1, dtype=np.int8)
    while any(remaining):
        rarest = min((label for label in range(num_labels) if remaining[label]), key=remaining.__getitem__)
        missing_of_rarest = missing[rarest]
        for row in random.permutation(np.flatnonzero((targets[:, rarest] != 0) & (side < 0))).tolist():
            # To the side that needs the label most; ties go to the side that needs more documents, then to training.
            training, validation = zip(missing_of_rarest, missing_documents, strict=True)
            choice = int(validation > training)
            side[row] = choice
            missing_documents[choice] -= 1
            for label in labels[offsets[row] : offsets[row + 1]]:
                missing[label][choice] -= 1
                remaining[label] -= 1
    for label in range(targets.shape[1]):
        rows = np.flatnonzero(targets[:, label])
        if len(rows) and (side[rows] == 1).all():
            side[rows[0]] = 0
    without_labels = random.permutation(np.flatnonzero(side < 0))
    num_held_out = max(0, min(len(without_labels), round(missing_documents[1])))
    side[without_labels] = 0
    side[without_labels[:num_held_out]] = 1
    return np.flatnonzero(side == 0), np.flatnonzero(side == 1)
