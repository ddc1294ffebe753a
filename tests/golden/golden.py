"""The record of what the commands do: figures, files and messages of small runs that have to stay as they are.

    python tests/golden/golden.py record            # write tests/golden/records/<scenario>.json
    python tests/golden/golden.py check             # run again and compare: exit status 1 if something differs
    python tests/golden/golden.py check bow refused # some scenarios only

Nothing here imports the project: scenarios are commands as a user types them, in a temporary folder with caches of its
own, and what is recorded is read from the files that they leave. Figures are kept to the digit, big things as digests.
Wording (of errors, mostly) is kept apart, under "messages": `check --without-messages` overlooks it, and
`record --messages` takes the new wording into the records and leaves all else in them alone.

Figures depend on the machine in their last digits. `records/machine.json` says on which one they were recorded; on
another one, or with another torch, record them anew from the commit that counts before changing anything.

To save time each command runs in a fork of this process, which has imported the libraries (not the project);
`--fresh` starts an interpreter for each instead, as a user does, and has to give the same.
"""

import argparse
import csv
import difflib
import hashlib
import importlib
import json
import multiprocessing
import os
import platform
import random
import re
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
RECORDS = Path(__file__).resolve().parent / "records"
MACHINE = "machine"  # the record of where the others come from
PRELOADED = [
    "torch", "lightning.pytorch", "torchmetrics", "torch.utils.tensorboard", "datasets", "polars", "pyarrow.parquet",
    "hydra", "tokenizers", "scipy.sparse.linalg", "matplotlib",
]  # fmt: skip
TIMEOUT_S = 240
MAX_TEXT = 900  # characters of a file that are kept as they are; of a longer one the digest and the beginning
FIRST_ROWS = 1
WIDTH = 118  # characters of a line of a record, about
SAME = "as in the first folder"  # of the scenario
PASSING = ("time/", "throughput/", "memory/")  # figures that differ each time
SKIPPED_FILES = ("run.log", "command.json", "config.yaml", "report.md")  # of run folders: paths, times, wording

# Settings that may get other names: a new name here and the records stay as they are.
KEEP = "training.checkpoint"
ACCUMULATE = "trainer.accumulate_grad_batches"
KIM_WIDTHS = "model.kernel_sizes"

TINY = (
    "trainer=cpu", "trainer.threads=1", "trainer.log_every_n_steps=1", "evaluation.figures=false", "logger=csv",
    "training.max_epochs=2", "training.patience=null",
)  # fmt: skip
SYNTHETIC = ("data=synthetic", "data.num_documents=160", "data.vocabulary_size=300", "data.mean_length=12", *TINY)
FOUR = (*SYNTHETIC, "data.num_labels=4", "data.difficulty=0.3")
REVIEWS = ("data=files", "data.train=reviews.csv", *TINY)  # binary
KINDS = (
    "data=files",
    "data.train=kinds.tsv",
    "data.text=story",
    "data.label=kind",
    "data.test=kinds_test.jsonl",
    *TINY,
)
STORIES = ("data=files", "data.train=stories.jsonl", "data.label=topics", *TINY)  # several labels
LSTM = ("model=lstm", "model.hidden_size=6", "embedding.dimension=8")


@dataclass(frozen=True)
class Step:
    """A command. `{name}` in it is the run folder (of a sweep: its folder) that the step of this name has left."""

    name: str
    arguments: tuple[str, ...]
    stdin: str | None = None
    printed: bool = False  # whether what it prints is part of the record
    told: bool = False  # whether what it prints counts as wording
    table: bool = False  # whether its summary.csv is kept row by row, not as a digest
    files: tuple[str, ...] = ()  # that it leaves, beside run folders, relative to where it runs
    logged: bool = True  # whether its metrics.csv is the same each time
    fresh: bool = False  # whether it needs an interpreter of its own
    killed: bool = False  # whether it is killed as soon as there is a checkpoint to go on from


def train(name: str, *overrides: str, **how: Any) -> Step:
    return Step(name, ("train.py", *overrides), **how)


def sweep(name: str, *overrides: str, table: bool = False) -> Step:
    return Step(name, ("train.py", "-m", *overrides), table=table)


def evaluate(name: str, *overrides: str) -> Step:
    return Step(name, ("evaluate.py", *overrides), told=True)


def predict(name: str, *overrides: str, **how: Any) -> Step:
    return Step(name, ("predict.py", *overrides), **{"printed": True, **how})


