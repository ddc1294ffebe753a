"""What is in a corpus, as sections for a page: figures, and what each means for a training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from newsreel.corpora.corpus import Corpus
from newsreel.corpora.description import count_scripts, label_pairs, majority_score
from newsreel.corpora.duplicates import (
    LABELLED,
    DuplicateCounts,
    WordComparison,
    compare_words,
    duplicate_notes,
    find_duplicates,
    find_unlabeled_duplicates,
)
from newsreel.reporting.corpus_figures import draw_coverage, draw_growth, draw_label_counts, draw_lengths
from newsreel.reporting.corpus_page import Examples, Section, Table
from newsreel.text.statistics import (
    QUANTILES,
    coverage_by_size,
    describe_lengths,
    split_lengths,
    telling_tokens,
    types_of,
    unknown_fraction,
    vocabulary_growth,
)
from newsreel.text.tokens import SPECIAL_TOKENS, TokenizedCorpus

RARE = 20  # labels with fewer training documents are hard to learn
MAX_LABELS = 200  # of the tables of telling words and of the documents of each label
NUM_TELLING = 10
NUM_PAIRS = 25  # of labels that occur together
NUM_EXAMPLES = 10  # of pairs of near-repeats
MAX_EXCERPT = 400  # characters of a document


@dataclass(frozen=True)
class Inspection:
    """A tokenized corpus, and how to look at it."""

    corpus: Corpus
    tokenized: TokenizedCorpus
    max_tokens: int | None
    produces_bags: bool
    near_jaccard: float  # similarity of near-repeats
    num_documents: int  # excerpts of each label

    @cached_property
    def splits(self) -> list[str]:
        return [split for split in LABELLED if split in self.corpus.splits]

    @cached_property
    def names(self) -> Sequence[str]:
        return self.corpus.label_titles or self.corpus.label_names

    @cached_property
    def by_frequency(self) -> list[int]:
        """The labels, most frequent in training first."""
        return [int(label) for label in np.argsort(-self.corpus.label_counts("train"), kind="stable")]

    @property
    def title(self) -> str:
        corpus = self.corpus
        return f"{corpus.name}: {corpus.task}, {corpus.num_labels} labels, from {corpus.source}"

    def size(self, split: str) -> int:
        return len(self.corpus.splits[split].rows)


def inspect(inspection: Inspection) -> list[Section]:
    """All sections, in the order of the page."""
    together = [labels_together(inspection)] if inspection.corpus.task == "multilabel" else []
    unlabeled = [unlabeled_section(inspection.corpus)] if "unlabeled" in inspection.corpus.splits else []
    return [
        documents_section(inspection),
        labels_section(inspection),
        *together,
        majority_section(inspection),
        duplicates_section(inspection, compare_words(inspection.corpus, inspection.near_jaccard)),
        *unlabeled,
        lengths_section(inspection),
        vocabulary_section(inspection),
        scripts_section(inspection),
        telling_section(inspection),
        excerpts_section(inspection),
    ]


def percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""


def documents_section(inspection: Inspection) -> Section:
    corpus = inspection.corpus
    rows = []
    for split in inspection.splits:
        counts = corpus.label_counts(split)
        row = [split, f"{inspection.size(split):,}", f"{(counts > 0).sum():,}"]
        if corpus.task == "multilabel":
            per_document = corpus.targets(split).sum(axis=1)
            row += [f"{per_document.mean():.2f}", f"{(per_document == 0).sum():,}"]
        rows.append(row)
    head = ["split", "documents", "labels"]
    head += ["labels per document", "documents without a label"] if corpus.task == "multilabel" else []
    of_duplicates = duplicate_notes(corpus)  # they have a section of their own
    notes = " ".join(note for note in corpus.notes if note not in of_duplicates)
    return Section(
        "Documents and labels",
        "A model learns from train, its checkpoint is chosen by validation, and test gives its score: the splits must "
        f"be large enough for each, and have every label (data.validation_fraction, data.limit). {notes}",
        [Table(head, rows)],
    )


def labels_section(inspection: Inspection) -> Section:
    corpus, order = inspection.corpus, inspection.by_frequency
    counts = {split: corpus.label_counts(split) for split in inspection.splits}
    rows = [
        [
            inspection.names[label],
            percent(counts["train"][label], inspection.size("train")),
            *(f"{counts[split][label]:,}" for split in inspection.splits),
        ]
        for label in order
    ]
    train = counts["train"]
    return Section(
        "Label frequencies",
        balance_of(train),
        [Table(["label", "of train", *inspection.splits], rows)],
        [draw_label_counts([inspection.names[label] for label in order], [int(train[label]) for label in order])],
    )


def balance_of(counts: np.ndarray) -> str:
    """What the numbers (L,) of training documents of the labels mean."""
    most, least = int(counts.max()), int(counts.min())
    if most < 1.1 * least:
        return f"All labels have about the same number of training documents, {least:,} to {most:,}."
    ratio = f"{most / least:,.{0 if most >= 10 * least else 1}f} times as many as" if least else "and there is none of"
    return (
        f"The most frequent label has {most:,} training documents, {ratio} the rarest one; labels with fewer than "
        f"{RARE}: {(counts < RARE).sum()} of {len(counts)}. With rare labels, compare by f1_macro, and try "
        "training.class_balance."
    )


def labels_together(inspection: Inspection) -> Section:
    counts = inspection.corpus.label_counts("train")
    rows = [
        [inspection.names[one], inspection.names[other], f"{count:,}", percent(count, counts[one]),
         percent(count, counts[other])]
        for one, other, count in label_pairs(inspection.corpus.targets("train"), NUM_PAIRS)
    ]  # fmt: skip
    return Section(
        "Labels that occur together",
        "Training documents with both labels of a pair. A label that hardly occurs without another one is hard to tell "
        "from it; for labels below others, see evaluation.hierarchy.",
        [Table(["label", "and", "documents", "of the first", "of the second"], rows)],
    )


def majority_section(inspection: Inspection) -> Section:
    scored = [split for split in inspection.splits if split != "train"]
    scores = {split: majority_score(inspection.corpus, split) for split in scored}
    label = inspection.names[inspection.by_frequency[0]]
    metric = "f1_micro" if inspection.corpus.task == "multilabel" else "accuracy"
    return Section(
        "Majority guess",
        f"Predicting the label that is most frequent in training, {label}, for every document has these scores: a "
        "model that is not clearly better has learned nothing.",
        [Table(["split", metric], [[split, f"{score:.4f}"] for split, (_, score) in scores.items()])],
    )


def duplicates_section(inspection: Inspection, by_words: WordComparison) -> Section:
    exact = find_duplicates(inspection.corpus)
    rows = [*within_rows(inspection, exact, by_words), *between_rows(exact, by_words)]
    overlap = exact.of_test()
    shared = 0 if overlap is None else int(overlap.shared.sum())
    effect = (
        f"{shared:,} test documents are word for word in {' or '.join(overlap.others)}: the score on them does not "
        "show how a model does on new documents. A run's report has the score without them."
        if overlap is not None and shared
        else "No test document is word for word in another split."
    )
    return Section(
        "Empty and repeated documents",
        f"{effect} The same words: apart from case, punctuation and spaces. Nearly: sequences of three words with a "
        f"Jaccard similarity of at least {inspection.near_jaccard} (near_jaccard). Remove what should not count "
        "twice; no model can be right about copies with different labels.",
        [Table(["", "documents", "of", "with other labels"], [row for row in rows if row[1] != "0"], len(rows))],
        examples=near_examples(inspection, by_words),
    )


def within_rows(inspection: Inspection, exact: DuplicateCounts, by_words: WordComparison) -> list[list[str]]:
    """Rows on each published split: what, documents, of, with other labels."""
    rows = []
    for repeats, of_words in zip(exact.repeats, by_words.counts.repeats, strict=True):
        split, total = repeats.split, f"{repeats.num_documents:,}"
        tokens = sum(int((split_lengths(inspection.corpus, inspection.tokenized, part) == 0).sum())
                     for part in repeats.parts)  # fmt: skip
        near = by_words.num_near(repeats.parts, repeats.parts)
        rows += [
            [f"{split}: empty", f"{repeats.empty:,}", total, ""],
            [f"{split}: without a token", f"{tokens:,}", total, ""],
            [f"{split}: repeats another, word for word", f"{repeats.repeated:,}", total, f"{repeats.contradictory:,}"],
            [f"{split}: repeats another, same words", f"{of_words.repeated:,}", total, f"{of_words.contradictory:,}"],
            [f"{split}: nearly repeats another", f"{near:,}", total, ""],
        ]
    return rows


def between_rows(exact: DuplicateCounts, by_words: WordComparison) -> list[list[str]]:
    """Rows on each pair of splits."""
    rows = []
    for overlap, of_words in zip(exact.overlaps, by_words.counts.overlaps, strict=True):
        others, total = " or ".join(overlap.others), f"{len(overlap.shared):,}"
        near = by_words.num_near([overlap.split], overlap.others)
        for what, kind in (("word for word", overlap), ("same words", of_words)):
            rows.append([f"{overlap.split}: in {others}, {what}", f"{kind.shared.sum():,}", total,
                         f"{kind.contradictory.sum():,}"])  # fmt: skip
        rows.append([f"{overlap.split}: nearly one in {others}", f"{near:,}", total, ""])
    return rows


def unlabeled_section(corpus: Corpus) -> Section:
    found = find_unlabeled_duplicates(corpus)
    total = f"{found.repeats[0].num_documents:,}"
    rows = [
        ["unlabelled documents", total],
        ["empty", f"{found.repeats[0].empty:,}"],
        ["repeats another, word for word", f"{found.repeats[0].repeated:,}"],
        *([f"in {overlap.others[0]}, word for word", f"{overlap.shared.sum():,}"] for overlap in found.overlaps),
    ]
    return Section(
        "Unlabelled documents",
        "Word vectors, language models and pseudo-labels are learned from them. Those that are also test documents "
        "make scores optimistic: their words are known then, though not their labels.",
        [Table(["", "documents"], rows)],
    )


def near_examples(inspection: Inspection, by_words: WordComparison) -> list[Examples]:
    """Pairs of near-repeats, those across splits first, then the most similar ones."""
    pairs, similarities = by_words.near.pairs, by_words.near.similarities
    places = [tuple(by_words.split_and_row(int(document)) for document in pair) for pair in pairs]
    order = sorted(range(len(pairs)), key=lambda pair: (places[pair][0][0] == places[pair][1][0], -similarities[pair]))
    return [
        Examples(
            f"{' and '.join(f'{split} document {row}' for split, row in places[pair])}: {similarities[pair]:.2f}",
            [excerpt(inspection.corpus, split, row) for split, row in places[pair]],
        )
        for pair in order[:NUM_EXAMPLES]
    ]


def excerpt(corpus: Corpus, split: str, row: int) -> str:
    text = " ".join(corpus.text(split, row).split())
    return text[:MAX_EXCERPT] + (" …" if len(text) > MAX_EXCERPT else "")


def lengths_section(inspection: Inspection) -> Section:
    lengths = {split: split_lengths(inspection.corpus, inspection.tokenized, split) for split in inspection.splits}
    described = {split: describe_lengths(of_split, inspection.max_tokens) for split, of_split in lengths.items()}
    rows = [
        [split, f"{of.num_tokens:,}", f"{of.mean:,.1f}", *(f"{value:,}" for value in of.quantiles), f"{of.longest:,}",
         percent(of.cut_documents, of.num_documents), percent(of.cut_tokens, of.num_tokens)]
        for split, of in described.items()
    ]  # fmt: skip
    train = described["train"]
    effect = (
        "batches.max_tokens is null, so nothing is cut."
        if inspection.max_tokens is None
        else f"batches.max_tokens={inspection.max_tokens} cuts {percent(train.cut_documents, train.num_documents)} of "
        f"the training documents and {percent(train.cut_tokens, train.num_tokens)} of their tokens; a higher limit "
        "reads more and takes longer, and batches.truncation chooses the part that is read."
    )
    head = ["split", "tokens", "mean", *(f"{quantile:.0%}" for quantile in QUANTILES), "longest", "cut documents",
            "cut tokens"]  # fmt: skip
    figures = [draw_lengths(lengths["train"], inspection.max_tokens)]
    return Section("Lengths", f"Tokens per document. {effect}", [Table(head, rows)], figures)


def vocabulary_section(inspection: Inspection) -> Section:
    corpus, tokenized = inspection.corpus, inspection.tokenized
    size = len(tokenized.tokenizer.tokens) - len(SPECIAL_TOKENS)
    train = corpus.splits["train"]
    sequences = tokenized.tables[train.table]
    if sequences.mapping is None:
        known = "what is not in it is left out." if inspection.produces_bags else "other words are split into pieces."
        return Section("Vocabulary", f"{size:,} tokens, learned from the training documents; {known}")
    validation = corpus.splits["validation"]
    train_types = types_of(sequences, train.rows)
    coverage = coverage_by_size(train_types, types_of(tokenized.tables[validation.table], validation.rows))
    unknown = unknown_fraction(corpus, tokenized, "validation")
    rows = [[f"{words:,}", f"{of_train:.2%}", f"{of_validation:.2%}"] for words, of_train, of_validation in coverage]
    return Section(
        "Vocabulary",
        f"The vocabulary has {size:,} of the {coverage[-1][0]:,} different words of the training documents; "
        f"{unknown:.2%} of the validation tokens are unknown. tokenizer.max_size and tokenizer.min_document_count "
        "change that; where even the whole vocabulary leaves many unknown, try tokenizer=subwords.",
        [Table(["most frequent words", "train covered", "validation covered"], rows)],
        [draw_growth(*vocabulary_growth(train_types)), draw_coverage(coverage, size)],
    )


def scripts_section(inspection: Inspection) -> Section:
    tables = dict.fromkeys(inspection.corpus.splits[split].table for split in inspection.splits)
    counts = {table: count_scripts(inspection.corpus, table) for table in tables}
    names = dict.fromkeys(name for of_table in counts.values() for name in of_table)
    rows = [[name, *(f"{of_table.get(name, 0):,}" for of_table in counts.values())] for name in names]
    return Section(
        "Scripts",
        "Documents by the script of most of their letters, before validation or test documents are split off. Several "
        "scripts mean several languages: word vectors and lower-casing suit one of them at most; tokenizer=subwords "
        "suits all.",
        [Table(["script", *counts], rows)],
    )


def telling_section(inspection: Inspection) -> Section:
    telling = telling_tokens(inspection.corpus, inspection.tokenized, NUM_TELLING)
    rows = [
        [inspection.names[label], " ".join(token for token, _ in telling[label])]
        for label in inspection.by_frequency[:MAX_LABELS]
    ]
    return Section(
        "Most telling words",
        "The words whose log-odds differ most between the training documents of a label and the others (Monroe, "
        "Colaresi and Quinn 2008). Names, dates or sources among them are shortcuts that a model will learn, and that "
        "new documents may not have.",
        [Table(["label", "words"], rows)],
    )


def excerpts_section(inspection: Inspection) -> Section:
    corpus, targets = inspection.corpus, inspection.corpus.targets("train")
    examples = []
    for label in inspection.by_frequency[:MAX_LABELS]:
        rows = np.flatnonzero(targets == label if targets.ndim == 1 else targets[:, label])
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, inspection.num_documents).astype(np.int64))]
        texts = [excerpt(corpus, "train", int(row)) for row in chosen] if len(rows) else []
        examples.append(Examples(inspection.names[label], texts))
    return Section(
        "Documents of each label",
        "Training documents at even distances. If you cannot tell the label of some of them, a model cannot either: "
        "check the labels before the settings.",
        examples=examples,
    )
