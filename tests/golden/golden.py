"""The record of what the commands do: figures, files and messages of small runs that have to stay as they are.

    python tests/golden/golden.py record            # write tests/golden/records/<scenario>.json
    python tests/golden/golden.py check             # run again and compare: exit status 1 if something differs
    python tests/golden/golden.py check bow refused # some scenarios only

Scenarios are commands as a user types them (scenarios.yaml), in a temporary folder with caches of its own, and what is
recorded is read from the files that they leave. Figures are kept to the digit, big things as digests. Wording (of
errors, mostly) is kept apart, under "messages": `check --without-messages` overlooks it, and `record --messages` takes
the new wording into the records and leaves all else in them alone.

Figures depend on the machine in their last digits. `records/machine.json` says on which one they were recorded; on
another one, or with another torch, record them anew from the commit that counts before changing anything.
"""

import argparse
import csv
import difflib
import hashlib
import json
import math
import os
import platform
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from helpers.preloaded import PreloadedPopen
from helpers.project import PROJECT

RECORDS = Path(__file__).resolve().parent / "records"
MACHINE = "machine"  # the record of where the others come from
SMALL = ["convolutional"]  # what `make test` runs
TIMEOUT_S = 240
MAX_TEXT = 900  # characters of a file that are kept as they are; of a longer one the digest and the beginning
WIDTH = 118  # characters of a line of a record, about
SAME = "as in the first folder"  # of the scenario
PASSING = ("time/", "throughput/", "memory/")  # figures that differ each time
MARKS = ("printed", "told", "table", "unlogged", "fresh", "killed")
EXPORTED = ("labels.json", "thresholds.json", "tokenizer.json")


def read_scenarios() -> dict[str, dict[str, str]]:
    """Scenario → step → command, with the settings in the place of the words that stand for them."""
    text = Path(__file__).with_name("scenarios.yaml").read_text(encoding="utf-8")
    for name, settings in reversed(yaml.safe_load(text)["settings"].items()):
        text = re.sub(rf"\b{name}\b(?!:)", settings, text)
    scenarios: dict[str, dict[str, str]] = yaml.safe_load(text)
    del scenarios["settings"]
    return scenarios