def export(name: str, *texts: str) -> list[Step]:
    """A run exported to a folder onnx_<name>, and what the README's code there says of texts."""
    folder = f"onnx_{name}"
    files = tuple(f"{folder}/{file}" for file in ("labels.json", "thresholds.json", "tokenizer.json"))
    return [
        Step(f"export {name}", ("scripts/export.py", f"run={{{name}}}", f"output={folder}"), files=files),
        Step(f"without newsreel {name}", (f"{folder}/README.md", *texts), printed=True, fresh=True),
    ]


SCENARIOS: dict[str, list[Step]] = {
    "bow": [
        sweep("weightings", *SYNTHETIC, "model=bow", "model.weighting=tfidf,nb,count,binary,tf"),
        sweep("layers", *FOUR, "model=bow", "model.hidden_sizes=[5]", "model.dropout=0.3", "seed=1,2"),
    ],
    "recurrent": [
        sweep("cells", *FOUR, "model=rnn,gru,lstm,birnn,bigru,bilstm", "model.hidden_size=6", "embedding.dimension=8"),
        sweep("pooling", *FOUR, *LSTM, "model.num_layers=2", "model.pooling=last,max,mean,attention"),
        train(
            "backward",
            *FOUR,
            *LSTM,
            "model.directions=backward",
            "model.recurrent_dropout=0.2",
            "model.layer_norm=true",
            "batches.max_tokens=8",
        ),
    ],
    "convolutional": [
        train("flatten", *FOUR, "model=flatten", "embedding.dimension=8", "batches.max_tokens=10"),
        train(
            "cnn",
            *FOUR,
            "model=cnn",
            "model.num_filters=6",
            "model.hidden_sizes=[5]",
            "model.num_layers=2",
            "model.pool_size=2",
        ),
        train(
            "kim_cnn",
            *SYNTHETIC,
            "model=kim_cnn",
            "model.num_filters=4",
            f"{KIM_WIDTHS}=[2,3]",
            "embedding.dimension=8",
        ),
    ],
    "multilabel": [
        sweep(
            "rules",
            *STORIES,
            "model=bow",
            "tokenizer.mark_title=true",
            "evaluation.thresholds=per_label,global,top_k,fixed",
        ),
        train(
            "network",
            *STORIES,
            *LSTM,
            "data.test=stories_test.jsonl",
            "training.class_balance=0.5",
            "training.focal_gamma=2",
        ),
        evaluate("validation", "run={network}", "split=validation", "trainer=cpu"),
        train(
            "hierarchy",
            "data=synthetic_rcv1",
            "data.num_documents=200",
            "data.vocabulary_size=2000",
            "data.mean_length=15",
            *TINY,
            "model=bow",
            "evaluation.hierarchy=close",
        ),
    ],
    "tokenizers": [
        train(
            "words",
            *REVIEWS,
            "model=bow",
            "data.test=reviews_test.csv",
            "tokenizer.punctuation=keep",
            "tokenizer.normalization=NFKC",
        ),
        train("ngrams", *REVIEWS, "model=bow", "tokenizer=ngrams", "model.weighting=nb", "tokenizer.max_n=2"),
        train("subwords", *KINDS, *LSTM, "tokenizer=subwords", "tokenizer.max_size=350"),
        train("documents in pieces", *KINDS, *LSTM, "tokenizer.max_size=20", "batches.max_tokens=7"),
    ],
    "embeddings": [
        sweep(
            "learned",
            *REVIEWS,
            "model=gru",
            "model.hidden_size=6",
            "embedding=learned,learned_small,svd,word2vec",
            "embedding.dimension=8",
        ),
        train("fasttext", *REVIEWS, *LSTM, "embedding=fasttext", "embedding.bucket=500", "embedding.min_count=2"),
        train("one_hot", *REVIEWS, "model=lstm", "model.hidden_size=6", "embedding=one_hot", "tokenizer.max_size=50"),
        train(
            "glove",
            *REVIEWS,
            *LSTM,
            "embedding=glove",
            "embedding.path=vectors.txt",
            "embedding.unknown=random",
            "embedding.max_norm=2",
        ),
        train("fixed", *REVIEWS, *LSTM, "embedding=word2vec", "embedding.path=vectors.txt", "embedding.value_std=0.5"),
        Step(
            "neighbors of a file",
            (
                "scripts/neighbors.py",
                *REVIEWS,
                "embedding=glove",
                "embedding.path=vectors.txt",
                "embedding.dimension=8",
                "word=good",
                "analogy=good - bad + dull",
                "words=[good,bad,film]",
                "num_neighbors=4",
            ),
            printed=True,
        ),
        Step(
            "neighbors of a run", ("scripts/neighbors.py", "run={glove}", "word=film", "num_neighbors=3"), printed=True
        ),
    ],
    "training": [
        sweep(
            "optimizers",
            *FOUR,
            "model=bow",
            "training.optimizer=adam,adamw,sgd,rmsprop,adagrad",
            "training.learning_rate=0.05",
            "training.weight_decay=0.001",
            "training.gradient_clip=0.1",
        ),
        train(
            "schedule",
            *FOUR,
            *LSTM,
            "training.schedule=cosine",
            "training.warmup_fraction=0.2",
            "training.label_smoothing=0.1",
            f"{ACCUMULATE}=3",
            "batches.batch_size=8",
            f"{KEEP}=last",
        ),
        train(
            "one against the rest",
            *FOUR,
            "model=bow",
            "training.one_vs_rest=true",
            "training.class_balance=1",
            "data.limit=25",
            "data.train_limit=60",
        ),
        train(
            "patience",
            *SYNTHETIC,
            "model=bow",
            "training.max_epochs=8",
            "training.patience=1",
            "training.learning_rate=3",
        ),
        train("overfit", *FOUR, *LSTM, "debug=overfit", "training.max_epochs=3"),
    ],
    "logged": [
        train(
            "tensorboard",
            *SYNTHETIC,
            *LSTM,
            "logger=tensorboard",
            "evaluation.figures=true",
            "trainer.histograms=true",
            "trainer.projector_words=20",
            "debug=smoke",
        ),
    ],
    "resumed": [
        train("finished", *FOUR, *LSTM, "training.schedule=constant", "training.warmup_fraction=0"),
        train("trained on", "resume={finished}", "training.max_epochs=4"),
        train("left as it is", "resume={finished}"),
        train("killed", *FOUR, *LSTM, "training.max_epochs=12", "trainer.checkpoint_every_s=0", killed=True),
        # a kill between a checkpoint and the writing of the log loses a line of the log
        train("went on", "resume={killed}", logged=False),
        train("never killed", *FOUR, *LSTM, "training.max_epochs=12"),
    ],
    "processes": [
        train(
            "two",
            *FOUR,
            *LSTM,
            "trainer=ddp",
            "trainer.accelerator=cpu",
            "trainer.devices=2",
            "batches.batch_size=10",
            fresh=True,
        ),
        evaluate("in one", "run={two}", "trainer=cpu"),
    ],
    "sweeps": [
        sweep("jobs", *SYNTHETIC, "model=bow", "training.learning_rate=0.1,2000", "seed=1,2", table=True),
        Step("compared", ("scripts/compare.py", "outputs/sweeps", "--output", "table")),
        Step("nothing to compare", ("scripts/compare.py", "nowhere")),
    ],
    "evaluated": [
        train("bow", *REVIEWS, "model=bow"),
        train(
            "cnn",
            *REVIEWS,
            "model=kim_cnn",
            "model.num_filters=4",
            "embedding.dimension=8",
            "tokenizer=subwords",
            "tokenizer.max_size=400",
        ),
        evaluate("one", "run={bow}"),
        evaluate("other documents", "run={cnn}", "data=files", "data.test=reviews_test.csv"),
        evaluate("together", "run=[{bow},{cnn}]", "output=together"),
        train("topics", *STORIES, "model=bow"),
        train("topics again", *STORIES, *LSTM),
        evaluate("topics together", "run=[{topics},{topics again}]"),
        evaluate(
            "other labels", "run={bow}", "data=files", "data.test=kinds.tsv", "data.text=story", "data.label=kind"
        ),
    ],
    "predicted": [
        train("linear", *REVIEWS, "model=bow"),
        train("topics", *STORIES, *LSTM),
        predict("a text", "run={linear}", "text=A good film, don't miss it"),
        predict("lines", "run={linear}", "top_k=1", stdin="a good film\n\ndull and bad\nzorb\n"),
        predict(
            "json lines", "run={topics}", "input=new.csv", "keep=[id]", "output=answers.jsonl", files=("answers.jsonl",)
        ),
        predict("csv", "run={topics}", "input=new.csv", "keep=[id]", "output=answers.csv", files=("answers.csv",)),
        predict("parquet", "run={linear}", "input=new.csv", "output=answers.parquet", files=("answers.parquet",)),
        predict("a broken line", "run={linear}", "input=broken.jsonl"),
        predict(
            "explained",
            "run={linear}",
            "text=A dull zorb, a good film",
            "explain=true",
            "html=page.html",
            files=("page.html",),
        ),
        predict("explained network", "run={topics}", "input=new.csv", "explain=true", "top_k=2", "explain_label=wheat"),
    ],
    "exported": [
        train("linear", *REVIEWS, "model=bow", "tokenizer=ngrams"),
        *export("linear", "a good film", "", "dull, bad <br /> story"),
        train(
            "topics", *STORIES, "model=bigru", "model.hidden_size=5", "embedding.dimension=6", "batches.max_tokens=9"
        ),
        *export("topics", "Wheat rose today and the bank sold oil", "film"),
    ],
    "refused": [
        train("misspelt", *SYNTHETIC, "trainer.thread=1"),
        train("unknown choice", *SYNTHETIC, "model=lstn"),
        train("out of range", *SYNTHETIC, "model.dropout=1", "training.max_epochs=0", "batches.truncation=middle"),
        train("ngrams for a network", *SYNTHETIC, "model=lstm", "tokenizer=ngrams"),
        train("sparse gradients compiled", *SYNTHETIC, "model=bow", "trainer.compile=true"),
        train("rule for several labels", *SYNTHETIC, "model=bow", "evaluation.hierarchy=close"),
        train("too few labels", *SYNTHETIC, "data.num_labels=1"),
        train("no file", "data=files", "data.train=nowhere.csv", *TINY),
        train("broken file", "data=files", "data.train=broken.jsonl", *TINY),
        train("no column", "data=files", "data.train=reviews.csv", "data.text=review", *TINY),
        train("no run to go on with", "resume=nowhere"),
        Step("no run to evaluate", ("evaluate.py", "run=nowhere")),
        Step("no run named", ("predict.py", "text=a film")),
        Step("no run to export", ("scripts/export.py", "run=nowhere")),
        Step("misspelt key of a sweep", ("train.py", "-m", *SYNTHETIC, "modle.dropout=0.1,0.2")),
    ],
}
SMALL = ["convolutional"]  # what `make test` runs


