"""N-grams of characters as the tokens of a bag, numbered or hashed, computed on code points.

An n-gram is identified by a 64-bit hash of its code points, its key. With a vocabulary of a million n-grams, the
probability that any two of them have the same key is below one in ten million.

Axes: C characters of some documents, P positions in their segments (the parts of a text that n-grams do not leave:
words with a space on both sides, or whole documents), G n-grams.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import polars as pl
from annotated_types import Ge, Le
from scipy.sparse import csr_array

from newsreel.core.cache import Cache, digest
from newsreel.core.errors import UserError
from newsreel.core.json_files import parse_json
from newsreel.corpora.corpus import Corpus
from newsreel.text.characters import CharacterRules, CharacterRuleTokenizer, encode_once, split_spans
from newsreel.text.ngrams import NONE, look_up
from newsreel.text.tokens import (
    SPECIAL_TOKENS,
    TOKENIZER_FILE,
    UNK,
    ComputedTokens,
    FittedTokenizer,
    TextSpans,
    TokenizedCorpus,
    TokenSequences,
    check_tokens,
)
from newsreel.text.words import read_sequences, write_sequences

log = logging.getLogger(__name__)

NumBuckets = Annotated[int, Ge(1), Le(100_000_000)]
Length = Annotated[int, Ge(1), Le(10)]
ENCODING_VERSION = 1  # raise it when the same settings result in other tokens
CHARACTERS_AT_A_TIME = 2**20  # to encode
SPACE = ord(" ")
FNV_OFFSET = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)
MIX_1, MIX_2, MIX_SHIFT = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)


@dataclass(frozen=True, kw_only=True)
class CharacterNgramRules(CharacterRules):
    """Rules that extract n-grams of `min_n` to `max_n` characters from texts, as scikit-learn's CountVectorizer does.

    analyzer: `char_wb`: within words, which have a space before and after them; a word shorter than `min_n` with its
    spaces is one token. `char`: in the whole text, across spaces.
    """

    analyzer: Literal["char", "char_wb"]
    min_n: Length
    max_n: Length

    def __post_init__(self) -> None:
        if self.min_n > self.max_n:
            raise UserError(f"tokenizer.min_n={self.min_n} is above tokenizer.max_n={self.max_n}: lower min_n.")

    def ngrams(self, codes: TokenSequences) -> "Ngrams":
        """The n-grams of documents of code points, by document, position and length."""
        within_words = self.analyzer == "char_wb"
        segments = word_segments(codes) if within_words else document_segments(codes)
        num_lengths = self.max_n - self.min_n + 1
        keys = np.empty((len(segments.codes), num_lengths), dtype=np.uint64)  # (P, num_lengths)
        exists = np.empty(keys.shape, dtype=bool)
        for n, hashes, is_inside in rolling_hashes(segments.codes, segments.ends, self.max_n):
            if n >= self.min_n:
                keys[:, n - self.min_n] = mix(hashes)
                exists[:, n - self.min_n] = is_inside
        if within_words:  # the hashes at the beginning of a shorter word are those of the whole word
            exists[segments.begins & ~exists[:, 0], 0] = True
        positions, lengths = np.nonzero(exists)
        lengths = np.minimum(lengths + self.min_n, segments.ends[positions] - positions)
        return Ngrams(keys[exists], positions, lengths, segments.documents[positions], segments)


class Segments(NamedTuple):
    """Parts of texts, concatenated."""

    codes: np.ndarray  # (P,) int32 code points
    begins: np.ndarray  # (P,) bool: whether a segment begins at the position
    ends: np.ndarray  # (P,) end of the position's segment, exclusive
    documents: np.ndarray  # (P,) document of the position
    sources: np.ndarray  # (P,) the character at the position; for a space around a word, its first or last character


class Ngrams(NamedTuple):
    """The n-grams of some documents."""

    keys: np.ndarray  # (G,) uint64
    positions: np.ndarray  # (G,) where each begins in the segments
    lengths: np.ndarray  # (G,) in characters
    documents: np.ndarray  # (G,) ascending
    segments: Segments

    def texts(self, numbers: np.ndarray) -> list[str]:
        """The spelling of some of the n-grams."""
        lengths = self.lengths[numbers]
        codes = self.segments.codes[ranges(self.positions[numbers], lengths)]
        together = codes.tobytes().decode("utf-32-le")
        ends = np.cumsum(lengths).tolist()
        return [together[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


@dataclass(frozen=True, kw_only=True)
class CharacterNgramTokenizer(CharacterNgramRules, CharacterRuleTokenizer):
    """N-grams of characters, numbered or hashed.

    num_buckets: None: the vocabulary consists of the n-grams that occur in most training documents. A number: every
    n-gram is a token, and the token is its key modulo `num_buckets` (the hashing trick, Weinberger et al. 2009).
    """

    num_buckets: NumBuckets | None

    produces_bags = True

    @property
    def rules(self) -> CharacterNgramRules:
        return CharacterNgramRules.of(self)

    def fit(self, corpus: Corpus, cache: Path) -> TokenizedCorpus:
        rules = self.rules.for_corpus(corpus)
        tables = encode_once(CharacterRules.of(rules), corpus, cache)

        def build(partial: Path) -> None:
            log.info(f"{corpus.name}: finding the n-grams of characters")
            tokens = None if self.num_buckets else self.find(rules, tables, corpus)
            fitted = FittedCharacterNgrams(rules, self.num_buckets, tokens)
            fitted.save(partial)
            for name, table in tables.items():
                write_sequences(partial, name, fitted.encoded_chunks(table))

        def load(folder: Path) -> TokenizedCorpus:
            content = (folder / TOKENIZER_FILE).read_bytes()
            return TokenizedCorpus(
                FittedCharacterNgrams.restore(content, folder), {name: read_sequences(folder, name) for name in tables}
            )

        training = digest(corpus.splits["train"].rows.tobytes())
        limits = self.num_buckets or (self.max_size, self.min_document_count, training)
        identity = (ENCODING_VERSION, corpus.fingerprint, asdict(rules), limits)
        what = f"the tokens of {corpus.name!r}"
        return Cache(cache).get_or_build("encoded", f"{corpus.name}-character-ngrams", identity, build, load, what)

    def find(self, rules: CharacterNgramRules, tables: dict[str, TokenSequences], corpus: Corpus) -> list[str]:
        """The n-grams that occur in enough training documents: in most documents first, ties in alphabetical order."""
        training = corpus.splits["train"]
        counted = count_documents(rules, tables[training.table], training.rows)
        chosen = counted.filter(
            pl.col("documents") >= self.min_document_count, ~pl.col("text").is_in(SPECIAL_TOKENS)
        ).sort(["documents", "text"], descending=[True, False])
        if not len(chosen):
            raise UserError(
                f"No n-gram of characters occurs in at least tokenizer.min_document_count={self.min_document_count} "
                f"of the {len(training.rows):,} training documents of {corpus.name!r}. Check the documents and the "
                "tokenizer's settings."
            )
        return (chosen if self.max_size is None else chosen.head(self.max_size))["text"].to_list()


@dataclass(frozen=True)
class SavedCharacterNgrams:
    """The content of tokenizer.json."""

    rules: CharacterNgramRules
    num_buckets: NumBuckets | None
    ngrams: list[str] | None


class FittedCharacterNgrams(FittedTokenizer):
    """N-gram rules with a vocabulary, or with a number of buckets."""

    def __init__(self, rules: CharacterNgramRules, num_buckets: int | None, ngrams: list[str] | None) -> None:
        """ngrams: by token id, from the first after <unk>; None: they are hashed into `num_buckets` tokens."""
        self.rules = rules
        self.num_buckets = num_buckets
        self.ngrams = ngrams
        if num_buckets is not None:
            self.tokens = Buckets(num_buckets)
            return
        assert ngrams is not None
        self.tokens = [*SPECIAL_TOKENS, *ngrams]
        keys = keys_of_texts(ngrams)
        order = np.argsort(keys)
        self.keys = keys[order]
        self.ids = (order + len(SPECIAL_TOKENS)).astype(np.int32)

    def encode(self, texts: Sequence[str]) -> TokenSequences:
        chunks = list(self.encoded_chunks(self.rules.code_points(pl.Series(texts, dtype=pl.String))))
        lengths = np.concatenate([np.zeros(1, dtype=np.int64), *(lengths for _, lengths in chunks)])
        ids = np.concatenate([np.empty(0, dtype=np.int32), *(ids for ids, _ in chunks)])
        return TokenSequences(ids, np.cumsum(lengths))

    def encoded_chunks(self, codes: TokenSequences) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Token ids and lengths of documents of code points, in chunks."""
        for documents in chunks_of_documents(codes.offsets):
            chunk = codes.select(documents)
            ngrams = self.rules.ngrams(chunk)
            ids = self.token_ids(ngrams.keys)
            is_known = ids != UNK
            yield ids[is_known], np.bincount(ngrams.documents[is_known], minlength=len(documents))

    def token_ids(self, keys: np.ndarray) -> np.ndarray:
        """(G,) int32 token ids of n-grams; <unk> for those outside the vocabulary."""
        if self.num_buckets is not None:
            return (keys % np.uint64(self.num_buckets)).astype(np.int32) + len(SPECIAL_TOKENS)
        numbers = look_up(self.keys, keys)
        return np.where(numbers == NONE, UNK, self.ids[numbers])

    def spans(self, text: str) -> TextSpans:
        """The words. An n-gram is divided equally among its characters; a space belongs to the word before it."""
        texts, span_of_character = split_spans(self.rules, text)
        ngrams = self.rules.ngrams(self.rules.code_points(pl.Series([text], dtype=pl.String)))
        is_known = self.token_ids(ngrams.keys) != UNK
        positions, lengths = ngrams.positions[is_known], ngrams.lengths[is_known]
        tokens = np.repeat(np.arange(len(lengths)), lengths)
        parts = span_of_character[ngrams.segments.sources[ranges(positions, lengths)]]
        fractions = np.repeat(1 / lengths, lengths)
        return TextSpans(texts, csr_array((fractions, (tokens, parts)), shape=(len(lengths), len(texts))))

    def to_json(self) -> str:
        content = {
            "kind": "character_ngrams",
            "rules": asdict(self.rules),
            "num_buckets": self.num_buckets,
            "ngrams": self.ngrams,
        }
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def restore(cls, content: bytes, folder: Path) -> "FittedCharacterNgrams":
        saved = parse_json(content, SavedCharacterNgrams)
        if (saved.num_buckets is None) == (saved.ngrams is None):
            raise ValueError("it needs either num_buckets or ngrams")
        if saved.ngrams is not None:
            check_tokens([*SPECIAL_TOKENS, *saved.ngrams])
        return cls(saved.rules, saved.num_buckets, saved.ngrams)


