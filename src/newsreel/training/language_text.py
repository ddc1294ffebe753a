"""The text of a language model: training and unlabelled documents, some of them held out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from newsreel.batches.streams import held_out_documents, join_documents
from newsreel.config.pretraining import Pretraining
from newsreel.core.cache import digest
from newsreel.corpora.corpus import Corpus
from newsreel.corpora.duplicates import unlabeled_notes
from newsreel.text.tokens import PAD, TokenizedCorpus, TokenSequences
from newsreel.text.unlabeled import encode_unlabeled
from newsreel.text.words import WordTokenizer


@dataclass(frozen=True)
class Text:
    """The documents that a language model is trained on and measured on, never validation or test documents."""

    corpus: Corpus
    tokenized: TokenizedCorpus
    tables: Sequence[TokenSequences]
    training: Sequence[np.ndarray]  # rows of each table
    held_out: Sequence[np.ndarray]
    fingerprint: str
    notes: Sequence[str]

    @property
    def frequency_perplexity(self) -> float:
        """Of the held-out text, by the frequencies of the words in training alone, each counted once more."""
        counts, held_out = self.counts(self.training) + 1, self.counts(self.held_out)
        return float(np.exp(-(held_out * np.log(counts / counts.sum())).sum() / held_out.sum()))

    def counts(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """(V,) int64: how often each token occurs in some documents, with their ends as <pad>."""
        size = len(self.tokenized.tokenizer.tokens)
        counts = sum(table.count_tokens(part, size) for table, part in zip(self.tables, rows, strict=True))
        assert isinstance(counts, np.ndarray)
        counts[PAD] += sum(map(len, rows))
        return counts

    def joined(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """(N,) int32: some documents one after another, with <pad> as their boundaries."""
        return join_documents([table[int(row)] for table, part in zip(self.tables, rows, strict=True) for row in part])


def load_text(pretraining: Pretraining) -> Text:
    """Load and tokenize the documents, and hold some of them out by data.split_seed. Raises UserError."""
    corpus = pretraining.reader.load(pretraining.paths).with_unlabeled()
    notes, tokenizer = list(corpus.notes), pretraining.tokenizer
    has_unlabeled = "unlabeled" in corpus.tables
    if has_unlabeled:
        notes += unlabeled_notes(corpus)
    else:
        notes.append(f"{corpus.name} has no unlabelled documents: the text is that of the training documents alone.")
        if isinstance(tokenizer, WordTokenizer):
            tokenizer = replace(tokenizer, unlabeled=False)
    tokenized = tokenizer.fit(corpus, pretraining.paths.cache)
    fingerprint = corpus.fingerprint
    training = corpus.splits["train"]
    tables, rows = [tokenized.tables[training.table]], [training.rows]
    if has_unlabeled:
        tokenized = encode_unlabeled(tokenized, corpus, pretraining.paths.cache)
        tables.append(tokenized.tables["unlabeled"])
        rows.append(np.arange(len(tables[1]), dtype=np.int64))
        fingerprint = digest(fingerprint, corpus.unlabeled_digest())
    numbers = held_out_documents(
        sum(map(len, rows)), pretraining.batches.held_out_fraction, pretraining.reader.split_seed
    )
    kept, held_out = (split_rows(part, rows) for part in numbers)
    return Text(corpus, tokenized, tables, kept, held_out, fingerprint, notes)


def split_rows(numbers: np.ndarray, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Rows of each table, from numbers that count the rows of all tables."""
    bounds = np.cumsum([0, *map(len, rows)])
    return [
        part[numbers[(numbers >= start) & (numbers < end)] - start]
        for part, start, end in zip(rows, bounds[:-1], bounds[1:], strict=True)
    ]
