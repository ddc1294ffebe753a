"""spaCy's textcat with a bag of 1–2-grams (TextCatBOW) or a convolutional network (TextCatReduce), on one core.

The training loop of its guide, "Training pipelines": an optimizer from `nlp.initialize`, then `nlp.update` on shuffled
batches, with default settings of the architectures and of Adam. It has no training on several cores.
"""

import argparse
import random
import time
from pathlib import Path
from typing import Any

import spacy
from spacy.training import Example
from spacy.util import fix_random_seed, minibatch

from bench.peers.documents import Documents, accuracy, documents_per_s, print_figures, read_documents

BATCH_SIZE = 32
CATEGORIES = ("negative", "positive")
MODELS: dict[str, dict[str, Any]] = {
    "bow": {
        "@architectures": "spacy.TextCatBOW.v3",
        "exclusive_classes": True,
        "length": 262144,
        "ngram_size": 2,
        "no_output_layer": False,
    },
    "cnn": {
        "@architectures": "spacy.TextCatReduce.v1",
        "exclusive_classes": True,
        "use_reduce_first": False,
        "use_reduce_last": False,
        "use_reduce_max": False,
        "use_reduce_mean": True,
        "tok2vec": {
            "@architectures": "spacy.HashEmbedCNN.v2",
            "pretrained_vectors": None,
            "width": 96,
            "depth": 4,
            "embed_size": 2000,
            "window_size": 1,
            "maxout_pieces": 3,
            "subword_features": True,
        },
    },
}


def examples(nlp: Any, documents: Documents) -> list[Any]:
    cats = [{name: float(name == CATEGORIES[label]) for name in CATEGORIES} for label in documents.labels]
    texts = zip(documents.texts, cats, strict=True)
    return [Example.from_dict(nlp.make_doc(text), {"cats": scores}) for text, scores in texts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", type=Path)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    fix_random_seed(1)
    started = time.perf_counter()
    nlp = spacy.blank("en")
    nlp.add_pipe("textcat", config={"model": MODELS[arguments.model]})
    train = examples(nlp, read_documents(arguments.documents, "train"))
    optimizer = nlp.initialize(lambda: train)
    times = [time.perf_counter()]
    for _ in range(arguments.epochs):
        random.shuffle(train)
        for batch in minibatch(train, BATCH_SIZE):
            nlp.update(batch, sgd=optimizer, drop=0.1)
        times.append(time.perf_counter())
    test = read_documents(arguments.documents, "test")
    preds = [CATEGORIES.index(max(doc.cats, key=doc.cats.get)) for doc in nlp.pipe(test.texts)]
    print_figures(
        seconds=time.perf_counter() - started,
        documents_per_s=documents_per_s(len(train), times),
        accuracy=accuracy(preds, test.labels),
    )


if __name__ == "__main__":
    main()
