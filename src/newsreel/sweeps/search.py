"""The search for settings: trials that Optuna chooses, each a run of its own, on a study that survives its process."""

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
from omegaconf import DictConfig, OmegaConf
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

from newsreel.config.schema import SEED, check_section
from newsreel.core.errors import UserError
from newsreel.core.storage import write_atomically
from newsreel.runs.records import Run, read_run
from newsreel.runs.run_dir import METRICS_FILE, read_config

log = logging.getLogger(__name__)

JOURNAL_FILE = "study.journal"
STUDY = "search"  # the name of the only study of a journal
BEST_FILE = Path("experiment") / "best.yaml"  # below the search's folder, which is so a folder of configs


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What configs/hydra/sweeper/optuna.yaml holds beside the space."""

    name: str
    num_trials: Annotated[int, Ge(1)]
    num_parallel: Annotated[int, Ge(1)]
    sampler: Literal["tpe", "random"]
    startup_trials: Annotated[int, Ge(1)]
    seed: SEED
    pruner: Literal["median", "asha", "none"]
    warmup_epochs: Annotated[int, Ge(0)]

    def build_sampler(self, number: int) -> BaseSampler:
        """The sampler of one trial: its draws depend on the trials before it, not on when its process began."""
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
    """A study in a folder, with a run folder for each of its trials beside it."""

    def __init__(self, settings: dict[str, Any], overrides: Sequence[Override], config: DictConfig, folder: Path):
        """settings: SearchSettings and `params`, the space. overrides: the command line, whose keys win over the space.

        config: what the trials have in common. Raises UserError.
        """
        self.folder = folder
        self.space, self.fixed = read_space(settings.pop("params"), overrides)
        if problems := check_section("hydra.sweeper", settings, SearchSettings):
            raise UserError("\n".join(problems))
        self.settings = SearchSettings(**{key: value for key, value in settings.items() if key != "_target_"})
        if not self.space:
            raise UserError("There is nothing to search for: hydra.sweeper.params is empty, see configs/sweep/space.")
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        devices = plain.get("trainer", {}).get("devices") or 1
        if devices > 1 and self.settings.pruner != "none":
            raise UserError(
                f"hydra.sweeper.pruner is {self.settings.pruner}, which ends trials within one process, and "
                f"trainer.devices is {devices}: set hydra.sweeper.pruner=none."
            )
        self.record = {
            "config": {key: value for key, value in plain.items() if key != "paths"},
            "space": {key: distribution_to_json(distribution) for key, distribution in self.space.items()},
            "search": {
                key: getattr(self.settings, key)
                for key in ("sampler", "startup_trials", "seed", "pruner", "warmup_epochs")
            },
        }

    def example(self) -> list[str]:
        """The command line of some trial."""
        values = {
            key: distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low
            for key, distribution in self.space.items()
            if isinstance(distribution, (CategoricalDistribution, FloatDistribution, IntDistribution))
        }
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]

    def run(self, launch: Callable[[Sequence[Sequence[str]], int], object]) -> None:
        """Go on until there are as many trials as asked for. Raises UserError.

        launch: runs the jobs of these command lines, numbered from the second argument, and returns when they ended.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".search.lock", timeout=0):
                self.go_on(launch)
        except Timeout as error:
            raise UserError(f"{self.folder}: another process is at this search. Wait for it, or stop it.") from error

    def go_on(self, launch: Callable[[Sequence[Sequence[str]], int], object]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        mend(self.folder)
        self.study = open_study(self.folder, self.settings.build_pruner())
        self.check_record()
        for number in self.running():
            if (self.folder / str(number) / METRICS_FILE).exists():  # its process was killed just after it
                self.settle(number)
        while trials := self.next_trials():
            for group in consecutive(trials):
                for trial in group:
                    shutil.rmtree(self.folder / str(trial.number), ignore_errors=True)  # of a process that was killed
                launch([self.command(trial) for trial in group], group[0].number)
                for trial in group:
                    self.settle(trial.number)
            self.write_best()

    def check_record(self) -> None:
        """Refuse to go on with another search than the one that was begun in the folder."""
        begun = self.study.user_attrs.get("record")
        if begun is None:
            self.study.set_user_attr("record", self.record)
        elif begun != json.loads(json.dumps(self.record)):
            changes = sorted(
                f"{section}.{key}" if section != "config" else key
                for section, now in self.record.items()
                for key in {*now, *begun[section]}
                if json.loads(json.dumps(now.get(key))) != begun[section].get(key)
            )
            raise UserError(
                f"{self.folder} holds a search that was begun with other settings ({', '.join(changes)}). Give this "
                "one a name of its own, hydra.sweeper.name=…, or remove that folder."
            )

    def running(self) -> list[int]:
        """Numbers of the trials that were begun and not ended: by a process that was killed."""
        return [trial.number for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]

    def next_trials(self) -> list[Trial]:
        """The trials to run next: those that were interrupted, with the settings that they had, else new ones."""
        if interrupted := self.running()[: self.settings.num_parallel]:
            return [self.suggest(trial_of(self.study, number)) for number in interrupted]
        num_trials = len(self.study.get_trials(deepcopy=False))
        trials = []
        for number in range(num_trials, min(num_trials + self.settings.num_parallel, self.settings.num_trials)):
            self.study.sampler = self.settings.build_sampler(number)
            trials.append(self.suggest(self.study.ask()))
        return trials

    def suggest(self, trial: Trial) -> Trial:
        """The trial with a value for each dimension of the space; it keeps those that it has."""
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

    def settle(self, number: int) -> None:
        """Tell the study what its files say of a trial."""
        run = read_run(self.folder / str(number))
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
        """CheckpointPolicy the best trial so far as an experiment."""
        if not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return
        run = read_run(self.folder / str(self.study.best_trial.number))
        log.info(f"best so far: trial {run.folder.name}, python train.py --config-dir {self.folder} experiment=best")
        file = self.folder / BEST_FILE
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, experiment_of(run, self.folder))


