"""Hyperparameter search: Optuna chooses trials, each of which is a run; the study can be continued after a stop."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
from annotated_types import Ge
from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from newsreel.config.schema import SEED
from newsreel.config.sections import check_section
from newsreel.core.errors import UserError
from newsreel.core.storage import write_atomically
from newsreel.runs.records import Run, read_run
from newsreel.runs.run_dir import METRICS_FILE, read_config

log = logging.getLogger(__name__)

JOURNAL_FILE = "study.journal"
STUDY = "search"  # name of the only study in a journal
NUM_EXAMPLES = 10  # of which one at least must have possible settings
MAX_FAILED = 3  # trials without results at the beginning, after which a search stops
BEST_FILE = Path("experiment") / "best.yaml"  # in the search directory, which can serve as --config-dir


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The settings of configs/hydra/sweeper/optuna.yaml without the search space."""

    name: str
    num_trials: Annotated[int, Ge(1)]
    num_parallel: Annotated[int, Ge(1)]
    sampler: Literal["tpe", "random"]
    startup_trials: Annotated[int, Ge(1)]
    seed: SEED
    pruner: Literal["median", "asha", "none"]
    warmup_epochs: Annotated[int, Ge(0)]

    def build_sampler(self, number: int) -> BaseSampler:
        """The sampler of one trial: its draws depend on the trials before it, not on when the process started."""
        seed = (self.seed + number) % 2**32
        if self.sampler == "random":
            return RandomSampler(seed)
        return TPESampler(n_startup_trials=self.startup_trials, seed=seed, constant_liar=self.num_parallel > 1)

    def build_pruner(self) -> BasePruner:
        if self.pruner == "none":
            return NopPruner()
        if self.pruner == "asha":
            return SuccessiveHalvingPruner(min_resource=self.warmup_epochs + 1)
        return MedianPruner(n_startup_trials=self.startup_trials, n_warmup_steps=self.warmup_epochs)


