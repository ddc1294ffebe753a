"""The two sides of a row: what is run, and which of its figures is compared.

Figures are the whole time of a command (`wall_s`, `commands_per_s`) and what it reports about itself. Those that end in
`_per_s` are better when they are higher, all others when they are lower.
"""

import json
import shutil
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from bench.session import SCRIPTS, Session, figures_of, time_of

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Contender(ABC):
    """One side of a row."""

    name: str  # in the page
    figure: str  # to compare

    @abstractmethod
    def run(self, session: Session) -> Figures:
        """Run once. Raises PeerError and MeasurementError."""

    def prepare(self, session: Session) -> None:  # noqa: B027  (most need nothing)
        """What has to be there before the first measured run. Raises PeerError and MeasurementError."""


@dataclass(frozen=True, kw_only=True)
class Train(Contender):
    """`python train.py` with settings, of this code or of the baseline, perhaps beside busy processes.

    cache: cold has a new one for every run; warm one that a run has filled before; shared one without such a run.
    """

    settings: str
    cache: Literal["cold", "warm", "shared"] = "shared"
    is_baseline: bool = False
    num_busy: int = 0

    def prepare(self, session: Session) -> None:
        session.checkout(self.is_baseline)
        if self.cache == "warm":
            self.run(session)

    def run(self, session: Session) -> Figures:
        run_dir = session.new_folder("run")
        checkout = session.checkout(self.is_baseline)
        cold = self.cache == "cold"
        cache_dir = (
            session.new_folder("cache") if cold else session.folder / ("cache", "cache_baseline")[self.is_baseline]
        )
        variables = {"PYTHONPATH": str(checkout / "src"), "NEWSREEL_CACHE_DIR": str(cache_dir)}
        is_sweep = "-m" in self.settings.split()
        folder = f"hydra.{'sweep' if is_sweep else 'run'}.dir={run_dir}"
        command = [sys.executable, str(checkout / "train.py"), *session.limited(self.settings), folder]
        done = session.call(command, variables, self.num_busy)
        figures = time_of(done)
        if not is_sweep:
            figures |= figures_of_run(json.loads((run_dir / "metrics.json").read_text()))
        shutil.rmtree(run_dir)
        if cold:
            shutil.rmtree(cache_dir)
        return figures


def figures_of_run(metrics: dict[str, Any]) -> Figures:
    """Figures from metrics.json."""
    num_training = metrics["documents/train"] * metrics.get("train/passes_per_epoch", 1)
    num_documents = sum(metrics[f"documents/{split}"] for split in ("train", "validation", "test"))
    speed = metrics["throughput/train_documents_per_s"]
    scores = {name: metrics[f"test/{name}"] for name in ("accuracy", "f1_micro") if f"test/{name}" in metrics}
    return {
        "documents_per_s": speed,
        "epoch_s": num_training / speed if speed else 0.0,
        "fit_s": metrics["time/fit_s"],
        "fit_ms_per_document": 1000 * metrics["time/fit_s"] / num_documents,
        "first_step_s": metrics.get("time/first_step_s", 0.0),
        "peak_rss_mb": metrics["memory/peak_rss_mb"],
        **scores,
    }


@dataclass(frozen=True, kw_only=True)
class Peer(Contender):
    """A program of `bench.peers` in its own environment, on the documents of a corpus."""

    environment: str
    program: str
    data: str = "data=imdb"
    arguments: str = ""

    def prepare(self, session: Session) -> None:
        session.python(self.environment)
        session.documents(self.data)

    def run(self, session: Session) -> Figures:
        command = [str(session.python(self.environment)), "-m", f"bench.peers.{self.program}"]
        command += [str(session.documents(self.data)), *self.arguments.split()]
        return figures_of(session.call(command, {"PYTHONPATH": str(SCRIPTS)}))


@dataclass(frozen=True, kw_only=True)
class Part(Contender):
    """A program of `bench.ours` on the settings of an experiment, with a cold cache or the shared one."""

    program: str
    settings: str
    is_cold: bool = False

    def run(self, session: Session) -> Figures:
        cache_dir = session.new_folder("cache") if self.is_cold else None
        try:
            return session.run_module(
                f"bench.ours.{self.program}", *session.limited(self.settings), cache_dir=cache_dir
            )
        finally:
            if cache_dir is not None:
                shutil.rmtree(cache_dir, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class Inference(Contender):
    """`bench.ours.inference` with a run that is trained once, on the test documents."""

    work: Literal["evaluate", "predict", "forward", "encode_and_forward"]
    settings: str

    def prepare(self, session: Session) -> None:
        session.trained_run(self.settings)
        session.documents(self._data)

    def run(self, session: Session) -> Figures:
        run_dir, documents = session.trained_run(self.settings), session.documents(self._data)
        return session.run_module("bench.ours.inference", self.work, str(run_dir), str(documents / "test.jsonl"))

    @property
    def _data(self) -> str:
        return " ".join(option for option in self.settings.split() if option.startswith("data"))


@dataclass(frozen=True, kw_only=True)
class Code(Contender):
    """A line of Python in newsreel's environment."""

    code: str

    def prepare(self, session: Session) -> None:
        self.run(session)  # its files are in memory then

    def run(self, session: Session) -> Figures:
        return time_of(session.call([sys.executable, "-c", self.code], {}))
