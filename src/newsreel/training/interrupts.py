"""How a stopped run ends: with the status of the signal, and the command that goes on with it."""

import logging
import shlex
import signal
from pathlib import Path
from typing import NoReturn

from newsreel.runs.run_dir import CONFIG_FILE

log = logging.getLogger(__name__)


def resume_command(run_dir: Path) -> str:
    return f"python train.py {shlex.quote(f'resume={run_dir}')}"


def exit_stopped(run_dir: Path, number: signal.Signals) -> NoReturn:
    """End this process with the exit status of one that the signal has stopped, and say how to go on."""
    if (run_dir / CONFIG_FILE).exists():
        log.error(
            f"Stopped before the end: {run_dir} has no results. To go on where it was:\n  {resume_command(run_dir)}"
        )
    raise SystemExit(128 + number)
