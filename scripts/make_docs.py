"""Write the generated pages: docs/reference.md, and the tables and the graph in docs/architecture.md.

python scripts/make_docs.py            # write them
python scripts/make_docs.py --check    # exit with status 1 and a diff if they are out of date
"""

import argparse
import difflib
import re
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import grimp
import yaml

import kneser_ney
from newsreel.batches.batch import BatchSettings
from newsreel.batches.streams import StreamSettings
from newsreel.config.pretraining import PretrainerSettings
from newsreel.config.schema import Published, TrainerSettings
from newsreel.corpora.corpus import Paths
from newsreel.inference import demo, evaluate, predict
from newsreel.inference.eval_data import PathOverrides
from newsreel.inference.export import onnx
from newsreel.models.decisions import EvaluationSettings
from newsreel.models.language_model import LanguageModelSettings
from newsreel.models.optimization import LanguageModelTraining, TrainingSettings

PROJECT = Path(__file__).parents[1]
PACKAGE = "newsreel"
ARCHITECTURE, REFERENCE = Path("docs/architecture.md"), Path("docs/reference.md")
BEGIN, END = "<!-- begin: written by scripts/make_docs.py -->", "<!-- end: written by scripts/make_docs.py -->"

SECTIONS: dict[str, type] = {  # classes of the sections of configs/train.yaml without a `_target_`
    "batches": BatchSettings,
    "training": TrainingSettings,
    "evaluation": EvaluationSettings,
    "trainer": TrainerSettings,
    "published": Published,
    "paths": Paths,
}
PRETRAIN_SECTIONS: dict[str, type] = {  # the same of configs/pretrain.yaml
    "model": LanguageModelSettings,
    "batches": StreamSettings,
    "training": LanguageModelTraining,
    "trainer": PretrainerSettings,
    "paths": Paths,
}
COMMANDS = {  # file in configs/ → command
    "train": "python train.py",
    "pretrain": "python pretrain.py",
    "evaluate": "python evaluate.py",
    "predict": "python predict.py",
    "export": "python scripts/export.py",
    "neighbors": "python scripts/neighbors.py",
    "corpus": "python scripts/corpus.py",
    "kneser_ney": "python scripts/kneser_ney.py",
    "demo": "python scripts/demo.py",
}
SECTIONS_OF = {"train": SECTIONS, "neighbors": SECTIONS, "pretrain": PRETRAIN_SECTIONS}  # file in configs/ → sections
REQUESTS: dict[str, type] = {
    "evaluate": evaluate.Request,
    "predict": predict.Request,
    "export": onnx.Request,
    "kneser_ney": kneser_ney.Request,
    "demo": demo.Request,
}
GROUPS = ("data", "tokenizer", "embedding", "model", "trainer", "logger", "debug", "sweep", "hydra", "experiment")
NAMES_ONLY = (
    "experiment",
    "sweep/space",
    "sweep/ladder",
)  # groups whose files are only listed, because they have no new settings
HYDRA_SETTINGS = ("run", "sweep", "callbacks", "help", "output_subdir", "job_logging", "mode")  # not for users


@dataclass(frozen=True)
class Setting:
    """One setting of a YAML file."""

    key: str  # with its section, as on the command line
    default: str
    comment: str
    rule: str = ""  # type and range, from the signature that it configures


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the generated pages of docs/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 with a diff if a page is stale")
    pages = make_pages()
    if parser.parse_args().check:
        diff = stale(pages)
        print(diff, end="")
        sys.exit(1 if diff else 0)
    for path, text in pages.items():
        (PROJECT / path).write_text(text, encoding="utf-8")


def make_pages() -> dict[Path, str]:
    """The text of every generated page, by path in the repository."""
    page = (PROJECT / ARCHITECTURE).read_text(encoding="utf-8")
    return {ARCHITECTURE: fill(page, rooms_section()), REFERENCE: reference_page(PROJECT / "configs")}


