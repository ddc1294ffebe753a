"""Keras on TensorFlow: the networks of Chollet 2017, chapter 6, on the last 500 of the 10,000 most frequent words.

Batches of 128, RMSprop; speed from the second epoch on, without validation.
"""

import argparse
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import keras
import numpy as np
from keras import layers

from bench.peers.documents import documents_per_s, print_figures, read_documents

NUM_WORDS = 10_000
NUM_TOKENS = 500
WORD = re.compile(r"[\w']+")
NETWORKS: dict[str, Callable[[], list[Any]]] = {
    "rnn": lambda: [layers.Embedding(NUM_WORDS, 32), layers.SimpleRNN(32)],
    "lstm": lambda: [layers.Embedding(NUM_WORDS, 32), layers.LSTM(32)],
    "bilstm": lambda: [layers.Embedding(NUM_WORDS, 32), layers.Bidirectional(layers.LSTM(32))],
    "cnn": lambda: [
        layers.Embedding(NUM_WORDS, 128),
        layers.Conv1D(32, 7, activation="relu"),
        layers.MaxPooling1D(5),
        layers.Conv1D(32, 7, activation="relu"),
        layers.GlobalMaxPooling1D(),
    ],
}


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """The time at the start of the training and at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.times.append(time.perf_counter())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.times.append(time.perf_counter())


def words(text: str) -> list[str]:
    return WORD.findall(text.replace("<br />", " ").lower())


def encode(texts: list[str], ids: dict[str, int]) -> Any:
    """(N, NUM_TOKENS) word numbers, padded with 0 at the start; 1 is an unknown word."""
    rows = [[ids.get(word, 1) for word in words(text)] for text in texts]
    return keras.utils.pad_sequences(rows, maxlen=NUM_TOKENS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", type=Path)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(1)
    train, test = (read_documents(arguments.documents, split) for split in ("train", "test"))
    counts = Counter(word for text in train.texts for word in words(text))
    ids = {word: number for number, (word, _) in enumerate(counts.most_common(NUM_WORDS - 2), start=2)}
    model = keras.Sequential([*NETWORKS[arguments.network](), layers.Dense(1, activation="sigmoid")])
    learning_rate = 1e-4 if arguments.network == "cnn" else 1e-3
    model.compile(keras.optimizers.RMSprop(learning_rate), "binary_crossentropy", metrics=["accuracy"])
    clock = Clock()
    inputs, targets = encode(train.texts, ids), np.array(train.labels)
    model.fit(inputs, targets, epochs=arguments.epochs, batch_size=128, callbacks=[clock], verbose=0)
    _, score = model.evaluate(encode(test.texts, ids), np.array(test.labels), batch_size=128, verbose=0)
    print_figures(documents_per_s=documents_per_s(len(targets), clock.times), accuracy=float(score))


if __name__ == "__main__":
    main()
