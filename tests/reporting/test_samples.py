"""Documents in tables, whatever is in them."""

import re
from html import unescape

import numpy as np
import pytest
from tensorboard.plugin_util import markdown_to_safe_html

from helpers.predictions import predictions
from newsreel.reporting.samples import LENGTH, samples

NASTY = [
    "a | b || c",
    "<script>alert(1)</script><img src=x onerror=y> & &amp; &lt;",
    "![x](http://example.org/a.png) [link](javascript:alert(1)) <http://example.org>",
    "*stars* _underscored_ **strong** `code | code` ~~gone~~ \\| \\* \\",
    "``` fence\n\n# title\n- item\n\n| a | b |\n|---|---|",
]


def cells(table: str) -> list[list[str]]:
    """The texts of a table's rows, as TensorBoard shows them; fails if there is other markup in them."""
    html = markdown_to_safe_html(table)
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)[1:]
    found = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in rows]
    assert not [cell for row in found for cell in row if "<" in cell], html
    return [[unescape(cell) for cell in row] for row in found]


def test_a_document_stands_in_its_cell_as_it_is() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6], [0.6, 0.4]], dtype=np.float32)
    test = [(text, number % 2) for number, text in enumerate(NASTY)]
    (table,) = samples(predictions(test, scores.argmax(axis=1), scores, "binary")).values()
    shown = ["label0 0.9000", "label1 0.8000", "label0 0.7000", "label1 0.6000", "label0 0.6000"]  # the surest first
    expected = zip(shown, NASTY, strict=True)
    assert cells(table) == [[str(n), label, label, " ".join(text.split())] for n, (label, text) in enumerate(expected)]


def test_the_surest_right_and_wrong_documents_of_several_labels_are_shown() -> None:
    words = "long " * LENGTH
    test = [("both", [0, 1]), ("one", [0]), ("none", []), ("missed", [1]), (words, [0])]
    scores = np.array([[0.9, 0.7], [0.8, 0.1], [0.1, 0.2], [0.3, 0.2], [0.95, 0.6]], dtype=np.float32)
    found = predictions(test, (scores > 0.5).astype(np.int64), scores, "multilabel", thresholds=np.array([0.5, 0.5]))
    tables = samples(found)
    assert cells(tables["right"]) == [
        ["1", "label0 0.8000", "label0 0.8000", "one"],
        ["0", "label0 0.9000, label1 0.7000", "label0 0.9000, label1 0.7000", "both"],
    ]
    assert cells(tables["wrong"]) == [
        ["3", "label1 0.2000", "(no label)", "missed"],
        ["4", "label0 0.9500", "label0 0.9500, label1 0.6000", words[:LENGTH].strip() + " …"],
    ]


@pytest.mark.parametrize(("label", "name"), [(0, "wrong"), (1, "right")])
def test_what_is_always_or_never_right_has_one_table(label: int, name: str) -> None:
    assert list(samples(predictions([("a", label)], [1], [[0.1, 0.9]], "binary"))) == [name]
