"""Trainings that are killed, and copies of what a kill would leave."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from helpers.preloaded import PreloadedPopen
from newsreel.training.checkpoints import AtomicCheckpointIO


def start(tmp_path: Path, *arguments: str) -> PreloadedPopen:
    """train.py without a word, with the cache in the test's folder."""
    environment = {**os.environ, "NEWSREEL_CACHE_DIR": str(tmp_path / "cache")}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return PreloadedPopen(["train.py", *arguments], cwd=tmp_path, env=environment, **silent)


def kill(process: PreloadedPopen, when: Callable[[], bool], seconds_later: float = 0.0) -> None:
    """SIGKILL as soon as something is so, or some seconds later."""
    while not when():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.0005)
    time.sleep(seconds_later)
    process.kill()
    assert process.wait() in (-signal.SIGKILL, *([0] if seconds_later else []))  # a late moment may be too late


@contextmanager
def snapshots(run_dir: Path, at: Sequence[int] | None = None) -> Iterator[list[int]]:
    """Within it, a training copies its folder after steps with a checkpoint, as a kill would leave it then.

    The copies are `killed<step>` beside the folder, at those steps or at all; the list gets the steps.
    """
    steps: list[int] = []
    original = AtomicCheckpointIO.save_checkpoint

    def save(self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        original(self, checkpoint, path, storage_options)
        if Path(path).name == "last.ckpt":
            steps.append(checkpoint["global_step"])
            if at is None or steps[-1] in at:
                shutil.copytree(run_dir, run_dir.with_name(f"killed{steps[-1]}"))

    with mock.patch.object(AtomicCheckpointIO, "save_checkpoint", save):
        yield steps
