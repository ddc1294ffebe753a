"""The end of a stopped run: the exit status of the signal, and the command to resume."""

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
    """Exit with the status of the signal, 128 + its number, and log how to resume."""
    if (run_dir / CONFIG_FILE).exists():
        log.error(f"Stopped before the end: {run_dir} has no results. To resume the run:\n  {resume_command(run_dir)}")
    raise SystemExit(128 + number)
