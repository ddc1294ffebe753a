"""Example documents of a split with their labels and predictions, as Markdown tables."""

import numpy as np

from newsreel.core.markdown import excerpt, literal, markdown_table
from newsreel.evaluation.predictions import Predictions

NO_LABEL = "(no label)"  # a label may be called none
NUM_DOCUMENTS = 10  # of each kind
LENGTH = 200  # characters of a document; longer texts leave no room for the labels in TensorBoard


def samples(predictions: Predictions) -> dict[str, str]:
    """Tables of the most confident `right` and `wrong` predictions; empty ones are omitted."""
    rows = {
        "right": predictions.confidently_right(NUM_DOCUMENTS),
        "wrong": [row for row, _, _ in predictions.confidently_wrong(NUM_DOCUMENTS)],
    }
    return {kind: table(predictions, indices) for kind, indices in rows.items() if indices}


def table(predictions: Predictions, rows: list[int]) -> str:
    texts = predictions.corpus[predictions.split]

    def labels_text(row: int, indicators: np.ndarray) -> str:
        probabilities = predictions.probabilities[row, indicators]
        pairs = zip(predictions.names(indicators), probabilities, strict=True)
        return ", ".join(f"{literal(name)} {probability:.4f}" for name, probability in pairs) or NO_LABEL

    head = [f"{predictions.split} document", "label (probability)", "prediction (probability)", "text"]
    cells = [
        [
            str(row),
            labels_text(row, predictions.target_indicators[row]),
            labels_text(row, predictions.pred_indicators[row]),
            excerpt(texts[row]["text"], LENGTH),
        ]
        for row in rows
    ]
    return "\n".join(markdown_table(head, cells))
