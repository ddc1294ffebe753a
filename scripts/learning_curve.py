"""Train models on samples of the IMDB reviews and draw accuracy by sample size: `python scripts/learning_curve.py`.

All documents are cut from the 25,000 training reviews: 1,000 validation and 1,000 held-out documents, and nested
training samples drawn with each seed; the test reviews are not read. `sentences` are single sentences, one per review.
Every model is trained with the default settings and with those of a large corpus, in its own process, unless its score
is in learning_curve.json beside the page or its run is finished; remove a score from that file to measure it again. The
reference is scikit-learn's LinearSVC with default settings on its TF-IDF.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import mean, stdev

import polars as pl
from hydra.errors import HydraException
from matplotlib.figure import Figure
from omegaconf.errors import OmegaConfBaseException

from lecture import PROJECT, call_train, settings
from newsreel.config.schema import read_experiment
from newsreel.core.errors import USER_MISTAKE, UserError, explain
from newsreel.core.markdown import format_mean_std, markdown_table
from newsreel.core.storage import write_atomically

FAMILIES = {
    "bow": "model=bow",
    "bow, nb": "model=bow model.weighting=nb",
    "rnn": "model=rnn",
    "gru": "model=gru",
    "lstm": "model=lstm",
    "bilstm": "model=bilstm",
    "cnn": "model=cnn",
    "kim_cnn": "model=kim_cnn",
}
AS_LARGE = "training.min_steps_per_epoch=1"  # what the default settings are with many documents
AS_LARGE_LEARNED = "embedding.adapt_below=0"  # in addition, of models on learned rows
SETTINGS = ("as large", "default")
KINDS = ("reviews", "sentences")
FAST = ("trainer=cpu", "trainer.threads=1", "logger=none", "evaluation.figures=false")  # without effect on accuracy
REFERENCE = "LinearSVC"
SCORES_FILE = "learning_curve.json"  # in the directory of the page
NUM_HELD_OUT = 1000  # documents for validation, and as many to test on
SENTENCE_WORDS = (15, 25)
SPLITS = ("validation", "test")
HEAD = """# Accuracy by number of training documents

Made by `python scripts/learning_curve.py`, which trains what is missing in [its scores](learning_curve.json) and writes
them, this page and its figure.
All documents are from IMDB's 25,000 training reviews: samples of them for training, 1,000 others for validation (which
choose the epoch) and 1,000 more to measure on; the test reviews are not read. `reviews` are whole reviews, `sentences`
single ones of 15 to 25 words, one per review. Half of the documents are positive, so a guess has 0.5.