def stale(pages: dict[Path, str]) -> str:
    """A diff from the files to the pages; empty if they are the same."""
    parts: list[str] = []
    for path, text in pages.items():
        file = PROJECT / path
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        lines = difflib.unified_diff(
            before.splitlines(keepends=True), text.splitlines(keepends=True), f"{path}", f"{path} as generated"
        )
        parts += lines
    return "".join(parts)


def fill(page: str, content: str) -> str:
    """The page with new content between its markers. Raises ValueError if a marker is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{ARCHITECTURE} needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{content}\n{END}{after}"


# Rooms


def rooms_section() -> str:
    """The graph of the rooms and the table of their sizes."""
    rooms = [path.name for path in sorted((PROJECT / "src" / PACKAGE).iterdir()) if (path / "__init__.py").is_file()]
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    arrows = {room: sorted(imported_rooms(graph, room, rooms)) for room in rooms}
    return f"{mermaid(arrows)}\n{size_table(top_to_bottom(arrows))}"


def imported_rooms(graph: grimp.ImportGraph, room: str, rooms: Sequence[str]) -> set[str]:
    """The other rooms that a room's modules import from."""
    package = f"{PACKAGE}.{room}"
    imported = {
        name.split(".")[1]
        for module in {package, *graph.find_descendants(package)}
        for name in graph.find_modules_directly_imported_by(module)
        if "." in name
    }
    return (imported & set(rooms)) - {room}


def top_to_bottom(arrows: dict[str, list[str]]) -> list[str]:
    """The rooms in topological order, importing rooms first, ties in alphabetical order.

    Raises ValueError for circular imports.
    """
    order: list[str] = []
    while remaining := [room for room in arrows if room not in order]:
        free = [room for room in remaining if not any(room in arrows[other] for other in remaining)]
        if not free:
            raise ValueError(f"The rooms {', '.join(remaining)} import each other in a circle")
        order.append(free[0])
    return order


def mermaid(arrows: dict[str, list[str]]) -> str:
    """A graph of the arrows without those implied by longer paths: a → c is omitted if there is a → b → c."""
    lines = ["```mermaid", "flowchart TD"]
    for room in top_to_bottom(arrows):
        lines += [f"    {room} --> {other}" for other in arrows[room] if not implied(arrows, room, other)]
    return "\n".join([*lines, "```", ""])


def implied(arrows: dict[str, list[str]], start: str, end: str) -> bool:
    """Whether a longer path leads from one room to the other."""
    return any(end in reachable(arrows, between) for between in arrows[start] if between != end)


def reachable(arrows: dict[str, list[str]], room: str) -> set[str]:
    return {room}.union(*(reachable(arrows, other) for other in arrows[room]))


def size_table(rooms: Sequence[str]) -> str:
    """Files and lines of each room, and its percentage of all lines.

    Lines are rounded to hundreds, so that small changes do not change the page.
    """
    files = {room: sorted((PROJECT / "src" / PACKAGE / room).rglob("*.py")) for room in rooms}
    lines = {room: sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files[room]) for room in rooms}
    total = sum(lines.values())
    rows = []
    for room in rooms:
        link, share = f"[{room}](../src/{PACKAGE}/{room})", f"{lines[room] / total:.0%}"
        rows.append(f"| {link} | {len(files[room])} | {hundreds(lines[room])} | {share} |")
    head = ["| room | files | lines | share |", "|---|---:|---:|---:|"]
    foot = f"| {len(rooms)} rooms | {sum(map(len, files.values()))} | {hundreds(total)} | 100% |"
    return "\n".join([*head, *rows, foot, ""])


def hundreds(count: int) -> str:
    return f"{round(count, -2):,}"


# Settings


