"""Documents to evaluate finished runs on: those of their own corpora, or others with the same labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from newsreel.core.errors import UserError
from newsreel.core.paths import user_path, working_directory
from newsreel.corpora.corpus import Corpus, CorpusReader, Paths, Task, abbreviated
from newsreel.corpora.custom import OwnCorpus
from newsreel.corpora.prepared import schema_of
from newsreel.files.labels import in_brackets
from newsreel.runs.trained_run import Labels, TrainedRun
from newsreel.text.tokens import FittedTokenizer, TokenizedCorpus, TokenSequences

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class PathOverrides:
    """The section `paths`: directories that replace those in a run's config; None: those of the run."""

    corpora_dir: str | None
    cache_dir: str | None
    output_dir: str


def find_documents(
    runs: Sequence[TrainedRun], split: str, overrides: PathOverrides, reader: CorpusReader | None
) -> Corpus:
    """The split to evaluate on, with the runs' labels: of the reader's corpus, else of the runs' common corpus."""
    paths = [paths_of(run, overrides) for run in runs]
    if reader is not None:
        try:
            documents = reader.load_split(split, paths[0])
        except UserError as error:
            raise UserError(f"{error}{columns_of_training(reader, runs[0])}") from error
        return with_labels(documents, split, runs[0].labels)
    corpora = [load_corpus(run, run_paths) for run, run_paths in zip(runs, paths, strict=True)]
    require_same_documents(runs, corpora, split)
    return with_labels(corpora[0], split, runs[0].labels)


def columns_of_training(reader: CorpusReader, run: TrainedRun) -> str:
    """A hint after an error of reading documents, if the run has read other columns."""
    trained = run.experiment.reader
    if not isinstance(reader, OwnCorpus) or not isinstance(trained, OwnCorpus):
        return ""
    other = [
        f"data.{key}={in_brackets(value) if isinstance(value, list) else value}"
        for key in ("text", "label", "separator", "labels")
        if (value := getattr(trained, key)) != getattr(reader, key)
    ]
    return f"\nThe run was trained with {' '.join(other)}." if other else ""


def paths_of(run: TrainedRun, overrides: PathOverrides) -> Paths:
    """Absolute paths for a run; overrides are relative to the current directory, the run's own to its start."""

    def absolute(name: str) -> str:
        override = getattr(overrides, name)
        start, path = (run.command.start, getattr(run_paths, name)) if override is None else (Path.cwd(), override)
        return str(start / user_path(path, f"paths.{name}"))

    run_paths = run.experiment.paths
    return Paths(
        corpora_dir=absolute("corpora_dir"),
        cache_dir=absolute("cache_dir"),
        output_dir=run_paths.output_dir,
    )


def load_corpus(run: TrainedRun, paths: Paths) -> Corpus:
    """The corpus of a run, with the same splits as in its training. Raises UserError."""
    with working_directory(run.command.start):
        return run.experiment.reader.load(paths)


def require_same_documents(runs: Sequence[TrainedRun], corpora: Sequence[Corpus], split: str) -> None:
    """Raise UserError unless all runs have the same documents in a split."""
    first = corpora[0]
    for run, corpus in zip(runs, corpora, strict=True):
        if not same_documents(corpus, first, split):
            raise UserError(
                f"{run.run_dir} and {runs[0].run_dir} have different {split} documents ({corpus.name!r} from "
                f"{corpus.source} and {first.name!r} from {first.source}, perhaps with different limits or splits): "
                f"training documents of one run may be {split} documents of the other.\nName the documents to evaluate "
                "on with data=…, or name runs on the same documents."
            )


def same_documents(corpus: Corpus, other: Corpus, split: str) -> bool:
    """Whether two corpora have the same documents, and the same of them in a split."""
    return corpus.fingerprint == other.fingerprint and np.array_equal(
        corpus.splits[split].rows, other.splits[split].rows
    )


def with_labels(corpus: Corpus, split: str, labels: Labels) -> Corpus:
    """One split of a corpus with the labels of a run, matched by name.

    Raises UserError if documents have labels unknown to the run, or if only one of corpus and run is `multilabel`.
    """
    if split not in corpus.splits:
        raise UserError(f"{corpus.name!r} from {corpus.source} has no {split} documents: it has {list(corpus.splits)}.")
    if (corpus.task == "multilabel") != (labels.task == "multilabel"):
        raise UserError(
            f"The documents of {corpus.name!r} from {corpus.source} have {labels_a_document(corpus.task)}, but the run "
            f"predicts {labels_a_document(labels.task)} (its task is {labels.task}).\nName documents labelled in the "
            "same way; if a field contains several labels, set data.separator."
        )
    numbers = {name: number for number, name in enumerate(labels.names)}
    mapping = np.array([numbers.get(name, -1) for name in corpus.label_names])  # to the run's numbers
    unknown = [
        name
        for name, number, present in zip(corpus.label_names, mapping, corpus.labels_present(split), strict=True)
        if number < 0 and present
    ]
    if unknown:
        raise UserError(
            f"The {split} documents of {corpus.name!r} from {corpus.source} have {len(unknown)} labels that the run "
            f"does not know: {abbreviated(unknown)}. It knows {abbreviated(labels.names)}.\n"
            "Remove these documents, or rename their labels to those of the run."
        )
    same = corpus.label_names == tuple(labels.names)
    table = corpus[split] if same else renumber(corpus[split], corpus.task, mapping)
    return replace(
        corpus,
        task=labels.task,
        metric=labels.metric,
        label_names=tuple(labels.names),
        label_titles=tuple(labels.titles),
        parents=tuple(labels.parents),
        tables={split: table},
        splits={},
        find_unlabeled=None,
    )


def renumber(table: "Dataset", task: Task, mapping: np.ndarray) -> "Dataset":
    """A table with renumbered labels. mapping: (L,) the new index of each label."""
    from datasets import Dataset

    columns = table.select_columns(["text", "labels"]).with_format("arrow")[:]
    labels = [sorted(mapping[old].tolist()) if task == "multilabel" else mapping[old] for old in table["labels"]]
    schema = schema_of(task)
    return Dataset(pa.table([columns["text"].cast(schema.types[0]), pa.array(labels, schema.types[1])], schema=schema))


def labels_a_document(task: str) -> str:
    return "lists of labels" if task == "multilabel" else "one label each"


def encode_split(corpus: Corpus, split: str, tokenizer: FittedTokenizer) -> TokenizedCorpus:
    """Tokenize a split with the tokenizer of a run."""
    chunks = [tokenizer.encode(texts.to_pylist()) for texts in corpus.texts(split)]
    lengths = np.concatenate([chunk.lengths for chunk in chunks])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenizedCorpus(tokenizer, {split: TokenSequences(np.concatenate([chunk.ids for chunk in chunks]), offsets)})
