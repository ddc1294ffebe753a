"""What the commands share: a Hydra application whose errors are one clear message and an exit status.

Imports little: `--help` and a mistyped option are answered before torch is loaded.
"""

import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from newsreel.core.dist import broadcast_from_rank_zero, dist_env, silence_nonzero_ranks
from newsreel.core.errors import (
    CRASHED,
    EXPECTED_ERRORS,
    INTERRUPTED,
    USER_MISTAKE,
    UserError,
    explain,
    missing_launcher,
)
from newsreel.runs.run_dir import BEGUN, CONFIG_FILE
from newsreel.sweeps.summary import summarize_sweep

WAIT_SECONDS = 5.0  # in which whoever started several processes ends the others when the first has failed

_wants_traceback = False  # set once by `run`


def run_folder(resumed: str | None, default: str) -> str:
    """Where a command writes: into the run that it goes on with, else into a folder of its own. Raises UserError."""
    if resumed is None:
        return broadcast_from_rank_zero(default)
    folder = Path(resumed).expanduser()
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            f"resume is {resumed}, which is not a run folder: it has no config.yaml. Name the folder of one run; one "
            "that was stopped before it had written its config has to be started anew."
        )
    return str(folder)


def sweep_folder(default: str) -> str:
    """Where a sweep writes. Raises UserError where it cannot run."""
    if dist_env().world_size > 1:
        raise UserError(
            "A sweep starts its jobs itself, and this command was started in several processes, by torchrun or srun: "
            "leave out either them or -m. With trainer=ddp each job starts its own processes."
        )
    return default


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)  # for hydra.run.dir in configs/train.yaml
OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True)


def run(application: Callable[[], object]) -> None:
    """Call a `hydra.main` application. A user's mistake ends in a message on stderr and exit status 2.

    With HYDRA_FULL_ERROR=1 in the environment the traceback is shown instead. A sweep ends with its summary, also one
    that was interrupted, and with exit status 1 if a job of it has no results.
    """
    global _wants_traceback
    _wants_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing its own account and exiting with 1
    status: int | str | None = 0
    first = True
    try:
        first = dist_env().is_rank_zero
        if not first:
            silence_nonzero_ranks()
        application()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except SystemExit as stopped:
        status = stopped.code
    except Exception as error:
        refused = isinstance(error, EXPECTED_ERRORS) or missing_launcher(error) is not None
        if refused and not _wants_traceback:
            print_error(error, first)
        else:
            traceback.print_exc()
        status = USER_MISTAKE if refused else CRASHED
    jobs_without_results = summarize_sweep()
    sys.exit(status or jobs_without_results)


def quote_literals(arguments: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Command-line arguments in which the values of the keys are texts as they stand, whatever Hydra's grammar says.

    A text may have commas, quotes and brackets in it, and a label or a column may be called 1.
    """

    def quoted(argument: str) -> str:
        key, equals, value = argument.partition("=")
        if not equals or key not in keys:
            return argument
        escaped = re.sub(r"(\\*)('|\$\{|\Z)", lambda found: found[1] * 2 + ("\\" + found[2] if found[2] else ""), value)
        return f"{key}='{escaped}'"

    return [quoted(argument) for argument in arguments]


@contextmanager
def user_errors() -> Iterator[None]:
    """Around the work of a command: what the user has to mend leaves no folder that looks like a run.

    Outside of a sweep the command ends here; within one, the error goes on to whoever runs the jobs.
    """
    try:
        yield
    except (UserError, OmegaConfBaseException, OSError) as error:
        hydra = HydraConfig.get()
        if hydra.mode is not RunMode.RUN:
            raise
        chosen = [*as_typed(hydra.overrides.hydra), *as_typed(hydra.overrides.task)]
        typed = any(override.startswith(("hydra.run.dir=", "resume=", "output=")) for override in chosen)
        if dist_env().is_rank_zero and not typed:
            _forget_refused_run(Path(hydra.runtime.output_dir))
        if _wants_traceback:
            raise
        print_error(error, dist_env().is_rank_zero)
        sys.exit(USER_MISTAKE)


def print_error(error: Exception, first: bool) -> None:
    """Print what is to be mended. first: whether this process is the first of those that train together."""
    if not first:
        time.sleep(WAIT_SECONDS)  # what is wrong in all of them is said once
    print(f"error: {explain(error)}", file=sys.stderr)


def as_typed(overrides: Any) -> list[str]:
    """Overrides of the command line, a list of Hydra's, whatever ${…} is in them."""
    return [str(override) for override in OmegaConf.to_container(overrides, resolve=False) or ()]


def _forget_refused_run(folder: Path) -> None:
    if not folder.is_dir() or folder == Path.cwd() or any(path.name not in BEGUN for path in folder.iterdir()):
        return
    shutil.rmtree(folder)
    for parent in folder.parents[:2]:  # outputs/<data>/<model>, if nothing else is in them
        try:
            parent.rmdir()
        except OSError:
            return
