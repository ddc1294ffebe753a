"""The unlabelled documents of a corpus as token ids."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from newsreel.core.cache import Cache
from newsreel.core.threads import map_in_threads
from newsreel.corpora.corpus import Corpus
from newsreel.text.tokens import TokenizedCorpus
from newsreel.text.words import read_sequences, write_sequences

ENCODING_VERSION = 1  # raise it when the same tokenizer and documents result in other token ids


def encode_unlabeled(tokenized: TokenizedCorpus, corpus: Corpus, cache: Path) -> TokenizedCorpus:
    """The tokenized corpus with its table `unlabeled`, encoded now or read from the cache.

    corpus: has the table (see `Corpus.with_unlabeled`).
    """
    if "unlabeled" in tokenized.tables:
        return tokenized
    tokenizer = tokenized.tokenizer

    def encode(texts: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        encoded = tokenizer.encode(texts.to_pylist())
        return encoded.ids, encoded.lengths

    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with tqdm(total=len(corpus.tables["unlabeled"]), unit=" documents", desc="encoding", disable=None) as bar:
            for ids, lengths in map_in_threads(encode, corpus.texts("unlabeled")):
                yield ids, lengths
                bar.update(len(lengths))

    table = Cache(cache).get_or_build(
        "encoded",
        f"{corpus.name}-unlabeled",
        (ENCODING_VERSION, corpus.unlabeled_digest(), tokenizer.digest()),
        lambda partial: write_sequences(partial, "unlabeled", chunks()),
        lambda folder: read_sequences(folder, "unlabeled"),
        f"the tokens of the unlabelled documents of {corpus.name!r}",
    )
    return replace(tokenized, tables={**tokenized.tables, "unlabeled": table})
