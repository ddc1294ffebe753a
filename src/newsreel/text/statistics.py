"""Statistics of a tokenized corpus: lengths, growth and coverage of the vocabulary, and the words typical of a label.

Axes: N documents, T tokens, V tokens of the vocabulary, L labels.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from newsreel.corpora.corpus import Corpus
from newsreel.corpora.duplicates import EMPTY, LABELLED, text_keys
from newsreel.text.tokens import SPECIAL_TOKENS, UNK, TokenizedCorpus, TokenSequences

QUANTILES = (0.05, 0.5, 0.9, 0.99)
COVERAGE_SIZES = (500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000)
NUM_POINTS = 60  # of the curve of the vocabulary's growth
MAX_CHARACTERS = 15.0  # per token; English words have about 6 with their space
PRIOR_FRACTION = 0.1  # weight of the prior of `telling_tokens`, in tokens of the training documents
MIN_Z = 1.96  # telling tokens differ from the other labels by more than chance, at 5%


@dataclass(frozen=True)
class Lengths:
    """Numbers of tokens in the documents of a split."""

    num_documents: int
    num_tokens: int
    without_tokens: int
    mean: float
    quantiles: tuple[int, ...]  # at QUANTILES
    longest: int
    cut_documents: int  # documents with more than `max_tokens`
    cut_tokens: int  # tokens of them that are not read


def split_lengths(corpus: Corpus, tokenized: TokenizedCorpus, split: str) -> np.ndarray:
    """(N,) number of tokens of each document of a split."""
    rows = corpus.splits[split]
    return np.asarray(tokenized.tables[rows.table].lengths[rows.rows])


def describe_lengths(lengths: np.ndarray, max_tokens: int | None) -> Lengths:
    """lengths: (N,), N at least 1."""
    excess = np.maximum(0, lengths - (lengths.max() if max_tokens is None else max_tokens))
    quantiles = np.quantile(lengths, QUANTILES, method="inverted_cdf")
    return Lengths(
        num_documents=len(lengths),
        num_tokens=int(lengths.sum()),
        without_tokens=int((lengths == 0).sum()),
        mean=float(lengths.mean()),
        quantiles=tuple(int(value) for value in quantiles),
        longest=int(lengths.max()),
        cut_documents=int((excess > 0).sum()),
        cut_tokens=int(excess.sum()),
    )


def types_of(sequences: TokenSequences, rows: np.ndarray) -> np.ndarray:
    """(T,) the tokens of some documents before they are mapped to the vocabulary, in the order of the documents."""
    return np.asarray(TokenSequences(sequences.ids, sequences.offsets).select(rows).ids)


def vocabulary_growth(types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of tokens read, at up to NUM_POINTS points, and of the different words among them. types: (T,)."""
    first = np.full(int(types.max(initial=0)) + 1, len(types))
    first[types[::-1]] = np.arange(len(types) - 1, -1, -1)  # the last assignment is that of the first occurrence
    first = np.sort(first[first < len(types)])
    tokens = np.unique(np.linspace(1, max(1, len(types)), NUM_POINTS).astype(np.int64))
    return tokens, np.searchsorted(first, tokens)


def coverage_by_size(train: np.ndarray, validation: np.ndarray) -> list[tuple[int, float, float]]:
    """For several sizes of the vocabulary: size, fraction of the training and of the validation tokens in it.

    The vocabulary consists of the most frequent words of the training documents. train, validation: (T,) types.
    """
    num_types = int(max(train.max(initial=0), validation.max(initial=0))) + 1
    counts = np.bincount(train, minlength=num_types)
    order = np.argsort(-counts, kind="stable")
    num_known = int((counts > 0).sum())
    covered = np.cumsum(counts[order]) / max(1, len(train))
    covered_validation = np.cumsum(np.bincount(validation, minlength=num_types)[order]) / max(1, len(validation))
    sizes = [*(size for size in COVERAGE_SIZES if size < num_known), num_known] if num_known else []
    return [(size, float(covered[size - 1]), float(covered_validation[size - 1])) for size in sizes]


def unknown_fraction(corpus: Corpus, tokenized: TokenizedCorpus, split: str) -> float:
    """Fraction of a split's tokens that are not in the vocabulary."""
    rows = corpus.splits[split]
    counts = tokenized.tables[rows.table].count_tokens(rows.rows, len(tokenized.tokenizer.tokens))
    return float(counts[UNK] / max(1, counts.sum()))


