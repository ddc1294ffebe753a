"""fastText with word 2-grams, on all cores: the settings of its classification-results.sh (Joulin et al. 2016).

10 dimensions, 5 epochs, and the highest of its learning rates, which is best on so few documents (0.9 on the validation
documents, where 100 dimensions reach no more and take twice as long). Its preprocessing: lower case, punctuation apart.
"""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

import fasttext

from bench.peers.documents import Documents, accuracy, print_figures, read_all_training, read_documents

MARK = re.compile(r"([.!?,'/()])")


def line(text: str) -> str:
    return " ".join(MARK.sub(r" \1 ", text.replace("<br />", " ").lower()).split())


def write(documents: Documents, file: Path) -> None:
    rows = zip(documents.texts, documents.labels, strict=True)
    file.write_text("".join(f"__label__{label} {line(text)}\n" for text, label in rows), encoding="utf-8")


def main() -> None:
    folder = Path(sys.argv[1])
    started = time.perf_counter()
    train, test = read_all_training(folder), read_documents(folder, "test")
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "train.txt"
        write(train, file)
        model = fasttext.train_supervised(
            str(file), dim=10, lr=0.5, epoch=5, wordNgrams=2, minCount=1, thread=os.cpu_count(), verbose=0
        )
    preds, _ = model.predict([line(text) for text in test.texts])
    score = accuracy([int(names[0].removeprefix("__label__")) for names in preds], test.labels)
    print_figures(seconds=time.perf_counter() - started, accuracy=score)


if __name__ == "__main__":
    main()
