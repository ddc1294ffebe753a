"""A finished run or a saved ensemble as a Python object: what `newsreel.train` and `newsreel.load` return."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from newsreel.core.errors import UserError
from newsreel.core.markdown import markdown_table, plain
from newsreel.core.process_state import restored_process_state
from newsreel.embeddings.neighbors import WordVectors
from newsreel.evaluation.context import ScoreContext
from newsreel.evaluation.explanations import Explanations
from newsreel.evaluation.metrics import HEADLINES
from newsreel.inference.eval_data import PathOverrides, find_documents
from newsreel.inference.eval_runs import Machine, combine, evaluate_run, majority_label
from newsreel.inference.evaluate import STAGES
from newsreel.inference.predictors import Predictor, predictor_of
from newsreel.runs.ensemble import Ensemble
from newsreel.runs.run_dir import read_metrics
from newsreel.runs.trained_run import Labels
from newsreel.runs.word_table import read_table

REPORT_FILE = "report.md"
OWN_PATHS = PathOverrides(corpora_dir=None, cache_dir=None, output_dir="")  # those of the run's config
OWN_MACHINE = Machine(accelerator=None, threads=None)  # that of the run's test


class Run:
    """A finished run or a saved ensemble; calling it is `predict`.

    It classifies on the CPU, as `predict.py` does.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble  # of one run, unless an ensemble was saved
        self.predictor: Predictor = predictor_of(ensemble)
        self.metrics: dict[str, Any] = read_metrics(ensemble.directory)  # metrics.json; {} if the run was stopped

    @property
    def run_dir(self) -> Path:
        return self.ensemble.directory

    @property
    def labels(self) -> Labels:
        return self.ensemble.labels

    def predict(self, texts: Sequence[str], top_k: int | None = None) -> list[dict[str, Any]]:
        """Classify texts; returns one dict per text, in order.

        It has `label` and `probability`, or `labels` for `multilabel`, and `probabilities` by label: all of them, or
        the `top_k` highest. Raises UserError for a single string and for a `top_k` out of range.
        """
        self.predictor.check_top_k(top_k)
        return [
            row
            for _, documents in self.predictor.chunks(texts)
            for row in self.predictor.predict_batch(documents, top_k).rows()
        ]

    __call__ = predict

    def explain(self, texts: Sequence[str], label: str | None = None, steps: int = 50) -> Explanations:
        """What each word of the texts contributes to the logit of a label; coloured words in a notebook.

        label: None: the most probable one of each text. steps: of integrated gradients, at first, at least 1.
        Raises UserError for an unknown label, and if captum is needed and not installed.
        """
        if steps < 1:
            raise UserError(f"steps is {steps}: it must be at least 1.")
        explain = self.predictor.explainer(label, steps)
        return Explanations(
            explanation
            for chunk, documents in self.predictor.chunks(texts)
            for explanation in explain(chunk, documents, self.predictor.scores(documents).numpy())
        )

    def evaluate(self, split: str = "test") -> dict[str, float]:
        """Measure the run again on a split of its own corpus: `train`, `validation` or `test`; writes no files.

        Returns metrics by the names that metrics.json has, such as `test/accuracy`. Raises UserError.
        """
        if split not in STAGES:
            raise UserError(f"split is {split!r}: it must be one of {', '.join(STAGES)}.")
        with restored_process_state():
            corpus = find_documents(self.ensemble.members, split, OWN_PATHS, None)
            majority = majority_label(self.labels) if split == "test" else None
            results = [evaluate_run(run, corpus, split, OWN_MACHINE, majority) for run in self.ensemble.members]
            metrics = combine(self.ensemble, results, majority).metrics
        return {f"{STAGES[split]}/{name}": value for name, value in metrics.items()}

    def word_vectors(self) -> WordVectors:
        """The words of the vocabulary with their trained vectors: neighbours, analogies and similarities.

        Raises UserError for an ensemble, and for a run whose words are one-hot.
        """
        if not self.ensemble.is_single_run:
            raise UserError(f"{self.run_dir} is an ensemble, whose members have word vectors of their own: load one.")
        return WordVectors.of(*read_table(self.run_dir))

    def report(self) -> Path:
        """The path of report.md, beside which figures/ lies. Raises UserError if there is none."""
        path = self.run_dir / REPORT_FILE
        if not path.is_file():
            raise UserError(f"{path} does not exist: the run was stopped before its end, or this is an ensemble.")
        return path

    def summary(self) -> list[tuple[str, str]]:
        """Names and values of the most important results."""
        members = [run.command.choices for run in self.ensemble.members]
        rows = [
            ("model", "; ".join(f"{each['model']} on {each['embedding']}, data {each['data']}" for each in members))
        ]
        metric = self.labels.metric
        for stage, name in (("val", "validation"), ("test", "test")):
            keys = [
                key
                for key in (metric, *(key for key in HEADLINES if key != metric))
                if f"{stage}/{key}" in self.metrics
            ]
            rows.append((name, "  ".join(f"{key} {self.metrics[f'{stage}/{key}']:.4f}" for key in keys)))
        test = {key.removeprefix("test/"): value for key, value in self.metrics.items() if key.startswith("test/")}
        rows.append((f"test {metric}", str(ScoreContext.from_results(test, metric) or "")))
        return [row for row in [*rows, ("run directory", str(self.run_dir))] if row[1]]

    def __repr__(self) -> str:
        return "\n".join(f"{name:<14} {value}" for name, value in self.summary())

    def _repr_markdown_(self) -> str:
        """A table, in notebooks."""
        return "\n".join(markdown_table(["", ""], [(name, plain(value)) for name, value in self.summary()]))