# ---------------------------------------------------------------------------------------------------------- documents

COMMON = re.findall(
    r"\S+", "the a and of to it was in that this with for on at by don't café one two three year people"
)
OF_LABELS = {
    "good": ["good", "fine", "wonderful", "great", "lovely", "film"],
    "bad": ["bad", "dull", "awful", "boring", "poor", "story"],
    "wheat": ["wheat", "grain", "harvest", "tonnes", "crop"],
    "oil": ["oil", "barrel", "crude", "refinery", "opec"],
    "money": ["bank", "rate", "dollar", "interest", "fed"],
}


def document(chance: random.Random, labels: Sequence[str], mean_length: int = 14) -> str:
    """Words of the labels among common ones, with what texts have in them beside words."""
    words = [
        chance.choice(OF_LABELS[chance.choice(labels)]) if labels and chance.random() < 0.35 else chance.choice(COMMON)
        for _ in range(1 + int(chance.random() * 2 * mean_length))
    ]
    if chance.random() < 0.2:
        words.insert(chance.randrange(len(words)), "<br />")
    if chance.random() < 0.2:
        words[-1] += chance.choice(["!", ".", " 7.5%", " (ﬁne)"])
    return " ".join(words).capitalize()


def write_documents(folder: Path) -> None:
    """The files that the scenarios name; the same ones each time."""
    chance = random.Random("documents")

    def labelled(labels: Sequence[str], number: int) -> list[tuple[str, str]]:
        chosen = [labels[place % len(labels)] for place in range(number)]
        return [(document(chance, [label]), label) for label in chosen]

    for name, number in (("reviews", 120), ("reviews_test", 31)):
        rows = [("text", "label"), *labelled(["good", "bad"], number)]
        write_table(folder / f"{name}.csv", rows, ",")
    write_table(folder / "kinds.tsv", [("story", "kind"), *labelled(["wheat", "oil", "money"], 120)], "\t")
    kinds = [{"story": text, "kind": label} for text, label in labelled(["wheat", "oil", "money"], 30)]
    write_lines(folder / "kinds_test.jsonl", kinds)
    for name, number in (("stories", 150), ("stories_test", 40)):
        stories = []
        for _ in range(number):
            topics = [label for label in ("wheat", "oil", "money") if chance.random() < 0.4] or ["oil"]
            stories.append({"text": f"{document(chance, topics, 3)}\n{document(chance, topics)}", "topics": topics})
        write_lines(folder / f"{name}.jsonl", stories)
    new = [(str(number), document(chance, [label]), "x") for number, label in enumerate(OF_LABELS)]
    write_table(folder / "new.csv", [("id", "text", "other"), *new, ("9", "", "empty")], ",")
    (folder / "broken.jsonl").write_text('{"text": "a film", "label": "good"}\n{"text": 3, "label"\n', encoding="utf-8")
    words = sorted({word for group in OF_LABELS.values() for word in group} | set(COMMON[:12]))
    rows_of = [" ".join([word, *(f"{chance.uniform(-1, 1):.4f}" for _ in range(8))]) for word in words]
    (folder / "vectors.txt").write_text("\n".join(rows_of) + "\n", encoding="utf-8")


