"""The test predictions of several configurations, document by document and label by label.

Axes: N test documents, L labels, M configurations, K bins of probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from newsreel.config.sections import find_target
from newsreel.core.cache import DAMAGE
from newsreel.core.errors import UserError, first_line
from newsreel.corpora.corpus import Corpus
from newsreel.evaluation.metrics import CALIBRATION_BINS
from newsreel.evaluation.predictions import Predictions
from newsreel.models.network import Network
from newsreel.runs.records import Run
from newsreel.runs.trained_run import read_labels

MAX_SURVEYED = 12  # configurations, the best by validation
CONFIDENT = 0.9  # probability against a label from which a model contradicts it confidently
PREDICTIONS_FILE = "predictions.parquet"


@dataclass(frozen=True)
class Surveyed:
    """What is kept of one configuration."""

    name: str
    run: Run  # its first one
    first: Predictions  # of that run
    reads_order: bool | None  # whether its network depends on the order of tokens; None if unknown, as of ensembles
    f1: np.ndarray  # (L,) mean over its runs
    reliability: tuple[np.ndarray, np.ndarray, np.ndarray]  # (K,) as of `Predictions.reliability`, over all its runs


@dataclass(frozen=True)
class Survey:
    """The configurations of one corpus, the best by validation first."""

    surveyed: Sequence[Surveyed]
    contradiction: np.ndarray  # (N,) the least confident probability, over all runs, against a document's labels
    problems: Sequence[str]  # why configurations are missing

    @property
    def targets(self) -> Predictions:
        """The predictions of the best, whose targets are those of all."""
        return self.surveyed[0].first


def survey(configurations: Sequence[tuple[str, Sequence[Run]]]) -> Survey | None:
    """Read the predictions of each (name, runs); all on the same test documents. None if none can be read."""
    surveyed: list[Surveyed] = []
    problems: list[str] = []
    against: np.ndarray | None = None  # (N, L)
    for name, runs in configurations[:MAX_SURVEYED]:
        try:
            predictions = [read_predictions(run) for run in runs]
        except UserError as error:
            problems.append(str(error))
            continue
        for each in predictions:
            gaps = np.abs(each.target_indicators - each.probabilities)
            against = gaps if against is None else np.minimum(against, gaps, out=against)
        surveyed.append(summarized(name, runs[0], predictions))
    if against is None:
        return None
    return Survey(surveyed, contradiction_of(surveyed, against), problems)


def summarized(name: str, run: Run, predictions: Sequence[Predictions]) -> Surveyed:
    f1 = np.mean([each.by_label()["f1"].to_numpy() for each in predictions], axis=0)
    bins = [each.reliability(CALIBRATION_BINS) for each in predictions]
    counts = np.sum([count for _, _, count in bins], axis=0)
    means, accuracies = (
        np.sum([each[part] * each[2] for each in bins], axis=0) / np.maximum(1, counts) for part in (0, 1)
    )
    return Surveyed(name, run, predictions[0], reads_order(run), f1, (means, accuracies, counts))


def contradiction_of(surveyed: Sequence[Surveyed], against: np.ndarray) -> np.ndarray:
    """(N,) how strongly all runs contradict a label of the document, or for `multilabel` that it has it or lacks it.

    against: (N, L) least distance of a probability from the target. 0 where any first run has the labels right.
    """
    first = surveyed[0].first
    if first.corpus.task == "multilabel":
        return np.asarray(against.max(axis=1))
    all_wrong = np.all([~right(each.first) for each in surveyed], axis=0)
    return np.asarray(np.where(all_wrong, against[np.arange(len(against)), first.targets], 0))


def read_predictions(run: Run) -> Predictions:
    """The test predictions of a run. Raises UserError if they are missing or damaged."""
    labels, file = read_labels(run.run_dir), run.run_dir / PREDICTIONS_FILE
    corpus = Corpus(
        run.corpus, labels.task, tuple(labels.names), labels.metric, {}, "", "", label_titles=tuple(labels.titles)
    )
    try:
        return Predictions.read(file, corpus)
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing") from error
    except DAMAGE as error:
        raise UserError(f"{file} cannot be read ({type(error).__name__}: {first_line(error)})") from error


def reads_order(run: Run) -> bool | None:
    """Whether the network of a run depends on the order of tokens; None if its class is unknown."""
    network = find_target("model", {"_target_": run.settings.get("model._target_")}, Network, [])
    return not network.order_invariant if network is not None and issubclass(network, Network) else None


def right(predictions: Predictions) -> np.ndarray:
    """(N,) bool: whether the predicted labels of a document are exactly its labels."""
    if predictions.targets.ndim == 1:
        return np.asarray(predictions.preds == predictions.targets)
    return np.asarray((predictions.pred_indicators == predictions.target_indicators).all(axis=1))


@dataclass(frozen=True)
class Agreement:
    """How often two configurations predict the same."""

    one: str
    other: str
    same: float  # fraction of documents with exactly the same predicted labels
    kappa: float  # Cohen's κ (1960) of the predicted labels, or for `multilabel` of all decisions; NaN if undefined


def agreements(surveyed: Sequence[Surveyed]) -> list[Agreement]:
    return [
        Agreement(one.name, other.name, *agreement(one.first, other.first)) for one, other in combinations(surveyed, 2)
    ]


def agreement(one: Predictions, other: Predictions) -> tuple[float, float]:
    """Fraction of documents with the same predictions, and Cohen's κ."""
    if one.preds.ndim == 1:
        same = float((one.preds == other.preds).mean())
        num_labels = one.probabilities.shape[1]
        frequencies = [np.bincount(each.preds, minlength=num_labels) / len(each.preds) for each in (one, other)]
        return same, kappa(same, float(frequencies[0] @ frequencies[1]))
    decisions = one.pred_indicators == other.pred_indicators  # (N, L)
    first, second = float(one.pred_indicators.mean()), float(other.pred_indicators.mean())
    by_chance = first * second + (1 - first) * (1 - second)
    return float(decisions.all(axis=1).mean()), kappa(float(decisions.mean()), by_chance)