Two settings decide how the defaults depend on the number of training documents: an epoch has at least
`training.min_steps_per_epoch` steps, and with fewer documents than `embedding.adapt_below` learned rows start with
naive-Bayes ratios and more words are dropped ([how scores are measured](measuring.md#small-corpora)). `as large` turns
both off (`training.min_steps_per_epoch=1 embedding.adapt_below=0`). Accuracies on the held-out documents, mean ±
standard deviation over the seeds, each with its own sample; without ±, one seed. `LinearSVC` is scikit-learn's, with
default settings on its TF-IDF. A dash: not run.

![Accuracy by number of training documents](images/learning_curve.png)
"""


@dataclass(frozen=True, order=True)
class RunKey:
    """What one accuracy was measured with."""

    kind: str  # reviews | sentences
    family: str  # one of FAMILIES, or the reference
    setting: str  # one of SETTINGS; empty for the reference
    size: int  # number of training documents
    seed: int


@dataclass(frozen=True)
class Curve:
    """Accuracies on held-out documents, by number of training documents and seed."""

    name: str
    setting: str  # one of SETTINGS; empty for the reference
    scores: dict[int, list[float]] = field(default_factory=dict)

    def add(self, size: int, accuracy: float) -> None:
        self.scores.setdefault(size, []).append(accuracy)

    def cell(self, size: int) -> str:
        values = self.scores.get(size, [])
        deviation = stdev(values) if len(values) > 1 else None
        return format_mean_std(mean(values), deviation) if values else "–"


def read_documents(kind: str, overrides: Sequence[str]) -> pl.DataFrame:
    """`text` and `label` of the training and validation documents of IMDB. Raises UserError."""
    config = settings("lecture/lstm", overrides)  # any experiment on IMDB
    experiment = read_experiment(config)
    corpus = experiment.reader.load(experiment.paths)
    parts = [
        pl.DataFrame({"text": corpus[split]["text"], "label": corpus.targets(split)})
        for split in ("train", "validation")
    ]
    reviews = pl.concat(parts)
    return reviews if kind == "reviews" else sentences(reviews)


def sentences(reviews: pl.DataFrame) -> pl.DataFrame:
    """The first sentence of each review with as many words as SENTENCE_WORDS; reviews without one are left out."""
    shortest, longest = SENTENCE_WORDS
    rows = []
    for text, label in reviews.iter_rows():
        for sentence in re.split(r"(?<=[.!?])\s+|<br />", text):
            if shortest <= len(sentence.split()) <= longest:
                rows.append((sentence, label))
                break
    return pl.DataFrame(rows, schema=reviews.schema, orient="row")


def write_samples(documents: pl.DataFrame, sizes: Sequence[int], seed: int, folder: Path) -> None:
    """Write train-<size>.parquet of every size, validation.parquet and test.parquet, half of each label.

    Validation and test documents are the same for every seed. Raises UserError.
    """
    by_label = [documents.filter(pl.col("label") == label).sample(fraction=1, shuffle=True, seed=0) for label in (0, 1)]
    half = NUM_HELD_OUT // 2
    pools = [part[2 * half :].sample(fraction=1, shuffle=True, seed=seed) for part in by_label]
    most = 2 * min(map(len, pools))
    if max(sizes) > most:
        raise UserError(f"--sizes has {max(sizes)}, but there are only {most:,} documents to train on")
    folder.mkdir(parents=True, exist_ok=True)
    tables = {split: [part[number * half :][:half] for part in by_label] for number, split in enumerate(SPLITS)}
    tables |= {f"train-{size}": [pool[: size // 2] for pool in pools] for size in sizes}
    for name, parts in tables.items():
        pl.concat(parts).write_parquet(folder / f"{name}.parquet")


def run_accuracy(folder: Path, sample: Path, size: int, options: Sequence[str]) -> float | None:
    """Accuracy on the held-out documents of a run, which is trained unless it is finished; None if that fails."""
    if not (folder / "metrics.json").exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        files = [f"data.train={sample / f'train-{size}.parquet'}"]
        files += [f"data.{split}={sample / f'{split}.parquet'}" for split in SPLITS]
        if not call_train(["data=files", *files, *FAST, *options], folder):
            return None
    return float(json.loads((folder / "metrics.json").read_text())["test/accuracy"])


def reference_accuracy(sample: Path, size: int) -> float:
    """Accuracy of LinearSVC on the held-out documents."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    train, test = (pl.read_parquet(sample / f"{name}.parquet") for name in (f"train-{size}", "test"))
    vectorizer = TfidfVectorizer()
    classifier = LinearSVC(random_state=0).fit(vectorizer.fit_transform(train["text"]), train["label"].to_numpy())
    return float(classifier.score(vectorizer.transform(test["text"]), test["label"].to_numpy()))


def draw(curves: dict[str, list[Curve]]) -> bytes:
    """One panel per kind of documents: default settings in colour, those of a large corpus grey, reference dashed."""
    figure = Figure(figsize=(5 * len(curves), 4), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (kind, lines) in zip(panels, curves.items(), strict=True):
        names = [curve.name for curve in lines if curve.setting == "default"]
        for curve in lines:
            sizes = sorted(curve.scores)
            means = [mean(curve.scores[size]) for size in sizes]
            if curve.setting == "as large":
                axes.plot(sizes, means, "o-", ms=2, lw=0.8, color="#d0d4d8", zorder=0)
            elif curve.name == REFERENCE:
                axes.plot(sizes, means, "s--", ms=4, color="black", label=REFERENCE)
            elif sizes:
                axes.plot(sizes, means, "o-", ms=4, color=f"C{names.index(curve.name)}", label=curve.name)
        axes.axhline(0.5, color="#d0d4d8", lw=0.8, ls=":")
        axes.set(title=kind, xlabel="training documents (grey: settings of a large corpus)", xscale="log")
        ticks = sorted({size for curve in lines for size in curve.scores})
        axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
        axes.set_xticks([], minor=True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy on held-out documents")
    panels[0].legend(frameon=False, fontsize=8)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def page(curves: dict[str, list[Curve]], seeds: Sequence[int]) -> str:
    lines = []
    for kind, rows in curves.items():
        sizes = sorted({size for curve in rows for size in curve.scores})
        cells = [[curve.name, curve.setting, *(curve.cell(size) for size in sizes)] for curve in rows if curve.scores]
        lines += ["", f"## {kind.capitalize()}", "", *markdown_table([kind, "settings", *map(str, sizes)], cells)]
    return HEAD + "\n".join(lines) + f"\n\nSeeds: {', '.join(map(str, seeds))}; one thread.\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Train models on samples of IMDB; write accuracy by sample size.")
    parser.add_argument("overrides", nargs="*", help="key=value settings for all runs, such as paths.corpora_dir=…")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="to train now")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="to train with now")
    parser.add_argument("--sizes", nargs="+", type=int, default=[200, 1000, 5000], help="training documents")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--output", type=Path, default=Path("outputs/learning_curve"), help="directory of the runs")
    parser.add_argument(
        "--docs", type=Path, default=PROJECT / "docs", help="directory of the page, its scores and images/"
    )
    arguments = parser.parse_intermixed_args()
    output = arguments.output.resolve()
    failures = 0
    recorded = read_scores(arguments.docs / SCORES_FILE)
    try:
        for kind in arguments.kinds:
            documents = read_documents(kind, arguments.overrides)
            for seed in arguments.seeds:
                sample = output / kind / f"sample{seed}"
                write_samples(documents, arguments.sizes, seed, sample)
                for size in arguments.sizes:
                    reference = sample.parent / f"{REFERENCE}-{size}-{seed}.json"
                    if RunKey(kind, REFERENCE, "", size, seed) not in recorded and not reference.exists():
                        write_atomically(reference, json.dumps(reference_accuracy(sample, size)))
                    for family in arguments.families:
                        for setting in arguments.settings:
                            if RunKey(kind, family, setting, size, seed) in recorded:
                                continue
                            options = [*FAMILIES[family].split(), f"seed={seed}", *arguments.overrides]
                            options += large_settings(family) if setting == "as large" else []
                            folder = run_folder(output, kind, family, setting, size, seed)
                            failures += run_accuracy(folder, sample, size, options) is None
    except (HydraException, OmegaConfBaseException, OSError, UserError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt:  # the page has the runs before
        failures += 1
    scores = recorded | collect(output)
    write_scores(arguments.docs / SCORES_FILE, scores)
    curves, seeds = curves_of(scores), sorted({key.seed for key in scores})
    write_atomically(arguments.docs / "images" / "learning_curve.png", draw(curves))
    write_atomically(arguments.docs / "learning_curve.md", page(curves, seeds))
    print(page(curves, seeds))
    return 1 if failures else 0


def large_settings(family: str) -> list[str]:
    return [AS_LARGE] if "model=bow" in FAMILIES[family] else [AS_LARGE, AS_LARGE_LEARNED]


def run_folder(output: Path, kind: str, family: str, setting: str, size: int, seed: int) -> Path:
    return output / kind / f"{family}-{setting}".replace(", ", "_").replace(" ", "_") / f"{size}-{seed}"


def read_scores(file: Path) -> dict[RunKey, float]:
    """The accuracies that `write_scores` wrote; none if there is no such file."""
    records = json.loads(file.read_text()) if file.exists() else []
    return {RunKey(**{name: record[name] for name in RunKey.__annotations__}): record["accuracy"] for record in records}


def write_scores(file: Path, scores: Mapping[RunKey, float]) -> None:
    """Write a JSON list with one accuracy per line."""
    lines = [json.dumps({**asdict(key), "accuracy": round(scores[key], 4)}) for key in sorted(scores)]
    write_atomically(file, "[\n" + ",\n".join(lines) + "\n]\n")


def collect(output: Path) -> dict[RunKey, float]:
    """The accuracies of all finished runs under a directory, and those of the reference."""
    scores = {}
    for kind in KINDS:
        for family in FAMILIES:
            for setting in SETTINGS:
                folder = run_folder(output, kind, family, setting, 0, 0).parent
                for file in folder.glob("*/metrics.json"):
                    size, _, seed = file.parent.name.partition("-")
                    key = RunKey(kind, family, setting, int(size), int(seed))
                    scores[key] = float(json.loads(file.read_text())["test/accuracy"])
        for file in (output / kind).glob(f"{REFERENCE}-*.json"):
            _, size, seed = file.stem.split("-")
            scores[RunKey(kind, REFERENCE, "", int(size), int(seed))] = float(json.loads(file.read_text()))
    return scores


def curves_of(scores: Mapping[RunKey, float]) -> dict[str, list[Curve]]:
    """One curve per family and setting, and that of the reference, by kind of documents."""
    curves = {}
    for kind in sorted({key.kind for key in scores}):
        rows = {(family, setting): Curve(family, setting) for family in FAMILIES for setting in SETTINGS}
        rows[REFERENCE, ""] = Curve(REFERENCE, "")
        for key in sorted(scores):
            if key.kind == kind:
                rows[key.family, key.setting].add(key.size, scores[key])
        curves[kind] = list(rows.values())
    return curves


if __name__ == "__main__":
    sys.exit(main())