def write_table(path: Path, rows: Sequence[Sequence[str]], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)


def write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


# ----------------------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True)
class Ended:
    status: int
    stdout: str
    stderr: str


def run_step(step: Step, arguments: Sequence[str], folder: Path, fresh: bool) -> Ended:
    """Run a command in the folder and wait for it, or kill it where that is what the step is for."""
    variables = {
        **{name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"},
        "NEWSREEL_CACHE_DIR": str(folder / "cache"),
        "NEWSREEL_CORPORA_DIR": str(folder / "corpora"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
    }
    streams = [folder / f".{name}" for name in ("stdin", "stdout", "stderr")]
    streams[0].write_text(step.stdin or "", encoding="utf-8")
    script, where = PROJECT / arguments[0], folder
    if arguments[0].endswith("README.md"):
        script, where = code_of(folder / arguments[0]), (folder / arguments[0]).parent
    if fresh or step.fresh:
        status = run_fresh(script, arguments[1:], where, variables, streams, step.killed)
    else:
        status = run_forked(script, arguments[1:], where, variables, streams, step.killed)
    return Ended(status, *(stream.read_text(encoding="utf-8") for stream in streams[1:]))


def code_of(readme: Path) -> Path:
    """The program in an export's README, as a file that cannot import the project or torch."""
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    script = readme.parent / "classify.py"
    script.write_text('import sys\nsys.modules |= {"newsreel": None, "torch": None}\n' + code, encoding="utf-8")
    return script


def run_fresh(
    script: Path, arguments: Sequence[str], folder: Path, variables: dict[str, str], streams: Sequence[Path], kill: bool
) -> int:
    stdin, stdout, stderr = streams
    with stdin.open() as asked, stdout.open("w") as printed, stderr.open("w") as told:
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            cwd=folder,
            env=variables,
            stdin=asked,
            stdout=printed,
            stderr=told,
        )
        try:
            if kill:
                wait_for_checkpoint(folder, lambda: process.poll() is None)
                process.kill()
            return process.wait(TIMEOUT_S)
        finally:
            process.kill()


def run_forked(
    script: Path, arguments: Sequence[str], folder: Path, variables: dict[str, str], streams: Sequence[Path], kill: bool
) -> int:
    for name in PRELOADED:
        importlib.import_module(name)
    process = multiprocessing.get_context("fork").Process(
        target=play, args=(script, list(arguments), folder, variables, streams)
    )
    process.start()
    try:
        if kill:
            wait_for_checkpoint(folder, process.is_alive)
            process.kill()
        process.join(TIMEOUT_S)
        if process.exitcode is None:
            raise TimeoutError(f"{script.name} {' '.join(arguments)} took more than {TIMEOUT_S} s")
        return process.exitcode
    finally:
        process.kill()


def play(script: Path, arguments: list[str], folder: Path, variables: dict[str, str], streams: Sequence[Path]) -> None:
    """Be the interpreter that runs the script: its streams, its folder, its environment."""
    for number, (stream, flags) in enumerate(zip(streams, ("r", "w", "w"), strict=True)):
        with stream.open(flags) as file:
            os.dup2(file.fileno(), number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, flags, encoding="utf-8", closefd=False) for number, flags in ((0, "r"), (1, "w"), (2, "w"))
    )
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.argv = [str(script), *arguments]
    sys.path[0] = str(script.parent)
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def wait_for_checkpoint(folder: Path, alive: Any) -> None:
    """Until a run has left something to go on from: which step that is, no figure may depend on."""
    deadline = time.monotonic() + TIMEOUT_S
    known = set(folder.rglob("last.ckpt"))
    while not set(folder.rglob("last.ckpt")) - known:
        if not alive() or time.monotonic() > deadline:
            raise RuntimeError("the run ended, or took too long, before it had a checkpoint")
        time.sleep(0.005)


