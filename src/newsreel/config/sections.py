"""Checks single sections of a composed config against the classes they configure, without importing torch.

The settings of a section are the keyword-only parameters of the class it configures: their names are the keys, their
annotations the types, ranges and choices. Values determined by the data are positional parameters, not settings.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from inspect import Parameter, isabstract, signature
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from newsreel.core.errors import UserError, suggest
from newsreel.corpora.corpus import CorpusReader

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Settings = dict[str, Any]
TYPES = {
    "integer": "a whole number",
    "number": "a finite number",
    "boolean": "true or false",
    "string": "a text",
    "array": "a list, such as [16,16]",
    "object": "a section of settings",
}
ROOMS = {  # section → the package with the classes that its `_target_` may name
    "data": "corpora",
    "tokenizer": "text",
    "embedding": "embeddings",
    "model": "models",
    "logger": "config",
}
MAX_SHOWN = 500  # characters of a value in a message
MAX_PROBLEMS = 50
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def find_target(name: str, section: Settings, kind: type, problems: list[str]) -> type | None:
    """The class named by a section's `_target_`. If it is invalid, appends to `problems` and returns None."""
    target = section.get("_target_")
    room = ROOMS[name]
    match = re.fullmatch(rf"(newsreel\.{room}\.\w+)\.(\w+)", target, re.ASCII) if isinstance(target, str) else None
    if match is None:
        problems.append(
            f"{name}._target_ is {target!r}: it must name a class of newsreel, as newsreel.{room}.module.Class. Other "
            "modules are not imported, so that a config or run directory from elsewhere runs no code of its own"
        )
        return None
    try:
        imported: type = getattr(import_module(match[1]), match[2])
    except (ImportError, AttributeError) as error:
        problems.append(f"{name}._target_ is {target}, which cannot be imported: {error}")
        return None
    is_kind = isinstance(imported, type) and issubclass(imported, kind)
    if not is_kind or imported is kind or isabstract(imported):
        problems.append(f"{name}._target_ is {target}, which is not a {kind.__name__} that can be used")
        return None
    return imported


def classes_of(
    config: Settings, kinds: Mapping[str, type], problems: list[str]
) -> Iterator[tuple[str, Settings, type]]:
    """Name, content and class of each section that is there.

    kinds: the class of each section, in those of ROOMS the base class of what `_target_` names. Sections with an
    invalid `_target_` are left out, and named in `problems` as they are reached.
    """
    for name, kind in kinds.items():
        section = config.get(name)
        if not isinstance(section, dict):
            continue
        target = find_target(name, section, kind, problems) if name in ROOMS else kind
        if target is not None:
            yield name, section, target


def constructor_arguments(section: Settings) -> Settings:
    """The settings of a section for the class that its `_target_` names."""
    return {key: value for key, value in section.items() if key != "_target_"}


def check_section(name: str, section: Settings, target: Callable[..., Any]) -> list[str]:
    """Problems of one section: unknown keys, missing keys and invalid values.

    name: of the section; empty for keys at the top level.
    """
    values = constructor_arguments(section)
    others = {each.name for each in parameters_of(target) if each.kind is not Parameter.KEYWORD_ONLY}
    misplaced = [
        f"{name}.{key} cannot be set: {key} is a positional parameter of {target.__qualname__}, and settings are "
        "keyword-only, after a * in its signature"
        for key in values
        if key in others
    ]
    settings = {key: value for key, value in values.items() if key not in others}
    return [*misplaced, *find_problems(settings, model_of(target), f"{name}." if name else "")]


@cache
def parameters_of(target: Callable[..., Any]) -> list[Parameter]:
    return list(signature(target).parameters.values())


@cache
def model_of(target: Callable[..., Any]) -> type[BaseModel]:
    """A model of the keyword-only parameters of a target.

    Those with a default may be missing: run directories of older versions lack them.
    """
    parameters = [each for each in parameters_of(target) if each.kind is Parameter.KEYWORD_ONLY]
    for each in parameters:
        if each.annotation is Parameter.empty:
            raise UserError(
                f"The setting {each.name} of {target.__module__}.{target.__qualname__} has no type: annotate it with "
                f"what is allowed, such as {each.name}: Annotated[int, Ge(1)]"
            )
    defaults = {each.name: each.default for each in parameters if each.default is not Parameter.empty}
    return strict_model({each.name: each.annotation for each in parameters}, defaults)


