"""Ladders with a clock and a launcher that stand for trainings; then one real ladder, as it is typed."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from helpers.killed import kill, start
from helpers.project import CONFIGS, Command
from helpers.tiny_runs import QUICK, SYNTHETIC, compose_tiny, figures
from newsreel.core.errors import TrialPruned, UserError
from newsreel.core.json_files import read_json
from newsreel.sweeps import baselines, time_budget
from newsreel.sweeps.baselines import SUMMARY_SECONDS, Baselines
from newsreel.sweeps.ladder import clash, merged, read_rungs, with_run_dir
from newsreel.sweeps.time_budget import Limits, Progress, TimeBudget, chance_margin, documents_left, write_json

BEGIN = 4e9  # of the clock: later than any file of the test
RUNGS = {
    "bow": {"kind": "bag", "set": ["model=bow"]},
    "cnn": {"kind": "network", "set": ["model=cnn"], "cost": 1.0},
    "lstm": {"kind": "network", "set": ["model=lstm"], "cost": 2.0},
}
SETTINGS = {"num_parallel": 1, "warmup_epochs": 1, "curve": [], "seeds": 1, "rungs": RUNGS}
SECONDS = {"bow": 5.0, "cnn": 20.0, "lstm": 40.0}
ACCURACY = {"bow": 0.8, "cnn": 0.81, "lstm": 0.5}
Commands = Sequence[Sequence[str]]


class Killed(BaseException):
    """Stands for the end of the process."""


class World:
    """A clock, and jobs that take their time and write what a run leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = BEGIN
        self.batches: list[list[str]] = []  # command lines, without what all have
        self.pairs: list[list[str]] = []  # of ensembles
        self.killed_at: int | None = None
        self.seconds = dict(SECONDS)
        self.fingerprint = "documents"
        self.gains: dict[str, float] = {}  # of the validation accuracy, by settings
        self.learned: dict[str, float] = {}  # training accuracy of a model, if it is not 1

    def clock(self) -> float:
        return self.now

    def ladder(
        self, *overrides: str, budget_minutes: object = 10.0, devices: int | None = None, **changes: Any
    ) -> Baselines:
        parsed = OverridesParser.create().parse_overrides(["sweep=baselines", *overrides])
        settings = {**SETTINGS, **changes}
        config = {"budget_minutes": budget_minutes, "trainer": {"devices": devices}}
        return Baselines(settings, config, parsed, self.folder, lambda _: {}, self.combine, self.now, self.clock)

    def run(self, *overrides: str, **changes: Any) -> Baselines:
        ladder = self.ladder(*overrides, **changes)
        ladder.run(self.launch)
        return ladder

    def launch(self, commands: Commands, first: int) -> None:
        self.batches.append([" ".join(each for each in command if each != "sweep=baselines") for command in commands])
        ends = []
        for number, command in enumerate(commands, start=first):
            values = dict(override.split("=", 1) for override in command)
            if number == self.killed_at:
                (self.folder / str(number)).mkdir()
                raise Killed
            ends.append(self.now + self.work(number, values, list(command)))
        self.now = max(ends)

    def work(self, number: int, values: dict[str, str], command: list[str]) -> float:
        """Seconds that a job takes, which is stopped after 4 if it will not meet its deadline."""
        limits = read_json(time_budget.limits_file(self.folder, number), Limits)
        seconds = self.seconds[values["model"]]
        run_dir = self.folder / str(number)
        run_dir.mkdir()
        contents: dict[str, Any] = {
            "config.yaml": {"seed": int(values.get("seed", 1)), "training": {"solver": "minibatch"}},
            "command.json": {"choices": {"model": values["model"]}, "overrides": command},
            "labels.json": {"metric": "accuracy", "names": ["no", "yes"]},
        }
        if limits.deadline is not None and self.now + seconds > limits.deadline:
            contents["pruned.json"] = {"message": "does not fit"}
            write_json(time_budget.progress_file(self.folder, number), Progress(5, [], seconds, True))
            seconds = 4.0
        else:
            contents["metrics.json"] = {
                "val/accuracy": ACCURACY[values["model"]] + sum(self.gains.get(key, 0) for key in values),
                "documents/train": 1000, "documents/validation": 100,
                "time/total_s": seconds, "time/prepare_s": 1.0, "time/test_s": 1.0, "train/steps": 100,
                "train/epochs": 1, "train/kept_epoch": 1, "train/accuracy": self.learned.get(values["model"], 1.0),
                "environment": {"corpus_fingerprint": self.fingerprint},
            }  # fmt: skip
        for name, content in contents.items():
            (run_dir / name).write_text(json.dumps(content))
        return seconds

    def combine(self, run_dirs: Sequence[Path], directory: Path) -> None:
        self.pairs.append([run_dir.name for run_dir in run_dirs])
        directory.mkdir()
        (directory / "metrics.json").write_text(json.dumps({"val/accuracy": 0.9}))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    experiment = SimpleNamespace(embedding=SimpleNamespace(check=lambda paths: None), paths=None)
    monkeypatch.setattr(baselines, "read_experiment", lambda _: experiment)
    return World(tmp_path)


