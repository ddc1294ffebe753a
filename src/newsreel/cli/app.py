"""What the commands share: a Hydra application whose errors are one clear message and an exit status.

Imports little: `--help` and a mistyped option are answered before torch is loaded.
"""

import difflib
import os
import re
import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from newsreel.core.errors import UserError
from newsreel.core.rules import nearest
from newsreel.runs.run_dir import BEGUN, CONFIG_FILE
from newsreel.sweeps.summary import conclude
from newsreel.training.launch import agreed, hush, place

REFUSALS = (UserError, HydraException, OmegaConfBaseException, OSError)
CRASHED = 1
USER_MISTAKE = 2
INTERRUPTED = 130
WAIT_SECONDS = 5.0  # in which whoever started several processes ends the others when the first has failed

_wants_traceback = False  # set once by `run`


def run_folder(resumed: str | None, default: str) -> str:
    """Where a command writes: into the run that it goes on with, else into a folder of its own. Raises UserError."""
    if resumed is None:
        return agreed(default)
    folder = Path(resumed).expanduser()
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            f"resume is {resumed}, which is not a run folder: it has no config.yaml. Name the folder of one run; one "
            "that was stopped before it had written its config has to be started anew."
        )
    return str(folder)


def sweep_folder(default: str) -> str:
    """Where a sweep writes. Raises UserError where it cannot run."""
    if place().size > 1:
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
        first = place().first
        if not first:
            hush()
        application()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except SystemExit as stopped:
        status = stopped.code
    except Exception as error:
        refused = isinstance(error, REFUSALS) or missing_launcher(error) is not None
        if refused and not _wants_traceback:
            tell(error, first)
        else:
            traceback.print_exc()
        status = USER_MISTAKE if refused else CRASHED
    jobs_without_results = conclude()
    sys.exit(status or jobs_without_results)


def taken_literally(arguments: Sequence[str], keys: Sequence[str]) -> list[str]:
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
def refusals() -> Iterator[None]:
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
        if place().first and not typed:
            _forget_refused_run(Path(hydra.runtime.output_dir))
        if _wants_traceback:
            raise
        tell(error, place().first)
        sys.exit(USER_MISTAKE)


def tell(error: Exception, first: bool) -> None:
    """Print what is to be mended. first: whether this process is the first of those that train together."""
    if not first:
        time.sleep(WAIT_SECONDS)  # what is wrong in all of them is said once
    print(f"error: {explain(error)}", file=sys.stderr)


def as_typed(overrides: Any) -> list[str]:
    """Overrides of the command line, a list of Hydra's, whatever ${…} is in them."""
    return [str(override) for override in OmegaConf.to_container(overrides, resolve=False) or ()]


def explain(error: Exception) -> str:
    """What was wrong with the command line, the config or the disk, without the names of the code that noticed."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, MissingConfigException):
        return _missing_choice(error)
    if isinstance(error, OSError):
        return (
            f"{error.filename or 'the system'}: {error.strerror or error}. Runs are written under paths.output_dir and "
            "what is prepared under paths.cache_dir: both have to be folders that can be written to, with space left."
        )
    if launcher := missing_launcher(error):
        install = f"{Path(sys.executable).name} -m pip install hydra-{launcher}-launcher"
        return f"hydra/launcher={launcher} needs a package that is not installed: {install}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):  # of `run_folder`
            return str(cause)
        if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and cause.full_key:
            return _unknown_key(cause)
        cause = cause.__cause__ or cause.__context__  # OmegaConf leaves out the causes of what a resolver raises
    message = str(error.__cause__ or error)
    key = f"{error.full_key}: " if isinstance(error, OmegaConfBaseException) and error.full_key else ""
    return key + "\n".join(
        line for line in message.splitlines() if not re.match(r"\s*(object_type=|reference_type=|full_key:)", line)
    )


def missing_launcher(error: Exception) -> str | None:
    """The name of the launcher whose package Hydra has not found, if that is the error."""
    found = re.search(r"Unknown plugin class : 'hydra_plugins\.hydra_(\w+?)_launcher\.", str(error))
    return found[1] if found else None


def _unknown_key(error: OmegaConfBaseException) -> str:
    key = str(error.full_key)
    parent, _, name = key.rpartition(".")
    prefix = f"{parent}." if parent else ""
    siblings = error.parent_node if isinstance(error.parent_node, DictConfig) else {}
    known = [str(other) for other in siblings if other not in ("_target_", "hydra")]
    if parent and not siblings:
        return f"{key} is not a setting as long as nothing is chosen for {parent}: give {parent}=… too (see --help)"
    return f"{key} is not a setting" + (nearest(name, known, prefix) if known else "")


def _unreadable(error: OverrideParseException) -> str:
    key, equals, value = str(error.override).partition("=")
    reason = str(error.__cause__ or error).partition("\nSee https:")[0].rstrip(" ^\n").splitlines()[-1]
    if not equals:
        return f"{error.override} cannot be read: {reason}. Settings and choices are given as key=value."
    text = value.replace("\\", "\\\\").replace("'", "\\'")
    argument = f"{key}='{text}'"
    typed = shlex.quote(argument) if set(text) & set('"$`\\!') else f'"{argument}"'
    return (
        f"{key}={value} cannot be read: {reason}.\n"
        f"A text with signs of Hydra's own needs quotes within the shell's: {typed}"
    )


def _missing_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file or "").rpartition("/")
    options = [str(option) for option in error.options or []]
    if not group or not options:
        return str(error).replace("\t", "  ")
    matches = difflib.get_close_matches(choice, options, n=1)
    hint = f"; did you mean {group}={matches[0]}?" if matches else ""
    return f"{group}={choice} is not a choice: there are {', '.join(sorted(options))}{hint}"


def _forget_refused_run(folder: Path) -> None:
    if not folder.is_dir() or folder == Path.cwd() or any(path.name not in BEGUN for path in folder.iterdir()):
        return
    shutil.rmtree(folder)
    for parent in folder.parents[:2]:  # outputs/<data>/<model>, if nothing else is in them
        try:
            parent.rmdir()
        except OSError:
            return