def kappa(observed: float, by_chance: float) -> float:
    """Cohen's κ: agreement beyond that by chance, 1 at most."""
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


@dataclass(frozen=True)
class Contrast:
    """Who is right where, of two configurations."""

    one: Surveyed
    other: Surveyed

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Documents that both get right, only `one`, only `other`, neither."""
        first, second = right(self.one.first), right(self.other.first)
        return (
            int((first & second).sum()),
            int((first & ~second).sum()),
            int((~first & second).sum()),
            int((~first & ~second).sum()),
        )

    def only(self, is_one: bool, num_documents: int) -> list[int]:
        """Documents that only one gets right, those first where the probabilities of their labels differ most."""
        winner, loser = (self.one, self.other) if is_one else (self.other, self.one)
        documents = np.flatnonzero(right(winner.first) & ~right(loser.first))
        gaps = np.abs(winner.first.probabilities[documents] - loser.first.probabilities[documents]).max(axis=1)
        return [int(row) for row in documents[np.argsort(-gaps, kind="stable")][:num_documents]]


def contrast(surveyed: Sequence[Surveyed]) -> Contrast | None:
    """The best network that reads the order of words beside the best that does not, else the two best of any kind."""
    if len(surveyed) < 2:
        return None
    ordered = [each for each in surveyed if each.reads_order]
    bags = [each for each in surveyed if each.reads_order is False]
    return Contrast(ordered[0], bags[0]) if ordered and bags else Contrast(surveyed[0], surveyed[1])


def suspects(survey: Survey) -> list[int]:
    """Documents whose labels all models contradict with confidence, the most confident first."""
    order = np.argsort(-survey.contradiction, kind="stable")
    return [int(row) for row in order if survey.contradiction[row] >= CONFIDENT]
