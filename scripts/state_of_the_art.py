"""Train the best classifier of each family and compare it with published ones: `python scripts/state_of_the_art.py`.

A row of docs/state_of_the_art.md is the result of a step, which may need the runs of other steps, such as a teacher for
pseudo-labels. Steps are run once per seed, unless they have been run with the same settings; the seconds of a row are
those of all steps that it needs.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import mean, stdev
from string import Formatter
from typing import Any

from lecture import PROJECT
from newsreel.core.markdown import format_mean_std, markdown_table
from newsreel.core.storage import write_atomically
from newsreel.core.terminal import print_every_character

QUIET = {"train.py": ["logger=none", "evaluation.figures=false"], "pretrain.py": ["logger=none"]}


@dataclass(frozen=True)
class Step:
    """A command. In its settings, {name} is the run directory of another step with the same seed."""

    script: str  # train.py, pretrain.py or evaluate.py
    settings: str
    seed: int | None = None  # the one seed that it is run with; None: the seed of each run that needs it

    @property
    def needs(self) -> list[str]:
        return [name for _, name, _, _ in Formatter().parse(self.settings) if name]

    def command(self, seed: int, run_dirs: dict[str, str], threads: int | None) -> list[str]:
        settings = shlex.split(self.settings.format(**run_dirs))
        of_training = [f"seed={seed}", *QUIET[self.script]] if self.script in QUIET else []
        return [self.script, *settings, *of_training, *([] if threads is None else [f"trainer.threads={threads}"])]


@dataclass(frozen=True)
class Row:
    """A line of the table: the test scores of a step."""

    corpus: str
    title: str
    step: str
    metrics: tuple[str, ...]  # in metrics.json
    published: str  # neighbours, with their source
    seeds: tuple[int, ...] = (1, 2, 3)


NGRAMS = "model=bow data=imdb tokenizer=ngrams model.weighting=nb"
FROM_LANGUAGE_MODEL = (
    "model=lstm data=imdb tokenizer=words_unlabeled embedding=learned_text embedding.word_dropout=0.4 "
    "embedding.dropout=0.2 model.hidden_size=256 training.ema=0.999 pretrained={imdb_language_model}"
)
STEPS = {
    "imdb_ngrams": Step("train.py", NGRAMS, seed=1),
    "imdb_ngrams_pseudo": Step(
        "train.py", f"{NGRAMS} data.pseudo_labels={{imdb_ngrams}} data.pseudo_targets=hard data.pseudo_weight=0.6"
    ),
    "imdb_lstm": Step("train.py", "model=lstm data=imdb"),
    "imdb_bilstm": Step("train.py", "model=bilstm data=imdb"),
    "imdb_bilstm_word2vec": Step("train.py", "model=bilstm data=imdb embedding=word2vec", seed=1),
    "imdb_teacher": Step("evaluate.py", "run=[{imdb_ngrams},{imdb_bilstm_word2vec}] weights=fit", seed=1),
    "imdb_ngrams_taught": Step(
        "train.py", f"{NGRAMS} data.pseudo_labels={{imdb_teacher}} data.pseudo_targets=hard data.pseudo_weight=0.6"
    ),
    "imdb_cnn_averaged": Step(
        "train.py",
        "model=cnn data=imdb tokenizer.max_size=20000 embedding.dimension=100 data.pseudo_labels={imdb_teacher} "
        "training.max_epochs=3 training.ema=0.999",
    ),
    "imdb_bilstm_pseudo": Step(
        "train.py",
        "model=bilstm data=imdb embedding=word2vec data.pseudo_labels={imdb_teacher} training.max_epochs=3",
    ),
    "imdb_language_model": Step("pretrain.py", "model=lstm data=imdb", seed=1),
    "imdb_lstm_pretrained": Step(
        "train.py",
        f"{FROM_LANGUAGE_MODEL} training.layer_decay=0.4 training.max_epochs=4",
        seed=1,
    ),
    "imdb_lstm_vat": Step(
        "train.py",
        f"{FROM_LANGUAGE_MODEL.replace('word_dropout=0.4', 'word_dropout=0.2')} training.layer_decay=0.4 "
        "training.max_epochs=3 training.vat=1",
        seed=1,
    ),
    "imdb_pretrained_teacher": Step("evaluate.py", "run=[{imdb_ngrams},{imdb_lstm_pretrained}] weights=fit", seed=1),
    "imdb_lstm_pretrained_pseudo": Step(
        "train.py",
        f"{FROM_LANGUAGE_MODEL} data.pseudo_labels={{imdb_pretrained_teacher}} training.max_epochs=3",
        seed=1,
    ),
    "imdb_ensemble": Step(
        "evaluate.py", "run=[{imdb_ngrams_taught},{imdb_cnn_averaged},{imdb_bilstm_word2vec}] weights=fit"
    ),
    "reuters_bow": Step("train.py", "experiment=reuters_bow"),
    "reuters_cnn_pseudo": Step(
        "train.py", "experiment=reuters_cnn data.pseudo_labels={reuters_bow} training.max_epochs=6"
    ),
    "r8": Step("train.py", "experiment=r8 training.label_smoothing=0.05"),
    "r52": Step("train.py", "experiment=r52 training.label_smoothing=0.05"),
}
ACCURACY = ("test/accuracy",)
F1 = ("test/f1_micro", "test/f1_macro")
DAI_LE = "(Dai and Le 2015)"
ROWS = {
    "lstm": Row("IMDB", "LSTM, default settings", "imdb_lstm", ACCURACY, f"LSTM 86.5 {DAI_LE}"),
    "bilstm": Row(
        "IMDB", "BiLSTM, labelled reviews alone", "imdb_bilstm", ACCURACY, "oh-2LSTMp 91.86 (Johnson and Zhang 2016)"
    ),
    "ngrams": Row(
        "IMDB", "1–3-grams, labelled reviews alone", "imdb_ngrams", ACCURACY, "NB-SVM 91.87 (Mesnil et al. 2014)", (1,)
    ),
    "ngrams_pseudo": Row(
        "IMDB", "1–3-grams, pseudo-labels", "imdb_ngrams_pseudo", ACCURACY, "NB-SVM 91.87 (Mesnil et al. 2014)", (1,)
    ),
    "ngrams_taught": Row(
        "IMDB",
        "1–3-grams, pseudo-labels of n-grams and BiLSTM",
        "imdb_ngrams_taught",
        ACCURACY,
        "ensemble 92.57 (Mesnil et al. 2014)",
        (1,),
    ),
    "cnn_pseudo": Row(
        "IMDB",
        "CNN, pseudo-labels, averaged weights",
        "imdb_cnn_averaged",
        ACCURACY,
        "seq2-bown-CNN 92.33, with tv-embeddings 93.49 (Johnson and Zhang 2015)",
    ),
    "bilstm_pseudo": Row(
        "IMDB",
        "BiLSTM on word2vec, pseudo-labels",
        "imdb_bilstm_pseudo",
        ACCURACY,
        f"LSTM on word2vec 90.0 {DAI_LE}",
        (1,),
    ),
    "lstm_pretrained": Row(
        "IMDB",
        "LSTM from a language model",
        "imdb_lstm_pretrained",
        ACCURACY,
        f"LM-LSTM 92.36, SA-LSTM 92.76 {DAI_LE}",
        (1,),
    ),
    "lstm_vat": Row(
        "IMDB",
        "LSTM from a language model, virtual adversarial",
        "imdb_lstm_vat",
        ACCURACY,
        "LM-LSTM 92.61, virtual adversarial 94.09 (Miyato et al. 2017)",
        (1,),
    ),
    "lstm_pretrained_pseudo": Row(
        "IMDB",
        "LSTM from a language model, pseudo-labels",
        "imdb_lstm_pretrained_pseudo",
        ACCURACY,
        f"LM-LSTM 92.36, SA-LSTM 92.76 {DAI_LE}",
        (1,),
    ),
    "ensemble": Row(
        "IMDB",
        "n-grams and CNN, pseudo-labels, and BiLSTM",
        "imdb_ensemble",
        ACCURACY,
        "ensemble 92.57 (Mesnil et al. 2014)",
        (1,),
    ),
    "r90": Row(
        "Reuters R90",
        "bag of words",
        "reuters_bow",
        F1,
        "SVM 86.0 micro, 52.5 macro (Yang and Liu 1999), LSTM_reg 87.0 micro (Adhikari et al. 2019)",
    ),
    "r90_cnn": Row(
        "Reuters R90",
        "CNN, pseudo-labels",
        "reuters_cnn_pseudo",
        F1,
        "LSTM_reg 87.0 micro (Adhikari et al. 2019)",
    ),
    "r8": Row(
        "Reuters R8",
        "bag of words",
        "r8",
        ACCURACY,
        "TextGCN 97.07 (Yao et al. 2019), HyperGAT 97.97 (Ding et al. 2020)",
    ),
    "r52": Row("Reuters R52", "bag of words", "r52", ACCURACY, "TextGCN 93.56, HyperGAT 94.98"),
}
COLUMNS = ("row", "corpus", "classifier", "validation", "test", "seeds", "time", "published test scores")
BETWEEN = ("<!-- made by scripts/state_of_the_art.py -->", "<!-- until here -->")


class Runner:
    """Runs steps in directories that depend on their settings and on those of the steps that they need."""

    def __init__(self, output: Path, train: bool = True, threads: int | None = None) -> None:
        """train: whether missing steps are run. threads: of each step, on which no score depends; None: all cores."""
        self.output = output.resolve()
        self.train = train
        self.threads = threads

    def digest(self, name: str) -> str:
        step = STEPS[name]
        parts = [step.script, step.settings, str(step.seed), *map(self.digest, step.needs)]
        return sha256("\n".join(parts).encode()).hexdigest()[:8]

    def folder(self, name: str, seed: int) -> Path:
        return self.output / f"{name}-{self.digest(name)}" / f"seed{STEPS[name].seed or seed}"

    def run_dir(self, name: str, seed: int) -> Path:
        """The directory that other commands name: of a run, or of an ensemble."""
        folder = self.folder(name, seed)
        return folder / "ensemble" if STEPS[name].script == "evaluate.py" else folder / "run"

    def metrics(self, name: str, seed: int) -> dict[str, Any] | None:
        """The content of metrics.json of a step; None if it has not been run."""
        folder = self.folder(name, seed)
        if not (folder / "seconds.json").exists():
            return None
        kind = "test" if STEPS[name].script == "evaluate.py" else "run"
        content: dict[str, Any] = json.loads((folder / kind / "metrics.json").read_text())
        return content

    def seconds(self, name: str, seed: int) -> float:
        """Of the step and of all steps that it needs."""
        return sum(float(json.loads((self.folder(each, seed) / "seconds.json").read_text())) for each in needed(name))

    def run(self, name: str, seed: int) -> bool:
        """Run a step, after those that it needs; returns whether all have results."""
        step = STEPS[name]
        if not all(self.run(other, seed) for other in step.needs):
            return False
        if self.metrics(name, seed) is not None:
            return True
        if not self.train:
            return False
        folder = self.folder(name, seed)
        shutil.rmtree(folder, ignore_errors=True)  # of a step that was killed
        folder.mkdir(parents=True)
        run_dirs = {other: str(self.run_dir(other, seed)) for other in step.needs}
        arguments = step.command(step.seed or seed, run_dirs, self.threads)
        if step.script == "evaluate.py":
            arguments += [f"output={folder / 'test'}", f"save={folder / 'ensemble'}"]
        else:
            arguments += [f"hydra.run.dir={folder / 'run'}"]
        print("python", shlex.join(arguments), flush=True)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, str(PROJECT / arguments[0]), *arguments[1:]], check=False)
        if done.returncode:
            return False
        write_atomically(folder / "seconds.json", json.dumps(round(time.perf_counter() - start, 1)))
        return True

    def cells(self, name: str) -> list[str] | None:
        """The cells of a row; None unless all of its seeds have results."""
        row = ROWS[name]
        runs = [self.metrics(row.step, seed) for seed in row.seeds]
        results = [run for run in runs if run is not None]
        if len(results) < len(runs):
            return None
        scores = [spread([run[metric] for run in results]) for metric in row.metrics]
        validation = [spread([run[metric.replace("test/", "val/")] for run in results]) for metric in row.metrics]
        seconds = mean(self.seconds(row.step, seed) for seed in row.seeds)
        seeds = ", ".join(map(str, row.seeds))
        threads = results[0].get("environment", {}).get("threads")
        on_one = " on 1 thread" if threads == 1 else ""
        return [
            f"`{name}`",
            row.corpus,
            row.title,
            " / ".join(validation),
            " / ".join(scores),
            seeds,
            f"{seconds / 60:.1f} min{on_one}",
            row.published,
        ]


def needed(name: str) -> set[str]:
    """The step and all steps that it needs."""
    return {name}.union(*map(needed, STEPS[name].needs))


def spread(values: list[float]) -> str:
    return format_mean_std(mean(values), stdev(values) if len(values) > 1 else None)


def commands(name: str) -> list[str]:
    """The commands of a row, in their order, for readers: {name} stands for the run directory of a step."""
    lines = [line for other in STEPS[name].needs for line in commands(other)]
    step = STEPS[name]
    seed = f" seed={step.seed}" if step.seed is not None and step.script != "evaluate.py" else ""
    lines.append(f"{name}: python {step.script} {step.settings}{seed}")
    return list(dict.fromkeys(lines))


def listing(name: str) -> str:
    """The commands of a row, for the page."""
    return f"\n`{name}`:\n\n```text\n" + "\n".join(commands(ROWS[name].step)) + "\n```"


def page(runner: Runner, before: str) -> str:
    """The generated part of the page. before: that of the page as it is, whose rows are kept unless they are new here.

    A row whose commands or seeds are no longer those of ROWS is left out.
    """
    cells = {}
    for name, row in ROWS.items():
        found = runner.cells(name) or cells_in(before, name)
        if found is not None and found[COLUMNS.index("seeds")] == ", ".join(map(str, row.seeds)):
            cells[name] = found
    return "\n".join([*markdown_table(COLUMNS, list(cells.values())), *map(listing, cells)])


def cells_in(text: str, name: str) -> list[str] | None:
    """The cells of a row in a page with the same commands; None if it has none."""
    if listing(name) not in text:
        return None
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith(f"| `{name}` ")]
    return [cell.strip() for cell in lines[0]] if lines else None


def main() -> int:
    print_every_character()
    parser = argparse.ArgumentParser(description="Train the best classifier of each family; write their table.")
    parser.add_argument("rows", nargs="*", help=f"rows to train (default: all): {', '.join(ROWS)}")
    parser.add_argument("--output", type=Path, default=Path("outputs/state_of_the_art"), help="directory of the runs")
    parser.add_argument("--docs", type=Path, default=PROJECT / "docs" / "state_of_the_art.md", help="page of the table")
    parser.add_argument(
        "--threads", type=int, help="threads of each step, on which no score depends (default: all cores)"
    )
    parser.add_argument("--table", action="store_true", help="only write the table of the existing runs; do not train")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.rows if name not in ROWS]:
        parser.error(f"there is no row {', '.join(unknown)}: choose from {', '.join(ROWS)}")
    runner = Runner(arguments.output, not arguments.table, arguments.threads)
    failed = []
    try:
        for name in arguments.rows or ROWS:
            failed += [f"{name} seed={seed}" for seed in ROWS[name].seeds if not runner.run(ROWS[name].step, seed)]
    except KeyboardInterrupt:  # the command has said how to go on
        failed.append("stopped")
    text = arguments.docs.read_text(encoding="utf-8")
    beginning, rest = text.split(BETWEEN[0])
    generated, end = rest.split(BETWEEN[1])
    write_atomically(arguments.docs, f"{beginning}{BETWEEN[0]}\n\n{page(runner, generated)}\n\n{BETWEEN[1]}{end}")
    if failed and not arguments.table:
        print(f"error: no results of {', '.join(failed)}", file=sys.stderr)
    return 1 if failed and not arguments.table else 0


if __name__ == "__main__":
    sys.exit(main())
