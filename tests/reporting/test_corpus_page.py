"""The page on a corpus: everything in it is text, and nothing is loaded from elsewhere."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from helpers.documents import make_corpus, word_tokenizer
from helpers.html_page import Tags
from newsreel.corpora.corpus import Corpus
from newsreel.reporting.corpus_figures import draw_label_counts, draw_lengths
from newsreel.reporting.corpus_page import Examples, Section, Table, as_html, as_text, printable
from newsreel.reporting.corpus_sections import Inspection, inspect

HOSTILE = '<script>alert("a")</script> </style> $x_1$ & \x1b[31mred'
SECTION = Section(HOSTILE, HOSTILE, [Table([HOSTILE, "documents"], [[HOSTILE, "1,234"], ["b", "5"]])],
                  examples=[Examples(HOSTILE, [HOSTILE, "line\none"])])  # fmt: skip


def test_hostile_texts_and_names_are_shown_and_not_interpreted() -> None:
    page = as_html(HOSTILE, [SECTION])
    tags = Tags(page)
    assert "script" not in tags.names
    assert "\x1b" not in page
    shown = '<script>alert("a")</script> </style> $x_1$ & \ufffd[31mred'
    assert tags.texts.count(shown) == 9  # title, heading, link, section, meaning, head, cell, summary and a document


def test_the_page_opens_from_disk_without_a_network() -> None:
    figure = draw_label_counts([HOSTILE, "b"], [3, 1])
    tags = Tags(as_html("a", [Section("b", "c", figures=[figure])]))
    assert all(address.startswith("#") for address in tags.addresses)
    assert {"script", "link", "img", "iframe"}.isdisjoint(tags.names)
    assert "prefers-color-scheme: dark" in as_html("a", [])
    assert 'name="viewport"' in as_html("a", [])


def test_a_figure_has_the_colours_of_the_page_and_scales() -> None:
    figure = draw_lengths(np.array([0, 3, 5, 5, 9]), 4)
    assert re.match(r'<svg role="img" viewBox="[\d. ]+"><title>', figure)
    assert "currentColor" in figure
    assert "var(--line)" in figure
    assert "max_tokens" in figure


def test_the_terminal_has_aligned_tables_and_says_what_it_leaves_out() -> None:
    table = Table(["label", "documents"], [["a", "1,234"], ["long name", "5"], ["c", "6"]], max_rows=2)
    lines = as_text("corpus", [Section("Labels", "What they mean.", [table]), Section("Texts", "…", examples=[
        Examples("a", ["b"])])]).splitlines()  # fmt: skip
    assert lines == [
        "corpus",
        "",
        "Labels",
        "  What they mean.",
        "",
        "  label      documents",
        "  a              1,234",
        "  long name          5",
        "  … 1 more on the page",
    ]
    assert printable("a\x07\tb\n\u202ec") == "a\ufffd b \ufffdc"
    assert printable("می\u200cخواهم 👨\u200d👩") == "می\u200cخواهم 👨\u200d👩"


def test_a_table_without_rows_is_left_out() -> None:
    section = Section("Labels", "None.", [Table(["label", "documents"], [])])
    assert "documents" not in as_text("corpus", [section])
    assert "<table" not in as_html("corpus", [section])


def sections_of(corpus: Corpus, cache: Path, **changes: Any) -> dict[str, Section]:
    tokenized = word_tokenizer().fit(corpus, cache)
    settings = {"max_tokens": 3, "produces_bags": False, "near_jaccard": 0.7, "num_documents": 2, **changes}
    return {section.title: section for section in inspect(Inspection(corpus, tokenized, **settings))}


def test_every_section_has_the_figures_of_the_corpus(tmp_path: Path) -> None:
    train = [(f"good film number {number}", [1]) for number in range(24)]
    train += [(f"bad film number {number}", [0, 1]) for number in range(8)] + [("", []), ("good film number 3", [0])]
    long = "one two three four five six seven eight nine ten eleven"
    test = [("Bad film, number 2", [0, 1]), ("good film number 3", [1]), (f"{long} twelve", [0]), (f"{long} other", [])]
    corpus = make_corpus(train, test, "multilabel").with_validation(0.25, 0)
    sections = sections_of(corpus, tmp_path)
    rows = {row[0]: row[1:] for row in sections["Empty and repeated documents"].tables[0].rows}
    assert rows["train: empty"] == ["1", "34", ""]
    assert rows["train: repeats another, word for word"] == ["1", "34", "2"]
    assert rows["test: in train or validation, word for word"] == ["1", "4", "1"]
    assert rows["test: in train or validation, same words"] == ["2", "4", "1"]
    assert rows["test: nearly repeats another"] == ["2", "4", ""]  # they share 9 of 11 sequences
    assert "1 test documents are word for word" in sections["Empty and repeated documents"].meaning
    assert sections["Empty and repeated documents"].examples[0].title.endswith("0.82")
    assert sections["Labels that occur together"].tables[0].rows[0][:2] == ["label0", "label1"]
    assert dict(sections["Majority guess"].tables[0].rows)["test"] == "0.5000"  # 2 · 2 hits of 4 guesses and 4 targets
    assert sections["Documents and labels"].tables[0].rows[-1] == ["test", "4", "2", "1.00", "1"]
    assert sections["Most telling words"].tables[0].rows[0][0] == "label1"
    assert [len(examples.texts) for examples in sections["Documents of each label"].examples] == [2, 2]
    assert "max_tokens=3 cuts" in sections["Lengths"].meaning
    Tags(as_html("tiny", list(sections.values())))
