"""Where the choices of a group of settings are listed."""

import re

import pytest

from helpers.project import CONFIGS, PROJECT

GROUPS = ("data", "tokenizer", "embedding", "model", "trainer", "logger", "debug")


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_is_listed_in_the_comments_of_the_configs_and_in_the_docs(group: str) -> None:
    files = {file.stem for file in (CONFIGS / group).glob("*.yaml")}
    comments = [(CONFIGS / f"{name}.yaml").read_text() for name in ("train", "pretrain")]
    lines = "\n".join(re.findall(rf"^  - {group}: .*", "\n".join(comments), re.MULTILINE))
    endings = [(name, end) for name, ends in re.findall(r"(\w+)\[([\w|]+)\]", lines) for end in ends.split("|")]
    assert files - set(re.findall(r"\w+", lines)) - {name + end for name, end in endings} == set()
    pages = "".join((PROJECT / "docs" / page).read_text() for page in ("quickstart.md", "language_model.md"))
    assert files - set(re.findall(r"`(?:\w+=)?(\w+)`", pages)) == set()