def reference_page(configs: Path) -> str:
    """A page with every setting of the files in configs/."""
    parts = [
        "# Every setting",
        "This page is written by `make docs` from the commented files in [`configs/`](../configs); edit those. "
        "A setting is given on the command line as `key=value`, a choice of a group as `group=option`. "
        "*Type* comes from the signature that takes the setting.",
        "Commands: " + " · ".join(f"[{name}](#{name})" for name in COMMANDS),
        "Groups: " + " · ".join(f"[{name}](#{name})" for name in GROUPS),
    ]
    for name, command in COMMANDS.items():
        file = configs / f"{name}.yaml"
        parts += [f"## {name}", f"`{command}` composes [`configs/{file.name}`](../configs/{file.name})."]
        parts += [introduction(file), settings_table(command_settings(file))]
    for group in GROUPS:
        parts += group_parts(configs, group)
    return "\n\n".join(part for part in parts if part) + "\n"


def group_parts(configs: Path, group: str) -> Iterator[str]:
    """The headings, introductions and tables of a group and the groups within it."""
    yield f"## {group}"
    named: dict[str, list[str]] = {}
    for file in sorted((configs / group).rglob("*.yaml")):
        folder = file.parent.relative_to(configs).as_posix()
        listed = next((name for name in NAMES_ONLY if f"{folder}/".startswith(f"{name}/")), None)
        if listed is not None:
            named.setdefault(listed, []).append(file.relative_to(configs / listed).with_suffix("").as_posix())
            continue
        path = file.relative_to(configs).as_posix()
        yield f"### {folder}={file.stem}"
        yield introduction(file) or f"[`configs/{path}`](../configs/{path})"
        yield settings_table(option_settings(file, folder))
    for name, options in named.items():
        yield f"[`configs/{name}/`](../configs/{name}) has {', '.join(f'`{option}`' for option in options)}."


def introduction(file: Path) -> str:
    """The comment at the top of a file."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return escape(" ".join(lines))


def command_settings(file: Path) -> list[Setting]:
    """The settings of a command's own file."""
    settings = []
    for setting in read_settings(file):
        section, _, key = setting.key.partition(".")
        if section == "defaults" or (section == "hydra" and key.split(".")[0] in HYDRA_SETTINGS):
            continue
        kind = SECTIONS_OF.get(file.stem, {}).get(section)
        if not key:
            kind, key = REQUESTS.get(file.stem), section
        elif section == "paths" and file.stem in REQUESTS:
            kind = PathOverrides
        settings.append(replace(setting, rule=rules_of(kind).get(key, "")))
    return settings


def option_settings(file: Path, group: str) -> list[Setting]:
    """The settings of an option of a group, with their section, the class of `_target_` first.

    One that only changes a default of another option has the type and meaning that it has there.
    """
    settings = read_settings(file)
    text = file.read_text(encoding="utf-8")
    base = inherited_settings(file, group)
    package = re.search(r"^# @package (\S+)", text, re.MULTILINE)
    prefix = "" if package and package[1] == "_global_" else f"{group.replace('/', '.')}."
    targets = {key.key.rpartition("_target_")[0]: key.default for key in settings if key.key.endswith("_target_")}
    described = []
    for setting in settings:
        section, _, name = setting.key.rpartition(".")
        if section.split(".")[0] in ("defaults", "hydra") or setting.key == "defaults":
            continue
        target = targets.get(f"{section}." if section else "")
        kind = import_target(target) if target else SECTIONS.get(section or group)
        rule = "class" if name == "_target_" else rules_of(kind).get(name, "")
        changed = base.get(f"{prefix}{setting.key}", setting)
        comment = setting.comment or changed.comment
        described.append(replace(setting, key=f"{prefix}{setting.key}", rule=rule or changed.rule, comment=comment))
    return described


def inherited_settings(file: Path, group: str) -> dict[str, Setting]:
    """The settings of the options that an option starts from, by key."""
    settings: dict[str, Setting] = {}
    for name in yaml.safe_load(file.read_text(encoding="utf-8")).get("defaults", []):
        if isinstance(name, str) and name != "_self_":
            base = file.with_stem(name)
            settings |= inherited_settings(base, group)
            settings |= {setting.key: setting for setting in option_settings(base, group)}
    return settings


def import_target(name: str) -> Any:
    """The object named by a `_target_`; None if it belongs to a package that may not be installed."""
    module, _, attribute = name.rpartition(".")
    if not module.startswith((PACKAGE, "hydra_plugins.newsreel")):
        return None
    return getattr(import_module(module), attribute)


