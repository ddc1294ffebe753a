"""Word tokens: rules vectorised over columns of documents, and a vocabulary of the most frequent words."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
from annotated_types import Ge

from newsreel.core.cache import Cache
from newsreel.core.errors import UserError
from newsreel.core.json_files import parse_json
from newsreel.core.threads import map_in_threads
from newsreel.corpora.corpus import Corpus
from newsreel.corpora.description import UNSPACED
from newsreel.text.rules import TextRules
from newsreel.text.tokens import (
    SPECIAL_TOKENS,
    UNK,
    FittedTokenizer,
    TokenizedCorpus,
    Tokenizer,
    TokenSequences,
    check_tokens,
)

log = logging.getLogger(__name__)

# Scripts written without spaces between words: every character, with its marks, is a token.
KATAKANA = r"[\p{Katakana}\x{30FC}\x{FF70}]"
LETTER = rf"[\p{{L}}\p{{M}}\p{{N}}--[{UNSPACED}\p{{Katakana}}\x{{30FC}}\x{{FF70}}]]"
EMOJI = r"[\p{Emoji_Presentation}[\p{Emoji}&&[\x{2600}-\x{10FFFF}]]][\x{FE0F}\x{20E3}\x{1F3FB}-\x{1F3FF}]*"
WORD_PATTERN = "|".join(
    [
        rf"[{UNSPACED}]\p{{M}}*",
        rf"{KATAKANA}+",
        rf"\p{{RI}}{{2}}|{EMOJI}(?:\x{{200D}}{EMOJI})*",  # flags, and sequences such as families
        rf"{LETTER}+(?:['’\x{{200C}}\x{{200D}}]{LETTER}+)*",  # letters and digits, don't; joiners of Persian and Hindi
    ]
)
TITLE_MARK = "title:"  # before a word of the title
TITLE = r"\A\s*([^\n]*)\n"  # the first line of several
ENCODING_VERSION = 2  # raise it when the same rules result in other words
PUNCTUATION = r"[\p{P}\p{S}]"
ENCODED_TABLES = ("train", "validation", "test")  # the tables to encode; not the unlabelled documents


@dataclass(frozen=True, kw_only=True)
class WordRules(TextRules):
    """Rules that extract words from texts: a pattern matches them in the prepared text.

    word_pattern: None is WORD_PATTERN.
    mark_title: prepend the words of the first line of a text with several lines again, each with the prefix TITLE_MARK,
    so that a word can have another weight in a title.
    """

    word_pattern: str | None
    punctuation: Literal["drop", "keep"]
    mark_title: bool

    def __post_init__(self) -> None:
        pattern = WORD_PATTERN if self.word_pattern is None else self.word_pattern
        object.__setattr__(self, "word_pattern", pattern)
        try:
            matches_nothing = pl.Series([""]).str.contains(pattern).item()
        except pl.exceptions.PolarsError as error:
            reason = str(error).partition("\n\n")[0].replace("regex error: ", "", 1)
            raise UserError(
                f"tokenizer.word_pattern={self.word_pattern} is not a valid regular expression of Rust's regex crate: "
                f"{reason}"
            ) from error
        if matches_nothing:
            raise UserError(
                f"tokenizer.word_pattern={self.word_pattern} matches the empty text: it must match at least one "
                "character, as [a-z]+ does."
            )

    @property
    def pattern(self) -> str:
        return f"{self.word_pattern}|{PUNCTUATION}" if self.punctuation == "keep" else f"{self.word_pattern}"

    def words(self, texts: pl.Series) -> pl.Series:
        """The words of each text, as a column of lists."""
        texts = self.apply(texts)
        words = texts.str.extract_all(self.pattern)
        if not self.mark_title:
            return words
        titles = texts.str.extract(TITLE).fill_null("").str.extract_all(self.pattern)
        marked = titles.list.eval(TITLE_MARK + pl.element())
        return pl.select(pl.concat_list(marked, words)).to_series()


@dataclass(frozen=True, kw_only=True)
class RuleTokenizer(WordRules, Tokenizer):
    """Base class of tokenizers that are based on word rules, with the limits of their vocabulary."""

    max_size: Annotated[int, Ge(1)] | None
    min_document_count: Annotated[int, Ge(1)]

    @property
    def rules(self) -> WordRules:
        return WordRules.of(self)


@dataclass(frozen=True, kw_only=True)
class WordTokenizer(RuleTokenizer):
    """Words extracted by rules; the vocabulary consists of the most frequent words of the training documents.

    unlabeled: whether the vocabulary counts the corpus's unlabelled documents too. With pseudo-labels they are training
    documents, and count anyway.
    """

    unlabeled: bool = False

    def fit(self, corpus: Corpus, cache: Path) -> TokenizedCorpus:
        rules = self.rules.for_corpus(corpus)
        training = corpus.splits["train"]
        count_unlabeled = self.unlabeled and corpus.pseudo is None
        if count_unlabeled:
            corpus = corpus.with_unlabeled()
            if "unlabeled" not in corpus.tables:
                raise UserError(
                    f"tokenizer.unlabeled is true, but the corpus {corpus.name!r} ({corpus.source}) has no unlabelled "
                    "documents: set tokenizer.unlabeled=false, or add some (docs/own_corpus.md)."
                )
        types, tables = encode_once(rules, corpus, cache, count_unlabeled)
        counts, document_counts = count_types(tables[training.table], training.rows, len(types))
        if count_unlabeled:
            unlabeled = tables["unlabeled"]
            more = count_types(unlabeled, np.arange(len(unlabeled)), len(types))
            counts, document_counts = counts + more[0], document_counts + more[1]
        selected = choose(types, counts, document_counts, self.max_size, self.min_document_count)
        if not len(selected):
            raise UserError(
                f"No word of the {len(training.rows):,} training documents of {corpus.name!r} matches "
                f"tokenizer.word_pattern in at least tokenizer.min_document_count={self.min_document_count} documents. "
                "Check the documents and the tokenizer's settings."
            )
        mapping = np.full(len(types), UNK, dtype=np.int32)
        mapping[selected] = np.arange(len(selected), dtype=np.int32) + len(SPECIAL_TOKENS)
        tokenizer = FittedWords(rules, [*SPECIAL_TOKENS, *types.gather(selected).to_list()])
        mapped = {name: TokenSequences(table.ids, table.offsets, mapping) for name, table in tables.items()}
        return TokenizedCorpus(tokenizer, mapped)


@dataclass(frozen=True)
class SavedWords:
    """The content of tokenizer.json."""

    rules: WordRules
    tokens: list[str]


class FittedWords(FittedTokenizer):
    """Word rules with a vocabulary."""

    def __init__(self, rules: WordRules, tokens: list[str]) -> None:
        self.rules = rules
        self.tokens = tokens
        ids = np.arange(len(SPECIAL_TOKENS), len(tokens), dtype=np.int32)
        self._ids = pl.DataFrame(
            {"word": tokens[len(SPECIAL_TOKENS) :], "id": ids}, schema_overrides={"word": pl.String}
        )

    def encode(self, texts: Sequence[str]) -> TokenSequences:
        words, offsets = flatten(self.rules.words(pl.Series(texts, dtype=pl.String)))
        known = words.to_frame("word").join(self._ids, on="word", how="left", maintain_order="left")
        return TokenSequences(known["id"].fill_null(UNK).to_numpy(), offsets)

    def surface_forms(self, text: str) -> list[str]:
        return self.rules.words(pl.Series([text], dtype=pl.String))[0].to_list()  # type: ignore[no-any-return]

    def to_json(self) -> str:
        return json.dumps({"kind": "words", "rules": asdict(self.rules), "tokens": self.tokens}, ensure_ascii=False)

    @classmethod
    def restore(cls, content: bytes, folder: Path) -> "FittedWords":
        saved = parse_json(content, SavedWords)
        check_tokens(saved.tokens)
        return cls(saved.rules, saved.tokens)


def flatten(words: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Flatten a column of lists to one column of words and the (N + 1,) offsets of the lists in it."""
    offsets = np.zeros(len(words) + 1, dtype=np.int64)
    np.cumsum(words.list.len().to_numpy(), out=offsets[1:])
    return words.explode(empty_as_null=False), offsets


