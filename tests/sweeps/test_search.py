"""Searches over a made-up landscape: launchers that write results instead of training."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from helpers.project import CONFIGS
from helpers.tiny_runs import compose_tiny, read_tiny
from newsreel.core.dist import jobs_at_once
from newsreel.core.errors import TrialPruned, UserError
from newsreel.sweeps.pruning import Pruning
from newsreel.sweeps.search import JOURNAL_FILE, Search, read_space
from newsreel.training.run import train_run
from newsreel.training.spec import RunSpec

SETTINGS = {
    "_target_": "hydra_plugins.newsreel_search.OptunaSweeper",
    "name": "default",
    "num_trials": 12,
    "num_parallel": 1,
    "sampler": "tpe",
    "startup_trials": 3,
    "seed": 1,
    "pruner": "median",
    "warmup_epochs": 0,
    "params": {"model.dropout": "interval(0, 1)", "model.cell": "choice(lstm, gru)"},
}


class Killed(BaseException):
    """Stands for the end of the process."""


def make_search(folder: Path, *overrides: str, config: dict[str, Any] | None = None, **changes: Any) -> Search:
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return Search({**SETTINGS, **changes}, parsed, OmegaConf.create(config or {"seed": 1}), folder)


def trainings(folder: Path, killed_at: int | None = None) -> Callable[[Sequence[Sequence[str]], int], None]:
    """A launcher. The validation accuracy is 1 - (dropout - 0.3)², and 0.1 better with gru."""

    def launch(commands: Sequence[Sequence[str]], first: int) -> None:
        for number, command in enumerate(commands, start=first):
            values = dict(override.split("=") for override in command)
            (folder / str(number)).mkdir()
            if number == killed_at:
                raise Killed
            value = 1 - (float(values["model.dropout"]) - 0.3) ** 2 + 0.1 * (values["model.cell"] == "gru")
            run = {"trainer": {"threads": None}, "paths": {}, "model": {"dropout": float(values["model.dropout"])}}
            asked = {"choices": {"model": "lstm", "experiment": "mine"}, "overrides": list(command), "directory": "."}
            (folder / str(number) / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(run)))
            (folder / str(number) / "command.json").write_text(json.dumps(asked))
            results = {"val/accuracy": value, "environment": {"threads": 2}}
            (folder / str(number) / "metrics.json").write_text(json.dumps(results))

    return launch


def trials(search: Search) -> list[tuple[Any, ...]]:
    return [(trial.number, trial.state.name, trial.value, trial.params) for trial in search.study.get_trials()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Search, Path]:
    """A search that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    search = make_search(folder)
    search.run(trainings(folder))
    return search, folder


def test_a_killed_search_ends_with_the_trials_of_an_uninterrupted_one(
    whole: tuple[Search, Path], tmp_path: Path
) -> None:
    for killed_at in (2, 2, 8):
        with pytest.raises(Killed):
            make_search(tmp_path).run(trainings(tmp_path, killed_at))
    search = make_search(tmp_path)
    search.run(trainings(tmp_path))
    assert len(trials(search)) == 12
    assert trials(search) == trials(whole[0])


def test_results_that_were_written_but_not_told_are_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        make_search(tmp_path).run(trainings(tmp_path, killed_at=1))
    (tmp_path / "1" / "metrics.json").write_text(json.dumps({"val/accuracy": 0.125}))
    search = make_search(tmp_path, num_trials=2)
    search.run(trainings(tmp_path, killed_at=1))
    assert [value for _, _, value, _ in trials(search)][1] == 0.125


def test_tpe_finds_the_top_and_the_best_trial_becomes_an_experiment(whole: tuple[Search, Path]) -> None:
    search, folder = whole
    best = search.study.best_trial
    assert best.params["model.cell"] == "gru"
    assert best.params["model.dropout"] == pytest.approx(0.3, abs=0.2)
    text = (folder / "experiment" / "best.yaml").read_text()
    assert text.startswith(f"# @package _global_\n# The best trial ({best.number}) of a search")
    experiment = OmegaConf.create(text)
    assert experiment.defaults == [{"override /model": "lstm"}, "_self_"]
    assert experiment.model.dropout == best.params["model.dropout"]
    assert experiment.trainer.threads == 2
    assert "paths" not in experiment