def read_settings(file: Path) -> list[Setting]:
    """The scalars and lists of a YAML file, with the key for the command line and the comment of each."""
    text = file.read_text(encoding="utf-8")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return list(walk(node, "", text.splitlines())) if isinstance(node, yaml.MappingNode) else []


def walk(node: yaml.MappingNode, prefix: str, lines: Sequence[str]) -> Iterator[Setting]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from walk(value, f"{name}.", lines)
            continue
        first, last = value.start_mark, value.end_mark
        is_block = getattr(value, "flow_style", None) is False or getattr(value, "style", None) in ("|", ">")
        is_inline = first.line == last.line and not is_block
        default = lines[first.line][first.column : last.column] if is_inline else "…"
        comment = comment_of(lines, key.start_mark.line, lines[last.line][last.column :] if is_inline else "")
        yield Setting(name, default, comment)


def comment_of(lines: Sequence[str], line: int, rest: str) -> str:
    """The comment after a value, continued on the lines below that have only a comment; else the one above its key."""
    indent = lines[line][: len(lines[line]) - len(lines[line].lstrip())]
    if rest.strip().startswith("#"):
        comments = [rest]
        for below in lines[line + 1 :]:
            if not re.match(rf"{indent}\s{{4,}}#", below):  # a comment with less indentation belongs to the next key
                break
            comments.append(below)
        return " ".join(comment.strip().removeprefix("#").strip() for comment in comments)
    first = line
    while first and lines[first - 1].startswith(f"{indent}#"):
        first -= 1
    above = lines[first:line] if first else []  # the comment at the top of the file is its introduction
    return " ".join(comment.strip().removeprefix("#").strip() for comment in above)


def settings_table(settings: Sequence[Setting]) -> str:
    if not settings:
        return ""
    rows = [
        f"| `{setting.key}` | {escape(setting.rule)} | {code(setting.default)} | {escape(setting.comment)} |"
        for setting in settings
    ]
    return "\n".join(["| setting | type | default | meaning |", "|---|---|---|---|", *rows])


def escape(text: str) -> str:
    """Text for a cell of a Markdown table; text in backticks is not escaped."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def code(text: str) -> str:
    """A value for a cell of a Markdown table."""
    return "`{}`".format(text.replace("|", "\\|")) if text else ""


# Types and ranges


def rules_of(kind: Any) -> dict[str, str]:
    """The type and range of each keyword-only parameter of a class."""
    if kind is None:
        return {}
    hints = get_type_hints(kind.__init__, include_extras=True)
    keywords = [name for name, p in signature(kind).parameters.items() if p.kind is Parameter.KEYWORD_ONLY]
    return {name: describe(hints[name]) for name in keywords if name in hints}


def describe(kind: Any) -> str:
    """A type annotation in words: `int ≥ 1 or null`."""
    if get_origin(kind) is Annotated:
        base, *marks = get_args(kind)
        return f"{describe(base)} {' and '.join(bounds(marks))}".rstrip()
    if get_origin(kind) in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not types.NoneType]
        null = ["null"] if types.NoneType in get_args(kind) else []
        return " or ".join([*map(describe, options), *null])
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if get_args(kind):
        return f"list of {describe(get_args(kind)[0])}"
    return str(getattr(kind, "__name__", kind))


def bounds(marks: Sequence[Any]) -> list[str]:
    """The bounds of a number in the metadata of its annotation, from annotated_types or pydantic."""
    signs = {"min": "≥", "ge": "≥", "above": ">", "gt": ">", "max": "≤", "le": "≤", "below": "<", "lt": "<"}
    texts = []
    for mark in marks:
        if nested := getattr(mark, "metadata", None):
            texts += bounds(nested)
            continue
        limits = {name: getattr(mark, name, None) for name in signs}
        texts += [f"{signs[name]} {limit:,}" for name, limit in limits.items() if isinstance(limit, int | float)]
    return texts


if __name__ == "__main__":
    main()
