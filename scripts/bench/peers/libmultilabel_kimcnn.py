"""LibMultiLabel's KimCNN with the settings of its example for RCV1 (example_config/rcv1/kim_cnn.yml), a few epochs.

Its GloVe vectors of 300 dimensions are replaced by random ones of the same size, which takes no part in the speed.
"""

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pandas as pd
from libmultilabel.nn import data_utils, nn_utils
from lightning.pytorch import Callback

from bench.peers.documents import documents_per_s, print_figures, read_documents

BATCH_SIZE, EVAL_BATCH_SIZE = 64, 256
NETWORK = {"filter_sizes": [2, 4, 8], "num_filter_per_size": 128, "activation": "relu", "embed_dropout": 0.2}
DIMENSION = 300


class Clock(Callback):
    """The time at the start of the training and of every epoch's last step, and the time without validation."""

    def __init__(self) -> None:
        self.times: list[float] = [0.0]
        self.started = 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.is_last_batch:
            self.times.append(self.times[-1] + time.perf_counter() - self.started)


def table(folder: Path, split: str) -> Any:
    """The documents with their labels in one column, separated by spaces, as LibMultiLabel reads them."""
    documents = read_documents(folder, split)
    labels = [" ".join(map(str, row)) for row in documents.labels]
    return pd.DataFrame({"label": labels, "text": documents.texts})


def word_vectors(documents: Any) -> tuple[dict[str, int], Any]:
    """The vocabulary, and random vectors. A file of one vector says their size."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(" ".join(["the", *["0.0"] * DIMENSION]) + "\n")
        file.flush()
        ids, vectors = data_utils.load_or_build_text_dict(documents, embed_file=file.name, silent=True)
    return ids, vectors.normal_(std=0.4)  # about as GloVe's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    nn_utils.set_seed(1337)
    device = nn_utils.init_device(use_cpu=True)
    splits = [table(arguments.documents, split) for split in ("train", "test", "validation")]
    datasets = data_utils.load_datasets(*splits)
    classes = data_utils.load_or_build_label(datasets)
    ids, vectors = word_vectors(datasets["train"])
    model = nn_utils.init_model(
        "KimCNN", NETWORK, classes, embed_vecs=vectors, learning_rate=5e-4, monitor_metrics=["Micro-F1"]
    )
    loaders = {
        split: data_utils.get_dataset_loader(
            documents,
            classes,
            device,
            max_seq_length=500,
            batch_size=BATCH_SIZE if split == "train" else EVAL_BATCH_SIZE,
            shuffle=split == "train",
            data_workers=0,  # on two cores faster than its four
            word_dict=ids,
        )
        for split, documents in datasets.items()
    }
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = nn_utils.init_trainer(
            folder,
            epochs=arguments.epochs,
            early_stopping_metric="Micro-F1",
            val_metric="Micro-F1",
            silent=True,
            use_cpu=True,
            save_checkpoints=False,
        )
        trainer.callbacks.append(clock)
        trainer.fit(model, loaders["train"], loaders["val"])
        results = trainer.test(model, loaders["test"], verbose=False)
    speed = documents_per_s(len(datasets["train"]), clock.times)
    print_figures(documents_per_s=speed, epoch_s=len(datasets["train"]) / speed, f1_micro=float(results[0]["Micro-F1"]))


if __name__ == "__main__":
    main()