class Search:
    """A study in a directory, with a run directory for each trial."""

    def __init__(
        self, settings: dict[str, Any], overrides: Sequence[Override], config: dict[str, Any], search_dir: Path
    ):
        """settings: SearchSettings and `params`, the space. overrides: the command line, which overrides the space.

        config: the settings that all trials share. Raises UserError.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.search_dir = search_dir
        self.space, self.fixed = read_space(settings.pop("params"), overrides)
        if problems := check_section("hydra.sweeper", settings, SearchSettings):
            raise UserError("\n".join(problems))
        self.settings = SearchSettings(**{key: value for key, value in settings.items() if key != "_target_"})
        if not self.space:
            raise UserError("The search space is empty: set hydra.sweeper.params, see configs/sweep/space.")
        devices = config.get("trainer", {}).get("devices") or 1
        if devices > 1 and self.settings.pruner != "none":
            raise UserError(
                f"hydra.sweeper.pruner is {self.settings.pruner}, which works only in a single process, but "
                f"trainer.devices is {devices}: set hydra.sweeper.pruner=none."
            )
        self.record = {
            "config": {key: value for key, value in config.items() if key != "paths"},
            "space": {key: distribution_to_json(distribution) for key, distribution in self.space.items()},
            "search": {
                key: getattr(self.settings, key)
                for key in ("sampler", "startup_trials", "seed", "pruner", "warmup_epochs")
            },
        }

    def examples(self) -> list[list[str]]:
        """Command lines of random trials, the same each time."""
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        return [self.command(self.suggest(study.ask())) for _ in range(NUM_EXAMPLES)]

    def require_possible(self, check: Callable[[Sequence[str]], object]) -> None:
        """Raise the UserError of the first example if no example has settings that work.

        check: raises UserError for a command line whose settings do not.
        """
        refusals = []
        for example in self.examples():
            try:
                check(example)
                return
            except UserError as error:
                refusals.append(error)
        raise UserError(
            f"No trial of this search can work. Change the settings, or fix one that the search varies "
            f"({', '.join(self.space)}):\n{refusals[0]}"
        )

    def run(self, launch: Callable[[Sequence[Sequence[str]], int], object]) -> None:
        """Run trials until there are `num_trials`. Raises UserError.

        launch: runs the jobs of these command lines, numbered from its second argument, and returns when they end.
        """
        self.search_dir.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.search_dir / ".search.lock", timeout=0):
                self._run(launch)
        except Timeout as error:
            raise UserError(
                f"{self.search_dir}: another process is running this search. Wait for it, or stop it."
            ) from error

    def _run(self, launch: Callable[[Sequence[Sequence[str]], int], object]) -> None:
        repair_journal(self.search_dir)
        self.study = open_study(self.search_dir, self.settings.build_pruner())
        self.check_settings()
        for number in self.unfinished_trials():
            if (
                self.search_dir / str(number) / METRICS_FILE
            ).exists():  # the process was killed after the trial finished
                self.record_result(number)
        num_run = 0
        while trials := self.next_trials():
            for group in consecutive(trials):
                for trial in group:
                    shutil.rmtree(self.search_dir / str(trial.number), ignore_errors=True)  # of a killed process
                launch([self.command(trial) for trial in group], group[0].number)
                for trial in group:
                    self.record_result(trial.number)
            self.write_best()
            num_run += len(trials)
            if num_run >= MAX_FAILED and not self.has_results():
                log.info(f"the search stops: its first {num_run} trials have no results")
                return

    def has_results(self) -> bool:
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))

    def check_settings(self) -> None:
        """Raise UserError if the directory contains a search with other settings that has results; else begin anew."""
        previous = self.study.user_attrs.get("record")
        is_other = previous is not None and previous != json.loads(json.dumps(self.record))
        if is_other and not self.has_results() and not self.unfinished_trials():
            log.info(f"{self.search_dir} contains a search with other settings and without results: it is removed")
            for trial in self.study.get_trials(deepcopy=False):
                shutil.rmtree(self.search_dir / str(trial.number), ignore_errors=True)
            (self.search_dir / JOURNAL_FILE).unlink()
            self.study = open_study(self.search_dir, self.settings.build_pruner())
            previous, is_other = None, False
        if previous is None:
            self.study.set_user_attr("record", self.record)
        elif is_other:
            changes = sorted(
                f"{section}.{key}" if section != "config" else key
                for section, now in self.record.items()
                for key in {*now, *previous[section]}
                if json.loads(json.dumps(now.get(key))) != previous[section].get(key)
            )
            raise UserError(
                f"{self.search_dir} contains a search with other settings ({', '.join(changes)}). Choose another name "
                "for this one, hydra.sweeper.name=…, or remove that directory."
            )

    def unfinished_trials(self) -> list[int]:
        """Numbers of the trials that a killed process left unfinished."""
        return [trial.number for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]

    def next_trials(self) -> list[Trial]:
        """The trials to run next: interrupted ones, with unchanged settings, else new ones."""
        if interrupted := self.unfinished_trials()[: self.settings.num_parallel]:
            return [self.suggest(trial_of(self.study, number)) for number in interrupted]
        num_trials = len(self.study.get_trials(deepcopy=False))
        trials = []
        for number in range(num_trials, min(num_trials + self.settings.num_parallel, self.settings.num_trials)):
            self.study.sampler = self.settings.build_sampler(number)
            trials.append(self.suggest(self.study.ask()))
        return trials

    def suggest(self, trial: Trial) -> Trial:
        """Suggest a value for each dimension of the space; a continued trial keeps its values."""
        for key, distribution in self.space.items():
            if isinstance(distribution, CategoricalDistribution):
                trial.suggest_categorical(key, distribution.choices)
            elif isinstance(distribution, IntDistribution):
                trial.suggest_int(
                    key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
                )
            elif isinstance(distribution, FloatDistribution):
                trial.suggest_float(
                    key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
                )
        return trial

    def command(self, trial: Trial) -> list[str]:
        return [*self.fixed, *(f"{key}={value}" for key, value in trial.params.items())]

    def record_result(self, number: int) -> None:
        """Report the result of a trial, read from its run directory, to the study."""
        run = read_run(self.search_dir / str(number))
        if run.status == "finished":
            value = run.results[f"val/{run.metric}"]
            self.study.tell(number, value)
            best = self.study.best_trial
            log.info(
                f"trial {number}: validation {run.metric} {value:.4f} (best {best.value:.4f}, trial {best.number})"
            )
        else:
            self.study.tell(number, state=TrialState.PRUNED if run.status == "pruned" else TrialState.FAIL)
            log.info(f"trial {number}: {run.status}, {run.message}")

    def write_best(self) -> None:
        """Write the best trial so far as an experiment config."""
        if not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return
        run = read_run(self.search_dir / str(self.study.best_trial.number))
        log.info(
            f"best so far: trial {run.run_dir.name}, python train.py --config-dir {self.search_dir} experiment=best"
        )
        file = self.search_dir / BEST_FILE
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, to_experiment(run, self.search_dir))


def to_experiment(run: Run, search_dir: Path) -> str:
    """An experiment config that repeats a run, for `--config-dir <directory> experiment=best`."""
    config = read_config(run.run_dir, "trainer")
    del config["paths"]
    config["trainer"]["threads"] = run.environment["threads"]  # rounding depends on the number of threads
    choices = {f"override /{group}": choice for group, choice in run.choices.items() if group != "experiment"}
    defaults = [*({group: choice} for group, choice in choices.items()), "_self_"]
    return (
        "# @package _global_\n"
        f"# The best trial ({run.run_dir.name}) of a search: validation {run.metric} "
        f"{run.results[f'val/{run.metric}']:.4f}. To repeat it:\n"
        f"#   python train.py --config-dir {search_dir} experiment=best\n"
        + OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults, **config}))
    )


def read_space(params: dict[str, Any], overrides: Sequence[Override]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """The search space by key, and the fixed settings as key=value. Raises UserError."""
    overridden = {override.key_or_group for override in overrides}
    lines = [f"{key}={value}" for key, value in params.items() if key not in overridden]
    space: dict[str, BaseDistribution] = {}
    fixed: list[str] = []
    for override in (*overrides, *OverridesParser.create().parse_overrides(lines)):
        key = override.key_or_group
        if not override.is_sweep_override():
            fixed.append(str(override.input_line))
        elif key == "seed":
            raise UserError(
                "seed cannot be searched over: the best seed is a matter of chance. Search with one seed, then run "
                "best.yaml with several, -m experiment=best seed=1,2,3"
            )
        else:
            try:
                space[override.get_key_element()] = to_distribution(override)
            except ValueError as error:
                raise UserError(f"{override.input_line} is not a search space: {error}") from error
    return space, fixed


def to_distribution(override: Override) -> BaseDistribution:
    """choice(…), range(…), interval(…) and int(interval(…)), the last three also as tag(log, …)."""
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        low, high, log_scale = sweep.start, sweep.end, "log" in sweep.tags
        assert low is not None
        assert high is not None
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log_scale)
        return FloatDistribution(low, high, log=log_scale)
    if isinstance(sweep, RangeSweep):
        steps = list(sweep.range())
        if all(isinstance(step, int) for step in steps):
            return IntDistribution(int(steps[0]), int(steps[-1]), step=int(sweep.step), log="log" in sweep.tags)
        return FloatDistribution(steps[0], steps[-1], step=sweep.step)
    return CategoricalDistribution([str(choice) for choice in override.sweep_string_iterator()])


def open_study(search_dir: Path, pruner: BasePruner) -> optuna.Study:
    """Open or create the study of a search directory; safe from several processes."""
    storage = JournalStorage(JournalFileBackend(str(search_dir / JOURNAL_FILE)))
    return optuna.create_study(
        storage=storage, study_name=STUDY, direction="maximize", pruner=pruner, load_if_exists=True
    )


def trial_of(study: optuna.Study, number: int) -> Trial:
    """A trial that another process started, to be continued."""
    trials = study.get_trials(deepcopy=False)
    return Trial(study, trials[number]._trial_id)


def repair_journal(search_dir: Path) -> None:
    """Remove what a killed process may have left in the journal: an incomplete last line, a lock."""
    journal = search_dir / JOURNAL_FILE
    for lock in search_dir.glob(f"{JOURNAL_FILE}.lock*"):
        lock.unlink()
    if journal.exists():
        content = journal.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if complete != content:
            write_atomically(journal, complete)


def consecutive(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Group the trials into runs of consecutive numbers, since launchers number their jobs consecutively."""
    group: list[Trial] = []
    for trial in trials:
        if group and trial.number != group[-1].number + 1:
            yield group
            group = []
        group.append(trial)
    yield group
