"""torchTextClassifiers: WordPiece tokens, their mean embedding of 64 and a linear layer, as in its quick start.

Sizes that suit a larger corpus than the quick start's: 20,000 tokens, at most 512 a document, batches of 64; five
epochs with early stopping by its validation loss.
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from torchTextClassifiers import ModelConfig, TrainingConfig, torchTextClassifiers
from torchTextClassifiers.tokenizers import WordPieceTokenizer

from bench.peers.documents import accuracy, print_figures, read_documents

NUM_TOKENS, MAX_TOKENS = 20_000, 512
PREDICT_SIZE = 256  # documents at a time


def preds(classifier: Any, texts: list[str]) -> Iterator[int]:
    for start in range(0, len(texts), PREDICT_SIZE):
        yield from classifier.predict(np.array(texts[start : start + PREDICT_SIZE]))["prediction"].flatten().tolist()


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    logging.disable(logging.INFO)
    started = time.perf_counter()
    train, validation, test = (read_documents(folder, split) for split in ("train", "validation", "test"))
    tokenizer = WordPieceTokenizer(NUM_TOKENS, output_dim=MAX_TOKENS)
    tokenizer.train(train.texts)
    classifier = torchTextClassifiers(tokenizer, ModelConfig(embedding_dim=64, num_classes=2))
    with tempfile.TemporaryDirectory() as temporary:
        settings = TrainingConfig(
            num_epochs=5,
            batch_size=64,
            lr=1e-3,
            accelerator="cpu",
            raw_labels=False,
            num_workers=0,  # on two cores faster than its twelve
            save_path=str(Path(temporary) / "model"),
            trainer_params={"enable_progress_bar": False, "default_root_dir": temporary, "log_every_n_steps": 50},
        )
        classifier.train(
            np.array(train.texts),
            np.array(train.labels),
            settings,
            X_val=np.array(validation.texts),
            y_val=np.array(validation.labels),
        )
    score = accuracy(list(preds(classifier, test.texts)), test.labels)
    print_figures(seconds=time.perf_counter() - started, accuracy=score)


if __name__ == "__main__":
    main()
