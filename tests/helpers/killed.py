"""Commands in processes of their own that are killed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from helpers.preloaded import PreloadedPopen


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
