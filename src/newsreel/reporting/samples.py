"""Some documents of a split with what was said of them, as Markdown tables."""

import numpy as np

from newsreel.core.markdown import excerpt, literal, markdown_table
from newsreel.evaluation.predictions import Predictions

NUM_DOCUMENTS = 10  # of each kind
LENGTH = 200  # characters of a document; more of them leave its labels no room in TensorBoard


def samples(predictions: Predictions) -> dict[str, str]:
    """Tables of the documents with the surest decisions, `right` and `wrong`, where there are such."""
    rows = {
        "right": predictions.confidently_right(NUM_DOCUMENTS),
        "wrong": [row for row, _, _ in predictions.confidently_wrong(NUM_DOCUMENTS)],
    }
    return {kind: table(predictions, chosen) for kind, chosen in rows.items() if chosen}


def table(predictions: Predictions, rows: list[int]) -> str:
    texts = predictions.corpus[predictions.split]

    def named(row: int, indicators: np.ndarray) -> str:
        shares = predictions.probabilities[row, indicators]
        names = predictions.names(indicators)
        return ", ".join(f"{literal(name)} {share:.4f}" for name, share in zip(names, shares, strict=True)) or "nothing"

    head = [
        f"{predictions.split} no.",
        "labelled, and probability of it",
        "predicted, and probability of it",
        "text",
    ]
    cells = [
        [
            str(row),
            named(row, predictions.wanted[row]),
            named(row, predictions.given[row]),
            excerpt(texts[row]["text"], LENGTH),
        ]
        for row in rows
    ]
    return "\n".join(markdown_table(head, cells))