class Buckets(ComputedTokens):
    """The names of hashed tokens, by token id."""

    def __init__(self, num_buckets: int) -> None:
        self.num_buckets = num_buckets

    def __len__(self) -> int:
        return len(SPECIAL_TOKENS) + self.num_buckets

    def token(self, token_id: int) -> str:
        return f"<bucket {token_id - len(SPECIAL_TOKENS)}>"


def document_segments(codes: TokenSequences) -> Segments:
    """Whole documents of C code points as segments; P = C."""
    num_characters = len(codes.ids)
    ends = np.repeat(codes.offsets[1:], codes.lengths)
    return Segments(
        codes.ids, begins_at(codes.offsets, num_characters), ends, codes.documents(), np.arange(num_characters)
    )


def word_segments(codes: TokenSequences) -> Segments:
    """The words of documents of C code points as segments, each with a space before and after it."""
    is_space = codes.ids == SPACE
    follows_space = np.concatenate([np.ones(1, dtype=bool), is_space[:-1]])[: len(is_space)]
    begins_word = ~is_space & (follows_space | begins_at(codes.offsets, len(codes.ids)))
    characters = np.flatnonzero(~is_space)
    first_characters = np.flatnonzero(begins_word)
    words = np.cumsum(begins_word)[characters] - 1  # the word of each character other than a space
    lengths = np.bincount(words, minlength=len(first_characters)) + 2
    ends = np.cumsum(lengths)
    begins = ends - lengths
    positions = np.arange(len(characters)) + 2 * words + 1
    padded = np.full(lengths.sum(), SPACE, dtype=np.int32)  # (P,)
    padded[positions] = codes.ids[characters]
    sources = np.empty(len(padded), dtype=np.int64)
    sources[positions] = characters
    sources[begins] = first_characters
    sources[ends - 1] = first_characters + lengths - 3
    documents = np.repeat(codes.documents()[first_characters], lengths)
    return Segments(padded, begins_at(begins, len(padded)), np.repeat(ends, lengths), documents, sources)