def test_pruned_and_failed_trials_are_told_as_such(tmp_path: Path) -> None:
    def launch(commands: Sequence[Sequence[str]], first: int) -> None:
        (tmp_path / str(first)).mkdir()
        names = ["pruned.json", "failed.json"]
        if first < 2:
            (tmp_path / str(first) / names[first]).write_text(json.dumps({"message": "why"}))

    search = make_search(tmp_path, num_trials=3)
    search.run(launch)
    assert [state for _, state, *_ in trials(search)] == ["PRUNED", "FAIL", "FAIL"]
    assert not (tmp_path / "experiment").exists()


def test_trials_in_parallel_are_launched_together(tmp_path: Path) -> None:
    launched = []

    def launch(commands: Sequence[Sequence[str]], first: int) -> None:
        launched.append((len(commands), first))
        trainings(tmp_path)(commands, first)

    make_search(tmp_path, num_trials=5, num_parallel=2).run(launch)
    assert launched == [(2, 0), (2, 2), (1, 4)]


def test_more_trials_go_on_and_other_settings_are_refused(tmp_path: Path) -> None:
    make_search(tmp_path, num_trials=2).run(trainings(tmp_path))
    search = make_search(tmp_path, num_trials=3)
    search.run(trainings(tmp_path))
    assert len(trials(search)) == 3
    with pytest.raises(UserError, match=r"with other settings \(search\.pruner, seed\)"):
        make_search(tmp_path, config={"seed": 2}, pruner="none").run(trainings(tmp_path))
    with pytest.raises(UserError, match=r"other settings \(space\.model\.dropout\)"):
        make_search(tmp_path, "model.dropout=0.5").run(trainings(tmp_path))


def test_a_search_belongs_to_one_process(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / ".search.lock"),
        pytest.raises(UserError, match="another process is running this search"),
    ):
        make_search(tmp_path).run(trainings(tmp_path))


def test_a_torn_line_and_a_lock_of_a_killed_process_do_no_harm(tmp_path: Path) -> None:
    make_search(tmp_path, num_trials=2).run(trainings(tmp_path))
    with (tmp_path / JOURNAL_FILE).open("a") as journal:
        journal.write('{"op_code":5,"trial')
    (tmp_path / f"{JOURNAL_FILE}.lock").symlink_to(tmp_path / JOURNAL_FILE)
    search = make_search(tmp_path, num_trials=3)
    begun = time.perf_counter()
    search.run(trainings(tmp_path))
    assert time.perf_counter() - begun < 10  # Optuna itself waits half a minute for the lock
    assert [state for _, state, *_ in trials(search)] == ["COMPLETE"] * 3


def test_the_space_is_written_as_hydra_writes_sweeps() -> None:
    params = {
        "a": "choice(x, 1, [2,3])",
        "b": "interval(0, 1)",
        "c": "tag(log, interval(0.1, 1))",
        "d": "int(interval(1, 9))",
        "e": "range(1, 6, 2)",
        "f": "3",
    }
    space, fixed = read_space(params, OverridesParser.create().parse_overrides(["model=lstm", "b=0.5", "g=1,2"]))
    assert space == {
        "a": CategoricalDistribution(["x", "1", "[2,3]"]),
        "c": FloatDistribution(0.1, 1, log=True),
        "d": IntDistribution(1, 9),
        "e": IntDistribution(1, 5, step=2),
        "g": CategoricalDistribution(["1", "2"]),
    }
    assert fixed == ["model=lstm", "b=0.5", "f=3"]


