"""What the contenders of a benchmark share: folders, documents, checkouts, environments and processes."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from bench.environments import build_environment

PROJECT = Path(__file__).resolve().parents[2]
SCRIPTS = PROJECT / "scripts"
SHORT_EPOCHS = "training.min_steps_per_epoch=1"
BUSY = "import numpy as np\na = np.ones((300, 300))\nwhile True: a @ a"  # one core's work without end


class MeasurementError(Exception):
    """A command that has failed, or printed no figures."""


class Session:
    """Runs the commands of one benchmark; all files are in a folder that its owner removes."""

    def __init__(self, folder: Path, environments: Path, limit: int | None, baseline: str) -> None:
        """environments: folder of the peers' environments. limit: number of documents of each class, for a trial.

        baseline: git revision of the code that rows compare with.
        """
        self.folder = folder
        self.environments = environments
        self.limit = limit
        self.baseline = baseline
        self.documents = cache(self._write_documents)
        self.trained_run = cache(self._train_run)
        self.checkout = cache(self._check_out)
        self._num_folders = 0

    def new_folder(self, name: str) -> Path:
        """The path of a folder that does not exist."""
        self._num_folders += 1
        return self.folder / f"{name}{self._num_folders}"

    def limited(self, settings: str) -> list[str]:
        """The settings as a list, with the session's limit of documents, and short epochs then."""
        options = settings.split()
        if self.limit is None:
            return options
        key = "data.num_documents" if "data=synthetic" in options else "data.limit"
        replaced = (f"{key}=", "data.train_limit=")
        kept = [option for option in options if not option.startswith(replaced)]
        return [*kept, f"{key}={self.limit}", SHORT_EPOCHS]

    def python(self, environment: str) -> Path:
        """The interpreter of a peer, whose environment is built at first use. Raises PeerError."""
        return build_environment(environment, self.environments)

    def run_module(self, module: str, *arguments: str, cache_dir: Path | None = None) -> dict[str, float]:
        """Run one of `bench.ours` in newsreel's environment; returns its figures. Raises MeasurementError."""
        variables = {"PYTHONPATH": f"{PROJECT / 'src'}{os.pathsep}{SCRIPTS}"}
        variables["NEWSREEL_CACHE_DIR"] = str(cache_dir or self.folder / "cache")
        return figures_of(self.call([sys.executable, "-m", module, *arguments], variables))

    def call(
        self, command: Sequence[str], variables: Mapping[str, str], num_busy: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, beside busy processes. `seconds` of the result is its time.

        Raises MeasurementError if it fails.
        """
        corpora_dir = Path(os.environ.get("NEWSREEL_CORPORA_DIR", "corpora")).expanduser().resolve()
        with busy_processes(num_busy):
            started = time.perf_counter()
            done: Any = subprocess.run(
                command,
                cwd=self.folder,
                env={**os.environ, "NEWSREEL_CORPORA_DIR": str(corpora_dir), **variables},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            done.seconds = time.perf_counter() - started
        if done.returncode:
            raise MeasurementError(f"{describe(command)} has failed: {last_line(done.stderr)}")
        return done  # type: ignore[no-any-return]

    def _write_documents(self, data: str) -> Path:
        """The folder with the documents of a corpus, for the peers. data: settings. Raises MeasurementError."""
        folder = self.new_folder("documents")
        variables = {"PYTHONPATH": f"{PROJECT / 'src'}{os.pathsep}{SCRIPTS}"}
        self.call([sys.executable, "-m", "bench.ours.documents", str(folder), *self.limited(data)], variables)
        return folder

    def _train_run(self, settings: str) -> Path:
        """The directory of a run with these settings, to evaluate and predict with. Raises MeasurementError."""
        run_dir = self.new_folder("run")
        variables = {"PYTHONPATH": str(PROJECT / "src"), "NEWSREEL_CACHE_DIR": str(self.folder / "cache")}
        command = [sys.executable, str(PROJECT / "train.py"), *self.limited(settings), f"hydra.run.dir={run_dir}"]
        self.call(command, variables)
        return run_dir

    def _check_out(self, is_baseline: bool) -> Path:
        """The project's folder, or that of its baseline, without the history. Raises MeasurementError."""
        if not is_baseline:
            return PROJECT
        folder = self.new_folder("baseline")
        folder.mkdir()
        archive = subprocess.run(
            ["git", "-C", str(PROJECT), "archive", self.baseline], capture_output=True, check=False
        )
        if archive.returncode:
            raise MeasurementError(f"git archive {self.baseline} has failed: {last_line(archive.stderr.decode())}")
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
        return folder


def figures_of(done: subprocess.CompletedProcess[str]) -> dict[str, float]:
    """The figures in the last line that a program has printed, and its time. Raises MeasurementError."""
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise MeasurementError(f"{describe(done.args)} has printed no figures: {last_line(done.stderr)}")
    return {**json.loads(lines[-1]), **time_of(done)}


def time_of(done: Any) -> dict[str, float]:
    """The whole time of a command, and its inverse."""
    return {"wall_s": done.seconds, "commands_per_s": 1 / done.seconds}


def describe(command: Sequence[str]) -> str:
    """A command without the folders of this machine."""
    return shlex.join(Path(word).name if "=" not in word else word for word in command if f"dir={os.sep}" not in word)


def last_line(output: str) -> str:
    """The last line of an error, without addresses and folders of this machine."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return re.sub(r"\S*/\S*", "…", lines[-1])[:200] if lines else "no message"


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Processes that keep one core busy each, while the context lasts."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, "-c", BUSY], env=environment) for _ in range(number)]
    try:
        if processes:
            time.sleep(1)  # until they have imported NumPy
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
