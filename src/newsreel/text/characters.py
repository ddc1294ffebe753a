"""Character tokens: the code points of a text, with a vocabulary of the most frequent ones.

A code point is an integer below NUM_CODE_POINTS; documents are encoded as code points once, whatever the vocabulary.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from annotated_types import Ge
from scipy.sparse import csr_array

from newsreel.core.cache import Cache
from newsreel.core.errors import UserError
from newsreel.core.json_files import parse_json
from newsreel.corpora.corpus import Corpus
from newsreel.corpora.description import UNSPACED
from newsreel.text.rules import TextRules
from newsreel.text.tokens import (
    SPECIAL_TOKENS,
    UNK,
    FittedTokenizer,
    TextSpans,
    TokenizedCorpus,
    Tokenizer,
    TokenSequences,
    check_tokens,
)
from newsreel.text.words import ENCODED_TABLES, choose, count_types, read_sequences, write_sequences

log = logging.getLogger(__name__)

ENCODING_VERSION = 1  # raise it when the same rules result in other characters
NUM_CODE_POINTS = 0x110000  # of Unicode
WHITESPACE = r"\s+"
# The parts of a text that an explanation shows: runs without spaces, with the space after them; in scripts that are
# written without spaces, single characters with their marks. They cover the whole prepared text.
SPAN = rf"(?:[{UNSPACED}]\p{{M}}*|[^\s{UNSPACED}]+) ?"


@dataclass(frozen=True, kw_only=True)
class CharacterRules(TextRules):
    """Rules for the characters of a text: those of TextRules, then every run of whitespace becomes one space.

    Whitespace at the beginning and the end is dropped.
    """

    def apply(self, texts: pl.Series) -> pl.Series:
        """The prepared texts."""
        return super().apply(texts).str.replace_all(WHITESPACE, " ").str.strip_chars(" ")

    def code_points(self, texts: pl.Series) -> TokenSequences:
        """The code points of each prepared text."""
        prepared = self.apply(texts)
        lengths = prepared.str.len_chars().to_numpy().astype(np.int64)
        codes = np.frombuffer("".join(prepared.to_list()).encode("utf-32-le"), dtype=np.int32)
        return TokenSequences(codes, np.concatenate([[0], np.cumsum(lengths)]))


@dataclass(frozen=True, kw_only=True)
class CharacterRuleTokenizer(CharacterRules, Tokenizer):
    """Base class of tokenizers that are based on characters, with the limits of their vocabulary."""

    max_size: Annotated[int, Ge(1)] | None
    min_document_count: Annotated[int, Ge(1)]

    @property
    def rules(self) -> CharacterRules:
        return CharacterRules.of(self)


@dataclass(frozen=True, kw_only=True)
class CharacterTokenizer(CharacterRuleTokenizer):
    """Every character; the vocabulary consists of the most frequent characters of the training documents."""

    def fit(self, corpus: Corpus, cache: Path) -> TokenizedCorpus:
        rules = self.rules.for_corpus(corpus)
        tables = encode_once(rules, corpus, cache)
        training = corpus.splits["train"]
        counts, document_counts = count_types(tables[training.table], training.rows, NUM_CODE_POINTS)
        present = np.flatnonzero(counts)
        characters = pl.Series([chr(code) for code in present], dtype=pl.String)
        selected = choose(characters, counts[present], document_counts[present], self.max_size, self.min_document_count)
        if not len(selected):
            raise UserError(
                f"No character occurs in at least tokenizer.min_document_count={self.min_document_count} of the "
                f"{len(training.rows):,} training documents of {corpus.name!r}. Check the documents and the "
                "tokenizer's settings."
            )
        tokenizer = FittedCharacters(rules, [*SPECIAL_TOKENS, *characters.gather(selected).to_list()])
        mapped = {name: TokenSequences(table.ids, table.offsets, tokenizer.ids) for name, table in tables.items()}
        return TokenizedCorpus(tokenizer, mapped)


@dataclass(frozen=True)
class SavedCharacters:
    """The content of tokenizer.json."""

    rules: CharacterRules
    tokens: list[str]


class FittedCharacters(FittedTokenizer):
    """Character rules with a vocabulary."""

    def __init__(self, rules: CharacterRules, tokens: list[str]) -> None:
        self.rules = rules
        self.tokens = tokens
        self.ids = np.full(NUM_CODE_POINTS, UNK, dtype=np.int32)  # by code point
        codes = [ord(token) for token in tokens[len(SPECIAL_TOKENS) :]]
        self.ids[codes] = np.arange(len(SPECIAL_TOKENS), len(tokens))

    def encode(self, texts: Sequence[str]) -> TokenSequences:
        codes = self.rules.code_points(pl.Series(texts, dtype=pl.String))
        return TokenSequences(self.ids[codes.ids], codes.offsets)

    def spans(self, text: str) -> TextSpans:
        """The words; a space belongs to the word before it."""
        texts, span_of_character = split_spans(self.rules, text)
        num_characters = len(span_of_character)
        entries = (np.ones(num_characters), (np.arange(num_characters), span_of_character))
        return TextSpans(texts, csr_array(entries, shape=(num_characters, len(texts))))

    def to_json(self) -> str:
        content = {"kind": "characters", "rules": asdict(self.rules), "tokens": self.tokens}
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def restore(cls, content: bytes, folder: Path) -> "FittedCharacters":
        saved = parse_json(content, SavedCharacters)
        check_tokens(saved.tokens)
        if any(len(token) != 1 for token in saved.tokens[len(SPECIAL_TOKENS) :]):
            raise ValueError("a token is not one character")
        return cls(saved.rules, saved.tokens)


def split_spans(rules: CharacterRules, text: str) -> tuple[list[str], np.ndarray]:
    """The spans of a prepared text, without the spaces after them, and the (C,) span of each of its characters."""
    spans = rules.apply(pl.Series([text], dtype=pl.String)).str.extract_all(SPAN)[0].to_list()
    return [span.rstrip(" ") for span in spans], np.repeat(np.arange(len(spans)), [len(span) for span in spans])


def encode_once(rules: CharacterRules, corpus: Corpus, cache: Path) -> dict[str, TokenSequences]:
    """The code points of the labelled tables, from the cache if they are in it."""
    names = [name for name in corpus.tables if name in ENCODED_TABLES]

    def build(partial: Path) -> None:
        log.info(f"{corpus.name}: finding the characters of the documents")
        for name in names:
            write_sequences(partial, name, code_point_chunks(rules, corpus, name))

    def load(folder: Path) -> dict[str, TokenSequences]:
        return {name: read_sequences(folder, name) for name in names}

    identity = (ENCODING_VERSION, corpus.fingerprint, asdict(rules))
    what = f"the characters of {corpus.name!r}"
    return Cache(cache).get_or_build("encoded", f"{corpus.name}-characters", identity, build, load, what)


def code_point_chunks(rules: CharacterRules, corpus: Corpus, table: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Code points and lengths of a table's documents, in chunks."""
    for texts in corpus.texts(table):
        codes = rules.code_points(pl.Series(texts, dtype=pl.String))
        yield codes.ids, codes.lengths
