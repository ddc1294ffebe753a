"""Faults injected into real commands, in every phase: `make faults` (under 15 minutes on two cores).

    python tests/faults/faults.py                  # all rows
    python tests/faults/faults.py signals run      # some rows

After each fault, the command has to end in one of these ways, and anything else is a failure:
  same     the results of an undisturbed run, at once or when the command is repeated or resumed
  told     exit status 2 with an error of a few lines that names the file; what was there before is there still
  stopped  exit status 128 + the signal, and the same results after `resume=`
A traceback is always a failure. The table counts injections by row; failures are listed below it, with their output.
Disks are full or read-only where this user may mount a tmpfs; elsewhere a limit on the size of files stands for a full
disk, and read-only places are skipped.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from helpers.preloaded import PreloadedPopen
from helpers.shared_runs import RUNS
from helpers.tampering import TAMPERED
from helpers.tiny_runs import train_tiny

TRAIN = ["train.py", "data=synthetic", "data.num_documents=1200", "data.vocabulary_size=800", "data.mean_length=30",
         "data.difficulty=0.3", "model=bow", "training.max_epochs=3", "training.min_steps_per_epoch=1", "trainer=cpu",
         "trainer.threads=1", "logger=none", "trainer.checkpoint_every_s=0", "evaluation.figures=false"]  # fmt: skip
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
TIMEOUT_S = 120
MAX_FILES, MAX_MEMORY = 64, 3 * 2**30  # of a command in the row of limits
MAX_TAMPERED_MEMORY, MAX_TAMPERED_SECONDS = 2**30, 5.0  # to refuse a run directory, start included
SUFFIXES = {"prediction": ".jsonl", "look at a corpus": ".html"}
MAX_LINES = 8  # of an error message
KINDS_OF_DAMAGE = ("flipped", "cut", "empty", "missing")
TEXTS = "\n".join(["baba bafa niva", "", "x y z"] * 20)


class Failure(Exception):  # noqa: N818  (of a promise, not of this program)
    """A command ended otherwise than it has to."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    output: str  # both streams

    def require(self, *statuses: int) -> "Ended":
        if self.status not in statuses:
            raise Failure(f"exit status {self.status}, not {' or '.join(map(str, statuses))}:\n{self.output[-3000:]}")
        if "Traceback (most recent call last)" in self.output:
            raise Failure(f"a traceback:\n{self.output[-3000:]}")
        return self

    def require_told(self, name: str = "") -> "Ended":
        """Require an error of a few lines with a name in it."""
        error = self.require(2).output.partition("error: ")[2]
        if not error or len(error.splitlines()) > MAX_LINES or name not in error:
            raise Failure(
                f"an error of up to {MAX_LINES} lines that names {name!r} was expected:\n{self.output[-3000:]}"
            )
        return self


