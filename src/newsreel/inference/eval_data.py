"""The documents that finished runs are asked about: those of their own corpora, or others with the same labels."""

from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from newsreel.config.schema import Settings, check_section, find_target
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, CorpusReader, Paths, Task, named_in_short
from newsreel.corpora.prepared import MULTI_LABEL, SINGLE_LABEL
from newsreel.runs.trained_run import Labels, TrainedRun
from newsreel.text.tokens import FittedTokenizer, TokenizedCorpus, TokenSequences

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class PathOverrides:
    """The section `paths`: folders in place of those in a run's config; None: the run's."""

    corpora_dir: str | None
    cache_dir: str | None
    output_dir: str


def read_reader(data: Settings, problems: list[str]) -> CorpusReader | None:
    """The reader of another corpus than a run's, or None if there is none or its settings are problems."""
    target = find_target("data", data, CorpusReader, problems) if data else None
    if target is None:
        return None
    if found := check_section("data", data, target):
        problems += found
        return None
    reader: CorpusReader = target(**{name: value for name, value in data.items() if name != "_target_"})
    return reader


def find_documents(runs: list[TrainedRun], split: str, places: PathOverrides, reader: CorpusReader | None) -> Corpus:
    """The split to measure on, with the runs' labels: of the corpus that all of them have, or of another."""
    paths = [paths_of(run, places) for run in runs]
    if reader is not None:
        return with_labels(reader.load_split(split, paths[0]), split, runs[0].labels)
    corpora = [own_corpus(run, own_paths) for run, own_paths in zip(runs, paths, strict=True)]
    require_same_documents(runs, corpora, split)
    return with_labels(corpora[0], split, runs[0].labels)


def paths_of(run: TrainedRun, places: PathOverrides) -> Paths:
    """A run's paths, absolute; folders that are given here take the place of its own, and start here."""

    def absolute(given: str | None, own: str) -> str:
        start, path = (run.command.start, own) if given is None else (Path.cwd(), given)
        return str(start / Path(path).expanduser())

    own = run.experiment.paths
    return Paths(
        corpora_dir=absolute(places.corpora_dir, own.corpora_dir),
        cache_dir=absolute(places.cache_dir, own.cache_dir),
        output_dir=own.output_dir,
    )


def own_corpus(run: TrainedRun, paths: Paths) -> Corpus:
    """The corpus of a run, divided as for its training. Raises UserError."""
    with chdir(run.command.start):
        return run.experiment.reader.load(paths)


def require_same_documents(runs: list[TrainedRun], corpora: list[Corpus], split: str) -> None:
    """Raise UserError if runs do not have the same documents in a split."""
    first = corpora[0]
    for run, corpus in zip(runs, corpora, strict=True):
        if corpus.fingerprint != first.fingerprint or not np.array_equal(
            corpus.splits[split].rows, first.splits[split].rows
        ):
            raise UserError(
                f"{run.run_dir} and {runs[0].run_dir} have other {split} documents ({corpus.name!r} "
                f"from {corpus.source} and {first.name!r} from {first.source}, perhaps limited or divided otherwise): what one was trained "
                "on can be among what the other is measured by.\nName the documents to measure on with data=…, or "
                "runs on the same ones."
            )


def with_labels(corpus: Corpus, split: str, labels: Labels) -> Corpus:
    """One split of a corpus alone, its labels being a run's, found by their names.

    Raises UserError if documents have labels that the run does not know, or several where it gives one.
    """
    if split not in corpus.splits:
        raise UserError(f"{corpus.name!r} from {corpus.source} has no {split} documents: it has {list(corpus.splits)}.")
    if (corpus.task == "multilabel") != (labels.task == "multilabel"):
        raise UserError(
            f"The documents of {corpus.name!r} from {corpus.source} have {labels_a_document(corpus.task)}, and the run "
            f"gives {labels_a_document(labels.task)} (its task is {labels.task}).\nName documents that are labelled "
            "alike; data.separator says what stands between labels, if one text holds several."
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
            f"does not know: {named_in_short(unknown)}. It knows {named_in_short(labels.names)}.\n"
            "Remove those documents, or write their labels as the run does."
        )
    same = corpus.label_names == tuple(labels.names)
    table = corpus[split] if same else renumbered(corpus[split], corpus.task, mapping)
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


def renumbered(table: "Dataset", task: Task, mapping: np.ndarray) -> "Dataset":
    """A table with other numbers for its labels. mapping: (L,) the new number of each, of those that occur."""
    from datasets import Dataset

    columns = table.select_columns(["text", "labels"]).with_format("arrow")[:]
    labels = [sorted(mapping[given].tolist()) if task == "multilabel" else mapping[given] for given in table["labels"]]
    schema = MULTI_LABEL if task == "multilabel" else SINGLE_LABEL
    return Dataset(pa.table([columns["text"].cast(schema.types[0]), pa.array(labels, schema.types[1])], schema=schema))


def labels_a_document(task: str) -> str:
    return "lists of labels" if task == "multilabel" else "one label each"


def encoded(corpus: Corpus, split: str, tokenizer: FittedTokenizer) -> TokenizedCorpus:
    """The documents of a corpus's table as a finished run's tokenizer reads them."""
    chunks = [tokenizer.encode(texts.to_pylist()) for texts in corpus.texts(split)]
    lengths = np.concatenate([chunk.lengths for chunk in chunks])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenizedCorpus(tokenizer, {split: TokenSequences(np.concatenate([chunk.ids for chunk in chunks]), offsets)})