# ------------------------------------------------------------------------------------------------------- observations


def observe(name: str, fresh: bool = False) -> dict[str, Any]:
    """What a scenario does, as it is recorded: step → what came of it."""
    with tempfile.TemporaryDirectory(prefix="golden-") as created:
        folder = Path(created).resolve()
        write_documents(folder)
        places: dict[str, Path] = {}
        record: dict[str, Any] = {}
        for step in SCENARIOS[name]:
            before = stamps(folder)
            arguments = [fill(argument, places, folder) for argument in step.arguments]
            ended = run_step(step, arguments, folder, fresh)
            changed = sorted(path for path, stamp in stamps(folder).items() if before.get(path) != stamp)
            if (place := place_of(changed)) is not None:
                places[step.name] = place
            record[step.name] = observations(step, ended, folder, changed)
        return shortened(record)


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    kept = [path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts]
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in kept}


def fill(argument: str, places: Mapping[str, Path], folder: Path) -> str:
    for name, place in places.items():
        argument = argument.replace(f"{{{name}}}", str(place.relative_to(folder)))
    return argument


def place_of(changed: Sequence[Path]) -> Path | None:
    """The folder that a command has left: of a sweep, else of a run, else of an evaluation."""
    for mark in ("multirun.yaml", "config.yaml", "metrics.json"):
        for path in changed:
            if path.name == mark:
                return path.parent
    return None


