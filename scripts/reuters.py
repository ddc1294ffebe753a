"""Run the set-ups for Reuters-21578 and put a linear support vector machine beside them: `python scripts/reuters.py`.

The machine is scikit-learn's LinearSVC with its own defaults on its own TF-IDF, one for each label, trained on the same
training and validation documents together, since it has no use for the latter. Its labels are those with a positive
decision value, or where documents have one label, the one with the highest.
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

SETUPS = {"reuters": ("reuters_bow", "reuters_bilstm", "reuters_cnn"), "r8": ("r8",), "r52": ("r52",)}  # by corpus
COLUMNS = ("accuracy", "f1_micro", "f1_macro")
HEAD = """# Reuters-21578

Made by `python scripts/reuters.py`, which trains what is missing and writes this file. Official test stories;
thresholds, epochs and everything else that is fitted come from training and validation stories. `LinearSVC` is
scikit-learn's, with its defaults on its TF-IDF, trained on training and validation stories together. Seconds are of the
whole command, the collection being in the cache.
"""


def linear_svc(config: dict[str, Any]) -> dict[str, float]:
    """Test figures of LinearSVC on the corpus of a config. Raises UserError."""
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
    test, wanted = vectorizer.transform(corpus["test"]["text"]), corpus.targets("test")
    if targets.ndim == 2:
        columns = [LinearSVC(random_state=0).fit(training, column).decision_function(test) > 0 for column in targets.T]
        given = np.stack(columns, axis=1)
        figures = {}
    else:
        given = LinearSVC(random_state=0).fit(training, targets).predict(test)
        figures = {"accuracy": accuracy_score(wanted, given)}
    for average in ("micro", "macro"):
        figures[f"f1_{average}"] = f1_score(wanted, given, average=average, zero_division=0)
    return figures


def row(name: str, figures: dict[str, float], seconds: float, command: str) -> list[str]:
    cells = [f"{figures[column]:.4f}" if column in figures else "" for column in COLUMNS]
    return [name, *cells, f"{seconds:.0f}", command]


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the set-ups for Reuters-21578 and LinearSVC, write their table.")
    parser.add_argument("overrides", nargs="*", help="key=value settings for all of them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("outputs/reuters"), help="where the runs are kept")
    parser.add_argument("--docs", type=Path, default=PROJECT / "docs" / "reuters.md", help="the table's file")
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
                figures = {key.removeprefix("test/"): value for key, value in results.items()}
                command = f"`python train.py experiment={name}`"
                rows.append(row(f"`{name}`", figures, results["time/total_s"], command))
            begun = time.perf_counter()
            figures = linear_svc(config)
            rows.append(row(f"LinearSVC on `{data}`", figures, time.perf_counter() - begun, ""))
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
