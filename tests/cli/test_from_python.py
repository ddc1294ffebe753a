"""`newsreel.train` and what it returns."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import newsreel
from helpers.marks import slow
from helpers.project import CONFIGS, PROJECT, Command
from helpers.shared_runs import SharedRuns
from helpers.tiny_runs import MINIBATCH_BOW, SMALL_LSTM, tiny, without_times
from newsreel.cli import from_python
from newsreel.runs.environment import default_threads

Install = Callable[[Callable[[], None]], None]


@pytest.fixture(autouse=True)
def within_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWSREEL_CACHE_DIR", str(tmp_path / "cache"))


def test_importing_newsreel_imports_nothing_else() -> None:
    code = (
        "import sys, newsreel; print(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(PROJECT / "src")})  # fmt: skip
    assert set(done.stdout.split()) == {"__main__", "newsreel"}


def test_two_trainings_give_the_numbers_of_the_command(tmp_path: Path, command_here: Command) -> None:
    overrides = tiny(*SMALL_LSTM, "trainer.threads=1")
    first, second = newsreel.train(*overrides), newsreel.train(*overrides, run_dir="my runs/it's")
    assert second.run_dir == tmp_path / "my runs" / "it's"
    assert first.run_dir.parent == tmp_path / "outputs" / "synthetic" / "lstm"
    assert command_here("train.py", *overrides, "hydra.run.dir=command").returncode == 0
    expected = without_times(json.loads((tmp_path / "command" / "metrics.json").read_text()))
    assert without_times(first.metrics) == without_times(second.metrics) == expected
    files = {path.name for path in (tmp_path / "command").iterdir()}
    assert {path.name for path in first.run_dir.iterdir()} == {path.name for path in second.run_dir.iterdir()} == files
    command = json.loads((second.run_dir / "command.json").read_text())
    assert command["overrides"] == overrides
    assert command["directory"] == str(tmp_path)
    assert newsreel.load(command_of_report(second)).metrics == second.metrics


def command_of_report(run: newsreel.Run) -> Path:
    """The run directory that the report's command names, which a shell reads."""
    (line,) = [line for line in run.report().read_text().splitlines() if line.startswith("    python train.py")]
    shell = f'for word in {line.removeprefix("    python train.py")}; do echo "$word"; done'
    words = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout.splitlines()
    (override,) = [word for word in words if word.startswith("hydra.run.dir=")]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return Path(compose("train", [override], return_hydra_config=True).hydra.run.dir)


