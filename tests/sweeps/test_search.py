"""Searches over a made-up landscape: launchers that write results instead of training."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from helpers.marks import slow
from helpers.project import CONFIGS
from helpers.tiny_runs import compose_tiny, read_tiny, train_tiny
from newsreel.core.dist import jobs_at_once
from newsreel.core.errors import TrialPruned, UserError
from newsreel.sweeps.pruning import Pruning
from newsreel.sweeps.search import JOURNAL_FILE, Search, read_space

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
Commands = Sequence[Sequence[str]]


class Killed(BaseException):
    """Stands for the end of the process."""


def parse(*overrides: str) -> list[Any]:
    return OverridesParser.create().parse_overrides(list(overrides))


def make_search(folder: Path, *overrides: str, config: dict[str, Any] | None = None, **changes: Any) -> Search:
    return Search({**SETTINGS, **changes}, parse(*overrides), config or {"seed": 1}, folder)


def run_search(folder: Path, killed_at: int | None = None, **changes: Any) -> Search:
    search = make_search(folder, **changes)
    search.run(trainings(folder, killed_at))
    return search


def trainings(folder: Path, killed_at: int | None = None) -> Callable[[Commands, int], None]:
    """A launcher. The validation accuracy is 1 - (dropout - 0.3)², and 0.1 better with gru."""

    def launch(commands: Commands, first: int) -> None:
        for number, command in enumerate(commands, start=first):
            values = dict(override.split("=") for override in command)
            dropout = float(values["model.dropout"])
            (folder / str(number)).mkdir()
            if number == killed_at:
                raise Killed
            contents = {
                "config.yaml": {"trainer": {"threads": None}, "paths": {}, "model": {"dropout": dropout}},
                "command.json": {"choices": {"model": "lstm", "experiment": "mine"}, "overrides": list(command),
                                 "directory": "."},
                "metrics.json": {"val/accuracy": 1 - (dropout - 0.3) ** 2 + 0.1 * (values["model.cell"] == "gru"),
                                 "environment": {"threads": 2}},
            }  # fmt: skip
            for name, content in contents.items():
                (folder / str(number) / name).write_text(json.dumps(content))

    return launch


def trials(search: Search) -> list[tuple[Any, ...]]:
    return [(trial.number, trial.state.name, trial.value, trial.params) for trial in search.study.get_trials()]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_each_trial_draws_values_of_its_own(tmp_path: Path, sampler: str) -> None:
    trials = run_search(tmp_path, sampler=sampler, num_trials=3).study.trials
    assert len({trial.params["model.dropout"] for trial in trials}) == 3


def test_a_killed_search_ends_with_the_trials_of_an_uninterrupted_one(tmp_path: Path) -> None:
    for killed_at in (2, 2, 8):
        with pytest.raises(Killed):
            run_search(tmp_path / "killed", killed_at)
    search = run_search(tmp_path / "killed")
    assert len(trials(search)) == 12
    assert trials(search) == trials(run_search(tmp_path / "whole"))


def test_results_that_were_written_but_not_told_are_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run_search(tmp_path, killed_at=1)
    (tmp_path / "1" / "metrics.json").write_text(json.dumps({"val/accuracy": 0.125}))
    search = run_search(tmp_path, killed_at=1, num_trials=2)
    assert [value for _, _, value, _ in trials(search)][1] == 0.125


def test_tpe_finds_the_top_and_the_best_trial_becomes_an_experiment(tmp_path: Path) -> None:
    best = run_search(tmp_path).study.best_trial
    assert best.params["model.cell"] == "gru"
    assert best.params["model.dropout"] == pytest.approx(0.3, abs=0.2)
    text = (tmp_path / "experiment" / "best.yaml").read_text()
    assert text.startswith(f"# @package _global_\n# The best trial ({best.number}) of a search")
    experiment = OmegaConf.create(text)
    assert experiment.defaults == [{"override /model": "lstm"}, "_self_"]
    assert experiment.model.dropout == best.params["model.dropout"]
    assert experiment.trainer.threads == 2
    assert "paths" not in experiment


def test_pruned_and_failed_trials_are_told_as_such(tmp_path: Path) -> None:
    def launch(commands: Commands, first: int) -> None:
        (tmp_path / str(first)).mkdir()
        if first < 2:
            name = ["pruned.json", "failed.json"][first]
            (tmp_path / str(first) / name).write_text(json.dumps({"message": "why"}))

    search = make_search(tmp_path, num_trials=3)
    search.run(launch)
    assert [state for _, state, *_ in trials(search)] == ["PRUNED", "FAIL", "FAIL"]
    assert not (tmp_path / "experiment").exists()


def fail(folder: Path) -> Callable[[Commands, int], None]:
    """A launcher whose trainings all fail."""

    def launch(commands: Commands, first: int) -> None:
        (folder / str(first)).mkdir()
        (folder / str(first) / "failed.json").write_text(json.dumps({"message": "why"}))

    return launch


def test_a_search_without_any_result_stops_and_gives_way_to_another(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    search.run(fail(tmp_path))
    assert [state for _, state, *_ in trials(search)] == ["FAIL"] * 3
    search.run(fail(tmp_path))  # again
    assert len(trials(search)) == 6
    other = run_search(tmp_path, config={"seed": 2}, num_trials=4)
    assert [state for _, state, *_ in trials(other)] == ["COMPLETE"] * 4
    assert not (tmp_path / "4").exists()


def test_settings_that_no_trial_can_have_are_refused_before_the_first(tmp_path: Path) -> None:
    search = make_search(tmp_path, "training.learning_rate=-1")
    seen: list[Sequence[str]] = []

    def refuse(overrides: Sequence[str]) -> None:
        seen.append(overrides)
        raise UserError(f"rate {len(seen)} is negative")

    message = r"No trial .* fix one that the search varies \(model\.dropout, model\.cell\):\nrate 1 is negative"
    with pytest.raises(UserError, match=message):
        search.require_possible(refuse)
    assert len({tuple(each) for each in seen}) == 10
    assert all(each[0] == "training.learning_rate=-1" for each in seen)
    search.require_possible(lambda overrides: refuse(overrides) if "model.cell=gru" in overrides else None)
    assert not list(tmp_path.iterdir())


def test_trials_in_parallel_are_launched_together(tmp_path: Path) -> None:
    launched = []

    def launch(commands: Commands, first: int) -> None:
        launched.append((len(commands), first))
        trainings(tmp_path)(commands, first)

    make_search(tmp_path, num_trials=5, num_parallel=2).run(launch)
    assert launched == [(2, 0), (2, 2), (1, 4)]
    config = compose_tiny(tmp_path, "sweep=optuna", "hydra/launcher=joblib", "trainer.threads=1")
    assert config.hydra.sweeper.num_parallel == jobs_at_once(1)
    assert compose_tiny(tmp_path, "sweep=optuna").hydra.sweeper.num_parallel == 1


def test_more_trials_go_on_and_other_settings_are_refused(tmp_path: Path) -> None:
    run_search(tmp_path, num_trials=2, config={"seed": 1, "paths": {"cache_dir": "here"}})
    search = run_search(tmp_path, num_trials=3, config={"seed": 1, "paths": {"cache_dir": "there"}})
    assert len(trials(search)) == 3
    with pytest.raises(UserError, match=r"with other settings \(search\.pruner, seed\)"):
        run_search(tmp_path, config={"seed": 2}, pruner="none")
    with pytest.raises(UserError, match=r"other settings \(space\.model\.dropout\)"):
        make_search(tmp_path, "model.dropout=0.5").run(trainings(tmp_path))
    with FileLock(tmp_path / ".search.lock"), pytest.raises(UserError, match="another process is running this search"):
        run_search(tmp_path)


def test_a_torn_line_and_a_lock_of_a_killed_process_do_no_harm(tmp_path: Path) -> None:
    run_search(tmp_path, num_trials=2)
    with (tmp_path / JOURNAL_FILE).open("a") as journal:
        journal.write('{"op_code":5,"trial')
    (tmp_path / f"{JOURNAL_FILE}.lock").symlink_to(tmp_path / JOURNAL_FILE)
    begun = time.perf_counter()
    search = run_search(tmp_path, num_trials=3)
    assert time.perf_counter() - begun < 10  # Optuna itself waits half a minute for the lock
    assert [state for _, state, *_ in trials(search)] == ["COMPLETE"] * 3


def test_the_space_is_written_as_hydra_writes_sweeps() -> None:
    params = {"a": "choice(x, 1, [2,3])", "b": "interval(0, 1)", "c": "tag(log, interval(0.1, 1))",
              "d": "int(interval(1, 9))", "e": "range(1, 6, 2)", "f": "3"}  # fmt: skip
    space, fixed = read_space(params, parse("model=lstm", "b=0.5", "g=1,2"))
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
        ([], {"config": {"trainer": {"devices": 2}}},
         r"^hydra\.sweeper\.pruner is median, which works only in a single process, but trainer\.devices is 2: set "),
    ],
)  # fmt: skip
def test_a_search_that_cannot_work_is_refused(
    tmp_path: Path, overrides: list[str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_search(tmp_path, *overrides, **changes)


def test_every_model_has_a_space() -> None:
    spaces, names = CONFIGS / "sweep" / "space", {}
    for folder in (spaces, spaces / "embedding", CONFIGS / "model", CONFIGS / "embedding"):
        names[folder] = {file.name for file in folder.glob("*.yaml")}
    assert names[spaces] == names[CONFIGS / "model"]
    assert names[spaces / "embedding"] == names[CONFIGS / "embedding"] - {"one_hot.yaml"}
    heads = {file.read_text(encoding="utf-8").partition("\n")[0] for file in spaces.rglob("*.yaml")}
    assert heads == {"# @package hydra.sweeper.params"}  # without it, they are a section of the run's own config


@pytest.mark.parametrize(
    ("model", "embedding"),
    [
        *(("bow", "one_hot"), ("kim_cnn", "svd")),
        *(slow("flatten", "word2vec"), slow("bilstm", "learned"), slow("cnn", "learned_small")),
    ],
)
def test_a_model_takes_what_its_space_holds(tmp_path: Path, model: str, embedding: str) -> None:
    chosen = ["sweep=optuna", f"model={model}", f"embedding={embedding}"]
    params: Any = OmegaConf.to_container(compose_tiny(tmp_path, *chosen).hydra.sweeper.params)
    space, _ = read_space(params, [])
    assert "training.learning_rate" in space
    assert ("embedding.dropout" in space) == (embedding != "one_hot")
    highest = {key: getattr(values, "high", None) or values.choices[-1] for key, values in space.items()}
    read_tiny(tmp_path, *chosen, *(f"{key}={value}" for key, value in highest.items()))


def test_a_hopeless_training_ends_after_its_epoch_but_not_after_its_last(tmp_path: Path) -> None:
    reported: list[tuple[float, int]] = []
    trial: Any = SimpleNamespace(report=lambda value, step: reported.append((value, step)), should_prune=lambda: True)
    with pytest.raises(TrialPruned, match=r"pruned after epoch 1 with a validation accuracy of 0\."):
        train_tiny(tmp_path, "model=bow", callbacks=[Pruning(trial)])
    reported.clear()
    results = train_tiny(tmp_path, "model=bow", "training.max_epochs=1", callbacks=[Pruning(trial)], folder="last")
    assert reported == [(pytest.approx(results["val/accuracy"], abs=1e-6), 1)]
