"""The ladder of sweep=baselines: classifiers from cheap to dear, as far as a budget of time allows.

Stages: the rungs of the ladder; the two best at fractions of the training documents; further seeds of those that tie
for the best. What comes next is always computed from the jobs that are done, so that a stopped ladder can go on.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from newsreel.config.schema import Experiment, read_experiment
from newsreel.config.sections import Settings
from newsreel.core.errors import UserError, explain
from newsreel.core.json_files import read_json
from newsreel.core.storage import write_atomically
from newsreel.evaluation.statistics import binomial_interval
from newsreel.models.optimization import least_steps
from newsreel.runs.records import Run, lacks_epochs, read_run
from newsreel.runs.run_dir import LABELS_FILE, METRICS_FILE
from newsreel.sweeps.ladder import (
    Candidate,
    Rung,
    Stage,
    by_key,
    clash,
    describe_seconds,
    merged,
    read_fixed,
    read_rungs,
    read_settings,
    with_run_dir,
)
from newsreel.sweeps.time_budget import (
    CLOSING_SECONDS,
    Limits,
    limits_file,
    minutes,
    progress_file,
    read_progress,
    too_long,
    write_json,
)

log = logging.getLogger(__name__)

STATE_FILE = "ladder.json"
ENSEMBLE_DIR = "ensemble"  # in the sweep's directory
STAGES: dict[Stage, str] = {
    "ladder": "",
    "curve": "learning curve",
    "seeds": "further seeds",
}  # titles of their skipped jobs
SUMMARY_SECONDS = 5.0  # kept for the start of the command and its summary
TOLERANCE = 0.05  # fraction of the budget beyond which jobs that were judged to fit are stopped
NO_NEED = "it is better on training than on validation documents, or its best epoch is early"  # of more epochs
ROUGH = 1.5  # factor on the time left up to which a rung with a rough estimate is tried
MIN_SECONDS = 3.0  # left, to start a job
REFUSALS = (UserError, HydraException, OmegaConfBaseException)  # of settings that cannot be combined: leave a rung out

Launch = Callable[[Sequence[Sequence[str]], int], object]  # runs jobs of these command lines, numbered from the second
Compose = Callable[[Sequence[str]], Settings]  # the resolved config of a command line
Combine = Callable[[Sequence[Path], Path], object]  # makes an ensemble of runs in a directory


@dataclass
class Job:
    """A training that has been started."""

    number: int
    stage: Stage
    name: str
    rung: str
    kind: str
    varies: bool  # whether it is the run of another rung with more settings
    overrides: list[str]  # without those of the command line


@dataclass
class State:
    """The content of ladder.json."""

    command: list[str]  # the overrides of the command line, without the budget
    sessions: list[list[float]] = field(default_factory=list)  # start and end of each command, as time.time()
    jobs: list[Job] = field(default_factory=list)
    ensemble: list[int] = field(default_factory=list)  # numbers of its jobs


@dataclass(frozen=True)
class Skipped:
    """A training or an ensemble for which there was no time. Seconds."""

    stage: Stage
    needed: float | None  # None: there was nothing to estimate it from
    left: float


class Baselines:
    """A ladder in a directory, with a run directory for each job."""

    def __init__(
        self,
        settings: dict[str, Any],
        config: Settings,
        overrides: Sequence[Override],
        sweep_dir: Path,
        compose: Compose,
        combine: Combine,
        started: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """settings: LadderSettings and `rungs`. config: what all jobs share, and `budget_minutes`. overrides: the
        command line. started: `clock()` when the command did. Raises UserError.
        """
        self.started = started
        self.rungs = read_rungs(settings.pop("rungs"))
        self.settings = read_settings(settings, config.get("budget_minutes"))
        self.budget: float = 60.0 * config["budget_minutes"]  # seconds
        if (devices := config["trainer"]["devices"] or 1) > 1:
            raise UserError(
                "sweep=baselines times and stops its jobs, which works only in a single process, but trainer.devices "
                f"is {devices}: leave it out, or use trainer=auto."
            )
        self.fixed = read_fixed(overrides)
        self.typed = {override.key_or_group for override in overrides}
        self.sweep_dir, self.compose, self.combine, self.clock = sweep_dir, compose, combine, clock
        self.skipped: dict[str, Skipped] = {}  # by name
        self.left_out: dict[str, str] = {}  # name → why it is not possible
        self.records: dict[int, Run] = {}  # of finished jobs, by number
        self.first_refusal: Exception | None = None

    def run(self, launch: Launch) -> None:
        """Run all stages. Raises UserError."""
        self.sweep_dir.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.sweep_dir / ".ladder.lock", timeout=0):
                self.launch = launch
                self.begin()
                try:
                    self.climb()
                    self.learning_curve()
                    self.further_seeds()
                finally:
                    self.end()
                self.report()
        except Timeout as error:
            raise UserError(
                f"{self.sweep_dir}: another process is running this ladder. Wait for it, or stop it."
            ) from error

    # Time and state

    def begin(self) -> None:
        """Open the directory: keep what is finished, and count the time of earlier commands. Raises UserError."""
        self.state = self.read_state()
        self.state.sessions.append([self.started, 0.0])
        for job in list(self.state.jobs):
            status = self.record(job).status
            seconds = self.out_of_time(job) if status == "pruned" else None
            if status in ("failed", "unfinished") or (seconds is not None and self.fits(seconds)):
                self.forget(job)
        self.save()

    def read_state(self) -> State:
        command = sorted(self.fixed)
        try:
            state = read_json(self.sweep_dir / STATE_FILE, State)
        except FileNotFoundError:
            return State(command)
        if state.command != command:
            changed = sorted({*state.command} ^ {*command})
            raise UserError(
                f"{self.sweep_dir} contains a ladder with other settings ({', '.join(changed)}). Choose another "
                "hydra.sweep.dir=… for this one, or leave it out: each command has a directory of its own."
            )
        for session in state.sessions:
            if not session[1]:  # it was killed
                session[1] = max([session[0], *(file.stat().st_mtime for file in self.sweep_dir.rglob("*"))])
        return state

    def save(self) -> None:
        write_atomically(self.sweep_dir / STATE_FILE, json.dumps(asdict(self.state), ensure_ascii=False, indent=1))

    def end(self) -> None:
        self.state.sessions[-1][1] = self.clock()
        self.save()

    @property
    def spent(self) -> float:
        """Seconds of this command and those before it."""
        now = self.clock()
        return math.fsum((end or now) - start for start, end in self.state.sessions)

    @property
    def left(self) -> float:
        """Seconds that jobs may still take."""
        return self.budget - SUMMARY_SECONDS - self.spent

    def fits(self, seconds: float | None, rough: bool = False) -> bool:
        """Whether a job can be started. seconds: its estimate, or None. rough: whether its own speed is to decide."""
        return max(seconds or 0.0, MIN_SECONDS) <= self.left * (ROUGH if rough else 1)

    # Jobs

    def record(self, job: Job) -> Run:
        """The record of a job's run, which is read once if it is finished."""
        if job.number not in self.records:
            run = read_run(self.sweep_dir / str(job.number))
            if run.status != "finished":
                return run
            self.records[job.number] = run
        return self.records[job.number]

    def finished(self, *stages: Stage) -> list[tuple[Job, Run]]:
        """The finished jobs with their runs."""
        both = [(job, self.record(job)) for job in self.state.jobs if job.stage in (stages or ("ladder",))]
        return [(job, run) for job, run in both if run.status == "finished"]

    def best(self, *kinds: str) -> list[tuple[Job, Run]]:
        """The finished jobs of the ladder by falling validation metric; the cheaper one first if it is equal."""
        of_kind = [(job, run) for job, run in self.finished() if job.kind in kinds]
        return sorted(of_kind, key=lambda both: -validation(both[1]))

    def forget(self, job: Job) -> None:
        self.state.jobs.remove(job)
        shutil.rmtree(self.sweep_dir / str(job.number), ignore_errors=True)
        progress_file(self.sweep_dir, job.number).unlink(missing_ok=True)

    def remembered(self, job: Job) -> float | None:
        """Seconds that a job took, or would have taken; None if that is unknown."""
        run = self.record(job)
        if run.status == "finished":
            return seconds_of(run, is_first=job.number == 0)
        progress = read_progress(self.sweep_dir, job.number)
        return None if progress is None else progress.seconds

    def estimate(self, candidate: Candidate) -> tuple[float | None, bool]:
        """Seconds of a candidate and whether that is rough: by the run that it varies, else by the cost of others."""
        if candidate.seconds is not None:
            return candidate.seconds, False
        if candidate.cost is None:
            return None, True
        costs = {name: rung.cost for name, rung in self.rungs.items() if rung.cost and rung.best_of is None}
        known = [
            seconds / costs[job.rung]
            for job in self.state.jobs
            if job.stage == "ladder" and job.rung in costs and (seconds := self.remembered(job)) is not None
        ]
        return (candidate.cost * known[-1], True) if known else (None, True)

    def attempt(self, candidates: Sequence[Candidate]) -> None:
        """Run the candidates that are new, possible and fit into the time left, `num_parallel` at a time."""
        batch: list[Candidate] = []
        for candidate in candidates:
            done = [*(set(job.overrides) for job in self.state.jobs), *(set(each.overrides) for each in batch)]
            if set(candidate.overrides) in done:
                continue
            is_new = candidate.stage == "ladder"  # the others vary a job that has been possible
            if is_new and not self.is_possible(candidate):
                continue
            seconds, rough = self.estimate(candidate)
            if (self.finished() or batch) and not self.fits(seconds, rough):
                self.skip(candidate.name, candidate.stage, seconds)
            elif is_new or self.is_possible(candidate):
                batch.append(candidate)
            if len(batch) == self.settings.num_parallel:
                self.start(batch)
                batch = []
        if batch:
            self.start(batch)

    def skip(self, name: str, stage: Stage, seconds: float | None) -> None:
        self.skipped[name] = Skipped(stage, seconds and max(seconds, MIN_SECONDS), max(0.0, self.left))

    def is_possible(self, candidate: Candidate) -> bool:
        """Whether the other settings, the machine and the corpus allow a candidate; if not, notes the reason."""
        reason = clash(candidate.overrides, self.fixed)
        if reason is None:
            try:
                settings = self.compose(merged(self.fixed, candidate.overrides))
                experiment = read_experiment(settings)
                experiment.embedding.check(experiment.paths)
                if self.rungs[candidate.rung].needs_unlabeled and not has_unlabeled(experiment):
                    reason = "the corpus has no unlabelled documents"
            except REFUSALS as error:
                self.first_refusal = self.first_refusal or error
                reason = explain(error).partition("\n")[0]
        if reason is not None:
            self.left_out[candidate.name] = reason
        return reason is None

    def start(self, batch: Sequence[Candidate]) -> None:
        """Launch jobs together and return when they have ended. Raises UserError if the documents have changed."""
        first = max((job.number for job in self.state.jobs), default=-1) + 1
        deadline = self.clock() + self.left
        rivals = [job.number for job, _ in self.finished() if job.kind == "network"]
        must_finish = not self.finished()
        jobs = []
        for number, candidate in enumerate(batch, start=first):
            shutil.rmtree(self.sweep_dir / str(number), ignore_errors=True)
            overrides, varies = list(candidate.overrides), candidate.seconds is not None
            jobs.append(Job(number, candidate.stage, candidate.name, candidate.rung, candidate.kind, varies, overrides))
            limits = Limits(
                None if must_finish and number == first else deadline,
                self.budget * TOLERANCE,
                self.budget,
                rivals if candidate.stage == "ladder" and candidate.kind == "network" else [],
                self.settings.warmup_epochs,
            )
            write_json(limits_file(self.sweep_dir, number), limits)
        self.state.jobs += jobs
        self.save()
        for job, candidate in zip(jobs, batch, strict=True):
            seconds, _ = self.estimate(candidate)
            expected = "" if seconds is None else f", about {describe_seconds(seconds)}"
            log.info(f"{job.name}: job {job.number}{expected}, {describe_seconds(max(0, self.left))} left")
        self.launch([merged(self.fixed, job.overrides) for job in jobs], first)
        self.check_documents()
        for job in jobs:
            log.info(f"{job.name}: {outcome(self.record(job))}")

    def check_documents(self) -> None:
        """Raise UserError if runs of the ladder were trained on different documents."""
        plain = [(job, run) for job, run in self.finished() if not job.varies]
        prints = {run.environment.get("corpus_fingerprint"): job for job, run in plain}
        if len(prints) > 1:
            one, other = list(prints.values())[:2]
            raise UserError(
                f"{self.sweep_dir}: the documents have changed since its first jobs: {one.name} and {other.name} were "
                "trained on different ones. Restore them, or remove the directory to begin anew."
            )

    # Stages

    def climb(self) -> None:
        """The rungs of the ladder, in their order; those before a rung that depends on them run together."""
        batch: list[Candidate] = []
        for name, rung in self.rungs.items():
            if rung.kind == "ensemble":
                self.attempt(batch)
                batch = []
                self.combine_best(name)
            elif rung.best_of is not None:
                self.attempt(batch)
                batch = []
                self.attempt(self.variants(name, rung))
            else:
                batch.append(Candidate("ladder", name, name, merged(rung.set), rung.kind, cost=rung.cost))
        self.attempt(batch)
        if not self.state.jobs:
            raise self.first_refusal or UserError(f"No rung of the ladder can be trained: {self.left_out}")

    def variants(self, name: str, rung: Rung) -> list[Candidate]:
        """The best finished runs of a rung's kind, with its settings in addition.

        A rung that `needs_epochs` varies the variants of the rungs before it, too.
        """
        assert rung.kind != "ensemble"
        assert rung.best_of is not None
        kinds = ("bag", "network") if rung.best_of == "any" else (rung.best_of,)
        order = list(self.rungs)
        before = order[: order.index(name)] if rung.needs_epochs else order
        best = [
            (job, run) for job, run in self.best(*kinds) if job.rung in before and (rung.needs_epochs or not job.varies)
        ][: rung.top]
        if not best:
            self.left_out[name] = f"no {'run' if rung.best_of == 'any' else rung.best_of} before it was finished"
        if rung.needs_epochs:
            learned = [job.name for job, run in best if not lacks_epochs(run.results, run.metric)]
            self.left_out |= {f"{of} {name}": NO_NEED for of in learned}
            best = [(job, run) for job, run in best if job.name not in learned]
        return [
            Candidate(
                "ladder",
                f"{job.name} {name}",
                name,
                merged(job.overrides, with_run_dir(rung.set, run.run_dir.absolute())),
                rung.kind if rung.best_of != "any" else job.kind,  # type: ignore[arg-type]
                seconds=(rung.cost or 1.0) * seconds_of(run, is_first=job.number == 0),
            )
            for job, run in best
        ]

    def combine_best(self, name: str) -> None:
        """Make the ensemble of the best bag and the best network."""
        pair = [(job, run) for kind in ("bag", "network") for job, run in self.best(kind)[:1]]
        if len(pair) < 2:
            self.left_out[name] = "it needs a finished bag and a finished network"
            return
        numbers = [job.number for job, _ in pair]
        directory = self.sweep_dir / ENSEMBLE_DIR
        if self.state.ensemble == numbers and (directory / METRICS_FILE).exists():
            return
        seconds = CLOSING_SECONDS + sum(run.results.get("time/test_s", 0.0) for _, run in pair)
        if not self.fits(seconds):
            self.skip(name, "ladder", seconds)
            return
        shutil.rmtree(directory, ignore_errors=True)
        self.state.ensemble = numbers
        self.save()
        log.info(f"{name}: {' and '.join(job.name for job, _ in pair)}")
        try:
            self.combine([run.run_dir for _, run in pair], directory)
        except UserError as error:
            self.left_out[name] = explain(error).partition("\n")[0]

    def learning_curve(self) -> None:
        """The two best at fractions of the training documents, the smallest first.

        Not those with pseudo-labels: their teacher has read all training documents.
        """
        all_of_them = self.best("bag", "network")
        best = [both for both in all_of_them if "data.pseudo_labels" not in by_key(both[0].overrides)][:2]
        if not best or not self.settings.curve:
            return
        if "data.train_limit" in self.typed:
            self.left_out["learning curve"] = "data.train_limit is fixed on the command line"
            return
        candidates = []
        for fraction in sorted(self.settings.curve):
            for job, run in best:
                num_documents = math.ceil(fraction * run.results["documents/train"])
                name = f"{job.name} on {num_documents:,} documents"
                if num_documents < num_labels(run):
                    self.left_out[name] = f"there are {num_labels(run)} labels"
                    continue
                limited = merged(job.overrides, [f"data.train_limit={num_documents}"])
                seconds = seconds_of(run, is_first=job.number == 0) * relative_time(run, fraction)
                candidates.append(Candidate("curve", name, job.rung, limited, job.kind, seconds=seconds))  # type: ignore[arg-type]
        self.attempt(candidates)

    def further_seeds(self) -> None:
        """More seeds of the rungs whose validation metric is within the interval of the best, in turn."""
        best = self.best("bag", "network")
        if not best or self.settings.seeds == 1:
            return
        if "seed" in self.typed:
            self.left_out["further seeds"] = "seed is fixed on the command line"
            return
        tied = []
        for job, run in best:
            if interval(run)[1] < validation(best[0][1]):
                continue
            if run.settings.get("training.solver") == "newton":
                self.left_out[f"further seeds of {job.name}"] = "its optimum is the same for every seed"
            else:
                tied.append((job, run))
        base = int(best[0][1].seed)  # type: ignore[call-overload]
        self.attempt(
            [
                Candidate(
                    "seeds",
                    f"{job.name} with seed {seed}",
                    job.rung,
                    merged(job.overrides, [f"seed={seed}"]),
                    job.kind,  # type: ignore[arg-type]
                    seconds=seconds_of(run, is_first=job.number == 0),
                )
                for seed in range(base + 1, base + self.settings.seeds)
                for job, run in tied
            ]
        )

    def report(self) -> None:
        """Log what was done, what was not and why, and the time."""
        rows = [(job.name, outcome(self.record(job))) for job in self.state.jobs]
        if (self.sweep_dir / ENSEMBLE_DIR / METRICS_FILE).exists():
            rows.append((ENSEMBLE_DIR, outcome(read_run(self.sweep_dir / ENSEMBLE_DIR))))
        used = self.budget - self.left
        for stage, title in STAGES.items():
            skipped = {name: each for name, each in self.skipped.items() if each.stage == stage}
            if not title:
                rows += [(name, f"skipped: {self.describe(each)}") for name, each in skipped.items()]
            elif skipped:
                needed = math.fsum(each.needed or 0.0 for each in skipped.values())
                trainings = f"{len(skipped)} more training{'s' * (len(skipped) > 1)}"
                rows.append((title, f"skipped: {trainings}, {too_long(needed, max(0.0, self.left), used + needed)}"))
        rows += [(name, f"left out: {reason}") for name, reason in self.left_out.items()]
        rows.append(("time", f"{self.spent:.0f} s of {self.budget:.0f} s used"))
        needs = [*(each.needed for each in self.skipped.values()), *self.stopped_for_time()]
        if needs:
            enough = f"budget_minutes={minutes(used + math.fsum(need or 0.0 for need in needs))}"
            more = " or more" if None in needs else ""
            rows.append(("to do all", f"the same command with {enough}{more}, which keeps what is finished"))
        width = max(len(name) for name, _ in rows)
        log.info("\n".join(["the ladder", *(f"{name:<{width}}  {value}" for name, value in rows)]))

    def describe(self, skipped: Skipped) -> str:
        if skipped.needed is None:
            left = describe_seconds(skipped.left)
            return f"{left} left, and nothing finished to estimate it from: raise budget_minutes"
        return too_long(skipped.needed, skipped.left, self.budget - skipped.left + skipped.needed)

    def stopped_for_time(self) -> list[float]:
        """Estimated seconds of the jobs that were stopped because they did not fit."""
        pruned = [job for job in self.state.jobs if self.record(job).status == "pruned"]
        return [seconds for job in pruned if (seconds := self.out_of_time(job)) is not None]

    def out_of_time(self, job: Job) -> float | None:
        """Estimated seconds of a pruned job that did not fit; None if it was stopped for its metric."""
        progress = read_progress(self.sweep_dir, job.number)
        return progress.seconds if progress is not None and progress.is_too_long else None


