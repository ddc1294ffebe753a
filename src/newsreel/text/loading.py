"""Loads the tokenizers of finished runs."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

from polars.exceptions import PolarsError

from newsreel.core.errors import UserError
from newsreel.core.json_files import parse_json, read_json_bytes
from newsreel.text.character_ngrams import FittedCharacterNgrams
from newsreel.text.characters import FittedCharacters
from newsreel.text.ngrams import FittedNgrams
from newsreel.text.subwords import FittedSubwords
from newsreel.text.tokens import TOKENIZER_FILE, FittedTokenizer
from newsreel.text.words import FittedWords

PROBE = "A word, 1 🙂 and <br /> &amp; 好"


@dataclass(frozen=True)
class Saved:
    """What every tokenizer.json has."""

    kind: str


KINDS: dict[str, type[FittedTokenizer]] = {
    "words": FittedWords,
    "ngrams": FittedNgrams,
    "subwords": FittedSubwords,
    "characters": FittedCharacters,
    "character_ngrams": FittedCharacterNgrams,
}


def require_known(tokenizer: FittedTokenizer) -> None:
    """Raise UserError if no run that is trained with the tokenizer could be opened."""
    if type(tokenizer) not in KINDS.values():
        raise UserError(
            f"{type(tokenizer).__name__} is not in KINDS in {__file__}, where runs find the class of their tokenizer: "
            "add it, under the `kind` that its to_json writes."
        )


def load_tokenizer(folder: Path) -> FittedTokenizer:
    """The tokenizer of a run directory. Raises UserError if its tokenizer.json is missing or invalid."""
    file = folder / TOKENIZER_FILE
    try:
        content = read_json_bytes(file)
        saved = parse_json(content, Saved)
        if saved.kind not in KINDS:
            raise ValueError(f"kind is {saved.kind!r}, and must be one of {', '.join(KINDS)}")
        tokenizer = KINDS[saved.kind].restore(content, folder)
        tokenizer.encode([PROBE])  # a pattern or a model that cannot be used
    except UserError:
        raise
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, PolarsError) as error:
        raise UserError(f"{file} is not the tokenizer of a run: {type(error).__name__}: {error}") from error
    return tokenizer
