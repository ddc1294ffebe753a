"""Output on terminals and in files whose encoding lacks some characters."""

import codecs
import io
import sys
from contextlib import suppress

PLAIN = {"─": "-", "…": "...", "·": ".", "×": "x", "±": "+-", "–": "-", "—": "-", "²": "2"}
ERRORS = "newsreel.plain"  # name of the error handler


def plain_characters(error: UnicodeError) -> tuple[str, int]:
    r"""Replace what an encoding lacks by similar characters of ASCII, or else by `\u…`; an error handler of codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    plain = [PLAIN.get(each) or each.encode("ascii", "backslashreplace").decode("ascii") for each in characters]
    return "".join(plain), error.end


codecs.register_error(ERRORS, plain_characters)


def print_every_character() -> None:
    """Let stdout and stderr print characters that their encoding lacks as plain ones, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # a file whose descriptor now is a pipe cannot be reconfigured
                stream.reconfigure(errors=ERRORS)
