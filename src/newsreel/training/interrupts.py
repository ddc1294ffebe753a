"""The end of a stopped run: the exit status of the signal, and the command to resume."""

import logging
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from newsreel.core.dist import dist_env
from newsreel.core.signals import Stopped, set_handler, stopped_despite_errors
from newsreel.runs.run_dir import CONFIG_FILE, METRICS_FILE, read_script

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

log = logging.getLogger(__name__)


def resume_command(run_dir: Path) -> str:
    return f"python {read_script(run_dir)} {shlex.quote(f'resume={run_dir}')}"


@contextmanager
def resumable(run_dir: Path) -> Iterator[None]:
    """Context of a run: a signal, in any phase, logs how to resume it and raises Stopped."""
    try:
        with stopped_despite_errors():
            yield
    except (KeyboardInterrupt, Stopped) as stopped:
        signalled = Stopped.of(stopped)
        if dist_env().is_rank_zero and not signalled.is_logged and (run_dir / CONFIG_FILE).exists():
            log.error(describe_stop(run_dir))
            signalled.is_logged = True
        raise signalled from None


def describe_stop(run_dir: Path) -> str:
    if (run_dir / METRICS_FILE).exists():
        return f"Stopped: the results in {run_dir} are complete."
    return f"Stopped before the end: {run_dir} has no results. To resume the run:\n  {resume_command(run_dir)}"


@contextmanager
def stopped_by_signals(trainer: "Trainer") -> Iterator[None]:
    """Context of one call of a trainer: raises Stopped for its answers to signals, which could mean success.

    Lightning exits with status 1 after SIGINT, which it then ignores, and with 0 or another process's error after
    SIGTERM; if SIGTERM comes with the last batch, it does nothing.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Stopped:
        raise
    except SystemExit:
        raise Stopped(signal.SIGTERM if trainer.received_sigterm else signal.SIGINT) from None
    except RuntimeError:
        if trainer.received_sigterm:  # the other processes have already exited
            raise Stopped(signal.SIGTERM) from None
        raise
    finally:
        for number, handler in handlers.items():
            set_handler(number, handler)
    if trainer.received_sigterm:
        raise Stopped(signal.SIGTERM)