def telling_tokens(corpus: Corpus, tokenized: TokenizedCorpus, num_tokens: int) -> list[list[tuple[str, float]]]:
    """For each label, the tokens that are most typical of its training documents, with their z-scores.

    The z-score of the log-odds ratio of a token between the documents with the label and the others, with an
    informative Dirichlet prior proportional to the token's frequency in all of them (Monroe, Colaresi and Quinn 2008,
    equations 15, 16, 19 and 22, with the variance of equation 20). Tokens below MIN_Z are left out.
    """
    rows = corpus.splits["train"]
    sequences, targets = tokenized.tables[rows.table], corpus.targets("train")
    size = len(tokenized.tokenizer.tokens)
    documents = sequences.select(rows.rows)
    total = np.bincount(documents.ids, minlength=size)
    total[: len(SPECIAL_TOKENS)] = 0
    prior = PRIOR_FRACTION * total
    telling = []
    for label in range(corpus.num_labels):
        has_label = targets == label if targets.ndim == 1 else targets[:, label] != 0
        counts = np.bincount(documents.ids[np.repeat(has_label, documents.lengths)], minlength=size)
        counts[: len(SPECIAL_TOKENS)] = 0
        scores = log_odds_z(counts, total - counts, prior)
        best = np.argsort(-scores, kind="stable")[:num_tokens]
        telling.append([(tokenized.tokenizer.tokens[token], float(scores[token])) for token in best
                        if scores[token] > MIN_Z])  # fmt: skip
    return telling


def log_odds_z(counts: np.ndarray, others: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """(V,) z-scores of the log-odds ratios between two counts (V,) of tokens; 0 for tokens without a prior."""
    occurring = prior > 0
    scores = np.zeros(len(counts))
    variance, difference = np.zeros(int(occurring.sum())), np.zeros(int(occurring.sum()))
    for sign, of_group in ((1, counts), (-1, others)):
        smoothed = (of_group + prior)[occurring]
        rest = of_group.sum() + prior.sum() - smoothed
        difference += sign * np.log(smoothed / np.maximum(rest, 1e-9))
        variance += 1 / smoothed
    scores[occurring] = difference / np.sqrt(variance)
    return scores


def token_notes(corpus: Corpus, tokenized: TokenizedCorpus, produces_bags: bool) -> list[str]:
    """Notes for a run: documents without tokens, and tokens that are much longer than words.

    produces_bags: whether the tokenizer drops what is not in its vocabulary, so that tokens say little about lengths.
    """
    lengths = {split: split_lengths(corpus, tokenized, split) for split in LABELLED if split in corpus.splits}
    without = {split: int((of_split == 0).sum()) for split, of_split in lengths.items()}
    notes = [without_tokens_note(corpus, without)] if any(without.values()) else []
    per_token = 0.0 if produces_bags else median_characters(corpus, lengths["train"])
    if per_token > MAX_CHARACTERS:
        notes.append(
            f"Half of the training documents have at least {per_token:.0f} characters per token; English words have "
            "about 6. Long stretches of text may be one token each, or be left out: check tokenizer.word_pattern, or "
            "use tokenizer=subwords."
        )
    return notes


def without_tokens_note(corpus: Corpus, without: dict[str, int]) -> str:
    num_documents = sum(len(corpus.splits[split].rows) for split in without)
    counted = ", ".join(f"{count:,} in {split}" for split, count in without.items() if count)
    total = sum(without.values())
    empty = sum(int((text_keys(corpus, split) == EMPTY).sum()) for split, count in without.items() if count)
    remedy = "remove them." if empty == total else "remove them, or change the tokenizer's rules."
    return (
        f"{total:,} of the {num_documents:,} documents ({total / num_documents:.1%}) have no token: {counted}; "
        f"{empty:,} are empty texts. The model reads nothing in them: {remedy}"
    )


def median_characters(corpus: Corpus, lengths: np.ndarray) -> float:
    """Median number of characters per token of the training documents that have tokens; 0 without any."""
    rows = corpus.splits["train"]
    chunks = [pl.Series(texts, dtype=pl.String).str.len_chars().to_numpy() for texts in corpus.texts(rows.table)]
    characters = np.concatenate(chunks)[rows.rows]
    with_tokens = lengths > 0
    return float(np.median(characters[with_tokens] / lengths[with_tokens])) if with_tokens.any() else 0.0
