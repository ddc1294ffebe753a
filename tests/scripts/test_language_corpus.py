"""The corpus for language identification, from a wheel made here."""

import csv
from pathlib import Path
from zipfile import ZipFile

import pytest

import make_language_corpus
from helpers.project import Command

CATALOGUE = r"""
msgid ""
msgstr "Language: {code}\n"

#: forms.py
msgid "Enter a valid email address, please."
msgstr ""
"{word} quatre cinq "
"six \"sept\" huit."

#, python-format
msgid "There are %(number)s results on this page."
msgstr "{word} il y a %(number)s pages ici."

#, fuzzy
msgid "This one is of doubtful quality."
msgstr "{word} ceci est vraiment bien douteux."

msgid "Too short."
msgstr "{word} court."

msgid "Left in English by the translators."
msgstr "Left in English by the translators."

msgid "First of two. This is the second of them."
msgstr "Un seul. {word} est le deux de deux."
"""


def make_wheel(path: Path, codes: list[str]) -> Path:
    with ZipFile(path, "w") as archive:
        for code in codes:
            content = CATALOGUE.replace("{code}", code).replace("{word}", f"{code}mot")
            archive.writestr(f"package/app/locale/{code}/LC_MESSAGES/django.po", content)
        archive.writestr("package/app/locale/xx/LC_MESSAGES/django.po", CATALOGUE)
    return path


def test_sentences_of_every_language_are_collected_and_messages_stay_in_one_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = [code for code in make_language_corpus.LANGUAGES if code != "pt"]
    wheel = make_wheel(tmp_path / "a.whl", [*codes, "pt_BR"])
    monkeypatch.setattr(make_language_corpus, "is_test", lambda message: "second" in message)
    rows = make_language_corpus.collect([wheel])
    assert [row for row in rows["train"] if row[1] in ("English", "French", "Portuguese")] == [
        ("Enter a valid email address, please.", "English"),
        ("Left in English by the translators.", "English"),
        ('frmot quatre cinq six "sept" huit.', "French"),
        ('pt_BRmot quatre cinq six "sept" huit.', "Portuguese"),
    ]
    assert [row for row in rows["test"] if row[1] in ("English", "French")] == [
        ("This is the second of them.", "English"),
        ("frmot est le deux de deux.", "French"),
    ]
    assert len(rows["test"]) == len(make_language_corpus.LANGUAGES)


def test_the_command_writes_two_files(command_here: Command, tmp_path: Path) -> None:
    make_wheel(tmp_path / "a.whl", list(make_language_corpus.LANGUAGES))
    done = command_here("scripts/make_language_corpus.py", "--wheels", "a.whl", "--output", "made/languages")
    assert done.returncode == 0, done.stderr
    files = [tmp_path / "made" / "languages" / name for name in ("train.csv", "test.csv")]
    rows = [list(csv.DictReader(file.open(encoding="utf-8", newline=""))) for file in files]
    assert f"made/languages: {len(rows[0])} train, {len(rows[1])} test sentences in 15 languages" in done.stdout
    assert ('frmot quatre cinq six "sept" huit.', "French") in {tuple(row.values()) for row in rows[0] + rows[1]}


def test_about_a_third_of_the_messages_are_for_the_test() -> None:
    assert 250 < sum(make_language_corpus.is_test(f"message {number}") for number in range(1000)) < 350


def test_other_files_are_refused(command_here: Command, tmp_path: Path) -> None:
    make_wheel(tmp_path / "fr.whl", ["fr"])
    done = command_here("scripts/make_language_corpus.py", "--wheels", "fr.whl")
    assert done.returncode == 2
    assert "error: fr.whl: no messages in Czech, Dutch, English" in done.stderr
    (tmp_path / "text.whl").write_text("no zip")
    assert "text.whl is not a wheel" in command_here("scripts/make_language_corpus.py", "--wheels", "text.whl").stderr