def validation(run: Run) -> float:
    return run.results[f"val/{run.metric}"]


def interval(run: Run) -> tuple[float, float]:
    """The 95% interval of a run's validation metric, as of a proportion of the documents (approximate for micro-F1)."""
    num_documents = int(run.results["documents/validation"])
    return binomial_interval(round(validation(run) * num_documents), num_documents)


def outcome(run: Run) -> str:
    if run.status != "finished":
        return f"{run.status}: {run.message}"
    seconds = run.results.get("time/total_s", 0.0)
    return f"validation {run.metric} {validation(run):.4f}, {describe_seconds(seconds)}"


def seconds_of(run: Run, is_first: bool) -> float:
    """Seconds of a finished run. is_first: of its sweep: its preparation, with imports and the corpus, is left out."""
    total = run.results["time/total_s"]
    return total - run.results["time/prepare_s"] if is_first else total


def relative_time(run: Run, fraction: float) -> float:
    """The time of a training on a fraction of the documents; training.min_steps_per_epoch bounds its steps."""
    if run.settings.get("training.solver") == "newton":
        return fraction
    steps = run.results["train/steps"] / max(1.0, run.results["train/epochs"])  # in an epoch
    min_steps, scale = (run.settings.get(f"training.{key}") for key in ("min_steps_per_epoch", "scale_min_steps"))
    least = least_steps(min_steps or 1, bool(scale), num_labels(run))
    return max(fraction, min(1.0, least / steps))


@dataclass(frozen=True)
class LabelNames:
    """What labels.json says about the names."""

    names: list[str]


def num_labels(run: Run) -> int:
    return len(read_json(run.run_dir / LABELS_FILE, LabelNames).names)


def has_unlabeled(experiment: Experiment) -> bool:
    return "unlabeled" in experiment.reader.load(experiment.paths).with_unlabeled().splits