SCENARIOS = read_scenarios()

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
        write_table(folder / f"{name}.csv", [("text", "label"), *labelled(["good", "bad"], number)], ",")
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
    (folder / "lines.txt").write_text("a good film\n\ndull and bad\nzorb\n", encoding="utf-8")
    words = sorted({word for group in OF_LABELS.values() for word in group} | set(COMMON[:12]))
    rows = [" ".join([word, *(f"{chance.uniform(-1, 1):.4f}" for _ in range(8))]) for word in words]
    (folder / "vectors.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_table(path: Path, rows: Sequence[Sequence[str]], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)


def write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


# ----------------------------------------------------------------------------------------------------------- commands


def environment_of(folder: Path) -> dict[str, str]:
    own = {"NEWSREEL_CACHE_DIR": str(folder / "cache"), "NEWSREEL_CORPORA_DIR": str(folder / "corpora")}
    variables = {**os.environ, **own, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    variables.pop("HYDRA_FULL_ERROR", None)
    return variables


def run(arguments: list[str], marks: Sequence[str], folder: Path) -> tuple[int, str, str]:
    """Run a command in the folder and wait for it, or kill it where that is what the step is for: status and output."""
    variables = environment_of(folder)
    stdin = folder / arguments.pop()[1:] if arguments[-1].startswith("<") else Path(os.devnull)
    script = PROJECT / arguments[0]
    if not script.exists():  # that of an export
        script = folder / arguments[0]
    with stdin.open() as asked:
        streams: dict[str, Any] = {"stdin": asked, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        if "fresh" in marks:
            command = [sys.executable, str(script), *arguments[1:]]
            process = subprocess.Popen(command, text=True, cwd=folder, env=variables, **streams)
        else:
            process = PreloadedPopen([str(script), *arguments[1:]], cwd=folder, env=variables, **streams)
        try:
            if "killed" in marks:
                wait_for_checkpoint(folder, process)
                process.kill()
            stdout, stderr = process.communicate(timeout=TIMEOUT_S)
            return process.returncode, stdout, stderr
        finally:
            process.kill()


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until a run has left something to go on from: which step that is, no figure may depend on."""
    deadline = time.monotonic() + TIMEOUT_S
    known = set(folder.rglob("last.ckpt"))
    while not set(folder.rglob("last.ckpt")) - known:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the run ended, or took too long, before it had a checkpoint")
        time.sleep(0.005)


# ------------------------------------------------------------------------------------------------------- observations

Run = Callable[[list[str], Sequence[str], Path], tuple[int, str, str]]


def observe(name: str, run: Run = run) -> dict[str, Any]:
    """What a scenario does, as it is recorded: step → what came of it. Later folders are without what the first has."""
    with tempfile.TemporaryDirectory(prefix="golden-") as created:
        folder = Path(created).resolve()
        write_documents(folder)
        record: dict[str, Any] = {}
        places: dict[str, str] = {}
        first: dict[str, Any] = {}
        for step, command in SCENARIOS[name].items():
            for other, place in places.items():
                command = command.replace(f"{{{other}}}", place)
            words = shlex.split(command)
            marks = list(takewhile(MARKS.__contains__, words))
            words = words[len(marks) :]
            before = stamps(folder)
            ended = run(words, marks, folder)
            changed = sorted(path for path, stamp in stamps(folder).items() if before.get(path) != stamp)
            for left_by in ("metrics.json", "config.yaml", "multirun.yaml"):  # an evaluation, a run, a sweep
                if folders := [path.parent for path in changed if path.name == left_by]:
                    places[step] = str(folders[0].relative_to(folder))
            record[step] = observations(words, marks, ended, folder, changed)
            for seen in record[step].get("folders", {}).values():
                seen |= {key: SAME for key, value in seen.items() if value == first.get(key)}
                first = first or dict(seen)
        return record


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    files = [path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts]
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def observations(
    words: list[str], marks: Sequence[str], ended: tuple[int, str, str], folder: Path, changed: Sequence[Path]
) -> dict[str, Any]:
    def tidy(text: str) -> str:
        """Without what differs each time: where it ran, and when."""
        text = text.replace(str(folder), "<folder>").replace(str(PROJECT), "<project>")
        text = re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.\d+", "<time>", text)
        return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)

    status, stdout, stderr = ended
    seen: dict[str, Any] = {"exit": status}
    messages: dict[str, Any] = {}
    if status == 2 or (status and "killed" not in marks and "-m" not in words):
        messages["stderr"] = tidy(stderr).splitlines()
    if "told" in marks:
        messages["stdout"] = tidy(stdout).splitlines()
    if "printed" in marks:
        seen["stdout"] = lines_of(tidy(stdout))
    for path in changed:
        where = tidy(str(path.parent.relative_to(folder)))
        if path.name == "metrics.json":
            seen.setdefault("folders", {})[where] = run_of(path.parent, tidy, "unlogged" not in marks)
        elif path.name == "failed.json":
            message = json.loads(path.read_text(encoding="utf-8"))["message"]
            messages.setdefault("failed", {})[where] = tidy(message)
        elif path.name == "summary.csv":
            rows = rows_of(path)
            messages["summary"] = [tidy(row.pop("message", "")) for row in rows]
            rows = [{name: tidy(value) for name, value in row.items() if value} for row in rows]
            seen["summary"] = rows if "table" in marks else {"rows": len(rows), "sha256": digest(json.dumps(rows))}
    written = [word.partition("=")[2] for word in words if word.startswith(("output=", "html="))]
    if words[0] == "scripts/export.py":
        written = [f"{name}/{file}" for name in written for file in EXPORTED]
    if files := {name: content_of(folder / name, tidy) for name in written if (folder / name).is_file()}:
        seen["files"] = files
    return seen | ({"messages": messages} if messages else {})


def lines_of(text: str) -> list[Any]:
    """Its lines, those of JSON as values."""

    def read(line: str) -> Any:
        try:
            return json.loads(line)
        except ValueError:
            return line

    return [read(line) for line in text.splitlines()]


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, without times."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {key: value for key, value in row.items() if not key.startswith(PASSING)} for row in csv.DictReader(file)
        ]


def run_of(folder: Path, tidy: Any, logged: bool) -> dict[str, Any]:
    """What the folder of a run or an evaluation says."""
    metrics = json.loads(tidy((folder / "metrics.json").read_text(encoding="utf-8")))
    environment = metrics.pop("environment", {})
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    seen: dict[str, Any] = {
        "metrics": {name: value for name, value in metrics.items() if not name.startswith(PASSING)},
        "corpus_fingerprint": str(environment.get("corpus_fingerprint"))[:16],
        "files": sorted({tidy(re.sub(r"(events\.out\.tfevents)\..*", r"\1", name)) for name in names}),
    }
    for name in ("labels.csv", *EXPORTED, "predictions.parquet"):
        if (folder / name).exists():
            seen[name] = content_of(folder / name, tidy)
    if logged and (folder / "metrics.csv").exists():
        rows = rows_of(folder / "metrics.csv")
        losses = [row["train/loss_step"] for row in rows if row.get("train/loss_step")]
        all_rows = digest("\n".join(json.dumps(row, sort_keys=True) for row in rows))
        log = {"rows": len(rows), "sha256": all_rows, "first losses": losses[:3], "last": losses[-1:]}
        seen["metrics.csv"] = log
    if (folder / "checkpoints" / "best.ckpt").exists():
        seen["weights"] = weights_of(folder / "checkpoints" / "best.ckpt")
    if (folder / "tensorboard").is_dir():
        seen["tensorboard"] = tags_of(folder / "tensorboard")
    return seen


def content_of(path: Path, tidy: Any) -> Any:
    """A file's content, or of a big one its digest and its beginning."""
    if path.suffix == ".parquet":
        return predictions_of(path)
    text = tidy(path.read_text(encoding="utf-8"))
    if len(text) > MAX_TEXT or path.name == "tokenizer.json":
        return {"sha256": digest(text), "characters": len(text)}
    return json.loads(text) if path.suffix == ".json" else lines_of(text)


def predictions_of(path: Path) -> dict[str, Any]:
    """A table by its values: one line of JSON a row."""
    from pyarrow import parquet

    table = parquet.read_table(path, use_threads=False)
    lines = [json.dumps(row, ensure_ascii=False, default=str) for row in table.to_pylist()]
    columns = ", ".join(f"{field.name} {field.type}" for field in table.schema)[:MAX_TEXT]
    first = [json.loads(line) for line in lines[:1]]
    return {"columns": columns, "rows": len(lines), "sha256": digest("\n".join(lines)), "first": first}


def weights_of(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint by their values, whatever they are called."""
    import torch

    state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    values = [value for value in state.values() if torch.is_tensor(value)]
    tensors = [f"{value.dtype} {list(value.shape)} {digest(json.dumps(value.tolist()))}" for value in values]
    return {"tensors": len(tensors), "sha256": digest("\n".join(sorted(tensors)))}


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


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def machine() -> dict[str, str]:
    """What the last digits depend on."""
    import numpy as np
    import torch

    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    processor = models[0] if models else platform.processor()
    instructions = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "numpy": np.__version__, "processor": processor, "instructions": instructions}


# ------------------------------------------------------------------------------------------------------------ records


def read_record(name: str) -> dict[str, Any]:
    path = RECORDS / f"{name}.json"
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return record


def write_record(name: str, record: dict[str, Any]) -> None:
    (RECORDS / f"{name}.json").write_text(as_text(record) + "\n", encoding="utf-8")


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


def without_messages(record: dict[str, Any]) -> dict[str, Any]:
    return {step: {key: value for key, value in seen.items() if key != "messages"} for step, seen in record.items()}


def with_messages_of(recorded: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    """The record with the wording of now."""
    new = {step: {"messages": seen[step]["messages"]} if "messages" in seen.get(step, {}) else {} for step in recorded}
    return {step: kept | new[step] for step, kept in without_messages(recorded).items()}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of a record, with where it is."""
    if value and isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, f"{path} › {key}" if path else str(key))
    else:
        yield path, value


def is_alike(path: str, recorded: Any, seen: Any) -> bool:
    """Whether two values differ in their last digits at most, as they do on another machine."""
    if re.search(r"(parquet|csv|weights|summary|thresholds.json) › (sha256|characters)$", path):
        return True
    if isinstance(recorded, str) and isinstance(seen, str) and recorded.count(",") == seen.count(",") > 0:
        return all(is_alike("", *fields) for fields in zip(recorded.split(","), seen.split(","), strict=True))
    try:
        return recorded == seen or math.isclose(float(recorded), float(seen), rel_tol=1e-4, abs_tol=1e-5)
    except (TypeError, ValueError):
        return False


def differences(recorded: dict[str, Any], seen: dict[str, Any], last_digits: bool = True) -> list[str]:
    """Each value that differs, as one line or two; nothing if the two are the same."""
    known, found = dict(leaves(recorded)), dict(leaves(seen))
    if not last_digits:
        alike = {path: known[path] for path in found if path in known and is_alike(path, known[path], found[path])}
        found |= alike
    old, new = (
        [f"{path}: {json.dumps(value, ensure_ascii=False)}" for path, value in each.items()] for each in (known, found)
    )
    lines = difflib.unified_diff(old, new, n=0, lineterm="")
    return [f"{line[0]} {line[1:]}" for line in list(lines)[2:] if not line.startswith("@@")]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=["record", "check"])
    parser.add_argument("scenarios", nargs="*", help=f"all, if none is named: {', '.join(SCENARIOS)}")
    parser.add_argument("--messages", action="store_true", help="record: the wording only, figures stay as recorded")
    parser.add_argument("--without-messages", action="store_true", help="check: whatever the wording")
    options = parser.parse_args()
    names = options.scenarios or list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    is_new = options.action == "record" and not options.messages
    if read_record(MACHINE) != machine():
        if is_new and set(names) != set(SCENARIOS):
            parser.error("the other scenarios were recorded on another machine: record all of them")
        print(f"recorded on another machine, last digits may differ: {read_record(MACHINE)}, here {machine()}")
    differing = 0
    for name in names:
        recorded, seen = read_record(name), observe(name)
        if options.action == "record":
            write_record(name, seen if is_new else with_messages_of(recorded, seen))
            continue
        if options.without_messages:
            recorded, seen = without_messages(recorded), without_messages(seen)
        found = differences(recorded, seen)
        differing += bool(found)
        print("\n  ".join([f"{name}: {len(found)} lines differ", *found[:40]]), flush=True)
    if is_new:
        write_record(MACHINE, machine())
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