@dataclass
class Table:
    """What was injected, by row."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def injection(self, row: str, what: str) -> Iterator[Callable[[str], None]]:
        """Context of one injection, with a function that says how it ended."""
        outcomes = self.counts.setdefault(row, Counter())
        ended = []
        try:
            yield ended.append
        except Failure as failure:
            ended[:] = ["FAILED"]
            self.failures.append(f"{row}, {what}: {failure}")
        outcomes[ended[-1]] += 1

    def print(self) -> None:
        names = ["same", "told", "stopped", "skipped", "FAILED"]
        print(f"{'row':<40}" + "".join(f"{name:>9}" for name in names))
        for row, outcomes in self.counts.items():
            print(f"{row:<40}" + "".join(f"{outcomes[name] or '':>9}" for name in names))
        totals = sum(self.counts.values(), Counter())
        print(f"{'all':<40}" + "".join(f"{totals[name] or '':>9}" for name in names))
        for failure in self.failures:
            print(f"\nFAILED: {failure}")


class World:
    """A directory with an undisturbed run, its cache, and what its commands answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "reference"
        self.cache = folder / "cache"
        self.call(*TRAIN, f"hydra.run.dir={self.run}").require(0)
        self.results = figures(self.run)
        self.answers = self.predict(self.run).require(0).output
        self.evaluation = self.evaluate(self.run, folder / "evaluation").require(0)

    def start(self, *arguments: str, cache: Path | None = None, text: str | None = None) -> PreloadedPopen:
        environment = {**os.environ, "NEWSREEL_CACHE_DIR": str(cache or self.cache), "OMP_NUM_THREADS": "1"}
        source = self.folder / "input.txt"
        source.write_text(TEXTS if text is None else text)
        with source.open() as stdin:
            return PreloadedPopen(
                list(arguments),
                cwd=self.folder,
                env=environment,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )

    def call(self, *arguments: str, cache: Path | None = None) -> Ended:
        return finish(self.start(*arguments, cache=cache))

    def predict(self, run: Path, *arguments: str) -> Ended:
        return self.call("predict.py", f"run={run}", *arguments)

    def evaluate(self, run: Path, output: Path, *arguments: str) -> Ended:
        return self.call("evaluate.py", f"run={run}", f"output={output}", "trainer.threads=1", *arguments)

    def require_same(self, run: Path) -> None:
        if figures(run) != self.results:
            raise Failure(f"other results than undisturbed: {figures(run)}, not {self.results}")

    def resume(self, run: Path, cache: Path | None = None) -> None:
        """Repeat or resume a stopped training, and require the results of an undisturbed one."""
        command = ["train.py", f"resume={run}"] if (run / "config.yaml").exists() else [*TRAIN, f"hydra.run.dir={run}"]
        self.call(*command, cache=cache).require(0)
        self.require_same(run)


def finish(process: PreloadedPopen) -> Ended:
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise Failure(f"still running after {TIMEOUT_S} s:\n{output[-3000:]}") from None
    return Ended(process.returncode, output or "")


def figures(run: Path) -> list[object]:
    """Metrics without times, and predictions."""
    try:
        metrics = json.loads((run / "metrics.json").read_text())
    except FileNotFoundError:
        return []
    kept = {key: value for key, value in metrics.items() if key.startswith(("test/", "val/", "train/"))}
    return [kept, pl.read_parquet(run / "predictions.parquet").to_dicts()]