def begins_at(offsets: np.ndarray, size: int) -> np.ndarray:
    """(size,) whether one of the offsets is there; offsets of `size` are allowed and ignored."""
    begins = np.zeros(size + 1, dtype=bool)
    begins[offsets] = True
    return begins[:-1]


def rolling_hashes(codes: np.ndarray, ends: np.ndarray, max_n: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For n from 1 to `max_n`: the (P,) uint64 hash of the n code points from each position, and whether n are left.

    Where the segment ends earlier, the hash is that of the code points up to its end. It is FNV-1a (Fowler, Noll and
    Vo) with code points in place of bytes. The array of hashes is changed by the next step.
    """
    positions = np.arange(len(codes))
    hashes = np.full(len(codes), FNV_OFFSET)
    for n in range(1, max_n + 1):
        is_inside = positions + n <= ends
        added = codes[n - 1 :][is_inside[: len(codes) - n + 1]].astype(np.uint64)
        hashes[is_inside] = (hashes[is_inside] ^ added) * FNV_PRIME
        yield n, hashes, is_inside


def mix(hashes: np.ndarray) -> np.ndarray:
    """Keys in which every bit depends on every bit of the hashes: the 64-bit finalizer of MurmurHash3."""
    hashes = (hashes ^ (hashes >> MIX_SHIFT)) * MIX_1
    hashes = (hashes ^ (hashes >> MIX_SHIFT)) * MIX_2
    return np.asarray(hashes ^ (hashes >> MIX_SHIFT))


def keys_of_texts(ngrams: Sequence[str]) -> np.ndarray:
    """(G,) uint64 keys of n-grams given as texts."""
    lengths = np.array([len(ngram) for ngram in ngrams], dtype=np.int64)
    codes = np.frombuffer("".join(ngrams).encode("utf-32-le"), dtype=np.int32)
    ends = np.cumsum(lengths)
    *_, (_, hashes, _) = rolling_hashes(codes, np.repeat(ends, lengths), int(lengths.max(initial=1)))
    return mix(hashes[ends - lengths])


def count_documents(rules: CharacterNgramRules, codes: TokenSequences, rows: np.ndarray) -> pl.DataFrame:
    """The number of the given documents with each n-gram: columns `key`, `text` and `documents`."""
    total = pl.DataFrame(schema={"key": pl.UInt64, "text": pl.String, "documents": pl.Int64})
    lengths = codes.offsets[rows + 1] - codes.offsets[rows]
    for chunk in chunks_of_documents(np.concatenate([[0], np.cumsum(lengths)])):
        ngrams = rules.ngrams(codes.select(rows[chunk]))
        order = np.argsort(ngrams.keys, kind="stable")  # documents stay in order
        keys, documents = ngrams.keys[order], ngrams.documents[order]
        begins_key = np.concatenate([np.ones(min(1, len(keys)), dtype=bool), keys[1:] != keys[:-1]])
        is_first = begins_key | np.concatenate([begins_key[:1], documents[1:] != documents[:-1]])
        begins = np.flatnonzero(begins_key)
        counts = np.diff(np.append(np.cumsum(is_first)[begins] - 1, is_first.sum()))
        texts = ngrams.texts(order[begins])
        counted = pl.DataFrame({"key": keys[begins], "text": texts, "documents": counts}, schema=total.schema)
        total = pl.concat([total, counted]).group_by("key").agg(pl.col("text").first(), pl.col("documents").sum())
    return total


def chunks_of_documents(offsets: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive documents with about CHARACTERS_AT_A_TIME characters together, at least one document each."""
    begin = 0
    while begin < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[begin] + CHARACTERS_AT_A_TIME, side="right")) - 1
        end = max(begin + 1, end)
        yield np.arange(begin, end)
        begin = end


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The integers from each start, concatenated: `lengths` of them each."""
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(starts - (ends - lengths), lengths))