@pytest.mark.parametrize(
    ("overrides", "changes", "message"),
    [
        (["seed=1,2"], {}, "seed cannot be searched over"),
        ([], {"sampler": "tpee"}, r"hydra\.sweeper\.sampler is tpee: .* did you mean tpe\?"),
        ([], {"num_trails": 3}, r"num_trails is not a setting; did you mean hydra\.sweeper\.num_trials\?"),
        ([], {"params": {}}, "search space is empty"),
        ([], {"params": {"a": "tag(log, interval(0, 1))"}}, "is not a search space"),
    ],
)
def test_a_search_that_cannot_work_is_refused(
    tmp_path: Path, overrides: list[str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_search(tmp_path, *overrides, **changes)


def test_every_model_has_a_space() -> None:
    spaces = CONFIGS / "sweep" / "space"
    assert {file.name for file in spaces.glob("*.yaml")} == {file.name for file in (CONFIGS / "model").iterdir()}
    assert {file.name for file in (spaces / "embedding").iterdir()} == {
        file.name for file in (CONFIGS / "embedding").iterdir()
    } - {"one_hot.yaml"}


@pytest.mark.parametrize(
    ("model", "embedding"),
    [
        ("bow", "one_hot"),
        ("bow", "learned"),
        ("flatten", "word2vec"),
        ("bilstm", "learned"),
        ("bilstm", "one_hot"),
        ("cnn", "learned_small"),
        ("kim_cnn", "svd"),
    ],
)
def test_a_model_takes_what_its_space_holds(tmp_path: Path, model: str, embedding: str) -> None:
    chosen = [f"model={model}", f"embedding={embedding}"]
    params = compose_tiny(tmp_path, "sweep=optuna", *chosen).hydra.sweeper.params
    space, _ = read_space(OmegaConf.to_container(params), [])  # type: ignore[arg-type]
    assert "training.learning_rate" in space
    assert ("embedding.dropout" in space) == (embedding != "one_hot")
    highest = {
        key: distribution.choices[-1] if isinstance(distribution, CategoricalDistribution) else distribution.high
        for key, distribution in space.items()
        if isinstance(distribution, (CategoricalDistribution, FloatDistribution, IntDistribution))
    }
    read_tiny(tmp_path, *chosen, *(f"{key}={value}" for key, value in highest.items()))


def test_a_launcher_of_several_jobs_gets_as_many_trials(tmp_path: Path) -> None:
    config = compose_tiny(tmp_path, "sweep=optuna", "hydra/launcher=joblib", "trainer.threads=1")
    assert config.hydra.sweeper.num_parallel == jobs_at_once(1)
    assert compose_tiny(tmp_path, "sweep=optuna").hydra.sweeper.num_parallel == 1


class Hopeless:
    """A trial that is given up as soon as that can be."""

    def __init__(self) -> None:
        self.reported: list[tuple[int, float]] = []

    def report(self, value: float, step: int) -> None:
        self.reported.append((step, value))

    def should_prune(self) -> bool:
        return True


def test_a_hopeless_training_ends_after_its_epoch_but_not_after_its_last(tmp_path: Path) -> None:
    choices = {"model": "bow", "embedding": "one_hot", "tokenizer": "words", "data": "synthetic"}
    for epochs in (2, 1):
        trial = Hopeless()
        experiment = read_tiny(tmp_path, "model=bow", f"training.max_epochs={epochs}")
        folder, callbacks = tmp_path / str(epochs), [Pruning(trial)]  # type: ignore[arg-type]
        if epochs == 2:
            with pytest.raises(TrialPruned, match=r"pruned after epoch 1 with a validation accuracy of 0\."):
                train_run(RunSpec(experiment, folder, choices, [], time.perf_counter()), callbacks=callbacks)
        else:
            results = train_run(RunSpec(experiment, folder, choices, [], time.perf_counter()), callbacks=callbacks)
            assert trial.reported == [(1, pytest.approx(results["val/accuracy"], abs=1e-6))]


def test_the_record_of_a_search_does_not_depend_on_places(tmp_path: Path) -> None:
    here = make_search(tmp_path, config={"seed": 1, "paths": {"cache_dir": "here"}})
    assert here.record == make_search(tmp_path, config={"seed": 1, "paths": {"cache_dir": "there"}}).record
