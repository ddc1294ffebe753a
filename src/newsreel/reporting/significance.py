"""Which configurations differ from the best one: paired tests of their predictions for the same test documents."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from newsreel.core.cache import DAMAGE
from newsreel.core.errors import UserError, first_line
from newsreel.evaluation.statistics import MAX_P, Outcomes, holm, p_value
from newsreel.runs.records import PERPLEXITY, Run

COLUMN = "p vs. best"  # of the tables
TIE = "="  # marks configurations that do not differ from the best
MAX_PROBLEMS = 3  # that are named


@dataclass(frozen=True)
class BestComparison:
    """The result of comparing the configurations of a corpus with the best of them."""

    p_values: dict[str, float]  # by the identity of a configuration, corrected for their number; without untested ones
    problems: list[str]  # why configurations were not tested
    outcomes: dict[str, list[Outcomes]] = field(default_factory=dict)  # of each run, by identity; without untested ones
    has_smaller: bool = False  # whether the last ones have fewer training documents

    def sentences(self, metric: str) -> list[str]:
        """What the column means, and why values are missing."""
        num_tests, num_problems = len(self.p_values), len(self.problems)
        sentences = []
        if num_tests:
            last = ", those with fewer training documents last" if self.has_smaller else ""
            tests = "1 test" if num_tests == 1 else f"{num_tests} tests"
            sentences.append(
                f"{COLUMN}: a paired test of the test {metric} against the first row, on the same documents, corrected "
                f"for {tests} (Holm). {TIE} marks ties with the best: differences that can be chance at the "
                f"{MAX_P:.0%} level. Rows are in the order of the validation {metric}{last}: to choose by test scores "
                "would make them optimistic."
            )
        if num_problems:
            more = f"; and {num_problems - MAX_PROBLEMS} more" if num_problems > MAX_PROBLEMS else ""
            reasons = "; ".join(self.problems[:MAX_PROBLEMS])
            sentences.append(f"Without a test against the best: {reasons}{more}.")
        return sentences


def compare_with_best(configurations: Sequence[Sequence[Run]], num_tested: int) -> BestComparison:
    """Test each configuration of a corpus against the first. configurations: the runs of each, the best first.

    num_tested: so many of the first ones are tested; the others only have outcomes.
    """
    best, *others = configurations
    if best[0].metric == PERPLEXITY:  # of language models, which have no test documents
        return BestComparison({}, [])
    try:
        reference = read_documents(best[0])
        outcomes = {best[0].identity: [outcomes_beside(run, best[0], reference) for run in best]}
    except UserError as error:
        return BestComparison({}, [str(error)] if others else [])
    problems = []
    for runs in others:
        try:
            outcomes[runs[0].identity] = [outcomes_beside(run, best[0], reference) for run in runs]
        except UserError as error:
            problems.append(str(error))
    tested = [runs[0].identity for runs in others[: num_tested - 1] if runs[0].identity in outcomes]
    best_outcomes = outcomes[best[0].identity]
    p_values = holm([p_value(best_outcomes, outcomes[identity]) for identity in tested])
    p_by_identity = dict(zip(tested, p_values, strict=True))
    return BestComparison(p_by_identity, problems, outcomes, has_smaller=num_tested < len(configurations))


@dataclass(frozen=True)
class TestedDocuments:
    """The test documents of a run: their labels, and how well they were predicted."""

    labels: pa.ChunkedArray
    outcomes: Outcomes


def outcomes_beside(run: Run, best: Run, reference: TestedDocuments) -> Outcomes:
    """The outcomes of a run on the test documents of the best. Raises UserError if it was tested on others."""
    if run is best:
        return reference.outcomes
    if run.environment.get("corpus_fingerprint") != best.environment.get("corpus_fingerprint"):
        raise UserError(f"{run.run_dir} and {best.run_dir} were trained on different documents")
    documents = read_documents(run)
    if not documents.labels.equals(reference.labels):
        raise UserError(f"{run.run_dir} and {best.run_dir} were tested on different documents")
    return documents.outcomes


def read_documents(run: Run) -> TestedDocuments:
    """Read predictions.parquet. Raises UserError if it is missing or damaged."""
    file = run.run_dir / "predictions.parquet"
    try:
        table = pq.read_table(file, columns=["labels", "predicted"])
        frame = pl.DataFrame({name: pl.from_arrow(table[name]) for name in table.column_names})
        return TestedDocuments(table["labels"], outcomes_of(frame))
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing") from error
    except DAMAGE as error:
        raise UserError(f"{file} cannot be read ({type(error).__name__}: {first_line(error)})") from error


def outcomes_of(documents: pl.DataFrame) -> Outcomes:
    """documents: their labels and the predicted ones, each a name, or a list of names."""
    if documents.schema["labels"] != pl.List:
        hits = documents["labels"] == documents["predicted"]
        return Outcomes(hits.to_numpy().astype(np.int64), np.ones(len(hits), dtype=np.int64))
    both = pl.col("labels").list.set_intersection("predicted").list.len()
    sizes = pl.col("labels").list.len() + pl.col("predicted").list.len()
    counts = documents.select(hits=2 * both.cast(pl.Int64), sizes=sizes.cast(pl.Int64))
    return Outcomes(counts["hits"].to_numpy(), counts["sizes"].to_numpy())


def format_p(value: float | None) -> str:
    """A p-value of the table, with the mark of ties."""
    if value is None:
        return ""
    return ("<0.0001" if value < 0.0001 else f"{value:.4f}") + (f" {TIE}" if value > MAX_P else "")
