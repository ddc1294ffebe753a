"""What the commands share: a Hydra application whose errors are one clear message and an exit status.

Imports little: `--help` and a mistyped option are answered before torch is loaded.
"""

import difflib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from newsreel.errors import UserError
from newsreel.rules import nearest

USER_MISTAKE = 2
INTERRUPTED = 130

_wants_traceback = False  # set once by `run`


def run(application: Callable[[], object]) -> None:
    """Call a `hydra.main` application. A user's mistake ends in a message on stderr and exit status 2.

    With HYDRA_FULL_ERROR=1 in the environment the traceback is shown instead.
    """
    global _wants_traceback
    _wants_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing its own account and exiting with 1
    try:
        application()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        if _wants_traceback:
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(USER_MISTAKE)


@contextmanager
def refusals() -> Iterator[None]:
    """Around the work of a command: what the user has to mend leaves no folder that looks like a run.

    Outside of a sweep the command ends here; within one, the error goes on to whoever runs the jobs.
    """
    try:
        yield
    except (UserError, OmegaConfBaseException, OSError) as error:
        hydra = HydraConfig.get()
        typed: Any = OmegaConf.to_container(hydra.overrides)  # as it was: an interpolation may be what is wrong
        if not any(override.startswith(("hydra.run.dir", "output=")) for override in typed["hydra"] + typed["task"]):
            _forget_refused_run(Path(hydra.runtime.output_dir))
        if hydra.mode is not RunMode.RUN or _wants_traceback:
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(USER_MISTAKE)


def explain(error: Exception) -> str:
    """What was wrong with the command line, the config or the disk, without the names of the code that noticed."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _missing_choice(error)
    if isinstance(error, OSError):
        return (
            f"{error.filename or 'the system'}: {error.strerror or error}. Runs are written under paths.output_dir and "
            "what is prepared under paths.cache_dir: both have to be folders that can be written to, with space left."
        )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and cause.full_key:
            return _unknown_key(cause)
        cause = cause.__cause__
    message = str(error.__cause__ or error)
    key = f"{error.full_key}: " if isinstance(error, OmegaConfBaseException) and error.full_key else ""
    return key + "\n".join(
        line for line in message.splitlines() if not re.match(r"\s*(object_type=|reference_type=|full_key:)", line)
    )


def _unknown_key(error: OmegaConfBaseException) -> str:
    key = str(error.full_key)
    parent, _, name = key.rpartition(".")
    prefix = f"{parent}." if parent else ""
    siblings = error.parent_node if isinstance(error.parent_node, DictConfig) else {}
    known = [str(other) for other in siblings if other not in ("_target_", "hydra")]
    return f"{key} is not a setting" + (nearest(name, known, prefix) if known else "")


def _missing_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file or "").rpartition("/")
    options = [str(option) for option in error.options or []]
    if not group or not options:
        return str(error).replace("\t", "  ")
    matches = difflib.get_close_matches(choice, options, n=1)
    hint = f"; did you mean {group}={matches[0]}?" if matches else ""
    return f"{group}={choice} is not a choice: there are {', '.join(sorted(options))}{hint}"


def _forget_refused_run(folder: Path) -> None:
    if not folder.is_dir() or any(path.name != "run.log" for path in folder.iterdir()):
        return
    shutil.rmtree(folder)
    for parent in folder.parents[:2]:  # outputs/<data>/<model>, if nothing else is in them
        try:
            parent.rmdir()
        except OSError:
            return