def encode_once(
    rules: WordRules, corpus: Corpus, cache: Path, unlabeled: bool = False
) -> tuple[pl.Series, dict[str, TokenSequences]]:
    """The words of the labelled tables as numbers of types, from the cache if they are in it.

    unlabeled: also those of the table `unlabeled`.
    Returns the types, numbered by first occurrence, and the sequences of each table. The encoding does not depend on
    the vocabulary, so all splits, vocabulary sizes and seeds share it.
    """
    names = [name for name in corpus.tables if name in ENCODED_TABLES or (unlabeled and name == "unlabeled")]

    def build(partial: Path) -> None:
        log.info(f"{corpus.name}: finding the words of the documents")
        numbers: dict[str, int] = {}
        for name in names:
            write_sequences(partial, name, number_words(rules, corpus, name, numbers))
        pl.DataFrame({"type": list(numbers)}, schema={"type": pl.String}).write_parquet(partial / "types.parquet")

    def load(folder: Path) -> tuple[pl.Series, dict[str, TokenSequences]]:
        tables = {name: read_sequences(folder, name) for name in names}
        return pl.read_parquet(folder / "types.parquet")["type"], tables

    identity: tuple[object, ...] = (ENCODING_VERSION, corpus.fingerprint, asdict(rules))
    if unlabeled:
        identity = (*identity, corpus.unlabeled_digest())
    what = f"the tokens of {corpus.name!r}"
    return Cache(cache).get_or_build("encoded", f"{corpus.name}-words", identity, build, load, what)


