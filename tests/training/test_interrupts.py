"""Signals in every phase of a run."""

import logging
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from helpers.shared_runs import SharedRuns
from helpers.tiny_runs import evaluated, go_on, tiny_spec, without_times
from newsreel.core.signals import Stopped, stop_at_sigterm
from newsreel.corpora.synthetic import Synthetic
from newsreel.models.classifier import TextClassifier
from newsreel.training import results, run
from newsreel.training.interrupts import resumable
from newsreel.training.run import train_run

HOOKS = ["on_fit_start", "on_train_batch_end", "on_validation_batch_end", "on_fit_end", "on_test_start",
         "on_test_batch_end", "on_test_end"]  # fmt: skip
SIGINT = pytest.param(signal.SIGINT, marks=pytest.mark.slow)  # for which one hook stands
SIGNALS = pytest.mark.parametrize("sent", [signal.SIGTERM, SIGINT])
STOPPED = [*((hook, signal.SIGTERM) for hook in HOOKS), ("on_train_batch_end", signal.SIGINT)]
REST = [pytest.param(hook, signal.SIGINT, marks=pytest.mark.slow) for hook in HOOKS if hook != "on_train_batch_end"]


def send(number: signal.Signals) -> None:
    signal.raise_signal(number)  # os.kill may deliver it to another thread, after this one has gone on


def stops(tmp_path: Path, sent: signal.Signals, callbacks: list[Callback]) -> int:
    """The exit status of a training that gets a signal."""
    with stop_at_sigterm(), pytest.raises(Stopped) as stopped, resumable(tmp_path / "run"):
        train_run(tiny_spec(tmp_path, "model=bow"), callbacks=callbacks)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.mark.parametrize(("hook", "sent"), [*STOPPED, *REST])
def test_a_signal_in_any_phase_of_the_trainer_ends_with_its_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hook: str, sent: signal.Signals
) -> None:
    caplog.set_level(logging.INFO)
    sender = Callback()
    setattr(sender, hook, lambda *_: send(sent))
    assert stops(tmp_path, sent, [sender]) == 128 + sent
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert f"To resume the run:\n  python train.py resume={tmp_path / 'run'}" in caplog.messages[-1]


@SIGNALS
@pytest.mark.parametrize(
    ("owner", "name"),
    [(Synthetic, "load"), (run, "build_model"), (results, "write_report")],
    ids=["documents", "model", "report"],
)
def test_so_does_one_outside_the_trainer(
    tmp_path: Path, monkeypatch: Any, caplog: Any, shared_runs: SharedRuns, owner: Any, name: str, sent: signal.Signals
) -> None:
    monkeypatch.setattr(owner, name, lambda *_: send(sent))
    assert stops(tmp_path, sent, []) == 128 + sent
    assert "To resume the run" in caplog.messages[-1]
    monkeypatch.undo()
    resumed = go_on(tmp_path / "run")
    assert without_times(resumed) == without_times(shared_runs.results("model=bow"))


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_so_does_one_that_native_code_turns_into_its_own_error(
    tmp_path: Path, monkeypatch: Any, caplog: Any, sent: signal.Signals
) -> None:
    def wrapping(*_: object) -> None:
        try:
            send(sent)
        except BaseException as error:
            raise ValueError(f'Error building "model" validator: {type(error).__name__}') from None

    monkeypatch.setattr(run, "build_model", wrapping)
    assert stops(tmp_path, sent, []) == 128 + sent
    assert "To resume the run" in caplog.messages[-1]
    with pytest.raises(Stopped) as stopped, stop_at_sigterm():  # outside a run
        wrapping()
    assert stopped.value.code == 128 + sent
    with pytest.raises(ValueError, match="no signal"), stop_at_sigterm():
        raise ValueError("no signal")


def test_a_signal_after_the_results_says_that_they_are_complete(
    tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(results, "log", type("Log", (), {"info": lambda *_: send(signal.SIGTERM)}))
    assert stops(tmp_path, signal.SIGTERM, []) == 143
    assert caplog.messages[-1] == f"Stopped: the results in {tmp_path / 'run'} are complete."


@SIGNALS
def test_an_evaluation_that_is_stopped_writes_nothing(
    tmp_path: Path, monkeypatch: Any, shared_runs: SharedRuns, sent: signal.Signals
) -> None:
    run_dir = shared_runs.run("model=bow")
    monkeypatch.setattr(TextClassifier, "on_test_epoch_start", lambda *_: send(sent), raising=False)
    with stop_at_sigterm(), pytest.raises(Stopped) as stopped:
        evaluated(tmp_path / "evaluation", f"run={run_dir}")
    assert stopped.value.code == 128 + sent
    assert not (tmp_path / "evaluation").exists()
