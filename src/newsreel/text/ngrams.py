"""N-gram tokens: words and sequences of words as the tokens of a bag, computed on integer word ids.

An n-gram is identified by its prefix, the n-gram without the last word, and its last word: `key = prefix · V + word`.
The keys of an order are sorted, and an n-gram's index among them is its number as a prefix in the next order.
Axes: T tokens of some documents, V words of the vocabulary, M n-grams of one order.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from newsreel.core.cache import Cache, digest
from newsreel.core.json_files import parse_json
from newsreel.core.storage import check_zip, write_atomically
from newsreel.core.threads import map_in_threads
from newsreel.corpora.corpus import Corpus
from newsreel.text.tokens import (
    SPECIAL_TOKENS,
    TOKENIZER_FILE,
    UNK,
    ComputedTokens,
    FittedTokenizer,
    TokenizedCorpus,
    TokenSequences,
    check_tokens,
)
from newsreel.text.words import (
    ENCODED_TABLES,
    FittedWords,
    RuleTokenizer,
    WordRules,
    WordTokenizer,
    read_sequences,
    starts_of_runs,
    write_sequences,
)

log = logging.getLogger(__name__)

MaxN = Annotated[int, Ge(1), Le(10)]
ENCODING_VERSION = 2  # raise it when the same settings result in other tokens
NGRAMS_FILE = "ngrams.npz"
DOCUMENTS_AT_A_TIME = 5_000  # to encode
PAIRS_AT_A_TIME = 2**22  # of n-gram and document, to count
KEYS_AT_A_TIME = 2**20  # to look up
NONE = -1  # in place of a number: the n-gram does not exist


@dataclass(frozen=True, kw_only=True)
class NgramTokenizer(RuleTokenizer):
    """Words and sequences of up to `max_n` words that occur in enough training documents.

    The vocabulary holds those that occur in most training documents. Sequences do not span words that are too rare.
    """

    max_n: MaxN

    produces_bags = True

    def fit(self, corpus: Corpus, cache: Path) -> TokenizedCorpus:
        def build(partial: Path) -> None:
            tokenizer = WordTokenizer(**asdict(self.rules), max_size=None, min_document_count=self.min_document_count)
            words = tokenizer.fit(corpus, cache)
            log.info(f"{corpus.name}: finding the n-grams of the training documents")
            fitted = self.find(words, corpus)
            fitted.save(partial)
            for name, table in words.tables.items():
                write_sequences(partial, name, encoded_chunks(fitted, table))

        def load(folder: Path) -> TokenizedCorpus:
            tables = {name: read_sequences(folder, name) for name in corpus.tables if name in ENCODED_TABLES}
            return TokenizedCorpus(FittedNgrams.restore((folder / TOKENIZER_FILE).read_bytes(), folder), tables)

        rows = digest(corpus.splits["train"].rows.tobytes())
        identity = (ENCODING_VERSION, corpus.fingerprint, asdict(self), rows)
        what = f"the tokens of {corpus.name!r}"
        return Cache(cache).get_or_build("encoded", f"{corpus.name}-ngrams", identity, build, load, what)

    def find(self, words: TokenizedCorpus, corpus: Corpus) -> "FittedNgrams":
        """The n-grams that occur in enough training documents."""
        training = corpus.splits["train"]
        sequences = words.tables[training.table].select(training.rows)
        vocabulary = words.tokenizer.tokens
        documents = sequences.documents()
        numbers = numbers_of_words(sequences.ids)
        words_found, word_counts = count_documents(numbers, documents)
        counts = [np.zeros(len(vocabulary), dtype=np.int64)]  # by order: number of training documents of each n-gram
        counts[0][words_found] = word_counts
        orders: list[np.ndarray] = []
        for order in range(2, self.max_n + 1):
            keys = keys_of(numbers, sequences.ids, documents, order, len(vocabulary))
            ngrams, ngram_counts = count_documents(keys, documents)
            frequent = ngram_counts >= self.min_document_count
            orders.append(ngrams[frequent])
            counts.append(ngram_counts[frequent])
            numbers = look_up(orders[-1], keys)
        assert isinstance(words.tokenizer, FittedWords)
        return FittedNgrams(words.tokenizer.rules, list(vocabulary), orders, number_tokens(counts, self.max_size))


@dataclass(frozen=True)
class SavedNgrams:
    """The content of tokenizer.json."""

    rules: WordRules
    max_n: MaxN
    words: list[str]


class FittedNgrams(FittedTokenizer):
    """Word rules with a vocabulary of n-grams."""

    def __init__(self, rules: WordRules, words: list[str], orders: list[np.ndarray], ids: list[np.ndarray]) -> None:
        """words: by number, <pad> and <unk> first. orders: (M,) int64 sorted keys of the orders from 2. ids: (M,) int32
        token ids of the n-grams of the orders from 1, <unk> for those outside the vocabulary."""
        self.words = FittedWords(rules, words)
        self.orders = orders
        self.ids = ids
        self.tokens = NgramVocabulary(words, orders, ids)

    def encode(self, texts: Sequence[str]) -> TokenSequences:
        return self.encode_words(self.words.encode(texts))

    def encode_words(self, sequences: TokenSequences) -> TokenSequences:
        """The n-grams of documents of word ids: for each document its words, then its pairs, and so on."""
        documents = sequences.documents()  # (T,)
        numbers = numbers_of_words(sequences.ids)
        tokens_by_order = []  # ids of the n-grams in the vocabulary, and the document of each
        for order, ids in enumerate(self.ids, start=1):
            if order > 1:
                keys = keys_of(numbers, sequences.ids, documents, order, len(self.words.tokens))
                numbers = look_up(self.orders[order - 2], keys)
            exists = numbers != NONE
            tokens = ids[numbers[exists]]
            known = tokens != UNK
            tokens_by_order.append((tokens[known], documents[exists][known]))
        counts = np.stack(
            [np.bincount(owners, minlength=len(sequences)) for _, owners in tokens_by_order]
        )  # (orders, N)
        offsets = np.concatenate([[0], np.cumsum(counts.sum(axis=0))])
        result = np.empty(offsets[-1], dtype=np.int32)
        begins = offsets[:-1] + np.cumsum(counts, axis=0) - counts  # (orders, N) start of each order in each document
        for (tokens, owners), begin, count in zip(tokens_by_order, begins, counts, strict=True):
            index_in_order = np.arange(len(owners)) - np.repeat(np.cumsum(count) - count, count)
            result[begin[owners] + index_in_order] = tokens
        return TokenSequences(result, offsets)

    def save(self, folder: Path) -> None:
        arrays = {f"keys_{order}": keys for order, keys in enumerate(self.orders, start=2)}
        arrays |= {f"ids_{order}": ids for order, ids in enumerate(self.ids, start=1)}
        content = BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        write_atomically(folder / NGRAMS_FILE, content.getvalue())
        super().save(folder)

    def digest(self) -> str:
        return digest(self.to_json(), *(array.tobytes() for array in (*self.orders, *self.ids)))

    def to_json(self) -> str:
        content = {
            "kind": "ngrams",
            "rules": asdict(self.words.rules),
            "max_n": len(self.ids),
            "words": self.words.tokens,
        }
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def restore(cls, content: bytes, folder: Path) -> "FittedNgrams":
        saved = parse_json(content, SavedNgrams)
        check_tokens(saved.words)
        check_zip(folder / NGRAMS_FILE)
        with np.load(folder / NGRAMS_FILE, allow_pickle=False) as arrays:
            orders = [arrays[f"keys_{order}"] for order in range(2, saved.max_n + 1)]
            ids = [arrays[f"ids_{order}"] for order in range(1, saved.max_n + 1)]
        check_ngrams(len(saved.words), orders, ids)
        return cls(saved.rules, saved.words, orders, ids)


def check_ngrams(num_words: int, orders: list[np.ndarray], ids: list[np.ndarray]) -> None:
    """Raise ValueError unless the arrays are those of a FittedNgrams with so many words."""
    num_ngrams = num_words  # of the order before
    for order, keys in enumerate(orders, start=2):
        if keys.ndim != 1 or keys.dtype != np.int64 or (np.diff(keys) <= 0).any():
            raise ValueError(f"{NGRAMS_FILE}: keys_{order} is not an ascending list of numbers")
        if len(keys) and not 0 <= keys[0] <= keys[-1] < num_ngrams * num_words:
            raise ValueError(f"{NGRAMS_FILE}: keys_{order} has a number of no n-gram")
        num_ngrams = len(keys)
    sizes = [num_words, *map(len, orders)]
    if any(array.shape != (size,) or array.dtype != np.int32 for array, size in zip(ids, sizes, strict=True)):
        raise ValueError(f"{NGRAMS_FILE}: there is not one token id for every n-gram")
    all_ids = np.concatenate(ids)
    known = all_ids[all_ids != UNK]
    if not np.array_equal(known, np.arange(len(SPECIAL_TOKENS), len(SPECIAL_TOKENS) + len(known))):
        raise ValueError(f"{NGRAMS_FILE}: the token ids are not in order")


class NgramVocabulary(ComputedTokens):
    """The n-grams by token id; the strings are built on access, so that millions of them need no memory."""

    def __init__(self, words: list[str], orders: list[np.ndarray], ids: list[np.ndarray]) -> None:
        self.words = words
        self.orders = orders
        self.numbers = [np.flatnonzero(order_ids > UNK) for order_ids in ids]  # by order, of the n-grams with an id
        self.ends = np.cumsum([len(SPECIAL_TOKENS), *map(len, self.numbers)])  # end of each order's ids, exclusive

    def __len__(self) -> int:
        return int(self.ends[-1])

    def token(self, token_id: int) -> str:
        order = int(np.searchsorted(self.ends, token_id, side="right"))
        number = int(self.numbers[order - 1][token_id - self.ends[order - 1]])
        last_words: list[str] = []
        for keys in reversed(self.orders[: order - 1]):
            number, word = divmod(int(keys[number]), len(self.words))
            last_words.append(self.words[word])
        return " ".join([self.words[number], *reversed(last_words)])


def encoded_chunks(fitted: FittedNgrams, table: TokenSequences) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Token ids and lengths of a table's documents, in chunks."""

    def encode(start: int) -> tuple[np.ndarray, np.ndarray]:
        encoded = fitted.encode_words(table.select(np.arange(start, min(start + DOCUMENTS_AT_A_TIME, len(table)))))
        return encoded.ids, encoded.lengths

    return map_in_threads(encode, range(0, len(table), DOCUMENTS_AT_A_TIME))


