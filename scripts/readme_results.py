"""Train the models in README.md's table of results and write the table: `make results`.

The models are trained one after the other, on all cores; leave the machine to them, so that their times are comparable.
The time of a run is that of the whole command, with only the reviews in the cache: it includes learning word vectors.
"""

import argparse
import json
import re
import shlex
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from lecture import PROJECT, call_train
from newsreel.core.markdown import markdown_table
from newsreel.core.storage import write_atomically

SETTINGS = (
    "model=bow data=imdb",
    "model=bow data=imdb tokenizer=ngrams model.weighting=nb",
    "model=rnn data=imdb",
    "model=lstm data=imdb",
    "model=lstm data=imdb embedding=glove",
    "model=cnn data=imdb",
    "model=bilstm data=imdb embedding=word2vec",
    "model=bilstm data=imdb",
)
COLUMNS = ("command", "validation accuracy", "test accuracy", "time", "peak memory")
PREPARE = ("data=imdb", "model=bow", "training.max_epochs=1", "evaluation.figures=false", "logger=none")
BETWEEN = re.compile(r"(?<=<!-- made by make results -->\n).*?(?=<!-- until here -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the models in README.md's table of results; write the table.")
    parser.add_argument("overrides", nargs="*", help="key=value settings for all models")
    parser.add_argument("--output", type=Path, default=Path("outputs/results"), help="directory of the runs")
    parser.add_argument("--readme", type=Path, default=PROJECT / "README.md", help="file with the table")
    arguments = parser.parse_args()
    output = arguments.output.resolve() / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    if train(output / "prepared", [*PREPARE, *arguments.overrides], output / "cache") is None:
        return 1
    rows = []
    for number, settings in enumerate(SETTINGS):
        options = [*settings.split(), *arguments.overrides]
        seconds = train(output / str(number), options, output / "cache")
        if seconds is None:  # also Ctrl-C in it: the table has the runs before
            break
        results = json.loads((output / str(number) / "metrics.json").read_text())
        rows.append(row(shlex.join(["python", "train.py", *options]), results, seconds))
    if not rows:
        return 1
    environment = results["environment"]
    measured = (
        f"Measured with seed {environment['seed']} on {environment['processor']} with {environment['threads']} threads."
    )
    text = arguments.readme.read_text(encoding="utf-8")
    lines = "\n".join([*markdown_table(COLUMNS, rows), "", measured])
    write_atomically(arguments.readme, BETWEEN.sub(lambda _: f"\n{lines}\n\n", text))
    return 0 if len(rows) == len(SETTINGS) else 1


def train(folder: Path, options: list[str], cache: Path) -> float | None:
    """Train in a run directory; returns the seconds that the command takes, or None if it fails."""
    start = time.perf_counter()
    try:
        succeeded = call_train([*options, f"paths.cache_dir={cache}"], folder)
    except KeyboardInterrupt:  # train.py has said how to go on
        return None
    return time.perf_counter() - start if succeeded else None


def row(command: str, results: dict[str, Any], seconds: float) -> list[str]:
    minutes, rest = divmod(round(seconds), 60)
    return [
        f"`{command}`",
        f"{results['val/accuracy']:.4f}",
        f"{results['test/accuracy']:.4f}",
        f"{minutes} min {rest} s" if minutes else f"{rest} s",
        f"{results['memory/peak_rss_mb'] / 1024:.1f} GB",
    ]


if __name__ == "__main__":
    sys.exit(main())