def observations(step: Step, ended: Ended, folder: Path, changed: Sequence[Path]) -> dict[str, Any]:
    tidy = Tidy(folder)
    seen: dict[str, Any] = {"exit": ended.status}
    messages: dict[str, Any] = {}
    if ended.status == 2 or (ended.status != 0 and not step.killed and step.arguments[1] != "-m"):
        messages["stderr"] = tidy(ended.stderr).splitlines()
    if step.told:
        messages["stdout"] = tidy(ended.stdout).splitlines()
    if step.printed:
        seen["stdout"] = [read_line(line) for line in tidy(ended.stdout).splitlines()]
    for path in changed:
        if path.name == "metrics.json":
            seen.setdefault("folders", {})[tidy(str(path.parent.relative_to(folder)))] = run_of(
                path.parent, tidy, step.logged
            )
        elif path.name == "failed.json":
            message = json.loads(path.read_text(encoding="utf-8"))["message"]
            messages.setdefault("failed", {})[tidy(str(path.parent.relative_to(folder)))] = tidy(message)
        elif path.name == "summary.csv":
            rows, messages["summary"] = summary_of(path, tidy)
            seen["summary"] = rows if step.table else {"rows": len(rows), "sha256": digest(json.dumps(rows))}
    for name in step.files:
        if (folder / name).exists():
            seen.setdefault("files", {})[name] = content_of(folder / name, tidy)
    return seen | ({"messages": messages} if messages else {})


class Tidy:
    """Takes out of a text what differs each time: where it ran, and when."""

    def __init__(self, folder: Path) -> None:
        self.places = {str(folder): "<folder>", str(PROJECT): "<project>"}

    def __call__(self, text: str) -> str:
        for place, name in self.places.items():
            text = text.replace(place, name)
        text = re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.\d+", "<time>", text)
        return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)


