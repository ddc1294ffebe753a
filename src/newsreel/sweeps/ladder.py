"""The rungs of sweep=baselines, and the trainings that they stand for. Pure: nothing is read or run here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Len, Lt
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from newsreel.config.sections import check_section
from newsreel.core.errors import UserError

Stage = Literal["ladder", "curve", "seeds"]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One rung of configs/sweep/ladder, which explains the fields."""

    kind: Literal["bag", "network", "ensemble"]
    set: Sequence[str] = ()
    cost: Annotated[float, Gt(0)] | None = None
    best_of: Literal["bag", "network", "any"] | None = None
    top: Annotated[int, Ge(1)] = 1
    needs_unlabeled: bool = False
    needs_epochs: bool = False


@dataclass(frozen=True, kw_only=True)
class LadderSettings:
    """The settings of configs/hydra/sweeper/baselines.yaml without the rungs."""

    num_parallel: Annotated[int, Ge(1)]
    warmup_epochs: Annotated[int, Ge(0)]
    curve: Annotated[list[Annotated[float, Gt(0), Lt(1)]], Len(0, 20)]
    seeds: Annotated[int, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The key that sweep=baselines adds at the top level."""

    budget_minutes: Annotated[float, Gt(0)]


@dataclass(frozen=True)
class Candidate:
    """A training that may be run, if there is time."""

    stage: Stage
    name: str
    rung: str  # its name in the ladder file
    overrides: tuple[str, ...]  # without those of the command line, in their order
    kind: Literal["bag", "network"]
    cost: float | None = None  # relative to other rungs; None: unknown
    seconds: float | None = None  # estimated from the run that it varies; None: it varies none


def read_rungs(rungs: Mapping[str, Any]) -> dict[str, Rung]:
    """The rungs by name. Raises one UserError that lists all problems."""
    problems: list[str] = []
    for name, settings in rungs.items():
        where = f"hydra.sweeper.rungs.{name}"
        if not isinstance(settings, dict):
            problems.append(f"{where} is {settings}: it must be a section with kind and set")
            continue
        if found := check_section(where, settings, Rung):
            problems += found
            continue
        rung = Rung(**settings)
        if not rung.set and rung.kind != "ensemble":
            problems.append(f"{where}.set is empty: name at least one setting, such as model=lstm")
        if rung.kind == "ensemble" and (rung.set or rung.best_of):
            problems.append(f"{where}: an ensemble has no set and no best_of; it is made of finished runs")
        if rung.top > 1 and rung.best_of is None:
            problems.append(f"{where}.top is {rung.top}, which has no effect without best_of: omit it")
        if rung.needs_epochs and rung.best_of is None:
            problems.append(f"{where}.needs_epochs is true, which has no effect without best_of: omit it")
    if not rungs:
        problems.append("The ladder is empty: set hydra.sweeper.rungs, see configs/sweep/ladder.")
    elif not problems and Rung(**next(iter(rungs.values()))).best_of is not None:
        problems.append("The first rung of the ladder has best_of, but no run is before it: begin with another one")
    if problems:
        raise UserError("\n".join(problems))
    return {str(name): Rung(**settings) for name, settings in rungs.items()}


def read_settings(settings: Mapping[str, Any], budget_minutes: object) -> LadderSettings:
    """Raises one UserError that lists all problems."""
    problems = check_section("hydra.sweeper", dict(settings), LadderSettings)
    problems += check_section("", {"budget_minutes": budget_minutes}, Budget)
    if problems:
        raise UserError("\n".join(problems))
    return LadderSettings(**{key: value for key, value in settings.items() if key != "_target_"})


def read_fixed(overrides: Sequence[Override]) -> list[str]:
    """The overrides of the command line that all jobs share. Raises UserError for those that a ladder cannot have."""
    for override in overrides:
        if override.is_sweep_override():
            raise UserError(
                f"{override.input_line}: sweep=baselines cannot be combined with lists and ranges of values, since it "
                "chooses its trainings itself. Name one value, or leave out sweep=baselines for a sweep over the list."
            )
    return [str(each.input_line) for each in overrides if each.key_or_group != "budget_minutes"]


def clash(overrides: Sequence[str], fixed: Sequence[str]) -> str | None:
    """An override of a rung whose key the command line sets to another value, and the latter; None if there is none."""
    typed = by_key(fixed)
    for key, override in by_key(overrides).items():
        if key in typed and typed[key] != override:
            return f"it sets {override}, but the command line has {typed[key]}"
    return None


def merged(*groups: Sequence[str]) -> tuple[str, ...]:
    """Overrides of which later ones replace earlier ones of the same key."""
    return tuple({key: override for group in groups for key, override in by_key(group).items()}.values())


def by_key(overrides: Sequence[str]) -> dict[str, str]:
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {str(override.key_or_group): str(override.input_line) for override in parsed}


def with_run_dir(overrides: Sequence[str], run_dir: Path) -> list[str]:
    """The overrides with the run directory in the place of {run}, quoted for Hydra's grammar."""
    escaped = str(run_dir).replace("\\", "\\\\").replace("'", "\\'")
    return [override.replace("{run}", f"'{escaped}'") for override in overrides]


def describe_seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
