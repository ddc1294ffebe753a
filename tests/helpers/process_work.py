"""What processes of tests do that are to start at once: this imports little."""

import os
import signal
import sys
import time
from pathlib import Path

from newsreel.core.dist import dist_env
from newsreel.core.errors import UserError
from newsreel.training.launch import spawn


def refuse_in_one() -> None:
    if dist_env().is_rank_zero:
        raise UserError("no")
    time.sleep(600)


def die_in_one() -> None:
    if dist_env().is_rank_zero:
        raise RuntimeError("Connection closed by peer")  # what the others then die of
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def fail_in_one() -> None:
    if dist_env().is_rank_zero:
        time.sleep(600)
    raise ZeroDivisionError("by hand")


def wait() -> None:
    print("waiting", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    spawn(wait, 2)