def read_line(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


def run_of(folder: Path, tidy: Tidy, logged: bool) -> dict[str, Any]:
    """What the folder of a run or an evaluation says."""
    metrics = json.loads(tidy((folder / "metrics.json").read_text(encoding="utf-8")))
    environment = metrics.pop("environment", {})
    seen: dict[str, Any] = {
        "metrics": {name: value for name, value in metrics.items() if not name.startswith(PASSING)},
        "corpus_fingerprint": str(environment.get("corpus_fingerprint"))[:16],
        "files": sorted({tidy(name) for name in names_in(folder)}),
    }
    for name in ("labels.csv", "labels.json", "thresholds.json", "tokenizer.json", "predictions.parquet"):
        if (folder / name).exists():
            seen[name] = content_of(folder / name, tidy)
    if logged and (folder / "metrics.csv").exists():
        seen["metrics.csv"] = steps_of(folder / "metrics.csv")
    if (folder / "checkpoints" / "best.ckpt").exists():
        seen["weights"] = weights_of(folder / "checkpoints" / "best.ckpt")
    if (folder / "tensorboard").is_dir():
        seen["tensorboard"] = tags_of(folder / "tensorboard")
    return seen


def shortened(record: dict[str, Any]) -> dict[str, Any]:
    """A scenario's record, whose later folders are without what is as in its first one."""
    first: dict[str, Any] = {}
    for step in record.values():
        for seen in step.get("folders", {}).values():
            seen |= {key: SAME for key, value in seen.items() if value == first.get(key)}
            first = first or dict(seen)
    return record


def names_in(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            yield re.sub(r"events\.out\.tfevents\..*", "events.out.tfevents", name)


def content_of(path: Path, tidy: Tidy) -> Any:
    """A file's content, or of a big one its digest and its beginning."""
    if path.suffix == ".parquet":
        return predictions_of(path)
    text = tidy(path.read_text(encoding="utf-8"))
    if len(text) > MAX_TEXT or path.name == "tokenizer.json":
        return {"sha256": digest(text), "characters": len(text)}
    if path.suffix == ".json":
        return json.loads(text)
    return [read_line(line) for line in text.splitlines()]


def predictions_of(path: Path) -> dict[str, Any]:
    """A table by its values: one line of JSON a row."""
    from pyarrow import parquet

    table = parquet.read_table(path, use_threads=False)
    lines = [json.dumps(row, ensure_ascii=False, default=str) for row in table.to_pylist()]
    return {
        "columns": ", ".join(f"{field.name} {field.type}" for field in table.schema)[:MAX_TEXT],
        "rows": len(lines),
        "sha256": digest("\n".join(lines)),
        "first": [json.loads(line) for line in lines[:FIRST_ROWS]],
    }


def steps_of(path: Path) -> dict[str, Any]:
    """What was logged in each step, without times."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            {name: value for name, value in row.items() if not name.startswith(PASSING)} for row in csv.DictReader(file)
        ]
    losses = [row["train/loss_step"] for row in rows if row.get("train/loss_step")]
    lines = [json.dumps(row, sort_keys=True) for row in rows]
    return {"rows": len(rows), "sha256": digest("\n".join(lines)), "first losses": losses[:3], "last": losses[-1:]}


def weights_of(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint by their values, whatever they are called."""
    import torch

    state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    tensors = sorted(
        f"{value.dtype} {list(value.shape)} {digest(json.dumps(value.tolist()))}"
        for value in state.values()
        if torch.is_tensor(value)
    )
    return {"tensors": len(tensors), "sha256": digest("\n".join(tensors))}


def tags_of(folder: Path) -> dict[str, Any]:
    """What TensorBoard shows: the names, and of scalars the last value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(folder))
    log.Reload()
    tags = log.Tags()
    scalars = {
        tag: log.Scalars(tag)[-1].value
        for tag in sorted(tags["scalars"])
        if not any(name in f"{tag}/" for name in PASSING) and not tag.endswith(("_s", "_mb"))
    }
    return {"scalars": scalars, **{kind: sorted(tags[kind]) for kind in ("images", "histograms", "tensors")}}


def summary_of(path: Path, tidy: Tidy) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of a sweep's table without times and empty fields, and the messages in them."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    messages = [tidy(row.pop("message", None) or "") for row in rows]
    kept = [
        {name: tidy(value) for name, value in row.items() if value and not name.startswith(PASSING)} for row in rows
    ]
    return kept, messages


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def machine() -> dict[str, str]:
    """What the last digits depend on."""
    import torch

    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return {
        "torch": torch.__version__,
        "numpy": importlib.import_module("numpy").__version__,
        "processor": models[0] if models else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


# ------------------------------------------------------------------------------------------------------------ records


def record_path(name: str) -> Path:
    return RECORDS / f"{name}.json"


def read_record(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(record_path(name).read_text(encoding="utf-8"))
    return loaded


def as_text(record: Any, depth: int = 0) -> str:
    """JSON with small things side by side, so that records stay short and their differences readable."""
    flat = json.dumps(record, ensure_ascii=False)
    if not record or not isinstance(record, dict | list) or (len(flat) <= WIDTH - depth and depth > 1):
        return flat
    if isinstance(record, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {as_text(value, depth + 1)}" for key, value in record.items()]
    else:
        parts = [as_text(value, depth + 1) for value in record]
    lines = [parts[0]]
    for part in parts[1:]:
        if depth > 1 and "\n" not in lines[-1] + part and len(lines[-1]) + len(part) < WIDTH - depth:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    begin, end = "{}" if isinstance(record, dict) else "[]"
    inner, outer = " " * min(depth + 1, 4), " " * min(depth, 4)
    return f"{begin}\n" + ",\n".join(inner + line for line in lines) + f"\n{outer}{end}"


def write_record(name: str, record: dict[str, Any]) -> None:
    RECORDS.mkdir(exist_ok=True)
    record_path(name).write_text(as_text(record) + "\n", encoding="utf-8")


def without_messages(record: dict[str, Any]) -> dict[str, Any]:
    return {step: {key: value for key, value in seen.items() if key != "messages"} for step, seen in record.items()}


def with_messages_of(recorded: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    """The record with the wording of now."""
    merged = without_messages(recorded)
    for step, kept in merged.items():
        if "messages" in seen.get(step, {}):
            kept["messages"] = seen[step]["messages"]
    return merged


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, str(key)))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, str(number)))
    else:
        yield path, value


def differences(recorded: dict[str, Any], seen: dict[str, Any]) -> list[str]:
    """Each value that differs, as one line or two; nothing if the two are the same."""
    old, new = dict(leaves(recorded)), dict(leaves(seen))
    told = []
    for path in [*old, *(path for path in new if path not in old)]:
        where = " › ".join(path)
        if path not in new:
            told.append(f"- {where}: {json.dumps(old[path], ensure_ascii=False)}")
        elif path not in old:
            told.append(f"+ {where}: {json.dumps(new[path], ensure_ascii=False)}")
        elif json.dumps(old[path]) != json.dumps(new[path]):
            told += [
                f"- {where}: {json.dumps(old[path], ensure_ascii=False)}",
                f"+ {where}: {json.dumps(new[path], ensure_ascii=False)}",
            ]
    if not told and as_text(recorded) != as_text(seen):  # the same values in another order
        lines = difflib.unified_diff(as_text(recorded).splitlines(), as_text(seen).splitlines(), "recorded", "now", n=1)
        told = [line.rstrip("\n") for line in lines]
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=["record", "check", "list"])
    parser.add_argument("scenarios", nargs="*", help=f"all, if none is named: {', '.join(SCENARIOS)}")
    parser.add_argument("--messages", action="store_true", help="record: the wording only, figures stay as recorded")
    parser.add_argument("--without-messages", action="store_true", help="check: whatever the wording")
    parser.add_argument("--fresh", action="store_true", help="an interpreter of its own for each command")
    parser.add_argument("--json", type=Path, help="check: differences of each scenario go to this file")
    parser.add_argument("--max-lines", type=int, default=40, help="differences shown of a scenario (default: 40)")
    asked = parser.parse_args()
    if unknown := [name for name in asked.scenarios if name not in SCENARIOS]:
        parser.error(f"no such scenario: {', '.join(unknown)}")
    names = asked.scenarios or list(SCENARIOS)
    if asked.action == "list":
        print("\n".join(names))
        return 0
    here = machine()
    if asked.action == "record" and not asked.messages and record_path(MACHINE).exists():
        others = set(SCENARIOS) - set(names)
        if others and read_record(MACHINE) != here:
            parser.error("the other scenarios were recorded on another machine: record all of them")
    if asked.action == "check" and read_record(MACHINE) != here:
        print(f"recorded on another machine, last digits may differ: {read_record(MACHINE)}, here {here}")
    found: dict[str, list[str]] = {}
    for name in names:
        began = time.monotonic()
        seen = observe(name, asked.fresh)
        seconds = f"{time.monotonic() - began:.1f} s"
        if asked.action == "record":
            write_record(name, with_messages_of(read_record(name), seen) if asked.messages else seen)
            print(f"{name}: recorded ({seconds})", flush=True)
            continue
        recorded = read_record(name) if record_path(name).exists() else {}
        if asked.without_messages:
            recorded, seen = without_messages(recorded), without_messages(seen)
        found[name] = differences(recorded, seen)
        print(f"{name}: {f'{len(found[name])} lines differ' if found[name] else 'as recorded'} ({seconds})")
        for line in found[name][: asked.max_lines]:
            print(f"  {line}")
        if len(found[name]) > asked.max_lines:
            print(f"  … {len(found[name]) - asked.max_lines} more (--max-lines)")
        sys.stdout.flush()
    if asked.action == "record" and not asked.messages:
        write_record(MACHINE, here)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found), encoding="utf-8")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