class AtFirstEpoch(logging.Handler):
    """Calls a function when the first epoch is logged."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self.act = act

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("epoch 1/"):
            self.act()


@pytest.fixture
def at_first_epoch() -> Iterator[Install]:
    logger = logging.getLogger("newsreel")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    yield lambda act: logger.addHandler(AtFirstEpoch(act))
    signal.signal(signal.SIGINT, before)
    logger.handlers.clear()


def process_state() -> list[Any]:
    loggers = [logging.getLogger(name) for name in ("", "newsreel", "lightning.pytorch.utilities.rank_zero")]
    return [
        random.getstate(),
        str(np.random.get_state()),
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers],
        list(warnings.filters),
        dict(os.environ),
        os.getcwd(),
        list(sys.path),
        GlobalHydra.instance().hydra,
        HydraConfig.instance().cfg,
    ]


def test_the_process_is_as_it_was_after_a_training_and_after_an_error(at_first_epoch: Install) -> None:
    default_threads()  # remembers the number of the first call
    num_threads = torch.get_num_threads()
    torch.set_num_threads(num_threads + 1)
    try:
        before = process_state()
        run = newsreel.train(*tiny(*MINIBATCH_BOW, "trainer.threads=1", "seed=7"))
        run.evaluate()
        assert process_state() == before

        def fail() -> None:
            raise newsreel.UserError("It diverged.")

        at_first_epoch(fail)
        before = process_state()
        with pytest.raises(newsreel.UserError, match="diverged"):
            newsreel.train(*tiny(*MINIBATCH_BOW, "trainer.threads=1", "seed=8"))
        assert process_state() == before
    finally:
        torch.set_num_threads(num_threads)


def test_an_application_of_hydra_keeps_its_config() -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", ["data=imdb"], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        try:
            hydra = GlobalHydra.instance().hydra
            with from_python.composed(["data=synthetic"]) as inner:
                assert inner.data.num_documents == 5000
                assert HydraConfig.get().runtime.choices.data == "synthetic"
            assert GlobalHydra.instance().hydra is hydra
            assert HydraConfig.get().runtime.choices.data == "imdb"
        finally:
            HydraConfig.instance().cfg = None


@pytest.mark.parametrize(
    "overrides",
    [
        slow(["model=lstmm"]),
        ["model.hiden_size=3"],
        slow(["data=files", "data.separator=;"]),
        slow(["paths.cache_dir=${nope}"]),
        slow(["data=files", "data.train=nowhere.csv"]),
        tiny("model=bow", "seed=-1"),
        slow(tiny("model=bow", "paths.output_dir=file")),
        slow(["resume=nowhere"]),
        ["resume=nowhere", "model.hiden_size=3"],
    ],
)
def test_mistakes_raise_the_message_of_the_command_and_leave_no_folder(
    tmp_path: Path, command_here: Command, overrides: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(newsreel.UserError) as caught:
        newsreel.train(*overrides)
    expected = command_here("train.py", *overrides).stderr
    assert without_time(f"error: {caught.value}\n") == without_time(expected)
    assert not list(tmp_path.glob("outputs/*"))


def without_time(message: str) -> str:
    """The message without the name of the run directory, which is a time."""
    return " ".join(word for word in message.split() if "/bow/" not in word)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: newsreel.train("-m", "model=bow,lstm"), "-m is an option of the command"),
        (lambda: newsreel.train("model=bow,lstm"), "Ambiguous value for argument 'model=bow,lstm'"),
        (lambda: newsreel.train(["model=bow"]), r"\['model=bow'\] is not an override"),  # type: ignore[arg-type]
        (lambda: newsreel.train("hydra.run.dir=a", run_dir="b"), "hydra.run.dir=a names the run directory"),
        (lambda: newsreel.train("resume=a", run_dir="b"), "resume=a names the run directory"),
    ],
)
def test_what_is_no_call_of_a_training_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(newsreel.UserError, match=message):
        call()


def test_without_the_checkout_or_under_torchrun_training_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(from_python, "CONFIGS", Path("nowhere"))
        with pytest.raises(newsreel.UserError, match="directory configs, which is not at nowhere"):
            newsreel.train("model=bow")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(newsreel.UserError, match="torchrun"):
        newsreel.train("model=bow")


@pytest.mark.slow
def test_an_interrupted_training_raises_and_is_resumed_to_the_same_numbers(
    at_first_epoch: Install,
) -> None:
    overrides = tiny(*MINIBATCH_BOW, "trainer.checkpoint_every_s=0")
    expected = newsreel.train(*overrides, run_dir="whole").metrics
    at_first_epoch(lambda: signal.raise_signal(signal.SIGINT))
    before = process_state()
    with pytest.raises(KeyboardInterrupt):
        newsreel.train(*overrides, run_dir="stopped")
    assert process_state() == before
    assert not Path("stopped/metrics.json").exists()
    assert "resume=" in Path("stopped/run.log").read_text()
    logging.getLogger("newsreel").handlers.clear()
    assert without_times(newsreel.train("resume=stopped").metrics) == without_times(expected)


def test_sigterm_reaches_the_program_s_own_handler_once_the_run_can_be_resumed(
    at_first_epoch: Install,
) -> None:
    received: list[bool] = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(Path("run/checkpoints/last.ckpt").exists()))
    at_first_epoch(lambda: signal.raise_signal(signal.SIGTERM))
    try:
        with pytest.raises(KeyboardInterrupt):
            newsreel.train(*tiny(*MINIBATCH_BOW), run_dir="run")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [True]


@pytest.mark.slow
def test_a_training_in_another_thread_gives_the_same_numbers(shared_runs: SharedRuns) -> None:
    runs: list[newsreel.Run] = []
    thread = threading.Thread(target=lambda: runs.append(newsreel.train(*tiny(*MINIBATCH_BOW))))
    thread.start()
    thread.join()
    assert without_times(runs[0].metrics) == without_times(shared_runs.results(*MINIBATCH_BOW))


@pytest.mark.slow
def test_a_program_trains_in_several_processes(tmp_path: Path) -> None:
    overrides = tiny(*MINIBATCH_BOW, "trainer=ddp", "trainer.devices=2")
    program = tmp_path / "program.py"
    program.write_text(
        f"import newsreel\nif __name__ == '__main__':\n    run = newsreel.train(*{overrides!r}, run_dir='run')\n"
        "    print(run.metrics['environment']['processes'])\n"
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True, timeout=280)
    assert done.stdout.splitlines()[-1] == "2"
    assert "epoch 2/2" in done.stdout


@pytest.mark.slow
def test_lines_go_to_standard_output_or_to_the_program_s_own_handlers(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root, overrides = logging.getLogger(), tiny("model=bow")
    root_handlers, root.handlers[:] = list(root.handlers), []
    try:
        newsreel.train(*overrides, run_dir="printed")
    finally:
        root.handlers[:] = root_handlers
    assert "test accuracy" in capsys.readouterr().out
    with caplog.at_level(logging.INFO):
        newsreel.train(*overrides, run_dir="logged")
    assert "test accuracy" in caplog.text
    assert capsys.readouterr().out == ""
    for folder in ("printed", "logged"):
        assert "INFO model       bow on one_hot" in Path(folder, "run.log").read_text()


def test_a_run_predicts_explains_and_evaluates(shared_runs: SharedRuns) -> None:
    run = newsreel.load(shared_runs.run("model=bow"))
    assert run.metrics == shared_runs.results("model=bow")
    (row,) = run.predict(["baba bafa"], top_k=1)
    (explanation,) = run.explain(["baba bafa"])
    assert explanation.target == row["label"]
    other = next(name for name in run.labels.names if name != row["label"])
    assert run.explain(["baba bafa"], other)[0].logit == pytest.approx(-explanation.logit)
    assert run.explain([]) == []
    again = run.evaluate()
    assert again == {name: run.metrics[name] for name in again}
    assert set(run.evaluate("validation")) < set(run.metrics)
    assert run.report().read_text().startswith("# bow on synthetic")
    table = run._repr_markdown_()
    assert f"accuracy {run.metrics['test/accuracy']:.4f}" in table
    assert f"accuracy {run.metrics['test/accuracy']:.4f}" in repr(run)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.explain("baba"), "Expected a list of texts"),
        (lambda run: run.explain(["baba"], label="label7"), "label7 is not a label of this run"),
        (lambda run: run.explain(["baba"], steps=0), "steps is 0: it must be at least 1"),
        (lambda run: run.evaluate("tests"), "split is 'tests': it must be one of train, validation, test"),
    ],
)
def test_wrong_questions_to_a_run_are_refused(
    shared_runs: SharedRuns, call: Callable[[newsreel.Run], object], message: str
) -> None:
    with pytest.raises(newsreel.UserError, match=message):
        call(newsreel.load(shared_runs.run("model=bow")))


def test_words_are_coloured_in_notebooks_and_escaped(shared_runs: SharedRuns) -> None:
    explanations = newsreel.load(shared_runs.run("model=bow")).explain(["baba", "bafa <b>"])
    page = explanations._repr_html_()
    assert page.count("<mark") == sum(len(each.attributions) for each in explanations)
    assert "<b>" not in page
    assert "1. " not in explanations[0]._repr_html_()
