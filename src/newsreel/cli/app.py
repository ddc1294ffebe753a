"""The frame of all commands: runs a Hydra application and turns errors into one message and an exit status.

Imports torch lazily, so that `--help` and errors in the command line are fast.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from newsreel.core.dist import broadcast_from_rank_zero, dist_env, silence_nonzero_ranks
from newsreel.core.errors import (
    CRASHED,
    EXPECTED_ERRORS,
    USER_MISTAKE,
    UserError,
    explain,
    in_quotes,
    missing_launcher,
)
from newsreel.core.paths import user_path
from newsreel.core.signals import Stopped, stop_at_sigterm
from newsreel.core.terminal import print_every_character
from newsreel.runs.run_dir import CONFIG_FILE, INITIAL_FILES
from newsreel.sweeps.summary import summarize_sweep

Request = TypeVar("Request")
BROKEN_PIPE = 141  # 128 + SIGPIPE
WAIT_SECONDS = 5.0  # before other ranks report an error: the launcher ends them once rank 0 has failed

_wants_traceback = False  # set once by `run`


def resolve_run_dir(resumed: str | None, default: str) -> str:
    """The output directory: that of the resumed run, else `default`, the same in all processes. Raises UserError."""
    if resumed is None:
        return broadcast_from_rank_zero(default)
    run_dir = user_path(resumed, "resume")
    if not (run_dir / CONFIG_FILE).is_file():
        raise UserError(
            f"resume is {resumed}, which is not a run directory: it has no config.yaml. Name the directory of one run. "
            "A run that was stopped before its config was written cannot be resumed; start a new one."
        )
    return str(run_dir)


def resolve_sweep_dir(default: str) -> str:
    """The output directory of a sweep. Raises UserError if there are several processes."""
    if dist_env().world_size > 1:
        raise UserError(
            "A sweep cannot run under torchrun or srun, which started this command in several processes: leave out "
            "either the launcher or -m. With trainer=ddp each job of a sweep starts its own processes."
        )
    return default


def resolve_ladder_dir(output_dir: str, data: str, overrides: Sequence[str]) -> str:
    """The output directory of sweep=baselines: the same for the same command line, whatever its budget."""
    typed = sorted(override for override in overrides if not override.startswith("budget_minutes="))
    return f"{output_dir}/baselines/{data}/{hashlib.sha256(json.dumps(typed).encode()).hexdigest()[:8]}"


OmegaConf.register_new_resolver("run_dir", resolve_run_dir, replace=True)  # for hydra.run.dir in configs/train.yaml
OmegaConf.register_new_resolver("sweep_dir", resolve_sweep_dir, replace=True)
# Cached: Hydra copies the values of cached resolvers to the configs of jobs, whose overrides are others
OmegaConf.register_new_resolver("ladder_dir", resolve_ladder_dir, replace=True, use_cache=True)


def run(application: Callable[[], object]) -> None:
    """Call a `hydra.main` application and exit. User errors print a message on stderr and exit with status 2.

    With HYDRA_FULL_ERROR=1 in the environment, the traceback is printed instead. A sweep, even an interrupted one,
    ends with its summary, and with exit status 1 if any job has no results. If stdout is a closed pipe, as in
    `… --help | head`, the process exits quietly with the status of SIGPIPE.
    """
    global _wants_traceback
    print_every_character()
    _wants_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise errors instead of printing them and exiting with 1
    logging.raiseExceptions = _wants_traceback  # a full disk is one error, not one for every line of run.log
    status: int | str | None = 0
    is_rank_zero = True
    try:
        is_rank_zero = dist_env().is_rank_zero
        if not is_rank_zero:
            silence_nonzero_ranks()
        with stop_at_sigterm():
            application()
        sys.stdout.flush()
    except (KeyboardInterrupt, Stopped) as stopped:
        signalled = Stopped.of(stopped)
        status = signalled.code
        if is_rank_zero and not signalled.is_logged:
            print("Stopped before the end. Run the same command again.", file=sys.stderr)
    except SystemExit as stopped:
        status = stopped.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # flushing at exit would fail again
        status = BROKEN_PIPE
    except Exception as error:
        expected = isinstance(error, EXPECTED_ERRORS) or missing_launcher(error) is not None
        if expected and not _wants_traceback:
            print_error(error, is_rank_zero)
        else:
            traceback.print_exc()
        status = USER_MISTAKE if expected else CRASHED
    sweep_status = 0 if status == USER_MISTAKE else summarize_sweep()  # a refused one has added nothing
    sys.exit(status or sweep_status)


def quote_literals(arguments: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Quote the values of these keys in command-line arguments, so that Hydra's grammar takes them as plain text.

    A text may contain commas, quotes and brackets, and a label or column may be called 1.
    """

    def quoted(argument: str) -> str:
        key, equals, value = argument.partition("=")
        if not equals or key not in keys:
            return argument
        return f"{key}={in_quotes(value, literally=True)}"

    return [quoted(argument) for argument in arguments]


@contextmanager
def user_errors() -> Iterator[None]:
    """Context of the work of a command: a user error removes the output directory if nothing has been trained.

    Outside a sweep it prints the error and exits; within a sweep it raises it to the launcher.
    """
    try:
        yield
    except (UserError, OmegaConfBaseException, OSError) as error:
        hydra = HydraConfig.get()
        if hydra.mode is not RunMode.RUN:
            raise
        if dist_env().is_rank_zero:
            remove_refused_run(hydra)
        if _wants_traceback:
            raise
        print_error(error, dist_env().is_rank_zero)
        sys.exit(USER_MISTAKE)


def read_request(config: DictConfig, kind: type[Request], instead_of_resume: str) -> tuple[Request, dict[str, Any]]:
    """The settings that a script adds to those of configs/train.yaml, as the dataclass `kind`, and the others.

    instead_of_resume: what to do, as a clause. Raises UserError.
    """
    from newsreel.config.sections import check_section

    others: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    settings = {each.name: others.pop(each.name) for each in fields(kind)}  # type: ignore[arg-type]
    if others["resume"] is not None:
        raise UserError(f"resume is for train.py: {instead_of_resume}.")
    if problems := check_section("", settings, kind):
        raise UserError("\n".join(problems))
    return kind(**settings), others


def print_error(error: Exception, is_rank_zero: bool) -> None:
    """Print an error on stderr. is_rank_zero: of this process; other ranks wait first."""
    if not is_rank_zero:
        time.sleep(WAIT_SECONDS)  # an error of all ranks is printed only once
    print(f"error: {explain(error)}", file=sys.stderr)


def as_typed(overrides: Any) -> list[str]:
    """A list of overrides from Hydra's config, without resolving ${…} in them."""
    return [str(override) for override in OmegaConf.to_container(overrides, resolve=False) or ()]


def remove_refused_run(hydra: Any) -> None:
    """Remove the output directory of a command that was refused, unless the user has named it or it holds results."""
    overrides = [*as_typed(hydra.overrides.hydra), *as_typed(hydra.overrides.task)]
    run_dir = Path(hydra.runtime.output_dir)
    is_chosen = any(override.startswith(("hydra.run.dir=", "resume=", "output=")) for override in overrides)
    if is_chosen or not run_dir.is_dir() or run_dir == Path.cwd():
        return
    if any(path.name not in INITIAL_FILES for path in run_dir.iterdir()):
        return
    shutil.rmtree(run_dir)
    for parent in run_dir.parents[:2]:  # outputs/<data>/<model>, if empty
        try:
            parent.rmdir()
        except OSError:
            return
