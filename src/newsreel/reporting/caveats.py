"""Caveats for the report of a run: sentences about the limits of its metrics, computed from the run.

Axes: N documents, L labels, K bins of probability.
"""

import numpy as np

from newsreel.batches.batch import DocumentDataset
from newsreel.corpora.description import majority_score
from newsreel.corpora.duplicates import find_duplicates
from newsreel.evaluation.metrics import CALIBRATION_BINS
from newsreel.evaluation.predictions import Predictions
from newsreel.text.tokens import UNK

MIN_TRAINING_DOCUMENTS = 20  # labels with fewer are hard to learn
MIN_VALIDATION_DOCUMENTS = 10  # thresholds of labels with fewer are unreliable
MIN_DECISIONS = 30  # calibration bins with fewer are not reported
MAX_STANDARD_ERRORS = 2.0  # smaller deviations of a calibration bin can be chance
MIN_LOSS_REDUCTION = 0.03  # of the loss of the labels' frequencies; with less, a network has not learned
UNREAD = {"head": "their ends are", "tail": "their beginnings are", "head_tail": "what is between their halves is"}


def caveats(
    predictions: Predictions, documents: DocumentDataset, metric: str, seed: int, drops_unknown: bool
) -> list[str]:
    """Sentences to read before relying on a run.

    predictions, documents: of the test split. drops_unknown: whether the tokenizer drops out-of-vocabulary tokens.
    """
    return [
        label_set_caveat(predictions),
        sampling_caveat(predictions, metric, seed),
        majority_caveat(predictions, metric),
        *overlap_caveats(predictions, metric),
        *rare_label_caveats(predictions),
        *never_predicted_caveats(predictions),
        *input_caveats(documents, drops_unknown),
        calibration_caveat(predictions),
        *threshold_caveats(predictions),
    ]


def learning_notes(train_loss: float, prior_loss: float, num_steps: int) -> list[str]:
    """A note if the network has hardly learned anything from its training documents.

    train_loss: of the last epoch. prior_loss: if every document had the labels' frequencies as probabilities.
    num_steps: optimizer steps so far.
    """
    if train_loss < (1 - MIN_LOSS_REDUCTION) * prior_loss:
        return []
    return [
        f"The training loss has hardly left its start: it is {train_loss:.4f} after {num_steps:,} steps, and "
        f"{prior_loss:.4f} if every document gets the frequencies of the labels as probabilities, whatever its words. "
        "The network has learned next to nothing: train longer (raise training.min_steps_per_epoch or "
        "training.max_epochs, and training.patience), raise training.learning_rate, or choose model=bow, which needs "
        "fewer documents."
    ]


def label_set_caveat(predictions: Predictions) -> str:
    num_labels = len(predictions.titles)
    if predictions.corpus.task == "multilabel":
        without = int((~predictions.pred_indicators.any(axis=1)).sum())
        return (
            f"It predicts only these {num_labels} labels, whatever a document is about; it predicts none for "
            f"{without:,} of {len(predictions.pred_indicators):,} test documents."
        )
    return f"It predicts one of these {num_labels} labels for every document, whatever the document is about."


def sampling_caveat(predictions: Predictions, metric: str, seed: int) -> str:
    value, error = standard_error(predictions)
    num_documents = len(predictions.pred_indicators)
    uncertainty = (
        f"its standard error over test samples of this size is {error:.4f}"
        if error
        else f"none is wrong, but on other documents it can differ by {3 / num_documents:.4f} (95% limit)"
    )  # the rule of three: an event not observed in n cases has a probability of up to 3/n (Hanley, Lippman-Hand 1983)
    return (
        f"The test {metric} of {value:.4f} is measured on {num_documents:,} documents; {uncertainty}. It is the result "
        f"of one training run (seed {seed}), which does not show how much results vary between seeds."
    )


def majority_caveat(predictions: Predictions, metric: str) -> str:
    label, score = majority_score(predictions.corpus, predictions.split)
    return (
        f"Predicting {predictions.titles[label]}, the most frequent label in training, for every document would have a "
        f"test {metric} of {score:.4f}."
    )


def overlap_caveats(predictions: Predictions, metric: str) -> list[str]:
    """What the test documents that are also in training contribute to the metric."""
    overlap = find_duplicates(predictions.corpus).of_test()
    if overlap is None or not overlap.shared.any():
        return []
    true, predicted = (
        indicators[~overlap.shared] for indicators in (predictions.target_indicators, predictions.pred_indicators)
    )
    without = f"; without them, the test {metric} is {micro_f1(true, predicted):.4f}" if len(true) else ""
    contradictory = int(overlap.contradictory.sum())
    answers = f" {contradictory:,} of them have other labels there." if contradictory else ""
    return [
        f"{overlap.shared.sum():,} of the {len(overlap.shared):,} test documents have the text of a document in "
        f"{' or '.join(overlap.others)}{without}.{answers}"
    ]