def numbers_of_words(word_ids: np.ndarray) -> np.ndarray:
    """(T,) numbers of n-grams of order 1 for word ids; NONE for words outside the vocabulary."""
    return np.where(word_ids > UNK, word_ids, NONE).astype(np.int64)


def keys_of(
    prefixes: np.ndarray, word_ids: np.ndarray, documents: np.ndarray, order: int, num_words: int
) -> np.ndarray:
    """(T,) keys of the n-grams of an order that begin at each token. prefixes: (T,) the numbers of their prefixes.

    NONE if the prefix is NONE, or if the last word is outside the vocabulary or in another document.
    """
    keys = np.full(len(word_ids), NONE, dtype=np.int64)
    num_ngrams = max(0, len(word_ids) - order + 1)
    prefix, word = prefixes[:num_ngrams], word_ids[order - 1 :]
    exists = (prefix != NONE) & (word > UNK) & (documents[:num_ngrams] == documents[order - 1 :])
    keys[:num_ngrams][exists] = prefix[exists] * num_words + word[exists]
    return keys


def look_up(sorted_keys: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """(T,) indices of keys in the (M,) sorted ones; NONE for missing keys."""
    if not len(sorted_keys):
        return np.full(len(keys), NONE, dtype=np.int64)

    def look_up_chunk(start: int) -> np.ndarray:
        """Keys in ascending order find their places several times as fast as in any order."""
        chunk = keys[start : start + KEYS_AT_A_TIME]
        positions, ascending = sort_keys(chunk)
        indices = np.minimum(sorted_keys.searchsorted(ascending), len(sorted_keys) - 1)
        result = np.full(len(chunk), NONE, dtype=np.int64)
        result[positions] = np.where(sorted_keys[indices] == ascending, indices, NONE)
        return result

    if len(keys) <= KEYS_AT_A_TIME:  # no threads for the few words of a prediction
        return look_up_chunk(0)
    return np.concatenate(list(map_in_threads(look_up_chunk, range(0, len(keys), KEYS_AT_A_TIME))))


def sort_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the keys other than NONE in ascending order of the keys, and these keys.

    keys: int64, or uint64 hashes, of which NONE is none.
    """
    positions = np.flatnonzero(keys != NONE)
    present = keys[positions]
    num_bits = len(keys).bit_length()
    if keys.dtype != np.int64 or int(present.max(initial=0)).bit_length() + num_bits > 63:
        order = present.argsort()
        return positions[order], present[order]
    pairs = (present << num_bits) | positions  # numbers sort faster than their indices do
    pairs.sort()
    return pairs & ((1 << num_bits) - 1), pairs >> num_bits


def count_documents(numbers: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The (M,) numbers other than NONE in ascending order, and the (M,) numbers of documents with each.

    numbers: (T,) at least NONE. documents: (T,) the document of each number, in ascending order.
    """
    largest = int(numbers.max(initial=NONE))
    max_documents = 2 ** max(0, 62 - (largest + 1).bit_length())  # so that pairs fit into 63 bits
    bounds = chunk_bounds(documents, max_documents)

    def count_chunk(bound: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        chunk, owners = numbers[slice(*bound)], documents[slice(*bound)]
        num_bits = int(owners[-1] - owners[0]).bit_length()
        pairs = (chunk << num_bits) | (owners - owners[0])
        pairs = pairs[chunk != NONE]
        pairs.sort()
        return run_lengths(pairs[starts_of_runs(pairs)] >> num_bits)

    return add_counts(list(map_in_threads(count_chunk, bounds)))


def chunk_bounds(documents: np.ndarray, max_documents: int) -> list[tuple[int, int]]:
    """Bounds of chunks of whole documents, each of at most `max_documents` and, if several, some PAIRS_AT_A_TIME."""
    bounds = []
    start = 0
    while start < len(documents):
        end = int(np.searchsorted(documents, documents[min(start + PAIRS_AT_A_TIME, len(documents)) - 1], "right"))
        end = min(end, int(np.searchsorted(documents, int(documents[start]) + max_documents)))
        bounds.append((start, end))
        start = end
    return bounds


def run_lengths(ascending: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The (M,) distinct values of ascending ones, and how often each occurs."""
    begins = np.flatnonzero(starts_of_runs(ascending))
    return ascending[begins], np.diff(begins, append=len(ascending))


def add_counts(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values in ascending order with the sums of their counts in all parts."""
    if len(parts) == 1:
        return parts[0]
    values = np.concatenate([np.empty(0, dtype=np.int64), *(values for values, _ in parts)])
    counts = np.concatenate([np.empty(0, dtype=np.int64), *(counts for _, counts in parts)])
    order = values.argsort(kind="stable")
    values = values[order]
    begins = np.flatnonzero(starts_of_runs(values))
    return values[begins], np.add.reduceat(counts[order], begins) if len(begins) else counts


def number_tokens(counts: list[np.ndarray], max_size: int | None) -> list[np.ndarray]:
    """(M,) int32 token ids for the document counts of each order; <unk> for all but the `max_size` highest counts."""
    all_counts = np.concatenate(counts)
    selected = all_counts > 0  # false for <pad> and <unk>
    if max_size is not None and selected.sum() > max_size:
        highest = np.argsort(-all_counts, kind="stable")[:max_size]
        selected[:] = False
        selected[highest] = True
    ids = np.where(selected, np.cumsum(selected) + len(SPECIAL_TOKENS) - 1, UNK).astype(np.int32)
    return np.split(ids, np.cumsum([len(order) for order in counts])[:-1])