def number_words(
    rules: WordRules, corpus: Corpus, table: str, numbers: dict[str, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Type numbers of all words and number of words of each document, in chunks. Adds new types to `numbers`."""

    def find_words(texts: list[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """The types of some texts, the index among them of each word, and the number of words of each text."""
        words, offsets = flatten(rules.words(pl.Series(texts, dtype=pl.String)))
        encoded = words.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(), np.diff(offsets)

    for types, indices, lengths in map_in_threads(find_words, corpus.texts(table)):
        ids = np.array([numbers.setdefault(word, len(numbers)) for word in types], dtype=np.int32)
        yield ids[indices], lengths


def write_sequences(folder: Path, name: str, chunks: Iterator[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write (ids, lengths) chunks to flat files, with one chunk in memory at a time."""
    lengths = [np.zeros(1, dtype=np.int64)]
    with (folder / f"{name}.ids").open("wb") as file:
        for ids, chunk_lengths in chunks:
            file.write(np.ascontiguousarray(ids, dtype=np.int32).data)
            lengths.append(chunk_lengths)
    np.save(folder / f"{name}.offsets.npy", np.cumsum(np.concatenate(lengths)))


def read_sequences(folder: Path, name: str) -> TokenSequences:
    """The sequences written by `write_sequences`, memory-mapped. Raises ValueError if they are incomplete."""
    file = folder / f"{name}.ids"
    offsets = np.load(folder / f"{name}.offsets.npy")
    if file.stat().st_size != 4 * offsets[-1]:
        raise ValueError(f"{file.name} has {file.stat().st_size:,} bytes instead of {4 * offsets[-1]:,}")
    ids = np.memmap(file, dtype=np.int32, mode="r") if offsets[-1] else np.empty(0, dtype=np.int32)
    return TokenSequences(ids, offsets)


def count_types(sequences: TokenSequences, rows: np.ndarray, num_types: int) -> tuple[np.ndarray, np.ndarray]:
    """(num_types,) int64 counts of each type in some documents, and (num_types,) int64 numbers of documents with it."""
    counts = np.zeros(num_types, dtype=np.int64)
    document_counts = np.zeros(num_types, dtype=np.int64)
    # In chunks of this size, (document, type) pairs fit into 32-bit integers, which sort fast
    chunk_size = max(1, min(20_000, (2**32 - 1) // max(1, num_types)))
    for start in range(0, len(rows), chunk_size):
        chunk = rows[start : start + chunk_size]
        first, last = chunk[0], chunk[-1] + 1
        selected = np.zeros(last - first, dtype=bool)
        selected[chunk - first] = True
        lengths = np.diff(sequences.offsets[first : last + 1])
        ids = sequences.ids[sequences.offsets[first] : sequences.offsets[last]][np.repeat(selected, lengths)]
        counts += np.bincount(ids, minlength=num_types)
        documents = np.repeat(np.arange(len(chunk), dtype=np.uint32), lengths[selected])
        pairs = np.sort(documents * np.uint32(num_types) + ids.astype(np.uint32))
        distinct = pairs[starts_of_runs(pairs)]
        document_counts += np.bincount(distinct % np.uint32(num_types), minlength=num_types)
    return counts, document_counts


def starts_of_runs(ascending: np.ndarray) -> np.ndarray:
    """(T,) whether each value is the first one of its run of equal values."""
    starts = np.ones(len(ascending), dtype=bool)
    np.not_equal(ascending[1:], ascending[:-1], out=starts[1:])
    return starts


def choose(
    types: pl.Series, counts: np.ndarray, document_counts: np.ndarray, max_size: int | None, min_document_count: int
) -> np.ndarray:
    """Numbers of the types for the vocabulary: most frequent first, ties in alphabetical order.

    Words that are spelt like special tokens are unknown words.
    """
    candidates = (
        pl.DataFrame({"type": types, "number": np.arange(len(types)), "count": counts, "documents": document_counts})
        .filter(pl.col("documents") >= min_document_count, ~pl.col("type").is_in(SPECIAL_TOKENS))
        .sort(["count", "type"], descending=[True, False])
    )
    return (candidates if max_size is None else candidates.head(max_size))["number"].to_numpy()
