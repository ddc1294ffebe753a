"""JSON files whose content is checked against a type, since they may come from elsewhere."""

from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from newsreel.core.errors import UserError

T = TypeVar("T")
MAX_JSON_BYTES = 2**26  # strings in memory take up to 12 times as much


def read_json(file: Path, kind: type[T]) -> T:
    """The content of a file as a dataclass, TypedDict or plain type, without conversion of types.

    Raises FileNotFoundError, and UserError for any other content.
    """
    try:
        return parse_json(read_json_bytes(file), kind)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not as a run has written it: {error}") from error


def read_json_bytes(file: Path) -> bytes:
    """The content of a file. Raises ValueError if it has more than MAX_JSON_BYTES, and OSError."""
    if (size := file.stat().st_size) > MAX_JSON_BYTES:
        raise ValueError(f"it has {size:,} bytes, and at most {MAX_JSON_BYTES:,} are read")
    return file.read_bytes()


def parse_json(content: bytes, kind: type[T]) -> T:
    """JSON as in `read_json`. Raises ValueError that names the first problem."""
    try:
        value: T = adapter(kind).validate_json(content, strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        more = f" (and {len(details) - 1:,} more problems)" if len(details) > 1 else ""
        where = ".".join(str(part) for part in details[0]["loc"])
        raise ValueError(f"{where and where + ': '}{details[0]['msg']}{more}") from error
    return value


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
