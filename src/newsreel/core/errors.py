"""Errors caused by user input, and their messages, which are shown without a traceback."""

import difflib
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

CRASHED = 1
USER_MISTAKE = 2

MAX_SUGGESTIONS = 40  # names in a message
ELEMENT = r"""\s*(?:'[^']*'|"[^"]*"|[^\s,\[\]{}][^,\[\]{}]*)"""  # of a list in Hydra's grammar
RESUMABLE_SECTIONS = ("training", "trainer", "paths")  # have settings that can be changed with resume=
RENAMED_SETTINGS = {
    "training.keep": "training.checkpoint",
    "trainer.accumulate": "trainer.accumulate_grad_batches",
    "model.widths": "model.kernel_sizes",
    "model.width": "model.kernel_size",
}


class UserError(ValueError):
    """Invalid input. The message names what was read, the value, the rule and the remedy."""


EXPECTED_ERRORS = (UserError, HydraException, OmegaConfBaseException, OSError)


def explain(error: Exception, overrides: Sequence[str] | None = None) -> str:
    """The message for an error in the overrides, the config or the file system. overrides: None: the command line's."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, MissingConfigException):
        return _missing_choice(error)
    if isinstance(error, OSError):
        return (
            f"{error.filename or 'the system'}: {error.strerror or error}. Runs are written to paths.output_dir and "
            "prepared data to paths.cache_dir: both must be writable directories with free space."
        )
    if launcher := missing_launcher(error):
        install = f"{Path(sys.executable).name} -m pip install hydra-{launcher}-launcher"
        return f"hydra/launcher={launcher} needs a package that is not installed: {install}"
    if swept := re.search(r"Sweeping over Hydra's configuration .*?'\+*hydra\.sweeper\.params\.(.+)'", str(error)):
        return f"Values to search over are given to the setting itself: '{swept[1]}'"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):  # of the resolver `run_dir`
            return str(cause)
        if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and cause.full_key:
            return _unknown_key(cause, sys.argv[1:] if overrides is None else overrides)
        cause = cause.__cause__ or cause.__context__  # OmegaConf does not chain errors of resolvers
    message = str(error.__cause__ or error)
    key = f"{error.full_key}: " if isinstance(error, OmegaConfBaseException) and error.full_key else ""
    return key + "\n".join(
        line for line in message.splitlines() if not re.match(r"\s*(object_type=|reference_type=|full_key:)", line)
    )


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def suggest(key: str, known: Sequence[str], prefix: str = "") -> str:
    """A hint at the known name that was probably meant, or at all of them."""
    if f"{prefix}{key}" in RENAMED_SETTINGS:
        return f"; it is now called {RENAMED_SETTINGS[f'{prefix}{key}']}"
    matches = difflib.get_close_matches(key, known, n=1)
    if matches:
        return f"; did you mean {prefix}{matches[0]}?"
    if not known:
        return "; there are none"
    listed = ", ".join(f"{prefix}{name}" for name in known[:MAX_SUGGESTIONS])
    return f"; choose from {listed}" + (f", … ({len(known):,})" if len(known) > MAX_SUGGESTIONS else "")


def missing_launcher(error: Exception) -> str | None:
    """The name of the launcher whose package is not installed, if that is the error."""
    match = re.search(r"Unknown plugin class : 'hydra_plugins\.hydra_(\w+?)_launcher\.", str(error))
    return match[1] if match else None


def _unknown_key(error: OmegaConfBaseException, overrides: Sequence[str]) -> str:
    key = str(error.full_key)
    parent, _, name = key.rpartition(".")
    if _is_resuming(overrides) and parent and parent.partition(".")[0] not in RESUMABLE_SECTIONS:
        return (
            f"{key} cannot be set here: with resume=, the corpus and the model are those of the run's config.yaml. "
            "Leave it out, or start a new run without resume=."
        )
    if key == "budget_minutes":
        return "budget_minutes is a setting only of the ladder: also set sweep=baselines, or leave it out"
    prefix = f"{parent}." if parent else ""
    siblings = error.parent_node if isinstance(error.parent_node, DictConfig) else {}
    known = [str(other) for other in siblings if other not in ("_target_", "hydra")]
    if parent and not siblings:
        return f"{key} is a setting only if {parent} is chosen: also set {parent}=… (see --help)"
    return f"{key} is not a setting" + (suggest(name, known, prefix) if known else "")


def _is_resuming(overrides: Sequence[str]) -> bool:
    return any(override.startswith("resume=") for override in overrides)


def _unreadable(error: OverrideParseException) -> str:
    key, equals, value = str(error.override).partition("=")
    reason = str(error.__cause__ or error).partition("\nSee https:")[0].rstrip(" ^\n").splitlines()[-1]
    if not equals:
        return f"{error.override} cannot be read: {reason}. Settings and choices have the form key=value."
    if re.fullmatch(rf"\[({ELEMENT}[,\]])+", value):
        elements = re.findall(rf"({ELEMENT})[,\]]", value[1:])
        argument = f"{key}=[{','.join(_element_in_quotes(element.strip()) for element in elements)}]"
    else:
        argument = f"{key}={in_quotes(value)}"
    return (
        f"{key}={value} cannot be read: {reason}.\n"
        "Text with special characters of Hydra's grammar needs quotes inside the shell's quotes: "
        f"{_for_the_shell(argument)}"
    )


def typed(key: str, value: str) -> str:
    """key=value for a text, as it is typed in a shell; only settings with a dot are read by Hydra's grammar."""
    if re.fullmatch(r"[\w./-]+", value, re.ASCII):
        return f"{key}={value}"
    return _for_the_shell(f"{key}={in_quotes(value, literally=True) if '.' in key else value}")


def _for_the_shell(argument: str) -> str:
    return shlex.quote(argument) if set(argument) & set('"$`\\!') else f'"{argument}"'


def in_quotes(text: str, literally: bool = False) -> str:
    """As a quoted string of Hydra's grammar. literally: `${` in it stands for itself, and for no interpolation."""
    special = r"'|\$\{|\Z" if literally else r"'|\Z"
    escape = rf"(\\*)({special})"  # backslashes are literal elsewhere
    escaped = re.sub(escape, lambda match: match[1] * 2 + ("\\" + match[2] if match[2] else ""), text)
    return f"'{escaped}'"


def _element_in_quotes(element: str) -> str:
    """The same, unless an element of a list needs no quotes or has them."""
    return element if re.fullmatch(r"[\w./-]*|'.*'|\".*\"", element) else in_quotes(element)


def _missing_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file or "").rpartition("/")
    options = [str(option) for option in error.options or []]
    if not group or not options:
        return str(error).replace("\t", "  ")
    matches = difflib.get_close_matches(choice, options, n=1)
    hint = f"; did you mean {group}={matches[0]}?" if matches else ""
    return f"{group}={choice} does not exist: choose from {', '.join(sorted(options))}{hint}"


class TrialPruned(Exception):  # noqa: N818  (not an error)
    """Raised to stop a training that a search prunes. The message gives the reason."""
