"""Naive-Bayes log-count ratios of words: how much more frequent a word is in the documents with a label.

Axes: N documents, V words, L labels; a binary task has one ratio per word, that of its second label.
"""

import numpy as np
import torch
from torch import Tensor

from newsreel.corpora.corpus import Corpus
from newsreel.text.tokens import UNK, TokenizedCorpus

WEIGHT_SMOOTHING = 1.0  # added to the document counts, for weights of a linear classifier (Wang and Manning 2012)
ROW_SMOOTHING = 10.0  # for initial rows: a network would recognise its training documents by the ratios of rare words


def log_count_ratios(with_label: Tensor, documents: Tensor, smoothing: float) -> Tensor:
    """ln((p / ‖p‖₁) / (q / ‖q‖₁)) of each word and label (Wang and Manning 2012, eq. 1, on binary counts): (V, L).

    p is `smoothing` + the number of documents with the label that contain the word, and q is `smoothing` + the number
    of those without the label.
    with_label: (V, L) numbers of documents with each word and label. documents: (V,) numbers with each word.
    The ratios of <pad> and <unk> are 0.
    """
    p, q = smoothing + with_label, smoothing + documents[:, None] - with_label
    p[: UNK + 1] = q[: UNK + 1] = 0  # <pad> and <unk> are not words
    ratios = (p / p.sum(dim=0)).log() - (q / q.sum(dim=0)).log()
    ratios[: UNK + 1] = 0
    return ratios


def training_ratios(tokenized: TokenizedCorpus, corpus: Corpus, smoothing: float) -> Tensor:
    """The (V, L) log-count ratios of the vocabulary in the training documents."""
    rows, targets = corpus.splits["train"], corpus.label_probabilities()  # (N, L)
    if corpus.task == "binary":
        targets = targets[:, 1:]
    num_words = len(tokenized.tokenizer.tokens)
    with_label = np.zeros((num_words, targets.shape[1]))
    documents = np.zeros(num_words)
    sequences = tokenized.tables[rows.table]
    for row, labels in zip(rows.rows.tolist(), targets, strict=True):
        words = np.unique(sequences[row])
        with_label[words] += labels
        documents[words] += 1
    return log_count_ratios(torch.from_numpy(with_label), torch.from_numpy(documents), smoothing).float()