def strict_model(kinds: dict[str, Any], defaults: dict[str, Any] | None = None) -> type[BaseModel]:
    """A model with exactly these keys, and these types without conversion; keys with a default may be missing."""
    rules = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    fields: dict[str, Any] = {key: (kind, (defaults or {}).get(key, ...)) for key, kind in kinds.items()}
    return create_model("Settings", __config__=rules, **fields)


def find_problems(values: Settings, model: type[BaseModel], prefix: str) -> list[str]:
    """One sentence for each error of a model's validation."""
    values = {str(key): value for key, value in values.items()}
    try:
        model.model_validate(values)
    except ValidationError as error:
        schemas = model.model_json_schema()["properties"]
        problems = error.errors(include_url=False)
        sentences = [describe(details, values, schemas, prefix) for details in problems[:MAX_PROBLEMS]]
        more = [f"… and {len(problems) - MAX_PROBLEMS:,} more problems"] if len(problems) > MAX_PROBLEMS else []
        return list(dict.fromkeys([*sentences, *more]))
    return []


def describe(error: "ErrorDetails", values: Settings, schemas: Settings, prefix: str) -> str:
    """A message for one of pydantic's errors. schemas: the JSON schema of each key, with its type and range."""
    key, location = str(error["loc"][0]), error["loc"][1:]
    setting = f"{prefix}{key}"
    if setting == "_target_":
        return (
            "_target_ stands outside every section: a file that begins with `# @package _global_` has its settings in "
            "a section, such as model:"
        )
    if error["type"] == "extra_forbidden":
        return f"{setting} is not a setting{suggest(key, list(schemas), prefix)}"
    if error["type"] == "missing":
        where = f": the chosen file in configs/{prefix[:-1]} has to give it" if prefix[:-1] in ROOMS else ""
        return f"{setting} is missing{where}"
    options = schemas[key].get("anyOf", [schemas[key]])
    kinds = [option for option in options if option["type"] != "null"]
    null = ", or null" if len(kinds) < len(options) else ""
    item = ""
    if location and len(kinds) == 1:  # within a list
        kinds, null, item = [kinds[0]["items"]], "", f"its item {show(error['input'])}: "
    out_of_range = error["type"].startswith(("greater_than", "less_than", "too_"))
    allowed = " or ".join(allowed_by(kind, out_of_range) for kind in kinds)
    choices = [choice for kind in kinds for choice in kind.get("enum", [])]
    matches = get_close_matches(str(error["input"]), choices, n=1)
    hint = f"; did you mean {matches[0]}?" if matches else ""
    return f"{setting} is {show(values[key])}: {item}it must be {allowed}{null}{hint}"


def allowed_by(schema: Settings, out_of_range: bool) -> str:
    """What the JSON schema of a value allows: its range if the value is out of range, else its type."""
    if out_of_range and "maxItems" in schema:
        return f"a list of {schema.get('minItems', 0)} to {schema['maxItems']} items"
    if out_of_range:
        return " and ".join(f"{word} {schema[bound]}" for bound, word in BOUNDS.items() if bound in schema)
    if "const" in schema:
        return str(schema["const"])
    return f"one of {', '.join(schema['enum'])}" if "enum" in schema else TYPES[schema["type"]]


def show(value: Any) -> str:
    """A value in the form that it has in a config; a long one is cut."""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, (bool, list)) or value is None else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} …"


def read_reader(data: Settings, problems: list[str]) -> CorpusReader | None:
    """The reader of the corpus in the section `data`; None if it is empty or invalid, which is added to `problems`."""
    target = find_target("data", data, CorpusReader, problems) if data else None
    if target is None:
        return None
    if data_problems := check_section("data", data, target):
        problems += data_problems
        return None
    reader: CorpusReader = target(**{name: value for name, value in data.items() if name != "_target_"})
    return reader
