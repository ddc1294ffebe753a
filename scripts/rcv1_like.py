"""Write generated stories in both formats of RCV1-v2: `python scripts/rcv1_like.py <folder>`.

They serve to test the readers, and training at full size. <folder>/discs has daily zip files of NewsML XML,
<folder>/public has the token files of LYRL2004 and their topics; both have the same stories. The documents are those of
data=synthetic_rcv1, with ids on both sides of the last training id.
"""

import argparse
import gzip
import itertools
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from tqdm import tqdm

from newsreel.corpora.rcv1 import LAST_TRAINING_ID, PUBLISHED, QRELS, TOKEN_FILES
from newsreel.corpora.rcv1_stories import closures, topics
from newsreel.corpora.synthetic import Synthetic

FIRST_DAY = date(1996, 8, 20)
STORIES_OF_A_DAY = 2_200
HEADLINE_WORDS, PARAGRAPH_WORDS, LINE_WORDS = 8, 40, 20
NUM_WORDS, VOCABULARY_SIZE = 225, 300_000  # as in configs/data/synthetic_rcv1.yaml
PACKED_FAST = 1  # compression level


class MadeUpStory(NamedTuple):
    """A story as the words of its headline and paragraphs."""

    id: int
    codes: list[str]  # of its topics and their ancestors
    lines: list[list[str]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder to create")
    parser.add_argument("--documents", type=int, default=sum(PUBLISHED.values()), help="number; default: %(default)s")
    parser.add_argument("--words", type=float, default=NUM_WORDS, help="mean per document; default: %(default)s")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY_SIZE, help="different words; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generator; default: %(default)s")
    settings = parser.parse_args(arguments)
    if settings.folder.exists():
        parser.error(f"{settings.folder} already exists: name a new folder")
    if settings.documents < 10:
        parser.error(f"--documents is {settings.documents}: it must be at least 10, so that every file has a document")
    stories = made_up_stories(settings.documents, settings.words, settings.vocabulary, settings.seed)
    try:
        with tqdm(stories, total=settings.documents, unit=" stories", disable=None) as watched:
            write(settings.folder, watched, settings.documents)
    except OSError as error:
        parser.error(f"{error.filename or settings.folder} cannot be written: {error.strerror}")


def made_up_stories(num_documents: int, mean_length: float, vocabulary_size: int, seed: int) -> Iterator[MadeUpStory]:
    """Stories in ascending order of ids. A fifth are training stories, but at most as many as in RCV1-v2."""
    generator = Synthetic(
        num_documents=num_documents,
        num_labels=len(topics().codes),
        multilabel=True,
        hierarchy="rcv1",
        difficulty=0.5,
        vocabulary_size=vocabulary_size,
        mean_length=mean_length,
        seed=seed,
        limit=None,
        train_limit=None,
        validation_fraction=0.1,
        split_seed=1,
    )
    ids = itertools.count(LAST_TRAINING_ID + 1 - num_training(num_documents))
    for batch in generator.generate(num_documents, stream=0):
        for text, labels in zip(batch["text"].to_pylist(), batch["labels"].to_pylist(), strict=True):
            words = text.split(" ")
            paragraphs = pieces(words[HEADLINE_WORDS:], PARAGRAPH_WORDS)
            codes = [topics().codes[label] for label in labels]
            yield MadeUpStory(next(ids), codes, [words[:HEADLINE_WORDS], *paragraphs])


def num_training(num_documents: int) -> int:
    return min(PUBLISHED["train"], num_documents // 5)


def pieces(words: list[str], size: int) -> list[list[str]]:
    return [words[start : start + size] for start in range(0, len(words), size)]


def write(folder: Path, stories: Iterable[MadeUpStory], num_documents: int) -> None:
    """Write the stories to `<folder>/discs` and `<folder>/public`, one day at a time."""
    discs, public = folder / "discs", folder / "public"
    discs.mkdir(parents=True)
    public.mkdir()
    stories = iter(stories)
    num_test = num_documents - num_training(num_documents)
    sizes = [num_training(num_documents), *(len(range(part, num_test, 4)) for part in range(4))]
    days = (FIRST_DAY + timedelta(days=number) for number in itertools.count())
    with ExitStack() as open_files, packed(public / f"{QRELS}.gz") as qrels:
        for name, size in zip(TOKEN_FILES, sizes, strict=True):
            tokens = open_files.enter_context(packed(public / f"{name}.gz"))
            stories_of_file = itertools.islice(stories, size)
            while day := list(itertools.islice(stories_of_file, STORIES_OF_A_DAY)):
                write_day(discs, next(days), day)
                tokens.write("".join(map(token_document, day)).encode())
                qrels.write("".join(f"{code} {story.id} 1\n" for story in day for code in story.codes).encode())


def packed(file: Path) -> gzip.GzipFile:
    return gzip.GzipFile(file, "wb", compresslevel=PACKED_FAST, mtime=0)


def write_day(folder: Path, day: date, stories: Iterable[MadeUpStory]) -> None:
    with zipfile.ZipFile(folder / f"{day:%Y%m%d}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=PACKED_FAST) as archive:
        for story in stories:
            archive.writestr(f"{story.id}newsML.xml", newsml(story, day).encode("iso-8859-1"))


def newsml(story: MadeUpStory, day: date) -> str:
    """The story in the format of the discs: with a region, and with its topics without their ancestors."""
    headline, *paragraphs = (escape(" ".join(line)) for line in story.lines)
    above = frozenset().union(*(closures()[code] - {topics().codes.index(code)} for code in story.codes))
    codes = "".join(
        f"  <code code={quoteattr(code)}>\n  </code>\n"
        for code in story.codes
        if topics().codes.index(code) not in above
    )
    text = "".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs)
    return (
        '<?xml version="1.0" encoding="iso-8859-1" ?>\n'
        f'<newsitem itemid="{story.id}" id="root" date="{day}" xml:lang="en">\n'
        f"<title>{headline}</title>\n<headline>{headline}</headline>\n<dateline>HERE {day}</dateline>\n"
        f"<text>\n{text}</text>\n<metadata>\n"
        '<codes class="bip:countries:1.0">\n  <code code="USA">\n  </code>\n</codes>\n'
        f'<codes class="bip:topics:1.0">\n{codes}</codes>\n</metadata>\n</newsitem>\n'
    )


def token_document(story: MadeUpStory) -> str:
    """The story in the format of the public files."""
    lines = pieces(list(itertools.chain(*story.lines)), LINE_WORDS)
    return f".I {story.id}\n.W\n" + "".join(" ".join(line) + "\n" for line in lines) + "\n"


if __name__ == "__main__":
    main()
