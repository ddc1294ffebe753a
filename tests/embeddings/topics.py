"""What the tests of learned vectors share: documents on two topics, and the settings of every table."""

import numpy as np

from conftest import TABLE_SETTINGS

ANIMALS = ["cow", "calf", "milk", "barn", "hay"]
SHIPS = ["sail", "mast", "wind", "crew", "rope"]
TABLE_KEY_SUFFIX: dict[str, object] = {**TABLE_SETTINGS, "unlabeled": True}


def two_topics(num_documents: int = 30) -> list[str]:
    """Documents of eight words of one topic, as many of each."""
    random = np.random.default_rng(0)
    return [" ".join(random.choice(topic, 8)) for _ in range(num_documents) for topic in (ANIMALS, SHIPS)]


def share_topics(words: list[str], rows: np.ndarray) -> bool:
    """Whether each word's nearest other word by cosine is of its topic."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    nearest = (unit @ unit.T - 2 * np.eye(len(words))).argmax(axis=1)
    return all((word in ANIMALS) == (words[other] in ANIMALS) for word, other in zip(words, nearest, strict=True))
