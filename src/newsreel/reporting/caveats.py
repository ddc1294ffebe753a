"""Caveats for the report of a run: sentences about the limits of its metrics, computed from the run.

Axes: N documents, L labels, K bins of probability.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from newsreel.batches.batch import DocumentDataset
from newsreel.corpora.corpus import Task
from newsreel.corpora.overlap import NEAR_JACCARD, TrainingOverlap
from newsreel.evaluation.context import ScoreContext, majority_outcomes
from newsreel.evaluation.metrics import CALIBRATION_BINS
from newsreel.evaluation.predictions import Predictions
from newsreel.evaluation.statistics import CONFIDENCE, MAX_P, Outcomes, p_value
from newsreel.runs.records import lacks_epochs
from newsreel.text.tokens import UNK

MIN_TRAINING_DOCUMENTS = 20  # labels with fewer are hard to learn
MIN_FITTED_DOCUMENTS = 10  # thresholds of labels with fewer are unreliable
MIN_DECISIONS = 30  # calibration bins with fewer are not reported
MAX_STANDARD_ERRORS = 2.0  # smaller deviations of a calibration bin can be chance
MIN_LOSS_REDUCTION = 0.03  # of the loss of the labels' frequencies; with less, a network has not learned
MAX_STUCK_LOSS = 1.1  # times the loss of the uniform guess; with more, a network has diverged
UNREAD = {"head": "their ends are", "tail": "their beginnings are", "head_tail": "what is between their halves is"}


def caveats(
    predictions: Predictions,
    context: ScoreContext,
    documents: DocumentDataset,
    overlap: TrainingOverlap,
    seed: int | None,
    drops_unknown: bool,
    fitted_on: Sequence[str] = ("validation",),
) -> list[str]:
    """Sentences to read before relying on a run.

    predictions, context, documents, overlap: of the test split. seed: None if the result does not depend on it.
    drops_unknown: whether the tokenizer drops out-of-vocabulary tokens. fitted_on: the splits that thresholds are
    fitted on.
    """
    return [
        label_set_caveat(predictions),
        sampling_caveat(predictions, context, seed),
        majority_caveat(predictions, context),
        overlap_caveat(predictions, overlap),
        *rare_label_caveats(predictions),
        *never_predicted_caveats(predictions),
        *input_caveats(documents, drops_unknown),
        calibration_caveat(predictions),
        *threshold_caveats(predictions, fitted_on),
    ]


@dataclass(frozen=True)
class TrainingLoss:
    """What a training has come to."""

    last: float  # of the last epoch
    prior: float  # if every document had the labels' frequencies as probabilities
    num_steps: int  # optimizer steps so far


def learning_notes(loss: TrainingLoss) -> list[str]:
    """A note if the network has hardly learned anything from its training documents."""
    if loss.last < (1 - MIN_LOSS_REDUCTION) * loss.prior:
        return []
    return [
        f"The training loss has hardly left its start: it is {loss.last:.4f} after {loss.num_steps:,} steps, and "
        f"{loss.prior:.4f} if every document gets the frequencies of the labels as probabilities, whatever its words. "
        "The network has learned next to nothing: train longer (raise training.min_steps_per_epoch or "
        "training.max_epochs, and training.patience), raise training.learning_rate, or choose model=bow, which needs "
        "fewer documents."
    ]


def epochs_notes(results: Mapping[str, Any], metric: str) -> list[str]:
    """A note if more epochs may help. results: of a training by mini-batches; metric: the monitored one."""
    if not lacks_epochs(results, metric):
        return []
    num_epochs = int(results["train/epochs"])
    return [
        f"In epoch {results['train/kept_epoch']} of {num_epochs}, which is kept, the {metric} on the validation "
        f"documents ({results[f'val/{metric}']:.4f}) is still above that on the training documents "
        f"({results[f'train/{metric}']:.4f}), which the network has therefore not learned by heart: more epochs may "
        f"help, such as training.max_epochs={3 * num_epochs}."
    ]


def uniform_loss(task: Task, num_labels: int) -> float:
    """Log loss of the uniform guess, which gives every label the same probability."""
    return math.log(num_labels if task == "multiclass" else 2)


def majority_notes(predictions: Predictions, label: int | None) -> list[str]:
    """A note if the predictions are not better than those of the majority guess on the same documents.

    label: the one that is most frequent in training; None if that is unknown.
    """
    if label is None:
        return []
    outcomes = Outcomes.of(predictions.preds, predictions.targets)
    majority = majority_outcomes(predictions, label)
    chance = p_value([outcomes], [majority])
    if outcomes.score > majority.score and chance <= MAX_P:
        return []
    comparison = "does not differ significantly from" if chance > MAX_P else "is below"
    if outcomes.score > majority.score:
        meaning = "these are too few documents to show that the model has learned something. Test on more."
    else:
        meaning = "the model has learned next to nothing. It needs more documents, or a network a longer training."
    return [
        f"The {predictions.split} {predictions.corpus.metric} of {outcomes.score:.4f} {comparison} the majority "
        f"guess's {majority.score:.4f} (paired test on {len(outcomes.hits):,} documents, p = {chance:.4f}): {meaning}"
    ]


def training_notes(learning: TrainingLoss, losses: dict[str, float], task: Task, num_labels: int) -> list[str]:
    """A note if the network has not learned, or if its losses are above that of the uniform guess.

    Not both, since their remedies are opposite: a network that has not learned has about the loss of a guess.
    losses: of the checkpoint, by the name of their split.
    """
    stuck = learning_notes(learning)
    has_diverged = max(losses.values()) > MAX_STUCK_LOSS * uniform_loss(task, num_labels)
    return stuck if stuck and not has_diverged else loss_notes(losses, task, num_labels)


def loss_notes(losses: dict[str, float], task: Task, num_labels: int) -> list[str]:
    """A note if the log loss is above that of the uniform guess, to four decimals. losses: by split."""
    uniform = round(uniform_loss(task, num_labels), 4)
    above = [f"{split} loss of {loss:.4g}" for split, loss in losses.items() if round(loss, 4) > uniform]
    if not above:
        return []
    return [
        f"The {' and the '.join(above)} {'is' if len(above) == 1 else 'are'} above {uniform:.4f}, the loss of the "
        "uniform guess, which gives every label the same probability. If the training has diverged, lower "
        "training.learning_rate or set training.gradient_clip; if it has only become too confident, train for fewer "
        "epochs, or with a larger penalty (training.weight_decay; training.l2_path of solver=newton)."
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


def sampling_caveat(predictions: Predictions, context: ScoreContext, seed: int | None) -> str:
    score = Outcomes.of(predictions.preds, predictions.targets).score
    of_one = f"the result of one training run (seed {seed}), which does not show how much results vary between seeds"
    of_all = "the same for every seed, but may be another with other validation documents (data.split_seed)"
    return (
        f"The test {context.metric} of {score:.4f} is measured on {len(predictions.targets):,} documents; its "
        f"{CONFIDENCE:.0%} confidence interval for others of the same kind is {context.interval}. It is "
        f"{of_all if seed is None else of_one}."
    )


def majority_label(predictions: Predictions) -> int:
    """The label that is most frequent in training."""
    return int(predictions.corpus.label_counts("train").argmax())


def majority_caveat(predictions: Predictions, context: ScoreContext) -> str:
    return (
        f"Predicting {predictions.titles[majority_label(predictions)]}, the most frequent label in training, for every "
        f"document would have a test {context.metric} of {context.majority:.4f}."
    )


def overlap_caveat(predictions: Predictions, overlap: TrainingOverlap) -> str:
    """How many test documents are also in training, exactly or nearly, and the metric without them."""
    others, metric = " or ".join(overlap.others), predictions.corpus.metric
    num_exact, num_near, num_contradictory = (
        int(documents.sum()) for documents in (overlap.exact, overlap.near, overlap.contradictory)
    )
    if not num_exact + num_near:
        return f"No test document has the text, or nearly the words, of a document in {others}."
    without = score_without(predictions, overlap)
    score = "" if without is None else f"; without them, the test {metric} is {without:.4f}"
    answers = f" {num_contradictory:,} of them have other labels there." if num_contradictory else ""
    return (
        f"{num_exact:,} of the {len(overlap.exact):,} test documents have the text of a document in {others}, and "
        f"{num_near:,} more nearly its words (a Jaccard similarity of at least {NEAR_JACCARD}){score}.{answers}"
    )


def score_without(predictions: Predictions, overlap: TrainingOverlap) -> float | None:
    """The metric of the test documents that are not in training; None if all of them are."""
    new = ~overlap.either
    return Outcomes.of(predictions.preds[new], predictions.targets[new]).score if new.any() else None


def rare_label_caveats(predictions: Predictions) -> list[str]:
    counts = predictions.corpus.label_counts("train")
    few = int((counts < MIN_TRAINING_DOCUMENTS).sum())
    if not few:
        return []
    return [f"Labels with fewer than {MIN_TRAINING_DOCUMENTS} training documents: {few} of {len(counts)}."]


def never_predicted_caveats(predictions: Predictions) -> list[str]:
    support = predictions.target_indicators.sum(axis=0)
    never = ~predictions.pred_indicators.any(axis=0) & (support > 0)
    if not never.any():
        return []
    return [
        f"Labels that are predicted for no test document, though some have them: {never.sum()} of {len(never)} "
        f"({support[never].sum():,} times)."
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
        f"The mean probability of {event} is {mean:.4f}, and {event} is {outcome} with a frequency of {accuracy:.4f} "
        f"(expected calibration error {error:.4f})."
    )
    standard_errors = np.sqrt(means * (1 - means) / np.maximum(1, counts))
    miscalibrated = np.flatnonzero((counts >= MIN_DECISIONS) & (gaps > MAX_STANDARD_ERRORS * standard_errors))
    if not len(miscalibrated):
        return overall
    worst = miscalibrated[gaps[miscalibrated].argmax()]
    direction = "over" if means[worst] > accuracies[worst] else "under"
    return (
        f"{overall} It is most {direction}confident at probabilities around {means[worst]:.2f}: "
        f"{accuracies[worst]:.2f} of the {counts[worst]:,} predictions there are {outcome}."
    )


def threshold_caveats(predictions: Predictions, fitted_on: Sequence[str]) -> list[str]:
    corpus = predictions.corpus
    if predictions.thresholds is None or "validation" not in corpus.splits:
        return []
    counts = np.sum([corpus.label_counts(split) for split in fitted_on], axis=0)  # (L,)
    few = int((counts < MIN_FITTED_DOCUMENTS).sum())
    names = {"train": "training", "validation": "validation"}
    return [
        f"The thresholds are fitted on {sum(len(corpus.splits[split].rows) for split in fitted_on):,} "
        f"{' and '.join(names[split] for split in fitted_on)} documents; labels with fewer than {MIN_FITTED_DOCUMENTS} "
        f"of them: {few} of {len(counts)}."
    ]
