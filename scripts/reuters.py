"""Run the set-ups for Reuters-21578 and compare them with a linear support vector machine: `python scripts/reuters.py`.

The support vector machine is scikit-learn's LinearSVC with default settings on scikit-learn's TF-IDF, one per label. It
is trained on the training and validation documents together, because it needs no validation documents. It predicts the
labels with positive decision values, or, if documents have one label, the label with the highest.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from lecture import PROJECT, run_folder, settings, train
from newsreel.core.errors import USER_MISTAKE, UserError, explain
from newsreel.core.markdown import markdown_table
from newsreel.core.storage import write_atomically
from newsreel.core.terminal import print_every_character

SETUPS = {"reuters": ("reuters_bow", "reuters_bilstm", "reuters_cnn"), "r8": ("r8",), "r52": ("r52",)}  # by corpus
COLUMNS = ("accuracy", "f1_micro", "f1_macro")
HEAD = """# Reuters-21578

Made by `python scripts/reuters.py`, which trains what is missing and writes this file. Official test stories;
thresholds, epochs and everything else that is fitted come from training and validation stories. `LinearSVC` is
scikit-learn's, with its defaults on its TF-IDF, trained on training and validation stories together. Seconds are of the
whole command, the collection being in the cache.
"""


def linear_svc(config: dict[str, Any]) -> dict[str, float]:
    """Test scores of LinearSVC on the corpus of a config. Raises UserError."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.svm import LinearSVC

    from newsreel.config.schema import read_experiment

    experiment = read_experiment(config)
    corpus = experiment.reader.load(experiment.paths)
    parts = ("train", "validation")
    vectorizer = TfidfVectorizer()
    training = vectorizer.fit_transform([text for part in parts for text in corpus[part]["text"]])
    targets = np.concatenate([corpus.targets(part) for part in parts])
    test, test_targets = vectorizer.transform(corpus["test"]["text"]), corpus.targets("test")
    if targets.ndim == 2:
        columns = [LinearSVC(random_state=0).fit(training, column).decision_function(test) > 0 for column in targets.T]
        preds = np.stack(columns, axis=1)
        scores = {}
    else:
        preds = LinearSVC(random_state=0).fit(training, targets).predict(test)
        scores = {"accuracy": accuracy_score(test_targets, preds)}
    for average in ("micro", "macro"):
        scores[f"f1_{average}"] = f1_score(test_targets, preds, average=average, zero_division=0)
    return scores


def row(name: str, scores: dict[str, float], seconds: float, command: str) -> list[str]:
    cells = [f"{scores[column]:.4f}" if column in scores else "" for column in COLUMNS]
    return [name, *cells, f"{seconds:.0f}", command]


def main() -> int:
    print_every_character()
    parser = argparse.ArgumentParser(description="Run the set-ups for Reuters-21578 and LinearSVC; write a table.")
    parser.add_argument("overrides", nargs="*", help="key=value settings for all set-ups")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("outputs/reuters"), help="directory of the runs")
    parser.add_argument("--docs", type=Path, default=PROJECT / "docs" / "reuters.md", help="file of the table")
    arguments = parser.parse_args()
    names = ["", *(f"test {column}" for column in COLUMNS), "s", "command"]
    rows = []
    try:
        for data, setups in SETUPS.items():
            for name in setups:
                config = settings(name, arguments.overrides)
                folder = run_folder(arguments.output.resolve(), name, config, arguments.seed)
                if not train(name, arguments.seed, folder, arguments.overrides):
                    return 1
                results = json.loads((folder / "metrics.json").read_text())
                scores = {key.removeprefix("test/"): value for key, value in results.items()}
                command = f"`python train.py experiment={name}`"
                rows.append(row(f"`{name}`", scores, results["time/total_s"], command))
            start = time.perf_counter()
            scores = linear_svc(config)
            rows.append(row(f"LinearSVC on `{data}`", scores, time.perf_counter() - start, ""))
        arguments.docs.parent.mkdir(parents=True, exist_ok=True)
        environment = results["environment"]
        machine = f"\nSeed {arguments.seed}; threads: {environment['threads']}, {environment['processor']}.\n"
        write_atomically(arguments.docs, f"{HEAD}\n" + "\n".join(markdown_table(names, rows)) + f"\n{machine}")
    except (HydraException, OmegaConfBaseException, OSError, UserError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return USER_MISTAKE
    print(arguments.docs.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
