"""What the figures of a run do not say: sentences for its report, each from the run itself.

Axes: N documents, L labels, K bins of probability.
"""

import numpy as np

from newsreel.batches.batch import DocumentDataset
from newsreel.evaluation.metrics import CALIBRATION_BINS
from newsreel.evaluation.predictions import Predictions
from newsreel.text.tokens import UNK

FEW = 20  # training documents of a label that is hard to learn
FEW_TO_FIT = 10  # validation documents of a label whose threshold means little
ENOUGH = 30  # decisions of a bin that is worth telling
BY_CHANCE = 2.0  # standard errors by which a bin may miss and nothing be told
UNREAD = {"head": "their ends are", "tail": "their beginnings are", "head_tail": "what is between their halves is"}


def limits(
    predictions: Predictions, documents: DocumentDataset, metric: str, seed: int, drops_unknown: bool
) -> list[str]:
    """What to know before relying on a run. predictions: of the test documents, which `documents` has as they are read.

    drops_unknown: whether the tokenizer leaves out what is not in its vocabulary.
    """
    return [
        of_the_labels(predictions),
        of_chance(predictions, metric, seed),
        *of_rare_labels(predictions),
        *of_labels_never_given(predictions),
        *of_what_is_read(documents, drops_unknown),
        of_probabilities(predictions),
        *of_thresholds(predictions),
    ]


def of_the_labels(predictions: Predictions) -> str:
    num_labels = len(predictions.titles)
    if predictions.corpus.task == "multilabel":
        without = int((~predictions.given.any(axis=1)).sum())
        return (
            f"It gives labels of these {num_labels} alone, whatever a document is about; {without:,} of "
            f"{len(predictions.given):,} test documents got none."
        )
    return f"It gives every document one of these {num_labels} labels, whatever the document is about."


def of_chance(predictions: Predictions, metric: str, seed: int) -> str:
    figure, error = standard_error(predictions)
    num_documents = len(predictions.given)
    doubt = (
        f"its standard error, had others of their kind been drawn, is {error:.4f}"
        if error
        else f"they all agree, and yet that of others of their kind can differ by {3 / num_documents:.4f} (95% limit)"
    )  # the latter: what has not happened in n cases has a probability of up to 3/n (Hanley and Lippman-Hand 1983)
    return (
        f"The test {metric} of {figure:.4f} is that of {num_documents:,} documents: {doubt}. It is also "
        f"that of one training (seed {seed}); how much trainings differ, this run cannot say."
    )


def standard_error(predictions: Predictions) -> tuple[float, float]:
    """Micro-F1, which is the accuracy where documents have one label, and its standard error as a ratio of sums.

    The delta method (Cochran 1977, section 2.11): residuals of each document's hits against what the ratio expects.
    """
    wanted, given = predictions.wanted, predictions.given
    hits, sizes = 2 * (wanted & given).sum(axis=1), wanted.sum(axis=1) + given.sum(axis=1)  # (N,)
    total = max(1, int(sizes.sum()))
    figure = hits.sum() / total
    return float(figure), float(np.sqrt(((hits - figure * sizes) ** 2).sum()) / total)


def of_rare_labels(predictions: Predictions) -> list[str]:
    counts = predictions.corpus.label_counts("train")
    found = []
    if few := int((counts < FEW).sum()):
        found.append(f"{few} of {len(counts)} labels have fewer than {FEW} training documents.")
    if untested := int((~predictions.wanted.any(axis=0)).sum()):
        found.append(f"{untested} of {len(counts)} labels have no test document: how well they are found is not known.")
    return found


def of_labels_never_given(predictions: Predictions) -> list[str]:
    wanted = predictions.wanted.sum(axis=0)
    never = ~predictions.given.any(axis=0) & (wanted > 0)
    if not never.any():
        return []
    return [
        f"{never.sum()} of {len(never)} labels were given to no test document, though {wanted[never].sum():,} times a "
        "document has one of them."
    ]


def of_what_is_read(documents: DocumentDataset, drops_unknown: bool) -> list[str]:
    found = []
    lengths = documents.ends - documents.starts
    if documents.max_tokens is not None and (cut := int((lengths > documents.max_tokens).sum())):
        found.append(
            f"{cut / len(lengths):.1%} of the test documents are longer than the {documents.max_tokens:,} tokens that "
            f"are read; {UNREAD[documents.truncation]} not."
        )
    if not drops_unknown and lengths.sum():
        unknown = sum(
            np.count_nonzero(documents.sequences.piece(start, end) == UNK)
            for start, end in zip(documents.starts.tolist(), documents.ends.tolist(), strict=True)
        )
        if unknown:
            found.append(
                f"{unknown / lengths.sum():.1%} of the test documents' tokens are not in the vocabulary: which words "
                "they are makes no difference."
            )
    return found


def of_probabilities(predictions: Predictions) -> str:
    """How far probabilities are from what they say, in all and where it is worst."""
    means, shares, counts = predictions.reliability(CALIBRATION_BINS)
    several = predictions.corpus.task == "multilabel"
    what, true = ("a label", "there") if several else ("the label given", "right")
    error = float((np.abs(means - shares) * counts).sum() / counts.sum())
    mean, share = float(means @ counts / counts.sum()), float(shares @ counts / counts.sum())
    told = (
        f"On average the probability of {what} is {mean:.4f}, and {share:.4f} of them are {true} (expected calibration "
        f"error {error:.4f})."
    )
    chance = np.sqrt(means * (1 - means) / np.maximum(1, counts))
    worth = np.flatnonzero((counts >= ENOUGH) & (np.abs(means - shares) > BY_CHANCE * chance))
    if not len(worth):
        return told
    worst = worth[np.abs(means - shares)[worth].argmax()]
    tone = "over" if means[worst] > shares[worst] else "under"
    return (
        f"{told} It is most {tone}confident where it is about {means[worst]:.2f}: {shares[worst]:.2f} of these "
        f"{counts[worst]:,} are {true}."
    )


def of_thresholds(predictions: Predictions) -> list[str]:
    corpus = predictions.corpus
    if predictions.thresholds is None or "validation" not in corpus.splits:
        return []
    counts = corpus.label_counts("validation")
    few = int((counts < FEW_TO_FIT).sum())
    return [
        f"The thresholds were chosen on {len(corpus.splits['validation'].rows):,} validation documents; {few} of "
        f"{len(counts)} labels have fewer than {FEW_TO_FIT} of them."
    ]
