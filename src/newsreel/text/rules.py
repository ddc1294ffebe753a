"""Rules that prepare a text before it is split into tokens: HTML, Unicode normal form, case."""

import re
from dataclasses import dataclass, replace
from html import unescape
from typing import Literal, Self

import polars as pl

from newsreel.corpora.corpus import Corpus

# A tag is `<name>`, `</name>` or `<name/>`, with attributes `name=value` or those that HTML has without a value; a
# comparison such as `x <fine and y> 1` is none.
BARE_ATTRIBUTES = (
    "allowfullscreen|async|autofocus|autoplay|checked|compact|controls|defer|disabled|hidden|ismap|itemscope|loop|"
    "multiple|muted|nohref|noshade|novalidate|nowrap|open|readonly|required|reversed|selected"
)
ATTRIBUTE = rf"""[^\s<>="']+\s*=\s*(?:"[^"<]*"|'[^'<]*'|[^\s<>"']+)|(?i:{BARE_ATTRIBUTES})\b"""
HTML_TAG = rf"</?[a-zA-Z][^\s<>]*(?:\s+(?:{ATTRIBUTE}))*\s*/?>"
ENTITY = r"&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);"


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """Rules for a text: decode HTML entities, strip tags, normalise, lowercase.

    unescape_html: None leaves it to the corpus, see `for_corpus`; run directories of newsreel 0.2 do not have it.
    """

    strip_html: bool
    normalization: Literal["NFC", "NFKC"] | None
    lowercase: bool
    unescape_html: bool | None = False

    @classmethod
    def of(cls, settings: "TextRules") -> Self:
        """The rules of this class among the settings of a tokenizer."""
        return cls(**{name: getattr(settings, name) for name in cls.__dataclass_fields__})

    def for_corpus(self, corpus: Corpus) -> Self:
        """These rules, with the corpus's choice where a rule has none."""
        return self if self.unescape_html is not None else replace(self, unescape_html=corpus.has_html_entities)

    def apply(self, texts: pl.Series) -> pl.Series:
        """The prepared texts."""
        if self.unescape_html:
            texts = unescaped(texts)
        if self.strip_html:
            texts = texts.str.replace_all(HTML_TAG, " ")
        if self.normalization is not None:
            texts = normalized(texts, self.normalization)
        return texts.str.to_lowercase() if self.lowercase else texts


def normalized(texts: pl.Series, form: Literal["NFC", "NFKC"]) -> pl.Series:
    """The texts in a Unicode normal form; texts of ASCII characters alone are in it already."""
    other = texts.str.len_bytes() != texts.str.len_chars()
    return texts.scatter(other.arg_true(), texts.filter(other).str.normalize(form)) if other.any() else texts


def unescaped(texts: pl.Series) -> pl.Series:
    """The texts with the characters that HTML's entities stand for, such as `&` for `&amp;`."""
    escaped = texts.str.contains(ENTITY).fill_null(False)
    if not escaped.any():
        return texts
    decoded = [decode(text) for text in texts.filter(escaped).to_list()]
    return texts.scatter(escaped.arg_true(), decoded)


def decode(text: str) -> str:
    """A text with its entities decoded; other words between `&` and `;` stay."""
    return re.sub(ENTITY, lambda entity: decode_entity(entity[0]), text)


def decode_entity(entity: str) -> str:
    """The character of an entity; the replacement character for a number of more digits than Python converts."""
    try:
        return unescape(entity)
    except ValueError:
        return "\N{REPLACEMENT CHARACTER}"