def micro_f1(true: np.ndarray, predicted: np.ndarray) -> float:
    """Micro-F1 of (N, L) indicators, which is the accuracy if documents have one label."""
    return float(2 * (true & predicted).sum() / max(1, true.sum() + predicted.sum()))


def standard_error(predictions: Predictions) -> tuple[float, float]:
    """Micro-F1 (the accuracy if documents have one label) and its standard error, as a ratio of sums over documents.

    By the delta method (Cochran 1977, section 2.11), from the residuals of each document's hits.
    """
    true, predicted = predictions.target_indicators, predictions.pred_indicators
    hits, sizes = 2 * (true & predicted).sum(axis=1), true.sum(axis=1) + predicted.sum(axis=1)  # (N,)
    total = max(1, int(sizes.sum()))
    f1 = hits.sum() / total
    return float(f1), float(np.sqrt(((hits - f1 * sizes) ** 2).sum()) / total)


def rare_label_caveats(predictions: Predictions) -> list[str]:
    counts = predictions.corpus.label_counts("train")
    few = int((counts < MIN_TRAINING_DOCUMENTS).sum())
    if not few:
        return []
    return [f"{few} of {len(counts)} labels have fewer than {MIN_TRAINING_DOCUMENTS} training documents."]


def never_predicted_caveats(predictions: Predictions) -> list[str]:
    support = predictions.target_indicators.sum(axis=0)
    never = ~predictions.pred_indicators.any(axis=0) & (support > 0)
    if not never.any():
        return []
    return [
        f"{never.sum()} of {len(never)} labels are predicted for no test document, though they occur "
        f"{support[never].sum():,} times."
    ]


def input_caveats(documents: DocumentDataset, drops_unknown: bool) -> list[str]:
    sentences = []
    lengths = documents.ends - documents.starts
    if without := int((lengths == 0).sum()):
        sentences.append(
            f"{without:,} of {len(lengths):,} test documents ({without / len(lengths):.1%}) have no token: the model "
            "reads nothing in them, so all of them get the same prediction."
        )
    if documents.max_tokens is not None and (cut := int((lengths > documents.max_tokens).sum())):
        sentences.append(
            f"{cut / len(lengths):.1%} of the test documents are longer than the {documents.max_tokens:,} tokens that "
            f"are read; {UNREAD[documents.truncation]} not."
        )
    if not drops_unknown and lengths.sum():
        unknown = sum(
            np.count_nonzero(documents.sequences.piece(start, end) == UNK)
            for start, end in zip(documents.starts.tolist(), documents.ends.tolist(), strict=True)
        )
        if unknown:
            sentences.append(
                f"{unknown / lengths.sum():.1%} of the test documents' tokens are not in the vocabulary and are all "
                "read as <unk>."
            )
    return sentences


def calibration_caveat(predictions: Predictions) -> str:
    """Calibration overall, and in the bin where it is worst."""
    means, accuracies, counts = predictions.reliability(CALIBRATION_BINS)
    is_multilabel = predictions.corpus.task == "multilabel"
    event, outcome = ("a label", "present") if is_multilabel else ("the predicted label", "correct")
    gaps = np.abs(means - accuracies)
    error = float((gaps * counts).sum() / counts.sum())
    mean, accuracy = float(means @ counts / counts.sum()), float(accuracies @ counts / counts.sum())
    overall = (
        f"The mean probability of {event} is {mean:.4f}, and {accuracy:.4f} of them are {outcome} (expected "
        f"calibration error {error:.4f})."
    )
    standard_errors = np.sqrt(means * (1 - means) / np.maximum(1, counts))
    miscalibrated = np.flatnonzero((counts >= MIN_DECISIONS) & (gaps > MAX_STANDARD_ERRORS * standard_errors))
    if not len(miscalibrated):
        return overall
    worst = miscalibrated[gaps[miscalibrated].argmax()]
    direction = "over" if means[worst] > accuracies[worst] else "under"
    return (
        f"{overall} It is most {direction}confident at probabilities around {means[worst]:.2f}: "
        f"{accuracies[worst]:.2f} of these {counts[worst]:,} are {outcome}."
    )


def threshold_caveats(predictions: Predictions) -> list[str]:
    corpus = predictions.corpus
    if predictions.thresholds is None or "validation" not in corpus.splits:
        return []
    counts = corpus.label_counts("validation")
    few = int((counts < MIN_VALIDATION_DOCUMENTS).sum())
    return [
        f"The thresholds are fitted on {len(corpus.splits['validation'].rows):,} validation documents; {few} of "
        f"{len(counts)} labels have fewer than {MIN_VALIDATION_DOCUMENTS} of them."
    ]
