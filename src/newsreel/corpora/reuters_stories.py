"""Parsers for the stories of Reuters-21578: the SGML files, the Hub's table and the registry's JSON.

A story's text is its title and its body; for stories that the collection does not divide into these (TYPE="UNPROC"),
everything. `story_text` makes the texts of all sources the same.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from newsreel.core.errors import UserError
from newsreel.files.labels import cut

MODAPTE = Path(__file__).with_name("reuters_modapte.txt")
SPLITS = {"TRAIN": "train", "TEST": "test", "NOT-USED": "unused"}

REFERENCE = re.compile(r"&(?:#(\d+)|(lt|gt|amp));")
CHARACTERS = {"lt": "<", "gt": ">", "amp": "&"}
# Control codes of the newswire. The stories are ASCII except for one byte among such codes (0xFC in story 17980).
NOISE = re.compile(r"[^\t\n\x20-\x7e]+")
SIGN_OFF = re.compile(r"\breuter\.*(?:\^M)?\Z", re.IGNORECASE)

# Every pattern takes time in proportion to the text, whatever it is: where one may match, none begins within another.
RECORD = re.compile(r"<REUTERS\b")
ATTRIBUTE = re.compile(r'\b(\w+)="([^"]*)"')
TEXT_TAG = re.compile(r'<TEXT(?:\s+TYPE="(\w+)")?>')
MAX_ID_DIGITS = 9

# The Hub's conversion uses OLDID in place of NEWID for the four stories with the attribute CSECS.
HUB_NEW_IDS = {"16316": 996, "16364": 1045, "16519": 1199, "5045": 15370}


class Story(NamedTuple):
    """One document of the collection."""

    id: int  # NEWID: 1 … 21578
    split: str  # in the ModApte split: train | test | unused
    topics: list[str]  # in the order of the collection; a topic can occur twice
    text: str
    unprocessed: bool  # TYPE="UNPROC"; some sources lack the texts of such stories


def story_text(title: str, body: str) -> str:
    """Title and body in a canonical form: ASCII, no trailing spaces, without the agency's sign-off ("Reuter").

    Control codes become a space; the title is one line.
    """
    lines = NOISE.sub(" ", body.replace("\r\n", "\n")).split("\n")
    body = "\n".join(line.rstrip() for line in lines).strip()
    title = " ".join(NOISE.sub(" ", title).split())
    text = f"{title}\n{body}".strip()
    sign_off = SIGN_OFF.search(text)
    return text if sign_off is None else text[: sign_off.start()].rstrip()


def dereferenced(markup: str) -> str:
    """Text of the SGML files with character references resolved; those beyond ASCII become a space."""

    def character(reference: re.Match[str]) -> str:
        number, name = reference.groups()
        if name:
            return CHARACTERS[name]
        return chr(int(number)) if len(number) < 4 and int(number) < 128 else " "

    return REFERENCE.sub(character, markup)


def sgml_stories(content: str, file: str) -> Iterator[Story]:
    """The stories of one SGML file. Raises UserError with the file and line of an incomplete record."""
    starts = [match.start() for match in RECORD.finditer(content)]
    if not starts:
        raise UserError(f"{file} has no <REUTERS …>, which begins a story.\nDownload the collection again.")
    for start, end in zip(starts, [*starts[1:], len(content)], strict=True):
        try:
            yield sgml_story(content[start:end])
        except ValueError as error:
            line = content.count("\n", 0, start) + 1
            raise UserError(
                f"{file}, line {line}: the story {error}.\nDownload the collection again, or correct this file."
            ) from error


def sgml_story(record: str) -> Story:
    """The story of a record, <REUTERS …> to </REUTERS>. Raises ValueError whose message continues "the story"."""
    tag, closed, _ = record.partition(">")
    attributes = dict(ATTRIBUTE.findall(tag))
    if not closed or "</REUTERS>" not in record:
        raise ValueError("has no </REUTERS>")
    for name in ("NEWID", "LEWISSPLIT", "TOPICS"):
        if name not in attributes:
            raise ValueError(f"has no {name}")
    if not attributes["NEWID"].isdecimal() or len(attributes["NEWID"]) > MAX_ID_DIGITS:
        raise ValueError(f'has NEWID="{cut(attributes["NEWID"])}", which is not a number of a story')
    if attributes["LEWISSPLIT"] not in SPLITS:
        raise ValueError(f'has LEWISSPLIT="{cut(attributes["LEWISSPLIT"])}" instead of {", ".join(SPLITS)}')
    tag_of_text, end = TEXT_TAG.search(record), record.rfind("</TEXT>")
    if tag_of_text is None or end < tag_of_text.end():
        raise ValueError("has no <TEXT> … </TEXT>")
    markup = record[tag_of_text.end() : end]
    unprocessed = tag_of_text[1] == "UNPROC"
    title = "" if unprocessed else element(markup, "TITLE")
    body = markup if unprocessed else element(markup, "BODY")
    return Story(
        id=int(attributes["NEWID"]),
        split=SPLITS[attributes["LEWISSPLIT"]] if attributes["TOPICS"] == "YES" else "unused",
        topics=topics_of(record),
        text=story_text(dereferenced(title), dereferenced(body)),
        unprocessed=unprocessed,
    )


def element(markup: str, name: str) -> str:
    """The content of the first element of this name, up to the end of the text if it has no end tag; or empty."""
    return markup.partition(f"<{name}>")[2].partition(f"</{name}>")[0]


def topics_of(record: str) -> list[str]:
    """The topics of a record, in order."""
    topics, closed, _ = record.partition("<TOPICS>")[2].partition("</TOPICS>")
    pieces = [piece.partition("</D>") for piece in topics.split("<D>")[1:]] if closed else []
    return [topic for topic, has_end, _ in pieces if has_end]


def json_stories(records: Iterable[dict[str, Any]]) -> Iterator[Story]:
    """The stories of the registry's JSON. Records omit missing fields; UNPROC stories have no text.

    Raises KeyError, TypeError or ValueError for an invalid record.
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
    """The stories of the Hub's rows, whose texts and quoted ids are those of the SGML files.

    Raises KeyError, TypeError or ValueError for an invalid row.
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
    """The ModApte split (train or test) of each story in it, by id; for sources without the attribute."""
    split = {}
    for line in MODAPTE.read_text(encoding="ascii").splitlines():
        name, *ranges = line.split()
        for ids in ranges if name in SPLITS.values() else []:
            first, _, last = ids.partition("-")
            split.update(dict.fromkeys(range(int(first), int(last or first) + 1), name))
    return split