def test_the_rungs_are_trained_in_their_order_with_what_is_typed(world: World) -> None:
    world.run("trainer.threads=1")
    assert world.batches == [[f"trainer.threads=1 model={model}"] for model in ("bow", "cnn", "lstm")]
    assert world.now == BEGIN + 65


def test_a_rung_that_does_not_fit_is_skipped_with_its_estimate(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """After cnn's 20 s, an lstm of cost 2 takes about 40 s: too long for 20 s, and for half as much again."""
    caplog.set_level("INFO")
    world.run(budget_minutes=(25 + 20 + SUMMARY_SECONDS) / 60)
    assert len(world.batches) == 2
    assert world.now == BEGIN + 25
    assert "lstm skipped: about 40 s, 20 s left: raise budget_minutes to 2" in " ".join(caplog.text.split())


def test_a_rung_that_cannot_be_trained_is_left_out_whatever_the_time(world: World) -> None:
    ladder = world.run("model=bow", budget_minutes=(5 + SUMMARY_SECONDS) / 60)
    assert set(ladder.left_out) == {"cnn", "lstm"}
    assert not ladder.skipped


def test_a_rough_estimate_starts_a_rung_whose_speed_then_decides(world: World) -> None:
    """An lstm of about 40 s is tried with 30 s left; a launcher that stops it does not use more than the budget."""
    budget = 25 + 30 + SUMMARY_SECONDS
    ladder = world.run(budget_minutes=budget / 60)
    assert world.batches[-1] == ["model=lstm"]
    assert world.now == BEGIN + 29
    assert ladder.stopped_for_time() == [40.0]
    limits = read_json(time_budget.limits_file(world.folder, 2), Limits)
    assert limits.deadline == pytest.approx(BEGIN + budget - SUMMARY_SECONDS)
    assert limits.rivals == [1]
    assert limits.tolerance == pytest.approx(0.05 * budget)


def test_the_first_rung_always_runs(world: World) -> None:
    world.run(budget_minutes=0.01)
    assert world.batches == [["model=bow"]]
    assert read_json(time_budget.limits_file(world.folder, 0), Limits).deadline is None


@pytest.mark.parametrize("budget", [11.0, 20.0, 33.0, 61.0, 200.0, 1000.0])
def test_no_budget_is_exceeded_where_the_first_rung_fits(world: World, budget: float) -> None:
    variants = {"again": {"kind": "network", "set": ["a.b=1"], "best_of": "network", "top": 2}}
    world.run(budget_minutes=budget / 60, curve=[0.1, 0.5], seeds=5, rungs={**RUNGS, **variants})
    assert world.now - BEGIN <= budget


def test_a_killed_ladder_keeps_what_is_finished_and_counts_its_time(world: World) -> None:
    world.killed_at = 1
    with pytest.raises(Killed):
        world.run()
    state = json.loads((world.folder / "ladder.json").read_text())
    state["sessions"] = [[BEGIN, 0.0]]  # SIGKILL leaves it so
    (world.folder / "ladder.json").write_text(json.dumps(state))
    os.utime(world.folder / "1", (BEGIN + 12, BEGIN + 12))  # its last sign of life
    world.killed_at, world.now = None, BEGIN + 1000
    ladder = world.run()
    assert world.batches == [["model=bow"], ["model=cnn"], ["model=cnn"], ["model=lstm"]]
    assert ladder.spent == pytest.approx(12 + 60)
    assert json.loads((world.folder / "ladder.json").read_text())["sessions"][1] == [BEGIN + 1000, BEGIN + 1060]


def test_a_larger_budget_goes_on_and_tries_again_what_did_not_fit(world: World) -> None:
    world.run(budget_minutes=(25 + 30 + SUMMARY_SECONDS) / 60)
    assert [len(world.batches), (world.folder / "2" / "pruned.json").exists()] == [3, True]
    world.run(budget_minutes=(25 + 30 + SUMMARY_SECONDS) / 60)
    assert len(world.batches) == 3  # there is still no time
    world.run(budget_minutes=10.0)
    assert world.batches[3:] == [["model=lstm"]]
    assert (world.folder / "2" / "metrics.json").exists()


def test_another_command_and_other_documents_are_refused(world: World) -> None:
    world.run(budget_minutes=0.01)
    with pytest.raises(UserError, match=r"contains a ladder with other settings \(data\.limit=3\)"):
        world.run("data.limit=3")
    world.fingerprint = "others"
    with pytest.raises(UserError, match="the documents have changed since its first jobs: bow and cnn"):
        world.run()
    with FileLock(world.folder / ".ladder.lock"), pytest.raises(UserError, match="another process is running this"):
        world.run()


def test_what_is_typed_wins_and_rungs_with_another_value_are_left_out(world: World) -> None:
    ladder = world.run("model=cnn", "seed=5", seeds=3)
    assert world.batches == [["model=cnn seed=5"]]
    assert ladder.left_out == {
        "bow": "it sets model=bow, but the command line has model=cnn",
        "lstm": "it sets model=lstm, but the command line has model=cnn",
        "further seeds": "seed is fixed on the command line",
    }


def test_a_rung_that_the_settings_refuse_is_left_out_unless_all_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compose(overrides: Sequence[str]) -> dict[str, Any]:
        if "model=bow" in overrides or "model=gru" in overrides:
            raise UserError("refused for a reason\nand more")
        return {}

    ladder = world.ladder()
    ladder.compose = compose
    ladder.run(world.launch)
    assert ladder.left_out == {"bow": "refused for a reason"}
    assert len(world.batches) == 2
    other = World(world.folder / "other").ladder(rungs={"gru": {"kind": "network", "set": ["model=gru"]}})
    other.compose = compose
    with pytest.raises(UserError, match="refused for a reason"):
        other.run(world.launch)


def test_independent_rungs_are_launched_together(world: World) -> None:
    rungs = {**RUNGS, "again": {"kind": "network", "set": ["model.dropout=0"], "best_of": "network", "top": 2}}
    world.run(num_parallel=2, rungs=rungs)
    assert [len(batch) for batch in world.batches] == [2, 1, 2]
    assert world.now == BEGIN + 20 + 40 + 40


def test_the_best_are_trained_again_and_combined(world: World) -> None:
    rungs = {
        **RUNGS,
        "again": {"kind": "network", "set": ["embedding=glove"], "best_of": "network", "top": 1},
        "taught": {"kind": "network", "set": ["data.teacher={run}"], "best_of": "any"},
        "both": {"kind": "ensemble"},
    }
    world.run(rungs=rungs)
    assert world.batches[3:] == [["model=cnn embedding=glove"], [f"model=cnn data.teacher='{world.folder}/1'"]]
    assert world.pairs == [["0", "1"]]
    world.run(rungs=rungs)
    assert [len(world.batches), len(world.pairs)] == [5, 1]


@pytest.mark.parametrize("learned", [0.82, 0.814])
def test_the_best_variant_is_trained_longer_if_it_has_not_learned_its_documents(world: World, learned: float) -> None:
    world.gains, world.learned["cnn"] = {"embedding": 0.005, "model.dropout": 0.01}, learned
    longer = {"set": ["training.max_epochs=15"], "best_of": "network", "needs_epochs": True, "cost": 3.0}
    rungs = {
        **RUNGS,
        "glove": {"kind": "network", "set": ["embedding=glove"], "best_of": "network", "top": 1},
        "longer": {"kind": "network", **longer},
        "dropout": {"kind": "network", "set": ["model.dropout=0"], "best_of": "network", "top": 1},
    }
    ladder = world.run(rungs=rungs)
    twice = [["model=cnn embedding=glove training.max_epochs=15"]] if learned < 0.815 else []
    assert world.batches[3:] == [["model=cnn embedding=glove"], *twice, ["model=cnn model.dropout=0"]]
    reason = "it is better on training than on validation documents, or its best epoch is early"
    assert ladder.left_out == ({} if twice else {"cnn glove longer": reason})
    world.run(rungs=rungs)  # a variant of a later rung is not trained longer when the ladder goes on
    assert len(world.batches) == 5 + len(twice)


def test_the_learning_curve_and_the_seeds_are_of_the_best(world: World) -> None:
    """0.8 of 100 documents is within the interval of 0.81; 0.5 is not."""
    ladder = world.run(curve=[0.5, 0.1], seeds=3)
    assert world.batches[3:] == [
        ["model=cnn data.train_limit=100"], ["model=bow data.train_limit=100"],
        ["model=cnn data.train_limit=500"], ["model=bow data.train_limit=500"],
        ["model=cnn seed=2"], ["model=bow seed=2"], ["model=cnn seed=3"], ["model=bow seed=3"],
    ]  # fmt: skip
    assert not ladder.left_out
    assert not ladder.skipped


def test_a_student_has_no_learning_curve_since_its_teacher_has_read_all_documents(world: World) -> None:
    rungs = {**RUNGS, "taught": {"kind": "network", "set": ["data.pseudo_labels={run}"], "best_of": "network"}}
    world.run(rungs=rungs, curve=[0.5])
    assert world.batches[3] == [f"model=cnn data.pseudo_labels='{world.folder}/1'"]
    assert world.batches[4:] == [["model=cnn data.train_limit=500"], ["model=bow data.train_limit=500"]]


def test_a_fixed_number_of_documents_and_seed_leave_out_what_would_change_them(world: World) -> None:
    ladder = world.run("data.train_limit=50", "seed=3", curve=[0.5], seeds=3)
    assert len(world.batches) == 3
    assert set(ladder.left_out) == {"learning curve", "further seeds"}


@pytest.mark.parametrize(
    ("overrides", "changes", "message"),
    [
        (["seed=1,2"], {}, "seed=1,2: sweep=baselines cannot be combined with lists"),
        ([], {"budget_minutes": 0}, "budget_minutes is 0: it must be above 0"),
        ([], {"budget_minutes": "ten"}, "budget_minutes is ten: it must be a finite number"),
        ([], {"devices": 2}, r"works only in a single process, but trainer\.devices is 2"),
        ([], {"curve": [1.5]}, r"hydra\.sweeper\.curve is \[1\.5\]"),
        ([], {"rungs": {}}, "The ladder is empty"),
        ([], {"rungs": {"a": {"kind": "bags", "set": ["b=1"]}}}, r"rungs\.a\.kind is bags: .*did you mean bag\?"),
        ([], {"rungs": {"a": {"kind": "bag", "sets": []}}}, r"a\.sets is not a setting; did you mean .*a\.set\?"),
        ([], {"rungs": {"a": {"kind": "bag"}}}, r"rungs\.a\.set is empty"),
        ([], {"rungs": {"a": {"kind": "bag", "set": ["b=1"], "best_of": "bag"}}}, "first rung of the ladder has"),
    ],
)  # fmt: skip
def test_a_ladder_that_cannot_work_is_refused(
    world: World, overrides: list[str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        world.ladder(*overrides, **changes)


def test_overrides_replace_those_of_the_same_key_and_take_paths_with_odd_characters() -> None:
    assert merged(["model=cnn", "embedding=a"], ["embedding=b"]) == ("model=cnn", "embedding=b")
    assert clash(["model=cnn"], ["model=cnn", "seed=1"]) is None
    (override,) = with_run_dir(["data.teacher={run}"], Path("/a b/it's, so=1"))
    (parsed,) = OverridesParser.create().parse_overrides([override])
    assert parsed.value() == "/a b/it's, so=1"


# The callback in a job


def make_callback(folder: Path, limits: Limits, clock: Callable[[], float] = lambda: 100.0) -> TimeBudget:
    write_json(time_budget.limits_file(folder, 3), limits)
    return TimeBudget(folder, 3, clock)


def test_documents_left_count_validation_and_test_by_a_third(monkeypatch: pytest.MonkeyPatch) -> None:
    """In epoch 2 of 4, after half of it: 2.5 epochs of 2 × 90, and a third of 3 × 10 + 60."""
    sizes = {"train": 90, "validation": 10, "test": 60}
    splits = {split: SimpleNamespace(rows=range(size)) for split, size in sizes.items()}
    data = SimpleNamespace(corpus=SimpleNamespace(splits=splits), passes=2)
    monkeypatch.setattr(time_budget, "datamodule", lambda trainer: data)
    trainer: Any = SimpleNamespace(max_epochs=4, current_epoch=1, num_training_batches=8)
    assert documents_left(trainer, 4) == pytest.approx(2.5 * 180 + 30)


def test_a_job_is_stopped_if_the_rest_does_not_fit_at_its_speed(tmp_path: Path) -> None:
    """1,000 documents in 10 s; 3,000 more and 2 s for the report need 32 s."""
    callback = make_callback(tmp_path, Limits(deadline=132.0, tolerance=6.0, budget=120.0))
    callback.seconds, callback.num_documents = 10.0, 1000
    callback.judge(100.0, 3000)
    callback.judge(106.0, 3000)  # within the tolerance
    with pytest.raises(TrialPruned, match=r"^about 32 s more, 25 s left: raise budget_minutes to 3$"):
        callback.judge(107.0, 3000)
    assert read_json(time_budget.progress_file(tmp_path, 3), Progress).is_too_long
    late = make_callback(tmp_path, Limits(deadline=131.0, tolerance=6.0, budget=120.0))
    late.seconds, late.num_documents = 10.0, 1000
    with pytest.raises(TrialPruned):
        late.judge(100.0, 3000)  # no tolerance at the first time


def test_a_network_far_behind_another_at_the_same_part_of_its_epochs_is_hopeless(tmp_path: Path) -> None:
    """The rival had 0.8 within 2 of 5 epochs, and 0.99 later; 200 documents explain a difference of about 0.09."""
    write_json(time_budget.progress_file(tmp_path, 1), Progress(5, [0.6, 0.8, 0.99]))
    limits = Limits(None, 0.0, 60.0, rivals=[1, 2], warmup_epochs=1)

    def reason(*values: float, max_epochs: int = 5) -> str:
        callback = make_callback(tmp_path, limits)
        callback.progress = Progress(max_epochs, list(values))
        return callback.hopeless("accuracy", 200)

    assert chance_margin(0.8, 0.7, 200) == pytest.approx(2 * ((0.16 + 0.21) / 200) ** 0.5)
    assert reason(0.5, 0.6).startswith("stopped after epoch 2 of 5 with a validation accuracy of 0.6000, where another")
    assert "had 0.8000" in reason(0.5, 0.6)
    assert reason(0.1) == ""  # the first epoch is a warm-up
    assert reason(0.5, 0.75) == ""  # by chance
    assert reason(0.75, 0.6) == ""  # its best counts
    assert reason(0.1, 0.2, max_epochs=2) == ""  # it is done


@pytest.fixture
def tiny_ladder(tmp_path: Path) -> list[str]:
    """The command of a ladder of a bag, a network and their ensemble, with a learning curve."""
    own = tmp_path / "own" / "sweep" / "ladder"
    own.mkdir(parents=True)
    (own / "tiny.yaml").write_text(
        "# @package hydra.sweeper\nrungs:\n"
        "  bow: {kind: bag, set: [model=bow]}\n"
        "  cnn: {kind: network, set: [model=cnn, model.num_filters=6, embedding.dimension=8], cost: 1}\n"
        "  both: {kind: ensemble}\n"
    )
    return ["train.py", "--config-dir", "own", "-m", "sweep=baselines", "sweep/ladder=tiny", *SYNTHETIC, *QUICK,
            "logger=none", "budget_minutes=5", "hydra.sweeper.seeds=1", "hydra.sweeper.curve=[0.5]"]  # fmt: skip


def results_of(sweep_dir: Path) -> dict[str, dict[str, Any]]:
    """The scores of each run and of the ensemble."""
    return {path.parent.name: scores_of(path.parent) for path in sorted(sweep_dir.glob("*/metrics.json"))}


def scores_of(folder: Path) -> dict[str, Any]:
    results = json.loads((folder / "metrics.json").read_text())
    return figures(results, "val") | figures(results, "test") | figures(results, "train")


@pytest.mark.slow  # 10 s; the tests above stand for it
def test_a_ladder_of_two_rungs_as_it_is_typed(command_here: Command, tmp_path: Path, tiny_ladder: list[str]) -> None:
    process = command_here(*tiny_ladder)
    assert process.returncode == 0, process.stderr
    (sweep_dir,) = (tmp_path / "outputs" / "baselines" / "synthetic").iterdir()
    assert list(results_of(sweep_dir)) == ["0", "1", "2", "3", "ensemble"]
    assert "s of 300 s used" in process.stdout
    assert "budget_minutes" not in (sweep_dir / "0" / "config.yaml").read_text()
    assert "sweep" not in (sweep_dir / "0" / "report.md").read_text().partition("## How to repeat it")[2]
    assert len(read_json(time_budget.progress_file(sweep_dir, 1), Progress).values) == 2
    written = {path: path.stat().st_mtime_ns for path in sweep_dir.glob("*/metrics.json")}
    again = command_here(*[each.replace("minutes=5", "minutes=6") for each in tiny_ladder])
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in sweep_dir.glob("*/metrics.json")} == written


@pytest.mark.slow
def test_a_point_of_the_learning_curve_is_a_training_with_a_limit(
    command_here: Command, tmp_path: Path, tiny_ladder: list[str]
) -> None:
    assert command_here(*tiny_ladder, "hydra.sweep.dir=ladder").returncode == 0
    limit = ["data.train_limit=36", "logger=none"]  # half of the 72 documents
    for model in (["model=bow"], ["model=cnn", "model.num_filters=6", "embedding.dimension=8"]):
        done = command_here("train.py", *model, *SYNTHETIC, *QUICK, *limit, f"hydra.run.dir=alone{len(model)}")
        assert done.returncode == 0, done.stderr
        assert scores_of(tmp_path / f"alone{len(model)}") in results_of(tmp_path / "ladder").values()


@pytest.mark.slow
def test_a_killed_ladder_goes_on_to_the_same_scores(tmp_path: Path, tiny_ladder: list[str]) -> None:
    assert start(tmp_path, *tiny_ladder[1:], "hydra.sweep.dir=whole").wait() == 0
    killed = tmp_path / "killed"
    for moment in (killed / "1" / "tokenizer.json", killed / "2" / "metrics.json"):
        kill(start(tmp_path, *tiny_ladder[1:], "hydra.sweep.dir=killed"), moment.exists)
    assert start(tmp_path, *tiny_ladder[1:], "hydra.sweep.dir=killed").wait() == 0
    assert results_of(killed) == results_of(tmp_path / "whole")
    assert (killed / "summary.html").exists()


def test_the_default_ladder_names_choices_that_there_are(tmp_path: Path) -> None:
    config = compose_tiny(tmp_path, "sweep=baselines")
    rungs = read_rungs(OmegaConf.to_container(config.hydra.sweeper.rungs))  # type: ignore[arg-type]
    assert next(iter(rungs)) == "bow"
    assert config.budget_minutes == 30
    choices = [each.split("=") for rung in rungs.values() for each in rung.set if "." not in each]
    assert len(choices) > 10
    for group, choice in choices:
        assert (CONFIGS / group / f"{choice}.yaml").exists()