def experiment_of(run: Run, folder: Path) -> str:
    """A config that gives a run again, for `--config-dir <folder> experiment=best`."""
    config = read_config(run.folder, "trainer")
    del config["paths"]
    config["trainer"]["threads"] = run.environment["threads"]  # sums are rounded by how they are shared out
    choices = {f"override /{group}": choice for group, choice in run.choices.items() if group != "experiment"}
    defaults = [*({group: choice} for group, choice in choices.items()), "_self_"]
    return (
        "# @package _global_\n"
        f"# Trial {run.folder.name} of a search, the best: validation {run.metric} "
        f"{run.results[f'val/{run.metric}']:.4f}. To run it again:\n"
        f"#   python train.py --config-dir {folder} experiment=best\n"
        + OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults, **config}))
    )


def read_space(params: dict[str, Any], overrides: Sequence[Override]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """What to search in, by key, and what is fixed, as key=value. Raises UserError."""
    given = {override.key_or_group: override for override in overrides}
    lines = [f"{key}={value}" for key, value in params.items() if key not in given]
    space: dict[str, BaseDistribution] = {}
    fixed: list[str] = []
    for override in (*overrides, *OverridesParser.create().parse_overrides(lines)):
        key = override.key_or_group
        if not override.is_sweep_override():
            fixed.append(str(override.input_line))
        elif key == "seed":
            raise UserError(
                "seed is to be searched for, and the luckiest one says nothing: search with one seed, then run "
                "best.yaml with several, -m experiment=best seed=1,2,3"
            )
        else:
            try:
                space[override.get_key_element()] = distribution_of(override)
            except ValueError as error:
                raise UserError(f"{override.input_line} is not something to search in: {error}") from error
    return space, fixed


def distribution_of(override: Override) -> BaseDistribution:
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


def open_study(folder: Path, pruner: BasePruner) -> optuna.Study:
    """The study of a search's folder, made if need be; from any process."""
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL_FILE)))
    return optuna.create_study(
        storage=storage, study_name=STUDY, direction="maximize", pruner=pruner, load_if_exists=True
    )


def trial_of(study: optuna.Study, number: int) -> Trial:
    """A trial that some process has begun, to go on with."""
    trials = study.get_trials(deepcopy=False)
    return Trial(study, trials[number]._trial_id)


def mend(folder: Path) -> None:
    """Take away what a killed process may have left in the journal: a torn last line, a lock."""
    journal = folder / JOURNAL_FILE
    for lock in folder.glob(f"{JOURNAL_FILE}.lock*"):
        lock.unlink()
    if journal.exists():
        content = journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            write_atomically(journal, whole)


def consecutive(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """The trials in groups whose numbers follow each other, as launchers number their jobs."""
    group: list[Trial] = []
    for trial in trials:
        if group and trial.number != group[-1].number + 1:
            yield group
            group = []
        group.append(trial)
    yield group
