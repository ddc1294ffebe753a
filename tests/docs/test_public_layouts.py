"""The commands that docs/own_corpus.md shows for public corpora, on miniatures of their layouts."""

import bz2
import json
import re
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.configs import composed
from helpers.project import PROJECT
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.corpora.custom import Files

SECTION = (
    (PROJECT / "docs" / "own_corpus.md")
    .read_text("utf-8")
    .partition("### Layouts of public corpora")[2]
    .partition("\n## ")[0]
)
COMMANDS = re.findall(r"^\$ (.*)$", SECTION, re.MULTILINE)
N = range(12)


def lines(folder: Path, name: str, rows: list[str], encoding: str = "utf-8") -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("".join(f"{row}\n" for row in rows).encode(encoding))


def ag_news(folder: Path) -> None:
    for split in ("train", "test"):
        rows = [f'"{n % 4 + 1}","A title {n}","A ""quoted"" body, of {split} {n}"' for n in N]
        lines(folder, f"ag_news_csv/{split}.csv", rows)


def newsgroups(folder: Path) -> None:
    for split in ("train", "test"):
        for n in N:
            lines(
                folder,
                f"20news-bydate-{split}/{['alt.atheism', 'sci.med'][n % 2]}/{50_000 + n}",
                [f"café {split} {n}"],
                "latin-1",
            )


def movie_reviews(folder: Path) -> None:
    for split in ("train", "test"):
        for n in N:
            lines(folder, f"aclImdb/{split}/{['neg', 'pos'][n % 2]}/{n}_{n % 10}.txt", [f"A film {split} {n}"])
        lines(folder, f"aclImdb/{split}/urls_pos.txt", ["http://example.org"])
    lines(folder, "aclImdb/train/unsup/0_0.txt", ["Neither good nor bad"])
    lines(folder, "aclImdb/train/labeledBow.feat", ["9 0:9 1:1"])


def toxic_comments(folder: Path) -> None:
    names = "id,comment_text,toxic,severe_toxic,obscene,threat,insult,identity_hate"
    rows = [
        f'{n:016x},"A comment {n}\n\nof ""two"" paragraphs",{n % 2},0,{n % 3 % 2},{n % 4 % 2},{n % 5 % 2},0' for n in N
    ]
    with zipfile.ZipFile(folder / "train.csv.zip", "w") as archive:
        archive.writestr("train.csv", "\n".join([names, *rows]))


def sms_spam(folder: Path) -> None:
    lines(folder, "SMSSpamCollection", [f'{["ham", "spam"][n % 2]}\t"Call now {n}, she said' for n in N])


def amazon(folder: Path) -> None:
    for split in ("train", "test"):
        rows = "".join(f"__label__{n % 2 + 1} Great CD {split} {n}: my favourite one\n" for n in N)
        (folder / f"{split}.ft.txt.bz2").write_bytes(bz2.compress(rows.encode()))


def cooking(folder: Path) -> None:
    extra = ["", "__label__cheese ", "__label__baking __label__cheese "]
    lines(folder, "cooking.stackexchange.txt", [f"__label__food-safety {extra[n % 3]}How much salt {n}?" for n in N])


def glue(folder: Path) -> None:
    for split in ("train", "dev"):
        rows = [f"it 's a \"film {split} {n}\t{n % 2}" for n in N]
        lines(folder, f"SST-2/{split}.tsv", ["sentence\tlabel", *rows])


def yelp(folder: Path) -> None:
    rows = [
        json.dumps({"review_id": f"x{n}", "stars": float(n % 5 + 1), "text": f"Food\n{n}", "cool": 0})
        for n in range(30)
    ]
    lines(folder, "yelp_academic_dataset_review.json", rows)


def news_categories(folder: Path) -> None:
    names = ["ARTS", "U.S. NEWS"]
    rows = [{"headline": f"News {n}", "category": names[n % 2], "short_description": "Short" * (n % 3 == 0)} for n in N]
    lines(folder, "News_Category_Dataset_v3.json", [json.dumps(row) for row in rows])


def go_emotions(folder: Path) -> None:
    for split in ("train", "test"):
        lines(
            folder, f"goemotions/{split}.tsv", [f'My "favourite {split} {n}\t{["27", "2,14"][n % 2]}\ted{n}' for n in N]
        )


def sentiment140(folder: Path) -> None:
    rows = [f'"{n % 2 * 4}","{n}","Mon Apr 06","NO_QUERY","user{n}","@one caf\xe9, ""so"" {n}"' for n in N]
    lines(folder, "training.1600000.processed.noemoticon.csv", rows, "latin-1")


def phrase_bank(folder: Path) -> None:
    rows = [f'Sales of "Stora grew to EUR {n} mn in J\xe4rvenp\xe4\xe4 .@{["positive", "neutral"][n % 2]}' for n in N]
    lines(folder, "Sentences_AllAgree.txt", rows, "latin-1")


# What makes the miniature, the labels, a text, and the task
LAYOUTS: list[tuple[Callable[[Path], None], int, str, str]] = [
    (ag_news, 4, 'A title 0\nA "quoted" body, of train 0', "multiclass"),
    (newsgroups, 2, "café train 0", "binary"),
    (movie_reviews, 2, "A film train 0", "binary"),
    (toxic_comments, 4, 'A comment 0\n\nof "two" paragraphs', "multilabel"),
    (sms_spam, 2, '"Call now 0, she said', "binary"),
    (amazon, 2, "Great CD train 0: my favourite one", "binary"),
    (cooking, 3, "How much salt 0?", "multilabel"),
    (glue, 2, "it 's a \"film train 0", "binary"),
    (yelp, 5, "Food\n0", "multiclass"),
    (news_categories, 2, "News 0\nShort", "binary"),
    (go_emotions, 3, 'My "favourite train 0', "multilabel"),
    (sentiment140, 2, '@one café, "so" 0', "binary"),
    (phrase_bank, 2, 'Sales of "Stora grew to EUR 0 mn in Järvenpää .', "binary"),
]


def load(command: str, paths: Paths) -> Corpus:
    program, *overrides = shlex.split(command)[1:]
    assert program == "train.py"
    settings = composed(*overrides, "data.test_fraction=0.3", "data.validation_fraction=0.4")["data"]
    assert settings.pop("_target_").endswith(".Files")
    return Files(**settings).load(paths)


@pytest.mark.parametrize(
    ("command", "layout"), list(zip(COMMANDS, LAYOUTS, strict=True)), ids=[layout[0].__name__ for layout in LAYOUTS]
)
def test_the_command_reads_the_layout(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch, command: str, layout: tuple[Any, int, str, str]
) -> None:
    make, num_labels, text, task = layout
    make(tmp_path)
    monkeypatch.chdir(tmp_path)
    corpus = load(command, paths)
    assert (corpus.num_labels, corpus.task) == (num_labels, task)
    texts = [found for split in ("train", "validation", "test") for found in corpus[split]["text"]]
    assert text in texts
    assert len(texts) == len({*texts})
    assert not [note for note in corpus.notes if "quoted" in note]