def damage(file: Path, kind: str, moment: random.Random) -> None:
    if kind == "missing":
        file.unlink()
        return
    content = bytearray(file.read_bytes())
    if kind == "flipped" and content:
        content[moment.randrange(len(content))] ^= 1 << moment.randrange(8)
    elif kind == "cut":
        content = content[: len(content) // 2]
    elif kind == "empty":
        content = bytearray()
    file.write_bytes(content)


# The rows of the table


def signals(world: World, table: Table) -> None:
    """Signals at random moments of every command."""
    moments = random.Random(1)
    started = time.monotonic()
    world.call(*TRAIN, f"hydra.run.dir={world.folder / 'timed'}", cache=world.folder / "timed_cache").require(0)
    seconds = time.monotonic() - started
    for sent in SIGNALS:
        for number in range(10):
            moment = max(0.3, moments.uniform(0, 1) * seconds)
            with table.injection(f"training, {sent.name}", f"after {moment:.2f} s") as end:
                run, cache = world.folder / f"{sent.name}{number}", world.folder / f"cache{sent.name}{number}"
                process = world.start(*TRAIN, f"hydra.run.dir={run}", cache=cache)
                time.sleep(moment)
                process.send_signal(sent)
                ended = finish(process)
                if ended.status == 0:
                    world.require_same(run)
                    end("same")
                    continue
                require_stopped(ended, sent, "resume=" if (run / "config.yaml").exists() else "")
                world.resume(run, cache)
                end("stopped")
    commands = {
        "evaluation": lambda output: world.start("evaluate.py", f"run={world.run}", f"output={output}"),
        "prediction": lambda output: world.start(
            "predict.py", f"run={world.run}", f"output={output}.jsonl", text=TEXTS * 500
        ),
        "look at a corpus": lambda output: world.start("scripts/corpus.py", "data=synthetic", f"output={output}.html"),
    }
    for name, start in commands.items():
        for sent in SIGNALS:
            for number in range(4):
                moment = moments.uniform(0.3, 2)
                with table.injection(f"{name}, {sent.name}", f"after {moment:.2f} s") as end:
                    output = world.folder / f"{name[:4]}{sent.name}{number}"
                    process = start(output)
                    time.sleep(moment)
                    process.send_signal(sent)
                    ended = finish(process)
                    if ended.status == 0:
                        end("same")
                        continue
                    require_stopped(ended, sent, "")
                    results = output / "metrics.json" if name == "evaluation" else Path(f"{output}{SUFFIXES[name]}")
                    if results.exists():  # the signal came after the last file, which appears when it is complete
                        end("same")
                        continue
                    finish(start(output)).require(0)
                    end("stopped")


def require_stopped(ended: Ended, sent: signal.Signals, line: str) -> None:
    """Require the exit status of a signal, and a line in the output unless it cannot be handled."""
    ended.require(-sent, 128 + sent)
    if ended.status > 0 and ("Stopped" not in ended.output or line not in ended.output):
        raise Failure(f"no word about the end, with {line!r}:\n{ended.output[-2000:]}")


def cache(world: World, table: Table) -> None:
    """Every file of the cache flipped, cut, empty and missing."""
    moment = random.Random(2)
    warm, intact = world.folder / "warm", world.folder / "intact"  # with the files of this training alone
    world.call(*TRAIN, f"hydra.run.dir={world.folder / 'intact_cache'}", cache=intact).require(0)
    for kind in KINDS_OF_DAMAGE:
        names = sorted(file.relative_to(intact) for file in intact.rglob("*")
                       if file.is_file() and not file.name.endswith(".lock"))  # fmt: skip
        for name in names:
            with table.injection(f"cache, {kind}", str(name)) as end:
                shutil.rmtree(warm, ignore_errors=True)
                shutil.copytree(intact, warm)
                damage(warm / name, kind, moment)
                run = world.folder / "damaged_cache"
                shutil.rmtree(run, ignore_errors=True)
                ended = world.call(*TRAIN, f"hydra.run.dir={run}", cache=warm).require(0)
                if "damaged and made anew" not in ended.output:
                    raise Failure(f"nothing was said about the damage:\n{ended.output}")
                world.require_same(run)
                end("same")


def run(world: World, table: Table) -> None:
    """Every file of a run directory flipped, cut, empty and missing: the same answers, or an error that names it."""
    moment = random.Random(3)
    names = sorted(file.relative_to(world.run) for file in world.run.rglob("*") if file.is_file())
    copy = world.folder / "damaged_run"
    for kind in KINDS_OF_DAMAGE:
        for name in names:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(world.run, copy)
            damage(copy / name, kind, moment)
            with table.injection(f"run directory, {kind}: predict", str(name)) as end:
                ended = world.predict(copy)
                if ended.status == 0:
                    if ended.require(0).output != world.answers:
                        raise Failure("other answers than undisturbed")
                    end("same")
                else:
                    ended.require_told(name.name)
                    end("told")
            with table.injection(f"run directory, {kind}: evaluate", str(name)) as end:
                output = world.folder / "damaged_evaluation"
                shutil.rmtree(output, ignore_errors=True)
                ended = world.evaluate(copy, output)
                if ended.status == 0:
                    ended.require(0)
                    before, now = (json.loads((path / "metrics.json").read_text())
                                   for path in (world.folder / "evaluation", output))  # fmt: skip
                    wrong = [key for key in before if key.startswith("test/") and before[key] != now.get(key)]
                    if wrong and "The documents have changed" not in ended.output:
                        raise Failure(f"other figures than undisturbed: {wrong}")
                    end("same")
                else:
                    ended.require_told(name.name)
                    end("told")


def disk(world: World, table: Table) -> None:
    """A disk that fills while something is written to it: an error, and the same results when there is space."""
    for kilobytes in (4, 16, 40, 80, 120, 200, 300, 500):
        row = table.injection("full disk, run directory", f"{kilobytes} kB")
        with full_disk(world.folder / "full", kilobytes) as (place, grow), row as end:
            run = place / "run"
            ended = world.call(*TRAIN, f"hydra.run.dir={run}")
            if ended.status == 0:
                world.require_same(run)
                end("same")
            else:
                ended.require_told()
                grow()
                world.resume(run)
                end("told")
    for kilobytes in (4, 40, 100, 200, 400):
        with full_disk(world.folder / "full", kilobytes) as (place, grow):
            with table.injection("full disk, cache", f"{kilobytes} kB") as end:
                run = world.folder / f"full_cache{kilobytes}"
                ended = world.call(*TRAIN, f"hydra.run.dir={run}", cache=place / "cache")
                if ended.status:
                    ended.require_told()
                    grow()
                    world.resume(run, place / "cache")
                    end("told")
                else:
                    end("same")
            with table.injection("full disk, predictions", f"{kilobytes} kB") as end:
                ended = world.predict(world.run, f"input={world.folder / 'input.txt'}", f"output={place / 'a.jsonl'}")
                if ended.status == 0:
                    end("same")
                else:
                    ended.require_told()
                    if list(place.glob("*a.jsonl*")):
                        raise Failure("a part of the predictions was left")
                    end("told")
            with table.injection("full disk, evaluation", f"{kilobytes} kB") as end:
                ended = world.evaluate(world.run, place / "evaluation")
                if ended.status:
                    ended.require_told()
                end("told" if ended.status else "same")


@contextmanager
def full_disk(place: Path, kilobytes: int) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A place with so much space, and a function that gives it more."""
    place.mkdir(exist_ok=True)
    mounted = mount(place, f"size={kilobytes}k")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def grow() -> None:
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=100m", str(place)], check=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    try:
        if not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, before[1]))
        yield place, grow
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
        shutil.rmtree(place, ignore_errors=True)


def mount(place: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def readonly(world: World, table: Table) -> None:
    """Places that cannot be written to."""
    place = world.folder / "readonly"
    place.mkdir()
    if not mount(place, "size=10m"):
        with table.injection("read-only places", "mount") as end:
            end("skipped")
        return
    shutil.copytree(world.cache, place / "cache")
    shutil.copytree(world.run, place / "run")
    stopped = Path(shutil.copytree(world.run, place / "stopped"))
    (stopped / "metrics.json").unlink()
    (place / "empty").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    try:
        other = world.folder / "readonly_run"
        attempts = {
            "warm cache": (0, lambda: world.call(*TRAIN, f"hydra.run.dir={other}", cache=place / "cache")),
            "cold cache": (2, lambda: world.call(*TRAIN, f"hydra.run.dir={other}2", cache=place / "empty")),
            "run directory": (2, lambda: world.call(*TRAIN, f"hydra.run.dir={place / 'new'}")),
            "finished run resumed": (2, lambda: world.call("train.py", f"resume={place / 'run'}")),
            "stopped run resumed": (2, lambda: world.call("train.py", f"resume={stopped}")),
            "evaluation": (2, lambda: world.evaluate(world.run, place / "evaluation")),
            "run evaluated": (0, lambda: world.evaluate(place / "run", world.folder / "readonly_evaluation")),
            "predictions": (2, lambda: world.predict(world.run, f"output={place / 'a.jsonl'}")),
            "run that predicts": (0, lambda: world.predict(place / "run")),
        }
        for name, (status, attempt) in attempts.items():
            with table.injection("read-only places", name) as end:
                ended = attempt()
                if status:
                    ended.require_told()
                else:
                    ended.require(0)
                end("told" if status else "same")
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def pairs(world: World, table: Table) -> None:
    """Two processes that want the same thing at the same time."""
    with table.injection("two processes, one cold cache", "trainings") as end:
        shared = world.folder / "shared_cache"
        runs = [world.folder / f"pair{number}" for number in range(2)]
        for process in [world.start(*TRAIN, f"hydra.run.dir={run}", cache=shared) for run in runs]:
            finish(process).require(0)
        for run in runs:
            world.require_same(run)
        end("same")
    with table.injection("two processes, one run directory", "trainings") as end:
        run = world.folder / "wanted_twice"
        ended = [finish(process) for process in [world.start(*TRAIN, f"hydra.run.dir={run}") for _ in range(2)]]
        if sorted(each.status for each in ended) != [0, 2]:
            raise Failure(f"one of them has to be refused: {[each.output for each in ended]}")
        world.require_same(run)
        end("told")
    with table.injection("two processes, one run resumed", "resume") as end:
        run = Path(shutil.copytree(world.run, world.folder / "resumed_twice"))
        (run / "metrics.json").unlink()
        processes = [world.start("train.py", f"resume={run}") for _ in range(2)]
        for ended in map(finish, processes):
            ended.require(0, 2)
        world.require_same(run)
        end("same")
    with table.injection("two processes, one output", "predictions") as end:
        output, alone = world.folder / "both.jsonl", world.folder / "alone.jsonl"
        world.predict(world.run, f"output={alone}").require(0)
        for process in [world.start("predict.py", f"run={world.run}", f"output={output}") for _ in range(2)]:
            finish(process).require(0)
        if output.read_text() != alone.read_text():
            raise Failure("other predictions than undisturbed")
        end("same")


def lock(world: World, table: Table) -> None:
    """A process that is stopped, or killed, while others wait for what it prepares."""
    for kill in (False, True):
        with table.injection("stopped holder of a lock", "killed" if kill else "continued") as end:
            shared = world.folder / f"locked_cache{kill}"
            runs = [world.folder / f"lock{kill}{number}" for number in range(2)]
            large = [*TRAIN, "data.num_documents=5000", "training.max_epochs=1"]
            first = world.start(*large, f"hydra.run.dir={runs[0]}", cache=shared)
            wait_for(lambda shared=shared: list(shared.rglob(".*.partial-*")))
            first.send_signal(signal.SIGSTOP)
            second = world.start(*large, f"hydra.run.dir={runs[1]}", cache=shared)
            assert second.stdout is not None
            if not any("Waiting for another process" in line for line in second.stdout):
                raise Failure("the second did not say that it waits")
            first.send_signal(signal.SIGKILL if kill else signal.SIGCONT)
            finish(second).require(0)
            finish(first).require(-signal.SIGKILL if kill else 0)
            end("same")


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise Failure("what was waited for did not happen")
        time.sleep(0.01)


def clock(world: World, table: Table) -> None:
    """Files from the future and the past, as a clock that jumps leaves them."""
    for year, seconds in (("2099", 4_070_908_800), ("1971", 31_536_000)):
        for place in ("cache", "run"):
            with table.injection("clock jumps", f"{place} from {year}") as end:
                copies = {name: Path(shutil.copytree(getattr(world, name), world.folder / f"{name}{year}{place}"))
                          for name in ("cache", "run")}  # fmt: skip
                for file in copies[place].rglob("*"):
                    os.utime(file, (seconds, seconds))
                run = copies["run"]
                (run / "metrics.json").unlink()
                world.call("train.py", f"resume={run}", cache=copies["cache"]).require(0)
                world.require_same(run)
                end("same")


def sweep(world: World, table: Table) -> None:
    """A sweep that is stopped, and one on a full disk: its summary shows what there is."""
    jobs = [TRAIN[0], "-m", *TRAIN[1:], "seed=1,2,3"]
    for sent in SIGNALS[:2]:
        with table.injection(f"sweep, {sent.name}", "in its second job") as end:
            place = world.folder / f"sweep{sent.name}"
            process = world.start(*jobs, f"hydra.sweep.dir={place}")
            wait_for(lambda place=place: (place / "1" / "checkpoints").exists())
            process.send_signal(sent)
            ended = finish(process).require(128 + sent)
            if "1 finished" not in ended.output or not (place / "summary.md").exists():
                raise Failure(f"no summary of what there is:\n{ended.output}")
            end("stopped")
    search = [TRAIN[0], "-m", *TRAIN[1:], "sweep=optuna", "hydra.sweeper.num_trials=3"]
    for kilobytes in (4, 60, 200):
        for name, command in (("sweep", jobs), ("search", search)):
            row = table.injection(f"full disk, {name}", f"{kilobytes} kB")
            with full_disk(world.folder / "full", kilobytes) as (place, _), row as end:
                world.call(*command, f"hydra.sweep.dir={place / 'sweep'}").require(1, 2)
                end("told")


def limits(world: World, table: Table) -> None:
    """Commands with few open files and little memory."""
    run, evaluation = world.folder / "limited", world.folder / "limited_evaluation"
    commands = {
        "train": [*TRAIN, f"hydra.run.dir={run}"],
        "evaluate": ["evaluate.py", f"run={world.run}", f"output={evaluation}"],
        "predict": ["predict.py", f"run={world.run}"],
        "corpus": ["scripts/corpus.py", "data=synthetic", f"output={world.folder / 'limited.html'}"],
    }
    for name, command in commands.items():
        with table.injection(f"{MAX_FILES} open files, {MAX_MEMORY / 2**30:.0f} GiB", name) as end:
            process = world.start(*command)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES))
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
            finish(process).require(0)
            if name == "train":
                world.require_same(run)
            end("same")


def tampered(world: World, table: Table) -> None:
    """Run directories made to do harm: refused in words, with little memory and within seconds."""
    originals = {}
    for kind, overrides in RUNS.items():
        originals[kind] = world.folder / f"original_{kind}"
        train_tiny(originals[kind], *overrides)
    for kind, name, tamper, _ in TAMPERED:
        with table.injection("tampered run directories", name) as end:
            copy = Path(shutil.copytree(originals[kind] / "run", world.folder / "tampered"))
            tamper(copy)
            started, process, memory = time.monotonic(), world.start("predict.py", f"run={copy}"), 0.0
            while process.poll() is None:
                memory = max(memory, peak_memory(process.pid))
                time.sleep(0.02)
            finish(process).require_told()
            if (copy / "canary").exists() or (world.folder / "canary").exists():
                raise Failure("code of the run directory was run")
            if memory > MAX_TAMPERED_MEMORY or time.monotonic() - started > MAX_TAMPERED_SECONDS:
                raise Failure(f"{memory / 2**20:.0f} MiB of memory, {time.monotonic() - started:.1f} s")
            end("told")
        shutil.rmtree(copy)


def peak_memory(pid: int) -> float:
    """Peak resident memory of a process in bytes, 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return max((float(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), default=0.0)


ROWS: dict[str, Callable[[World, Table], None]] = {
    "signals": signals,
    "cache": cache,
    "run": run,
    "disk": disk,
    "readonly": readonly,
    "pairs": pairs,
    "lock": lock,
    "clock": clock,
    "sweep": sweep,
    "limits": limits,
    "tampered": tampered,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Inject faults into real commands and count how they end.")
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="default: all")
    chosen = parser.parse_args().rows or list(ROWS)
    table = Table()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for name in chosen:
            ROWS[name](world, table)
            print(f"{name}: done after {time.monotonic() - started:.0f} s", file=sys.stderr)
    table.print()
    print(f"\n{sum(sum(row.values()) for row in table.counts.values())} injections in "
          f"{time.monotonic() - started:.0f} s, {len(table.failures)} failures")  # fmt: skip
    return 1 if table.failures else 0


if __name__ == "__main__":
    sys.exit(main())
