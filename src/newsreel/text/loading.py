"""Loads the tokenizers of finished runs."""

import json
from pathlib import Path
from zipfile import BadZipFile

from newsreel.core.errors import UserError
from newsreel.text.character_ngrams import FittedCharacterNgrams
from newsreel.text.characters import FittedCharacters
from newsreel.text.ngrams import FittedNgrams
from newsreel.text.subwords import FittedSubwords
from newsreel.text.tokens import TOKENIZER_FILE, FittedTokenizer
from newsreel.text.words import FittedWords

KINDS: dict[str, type[FittedTokenizer]] = {
    "words": FittedWords,
    "ngrams": FittedNgrams,
    "subwords": FittedSubwords,
    "characters": FittedCharacters,
    "character_ngrams": FittedCharacterNgrams,
}


def load_tokenizer(folder: Path) -> FittedTokenizer:
    """The tokenizer of a run directory. Raises UserError if its tokenizer.json is missing or invalid."""
    file = folder / TOKENIZER_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return KINDS[content["kind"]].restore(content, folder)
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise UserError(f"{file} is not the tokenizer of a run: {type(error).__name__}: {error}") from error
