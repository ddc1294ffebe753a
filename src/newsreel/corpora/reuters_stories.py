"""The stories of Reuters-21578, read alike from the SGML files, the Hub's table and the registry's JSON.

A story's text is its title and its body. Where the collection did not take a story apart (TYPE="UNPROC"), it is all
there is. The same text comes from every source, because all go through `story_text`.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from newsreel.core.errors import UserError

MODAPTE = Path(__file__).with_name("reuters_modapte.txt")
SPLITS = {"TRAIN": "train", "TEST": "test", "NOT-USED": "unused"}

REFERENCE = re.compile(r"&(?:#(\d+)|(lt|gt|amp));")
CHARACTERS = {"lt": "<", "gt": ">", "amp": "&"}
# The wire's control codes. The stories are ASCII but for one byte among such codes (0xFC in story 17980).
NOISE = re.compile(r"[^\t\n\x20-\x7e]+")
SIGN_OFF = re.compile(r"\s*\breuter\.*(?:\^M)?\Z", re.IGNORECASE)

RECORD = re.compile(r"<REUTERS\b")
ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
TOPICS = re.compile(r"<TOPICS>(.*?)</TOPICS>", re.DOTALL)
TOPIC = re.compile(r"<D>(.*?)</D>")
TEXT = re.compile(r'<TEXT(?:\s+TYPE="(\w+)")?>(.*)</TEXT>', re.DOTALL)
TITLE = re.compile(r"<TITLE>(.*?)(?:</TITLE>|\Z)", re.DOTALL)
BODY = re.compile(r"<BODY>(.*?)(?:</BODY>|\Z)", re.DOTALL)

# The Hub's conversion took OLDID for NEWID in the four stories that have the attribute CSECS.
HUB_NEW_IDS = {"16316": 996, "16364": 1045, "16519": 1199, "5045": 15370}


class Story(NamedTuple):
    """One document of the collection."""

    id: int  # NEWID: 1 … 21578
    split: str  # where the ModApte split has it: train | test | unused
    topics: list[str]  # in the order of the collection, which may name one twice
    text: str
    unprocessed: bool  # TYPE="UNPROC"; a source may not have the text of such a story


def story_text(title: str, body: str) -> str:
    """Title and body in one form: ASCII, no blanks at the ends of lines, without the agency's sign-off ("Reuter").

    Control codes become a space, a title stands in one line.
    """
    lines = NOISE.sub(" ", body.replace("\r\n", "\n")).split("\n")
    body = "\n".join(line.rstrip() for line in lines).strip()
    title = " ".join(NOISE.sub(" ", title).split())
    return SIGN_OFF.sub("", f"{title}\n{body}".strip())


def dereferenced(markup: str) -> str:
    """Text of the SGML files with its references resolved, those to characters beyond ASCII to a space."""

    def character(reference: re.Match[str]) -> str:
        number, name = reference.groups()
        if name:
            return CHARACTERS[name]
        return chr(int(number)) if len(number) < 4 and int(number) < 128 else " "

    return REFERENCE.sub(character, markup)


def sgml_stories(content: str, file: str) -> Iterator[Story]:
    """The stories of one SGML file. Raises UserError naming the file and the line of a record that is not whole."""
    starts = [match.start() for match in RECORD.finditer(content)]
    for start, end in zip(starts, [*starts[1:], len(content)], strict=True):
        try:
            yield sgml_story(content[start:end])
        except ValueError as error:
            line = content.count("\n", 0, start) + 1
            raise UserError(
                f"{file}, line {line}: the story {error}.\nGet the collection again, or mend that file."
            ) from error


def sgml_story(record: str) -> Story:
    """The story of a record from <REUTERS …> to </REUTERS>. Raises ValueError in words that follow "the story"."""
    tag, closed, _ = record.partition(">")
    attributes = dict(ATTRIBUTE.findall(tag))
    if not closed or "</REUTERS>" not in record:
        raise ValueError("has no </REUTERS>")
    for name in ("NEWID", "LEWISSPLIT", "TOPICS"):
        if name not in attributes:
            raise ValueError(f"has no {name}")
    if not attributes["NEWID"].isdecimal():
        raise ValueError(f'has NEWID="{attributes["NEWID"]}", which is not a number')
    if attributes["LEWISSPLIT"] not in SPLITS:
        raise ValueError(f'has LEWISSPLIT="{attributes["LEWISSPLIT"]}" instead of {", ".join(SPLITS)}')
    if not (text := TEXT.search(record)):
        raise ValueError("has no <TEXT> … </TEXT>")
    kind, markup = text.groups()
    unprocessed = kind == "UNPROC"
    title = "" if unprocessed else first_group(TITLE, markup)
    body = markup if unprocessed else first_group(BODY, markup)
    return Story(
        id=int(attributes["NEWID"]),
        split=SPLITS[attributes["LEWISSPLIT"]] if attributes["TOPICS"] == "YES" else "unused",
        topics=TOPIC.findall(first_group(TOPICS, record)),
        text=story_text(dereferenced(title), dereferenced(body)),
        unprocessed=unprocessed,
    )


def first_group(pattern: re.Pattern[str], text: str) -> str:
    """What the pattern's group matches first, or an empty text."""
    match = pattern.search(text)
    return match.group(1) if match else ""


def json_stories(records: Iterable[dict[str, Any]]) -> Iterator[Story]:
    """The stories of the registry's JSON. What is missing is left out of a record; UNPROC stories have no text.

    Raises KeyError, TypeError or ValueError for a record of another form.
    """
    for record in records:
        story_id = int(record["id"])
        yield Story(
            id=story_id,
            split=modapte_split().get(story_id, "unused"),
            topics=list(record.get("topics", [])),
            text=story_text(record.get("title", ""), record.get("body", "")),
            unprocessed=not record.keys() & {"title", "body"},
        )


def hub_stories(rows: Iterable[dict[str, Any]]) -> Iterator[Story]:
    """The stories of the Hub's rows, whose texts and quoted ids are as they stand in the SGML files.

    Raises KeyError, TypeError or ValueError for a row of another form.
    """
    for row in rows:
        new_id = row["new_id"].strip('"')
        story_id = int(new_id) if row["new_id"].endswith('"') else HUB_NEW_IDS[new_id]
        yield Story(
            id=story_id,
            split=modapte_split().get(story_id, "unused"),
            topics=list(row["topics"]),
            text=story_text(dereferenced(row["title"]), dereferenced(row["text"])),
            unprocessed="UNPROC" in row["text_type"],
        )


@cache
def modapte_split() -> dict[int, str]:
    """The ModApte split, train or test, of the stories that it has, by id; for sources without its attributes."""
    split = {}
    for line in MODAPTE.read_text(encoding="ascii").splitlines():
        name, *ranges = line.split()
        for ids in ranges if name in SPLITS.values() else []:
            first, _, last = ids.partition("-")
            split.update(dict.fromkeys(range(int(first), int(last or first) + 1), name))
    return split
