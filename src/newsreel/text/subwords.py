"""Subword tokens: byte-pair encoding (Sennrich et al. 2016) with the `tokenizers` library."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl
from annotated_types import Ge, Le

from newsreel.core.cache import Cache, digest
from newsreel.core.errors import UserError
from newsreel.core.json_files import parse_json
from newsreel.corpora.corpus import Corpus
from newsreel.text.rules import TextRules
from newsreel.text.tokens import (
    SPECIAL_TOKENS,
    FittedTokenizer,
    TokenizedCorpus,
    Tokenizer,
    TokenSequences,
    check_tokens,
)
from newsreel.text.words import ENCODED_TABLES, read_sequences, write_sequences

if TYPE_CHECKING:
    import tokenizers

log = logging.getLogger(__name__)

ENCODING_VERSION = 2  # raise it when the same settings result in other tokens
MODEL_FILE = "bpe.json"
WHITESPACE = r"\s+"
PATTERNS = (WHITESPACE, r"</?[a-zA-Z][^<>]{0,200}>")  # of a model's steps; in newsreel 0.2, the second strips tags
NO_RULES = TextRules(strip_html=False, unescape_html=False, normalization=None, lowercase=False)


@dataclass(frozen=True, kw_only=True)
class SubwordTokenizer(Tokenizer):
    """Byte-pair encoding learned from the training documents; frequent words stay whole."""

    strip_html: bool
    unescape_html: bool | None = False  # None leaves it to the corpus; run directories of newsreel 0.2 do not have it
    lowercase: bool
    max_size: Annotated[int, Ge(300), Le(1_000_000)]
    min_pair_count: Annotated[int, Ge(1)]

    def fit(self, corpus: Corpus, cache: Path) -> TokenizedCorpus:
        names = [name for name in corpus.tables if name in ENCODED_TABLES]
        rules = TextRules(
            strip_html=self.strip_html, unescape_html=self.unescape_html, normalization=None, lowercase=False
        ).for_corpus(corpus)

        def build(partial: Path) -> None:
            log.info(f"{corpus.name}: learning subwords from the training documents")
            texts = (prepared(rules, texts) for texts in training_texts(corpus))
            fitted = FittedSubwords(self.train(texts).to_str(), rules)
            (partial / MODEL_FILE).write_text(fitted.model_json, encoding="utf-8")
            for name in names:
                write_sequences(partial, name, (fitted.encode_chunk(chunk.to_pylist()) for chunk in corpus.texts(name)))

        def load(folder: Path) -> TokenizedCorpus:
            try:
                tokenizer = FittedSubwords((folder / MODEL_FILE).read_text(encoding="utf-8"), rules)
            except Exception as error:  # the library raises plain Exception for a file that it cannot parse
                raise ValueError(f"{MODEL_FILE}: {error}") from error
            return TokenizedCorpus(tokenizer, {name: read_sequences(folder, name) for name in names})

        rows = digest(corpus.splits["train"].rows.tobytes())
        identity = (ENCODING_VERSION, corpus.fingerprint, asdict(self), asdict(rules), rows)
        what = f"the tokens of {corpus.name!r}"
        return Cache(cache).get_or_build("encoded", f"{corpus.name}-subwords", identity, build, load, what)

    def train(self, texts: Iterator[list[str]]) -> "tokenizers.Tokenizer":
        """Learn merges from batches of texts. Raises UserError if they have no characters."""
        from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
        from tokenizers import Tokenizer as Model

        model = Model(models.BPE(unk_token=SPECIAL_TOKENS[1]))
        steps: list[Any] = [normalizers.NFC()]
        if self.lowercase:
            steps.append(normalizers.Lowercase())
        steps.append(normalizers.Replace(Regex(WHITESPACE), " "))
        model.normalizer = normalizers.Sequence(steps)
        # Words keep their preceding space as ▁, which marks pieces that begin a word.
        model.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
        trainer = trainers.BpeTrainer(
            vocab_size=self.max_size,
            min_frequency=self.min_pair_count,
            special_tokens=SPECIAL_TOKENS,
            limit_alphabet=1_000,
            show_progress=False,
        )
        model.train_from_iterator(texts, trainer)
        if model.get_vocab_size() <= len(SPECIAL_TOKENS):
            raise UserError("The training documents have no characters to learn subwords from: check the documents.")
        return model


@dataclass(frozen=True)
class SavedSubwords:
    """The content of tokenizer.json."""

    model: dict[str, Any]
    rules: TextRules | None = None  # in newsreel 0.2, the model strips tags itself


class FittedSubwords(FittedTokenizer):
    """A learned byte-pair encoding."""

    def __init__(self, model_json: str, rules: TextRules) -> None:
        """rules: what is done to a text before the model reads it; the model normalises and lowercases itself."""
        from tokenizers import Tokenizer as Model

        self.model_json = model_json
        self.rules = rules
        self._model = Model.from_str(model_json)
        by_id = sorted((number, token) for token, number in self._model.get_vocab().items())
        self.tokens = [token for _, token in by_id]

    def encode(self, texts: Sequence[str]) -> TokenSequences:
        ids, lengths = self.encode_chunk(list(texts))
        return TokenSequences(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def encode_chunk(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Concatenated token ids, and the number of tokens of each text."""
        encodings = self._model.encode_batch_fast(prepared(self.rules, texts), add_special_tokens=False)
        lengths = np.array([len(encoding.ids) for encoding in encodings], dtype=np.int64)
        ids = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        return np.concatenate(ids) if ids else np.empty(0, dtype=np.int32), lengths

    def surface_forms(self, text: str) -> list[str]:
        (text,) = prepared(self.rules, [text])
        encoding = self._model.encode(text, add_special_tokens=False)
        return [text[start:end] for start, end in encoding.offsets]

    def to_json(self) -> str:
        content = {"kind": "subwords", "rules": asdict(self.rules), "model": json.loads(self.model_json)}
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def restore(cls, content: bytes, folder: Path) -> "FittedSubwords":
        saved = parse_json(content, SavedSubwords)
        check_patterns(saved.model)
        rules = NO_RULES if saved.rules is None else saved.rules
        try:
            fitted = cls(json.dumps(saved.model), rules)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises plain Exception, or its panics, which are no Exception
            raise ValueError(f"the library tokenizers cannot read the model: {error}") from error
        check_tokens(fitted.tokens)
        return fitted


def check_patterns(model: Any) -> None:
    """Raise ValueError if a model has another regular expression than PATTERNS: some take exponential time."""
    if isinstance(model, dict):
        if model.get("Regex", WHITESPACE) not in PATTERNS:
            raise ValueError(f"the model has a regular expression that newsreel does not write: {model['Regex']!r}")
        for value in model.values():
            check_patterns(value)
    elif isinstance(model, list):
        for value in model:
            if isinstance(value, (dict, list)):
                check_patterns(value)


def prepared(rules: TextRules, texts: list[str]) -> list[str]:
    return rules.apply(pl.Series(texts, dtype=pl.String)).to_list()


def training_texts(corpus: Corpus) -> Iterator[list[str]]:
    documents = corpus["train"].select_columns("text")
    for start in range(0, len(documents), 1_000):
        yield documents[start : start + 1_000]["text"]
