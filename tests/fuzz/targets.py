"""What is fuzzed: every reader and loader of files from outside, the tokenizers and the command line.

A target gives a result or a UserError; round trips give back what an independent writer has written. The files of all
targets lie in one folder, which each overwrites.
"""

import bz2
import csv
import functools
import gzip
import io
import json
import lzma
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
from gensim.models import FastText
from gensim.models.fasttext import save_facebook_model
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fuzz.inputs import DOCUMENTS, ROWS, VALUES, damaged
from helpers.documents import make_corpus, word_tokenizer
from helpers.reuters_copy import STORIES
from helpers.vectors import WORD2VEC
from helpers.vectors import given as given_vectors
from newsreel.cli.app import quote_literals
from newsreel.core.errors import UserError
from newsreel.corpora import imdb, reuters
from newsreel.corpora.rcv1_stories import BadFile, newsml_story, read_qrels, token_documents
from newsreel.corpora.reuters_stories import sgml_stories
from newsreel.embeddings.fasttext import FastText as FastTextEmbedding
from newsreel.embeddings.vector_files import parse
from newsreel.embeddings.word2vec import Word2Vec
from newsreel.files.labels import Columns, Labels
from newsreel.files.readers import EXTENSIONS, Layout
from newsreel.files.tables import read_table
from newsreel.inference.input_stream import StreamLines, check_row, file_source
from newsreel.text.character_ngrams import CharacterNgramTokenizer
from newsreel.text.characters import CharacterTokenizer
from newsreel.text.ngrams import NgramTokenizer
from newsreel.text.subwords import SubwordTokenizer
from newsreel.text.tokens import FittedTokenizer

FOLDER = Path(mkdtemp(prefix="newsreel-fuzz-"))
TARGETS: dict[str, Callable[[], None]] = {}
Target = Callable[..., None]


def target(test: Target) -> Target:
    TARGETS[test.__name__] = test
    return test


def result_or_user_error(function: Callable[[], Any]) -> None:
    with suppress(UserError):
        function()


def empty_folder(name: str) -> Path:
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


# ── files of documents

COLUMNS = Columns(("text",), ("label",))
ENCODINGS = ["utf-8", "latin-1", "utf-16", "cp1252", "utf-7", "utf-32", "shift_jis", "unicode_escape", "hz", "idna"]
LAYOUTS = st.builds(
    Layout,
    delimiter=st.none() | st.sampled_from([";", "|", "\t", " ", "\0", "é"]),
    quoting=st.booleans(),
    header=st.booleans(),
    encoding=st.just("utf-8") | st.sampled_from(ENCODINGS),
)
COLUMN_SETTINGS = st.sampled_from(
    [
        COLUMNS,
        Columns(("1",), ("2",)),
        Columns(("text", "label"), ("label",)),
        Columns(("text",), ("label",), separator=";"),
        Columns(("text",), ("label",), label_names=("x", "y")),
        Columns(("text",), ("a", "b")),
        Columns(("text",), ()),
    ]
)
PIECES = [b'"', b'""', b",", b";", b"\n", b"\r", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"{", b"}", b"[", b"]",
          b"NaN", b"-Infinity", b"1e999", b"\\ud800", b"__label__", b"null", b"9" * 5_000, b"[" * 2_000]  # fmt: skip
SEEDS = {
    "csv": [b'text,label,a,b\n"fine, ""film""\nof two lines",1,0,1\nbad,0,1,0\n', b"fine;x\nbad;y;x\n", b""],
    "tsv": [b"text\tlabel\tid\nfine\ta\t1\nbad\tb\t2\n"],
    "jsonl": [b'{"text": "fine", "label": ["a", "b"]}\n{"text": "bad", "label": []}\n',
              b'{"text": "fi\\u00fcne", "label": 1, "a": true, "b": 0}\n\n{"text": "bad", "label": 2.0}\n'],
    "json": [b'[{"text": "fine", "label": "a"},\n {"text": "bad", "label": "b"}]\n', b"[]"],
    "txt": [b"__label__a __label__b fine film\n__label__a bad\n", b"fine\n\nbad\r\n"],
}  # fmt: skip


def read_both_ways(file: Path, columns: Columns, layout: Layout) -> None:
    """As documents of a corpus, and as documents to classify."""
    result_or_user_error(lambda: read_table(file, columns, layout))

    def stream() -> None:
        source = file_source(file, columns.text, [], layout)
        for row in source.rows:
            check_row(source, row)

    result_or_user_error(stream)


def text_target(extension: str) -> None:
    @given(damaged(SEEDS[extension], PIECES), COLUMN_SETTINGS, LAYOUTS)
    def test(content: bytes, columns: Columns, layout: Layout) -> None:
        file = FOLDER / f"own.{extension}"
        file.write_bytes(content)
        read_both_ways(file, columns, layout)

    TARGETS[f"file_{extension}"] = test


for extension_of_text in SEEDS:
    text_target(extension_of_text)


def parquet_seeds() -> list[bytes]:
    tables = [
        pa.table({"text": ["fine", "bad"], "label": ["a", None]}),
        pa.table({"text": ["fine", "bad"], "label": [[1, 0], [0, 1]], "a": [True, False], "b": [0, 1]}),
        pa.table({"text": pa.array([b"fine", b"\xff"]), "label": pa.array([1.5, float("inf")])}),
        pa.table({"text": pa.array(["fine"]).dictionary_encode(), "label": pa.array([{"x": [None]}])}),
    ]
    contents = []
    for table in tables:
        pq.write_table(table, FOLDER / "seed.parquet", compression="NONE")
        contents.append((FOLDER / "seed.parquet").read_bytes())
    return contents


def workbook_of(rows: Sequence[Sequence[Any]]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def repacked(content: bytes) -> bytes:
    """A workbook without compression, so that damage reaches its XML."""
    stored = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(stored, "w") as output:
        for name in archive.namelist():
            output.writestr(name, archive.read(name))
    return stored.getvalue()


PARQUET = parquet_seeds()
WORKBOOK = workbook_of([["text", "label"], ["fine", 1], ["bad", 2.5], [True, None]])
PARTS = {
    name: zipfile.ZipFile(io.BytesIO(WORKBOOK)).read(name) for name in zipfile.ZipFile(io.BytesIO(WORKBOOK)).namelist()
}


@target
@given(damaged(PARQUET), COLUMN_SETTINGS)
def file_parquet(content: bytes, columns: Columns) -> None:
    (FOLDER / "own.parquet").write_bytes(content)
    read_both_ways(FOLDER / "own.parquet", columns, Layout())


@target
@given(damaged([WORKBOOK, repacked(WORKBOOK)]), COLUMN_SETTINGS, st.booleans())
def file_xlsx(content: bytes, columns: Columns, header: bool) -> None:
    (FOLDER / "own.xlsx").write_bytes(content)
    read_both_ways(FOLDER / "own.xlsx", columns, Layout(header=header))


@target
@given(st.data(), st.sampled_from(sorted(PARTS)))
def file_xlsx_parts(data: st.DataObject, name: str) -> None:
    """A workbook whose zip file is valid, and one of whose parts is not."""
    part = data.draw(damaged([PARTS[name]], [b' r="XFD1048576"', b' t="s"', b"<row/>", b"&x;", b"<!DOCTYPE a>", b"-1"]))
    with zipfile.ZipFile(FOLDER / "own.xlsx", "w") as archive:
        for each, content in PARTS.items():
            archive.writestr(each, part if each == name else content)
    read_both_ways(FOLDER / "own.xlsx", COLUMNS, Layout())


def zipped(content: bytes, name: str = "own.csv") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def zstandard(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as output:
        output.write(content)
    return bytes(sink.getvalue())


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard, ".zip": zipped}
PACKED = {suffix: pack(SEEDS["csv"][0] * 5) for suffix, pack in PACKERS.items()}


@target
@given(st.data(), st.sampled_from(sorted(PACKERS)))
def archives(data: st.DataObject, suffix: str) -> None:
    file = FOLDER / f"own.csv{suffix}"
    file.write_bytes(data.draw(damaged([PACKED[suffix]])))
    read_both_ways(file, COLUMNS, Layout())


NAMES = st.text(st.sampled_from("ab.é \n-~"), min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))


@target
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.binary(max_size=9), max_size=3), max_size=3), LAYOUTS)
def folders(tree: dict[str, dict[str, bytes]], layout: Layout) -> None:
    folder = empty_folder("tree")
    for label, files in tree.items():
        (folder / label).mkdir()
        for name, content in files.items():
            (folder / label / name).write_bytes(content)
    result_or_user_error(lambda: read_table(folder, COLUMNS, layout))


@target
@given(st.lists(VALUES, min_size=1, max_size=4), COLUMN_SETTINGS)
def labels(values: list[Any], columns: Columns) -> None:
    reader = Labels("own.jsonl", "line", columns)

    def read() -> None:
        for number, value in enumerate(values, 1):
            names = reader.names(number, value)
            assert names is None or names == sorted(set(names))
        reader.require_no_vectors()

    result_or_user_error(read)


# ── round trips: files of independent writers


def cleaned(text: str) -> str:
    return text.replace("\r\n", "\n").strip()


def require_rows(file: Path, rows: Sequence[tuple[str, str]], layout: Layout | None = None) -> None:
    table = read_table(file, COLUMNS, layout or Layout())
    found = [(row["text"], row["labels"]) for row in table.documents.to_dicts()]
    assert found == [(cleaned(text), [unicode_form(label)]) for text, label in rows]


def unicode_form(label: str) -> str:
    return label  # those of LABELS are in NFC and have no spaces at their ends


@target
@given(ROWS, st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["\n", "\r\n"]), st.booleans())
def round_trip_csv(rows: list[tuple[str, str]], delimiter: str, newline: str, quote_all: bool) -> None:
    with (FOLDER / "trip.csv").open("w", encoding="utf-8", newline="") as file:
        # Before Python 3.13, the writer leaves fields with a lone \r without quotes if lines end in \n
        quoting = csv.QUOTE_ALL if quote_all or newline == "\n" else csv.QUOTE_MINIMAL
        writer = csv.writer(file, delimiter=delimiter, lineterminator=newline, quoting=quoting)
        writer.writerows([("text", "label"), *rows])
    require_rows(FOLDER / "trip.csv", rows, Layout(delimiter=delimiter))


@target
@given(ROWS, st.booleans(), st.booleans(), st.sampled_from([None, 1]))
def round_trip_json(rows: list[tuple[str, str]], ensure_ascii: bool, lines: bool, indent: int | None) -> None:
    records = [{"label": label, "text": text} for text, label in rows]
    if lines:
        content = "".join(json.dumps(record, ensure_ascii=ensure_ascii) + "\n" for record in records)
    else:
        content = json.dumps(records, ensure_ascii=ensure_ascii, indent=indent)
    file = FOLDER / ("trip.jsonl" if lines else "trip.json")
    file.write_text(content, encoding="utf-8", newline="")
    require_rows(file, rows)


@target
@given(ROWS, st.sampled_from(["NONE", "SNAPPY", "ZSTD"]), st.booleans())
def round_trip_parquet(rows: list[tuple[str, str]], compression: str, use_dictionary: bool) -> None:
    texts, names = zip(*rows, strict=True)
    table = pa.table({"label": names, "text": texts})
    pq.write_table(table, FOLDER / "trip.parquet", compression=compression, use_dictionary=use_dictionary)
    require_rows(FOLDER / "trip.parquet", rows)


SHEET_TEXTS = st.text(st.sampled_from("ab é日=+'\"<&>_x000D"), min_size=1, max_size=12).filter(
    lambda text: text.strip() and not text.startswith("=") and "_x" not in text
)


@target
@given(st.lists(st.tuples(SHEET_TEXTS, st.sampled_from(["a", "ä", "x,y"])), min_size=1, max_size=5))
def round_trip_xlsx(rows: list[tuple[str, str]]) -> None:
    (FOLDER / "trip.xlsx").write_bytes(workbook_of([("text", "label"), *rows]))
    require_rows(FOLDER / "trip.xlsx", rows)


LINE_TEXTS = DOCUMENTS.map(lambda text: " ".join(text.split())).filter(lambda text: text and "\0" not in text)


@target
@given(st.lists(st.tuples(LINE_TEXTS, st.sampled_from(["a", "ä", "x,y"])), min_size=1, max_size=5))
def round_trip_fasttext(rows: list[tuple[str, str]]) -> None:
    rows = [(text, label) for text, label in rows if not text.startswith("__label__")]
    (FOLDER / "trip.txt").write_text("".join(f"__label__{label} {text}\n" for text, label in rows), encoding="utf-8")
    if rows:
        require_rows(FOLDER / "trip.txt", rows)


@target
@given(ROWS, st.sampled_from(sorted(PACKERS)))
def round_trip_packed(rows: list[tuple[str, str]], suffix: str) -> None:
    content = io.StringIO(newline="")
    csv.writer(content).writerows([("text", "label"), *rows])
    file = FOLDER / f"trip.csv{suffix}"
    file.write_bytes(PACKERS[suffix](content.getvalue().encode()))
    require_rows(file, rows)


# ── published corpora

SGML = "".join(story.sgml() for story in STORIES[:4]).encode("latin-1")
SGML_PIECES = [b"<REUTERS ", b"</REUTERS>", b"<TEXT>", b"</TEXT>", b"<TITLE>", b"<D>", b"<TOPICS>", b">", b'"', b"&#",
               b"&#300;", b'NEWID="99999999999"', b"\xb2", b"reuter"]  # fmt: skip


@target
@given(damaged([SGML, SGML[: len(SGML) // 3]], SGML_PIECES))
def reuters_sgml(content: bytes) -> None:
    result_or_user_error(lambda: reuters.collected(sgml_stories(content.decode("latin-1"), "reut2-000.sgm")))


def tar_of(name: str, content: bytes, mode: Any) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


TARS = [tar_of(name, b"fine", mode) for name in ("reut2-000.sgm", "aclImdb/train/pos/1.txt") for mode in ("w", "w:gz")]


@target
@given(damaged(TARS, [b"\0" * 9, b"7777777", b"\x80" + b"\xff" * 7, b"g", b"x", b"L", b"S"]))
def archives_tar(content: bytes) -> None:
    file = FOLDER / "corpus.tar.gz"
    file.write_bytes(content)
    result_or_user_error(lambda: reuters.read_archive(file))
    result_or_user_error(lambda: imdb.read_tar(file))


TOKENS = b".I 2286\n.W\nrecov exce\nplanalp\n\n.I 2287\n.W\nfund\n\n"


@target
@given(damaged([TOKENS], [b".I ", b".W\n", b"\n", b"9" * 5_000, b"\x80", b"\0"]))
def rcv1_tokens(content: bytes) -> None:
    with suppress(BadFile):
        list(token_documents(io.BytesIO(content)))


@target
@given(
    damaged([b"E11 2286 1\nECAT 2286 1\nM11 2287 1\n"], [b" ", b"\n", b"\r", b'"', b"9" * 40, b"-1", b"\xff", b"\0"])
)
def rcv1_topics(content: bytes) -> None:
    (FOLDER / "topics.qrels").write_bytes(content)
    read_qrels.cache_clear()
    result_or_user_error(lambda: read_qrels(FOLDER / "topics.qrels").labels(2286))


NEWSML = (
    b'<?xml version="1.0" encoding="iso-8859-1" ?>\n<newsitem itemid="2286"><headline>H &amp; I</headline><text>'
    b'<p>One.</p></text><metadata><codes class="bip:countries:1.0"><code code="UK"/></codes>'
    b'<codes class="bip:topics:1.0"><code code="C15"/></codes></metadata></newsitem>'
)


@target
@given(
    damaged([NEWSML], [b"<!DOCTYPE x>", b"&x;", b"<p>", b"utf-16", b"utf-7", b"hex", b'itemid="9"', b"]]>", b"\xb2"])
)
def rcv1_xml(content: bytes) -> None:
    with suppress(BadFile):
        newsml_story(content)


# ── vectors

GLOVE = b"film 1.5 -2.0\ngood 0.25 4\n. . . 1e-3 1\n"
GLOVE_PIECES = [
    b" ",
    b"\n",
    b"\r",
    b"\0",
    b"nan",
    b"inf",
    b"1e999",
    b"\xe2\x80\xa8",
    b"9" * 5_000,
    b"2 2\n",
    b'"',
    b"#",
]


@target
@given(damaged([GLOVE, b"3 2\n" + GLOVE], GLOVE_PIECES), st.sampled_from([".txt", ".gz", ".zip", ".gz damaged"]))
def vectors_text(content: bytes, suffix: str) -> None:
    file = FOLDER / f"given{suffix.split()[0]}"
    packed = {".gz": gzip.compress(content), ".zip": zipped(content, "given.txt")}.get(file.suffix, content)
    file.write_bytes(packed[:-5] if suffix.endswith("damaged") else packed)
    result_or_user_error(lambda: parse(file, 2, empty_folder("vectors")))


@target
@given(damaged([zipped(GLOVE, "given.txt")]))
def vectors_zip(content: bytes) -> None:
    (FOLDER / "given.zip").write_bytes(content)
    result_or_user_error(lambda: parse(FOLDER / "given.zip", 2, empty_folder("vectors")))


def word2vec_seed() -> bytes:
    given_vectors().save_word2vec_format(str(FOLDER / "seed.bin"), binary=True)
    return (FOLDER / "seed.bin").read_bytes()


def facebook_seed() -> bytes:
    model = FastText([["film", "good"]], vector_size=2, min_count=1, bucket=5, seed=1, workers=1, epochs=1)
    save_facebook_model(model, str(FOLDER / "seed.bin"))
    return (FOLDER / "seed.bin").read_bytes()


NUMBERS = [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\1\0\0\0", b"\0\0\xc0\x7f", b"99999999999 2\n"]
VOCABULARY = ["<pad>", "<unk>", "film", "good", "odd"]


@target
@given(damaged([word2vec_seed()], NUMBERS))
def vectors_word2vec_bin(content: bytes) -> None:
    (FOLDER / "given.bin").write_bytes(content)
    embedding = Word2Vec(**{**WORD2VEC, "dimension": 2})
    result_or_user_error(lambda: embedding.read_vectors(FOLDER / "given.bin", VOCABULARY))


@target
@given(damaged([facebook_seed()], NUMBERS))
def vectors_fasttext_bin(content: bytes) -> None:
    (FOLDER / "given.bin").write_bytes(content)
    embedding = FastTextEmbedding(**{**WORD2VEC, "dimension": 2, "min_n": 3, "max_n": 5, "bucket": 5})
    result_or_user_error(lambda: embedding.read_vectors(FOLDER / "given.bin", VOCABULARY))


# ── tokenizers: a text alone has the tokens that it has in a column

MARKUP = [
    *("<br />", "<a href='x'>", "&amp;", "&#", "&#x41;", ";", "don't", "日本", "ไทย", "ﬁ", "e\u0301", "İ", "ß", "🇩🇪"),
    *("👨\u200d👩\u200d👧", "\u200d", " ", "\n", "title", "\0", "a", "ab", "9" * 5_000),
]
TOKEN_TEXTS = st.lists(
    st.sampled_from(MARKUP) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=9
).map("".join)
TRAINING = make_corpus([("a fine film, don't <br /> miss it", 0), ("日本 ab ab &amp; a title\nof two lines", 1)])


@functools.cache
def fitted(name: str) -> FittedTokenizer:
    rules = {"strip_html": True, "unescape_html": True, "normalization": "NFC", "lowercase": True}
    sizes = {"max_size": None, "min_document_count": 1}
    words = {**rules, **sizes, "word_pattern": None, "punctuation": "keep", "mark_title": True}
    tokenizers: dict[str, Callable[[], Any]] = {
        "words": lambda: word_tokenizer(unescape_html=True, punctuation="keep", mark_title=True),
        "ngrams": lambda: NgramTokenizer(**words, max_n=3),
        "characters": lambda: CharacterTokenizer(**rules, **sizes),
        "character_ngrams": lambda: CharacterNgramTokenizer(
            **rules, **sizes, analyzer="char_wb", min_n=1, max_n=4, num_buckets=None
        ),
        "subwords": lambda: SubwordTokenizer(
            strip_html=True, unescape_html=True, lowercase=True, max_size=300, min_pair_count=1
        ),
    }
    return tokenizers[name]().fit(TRAINING, FOLDER / "cache").tokenizer  # type: ignore[no-any-return]


def tokenizer_target(name: str) -> None:
    @given(st.lists(TOKEN_TEXTS, max_size=5))
    def test(texts: list[str]) -> None:
        tokenizer = fitted(name)
        column = tokenizer.encode(texts)
        assert len(column) == len(texts)
        for number, text in enumerate(texts):
            alone = tokenizer.encode([text])
            assert np.array_equal(alone[0], column[number])
            forms = tokenizer.surface_forms(text)
            assert forms is None or len(forms) == len(alone[0])
            spans = tokenizer.spans(text)
            assert spans is None or spans.weights.shape == (len(alone[0]), len(spans.texts))

    TARGETS[f"tokenizer_{name}"] = test


for name_of_tokenizer in ("words", "ngrams", "characters", "character_ngrams", "subwords"):
    tokenizer_target(name_of_tokenizer)


# ── the command line and standard input

OVERRIDE_TEXTS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("'\"\\${}[](),=: \n\t"), max_size=20
)
PARSER = OverridesParser.create()


@target
@given(OVERRIDE_TEXTS)
def override_literals(text: str) -> None:
    (argument,) = quote_literals([f"text={text}"], ("text",))
    value = PARSER.parse_override(argument).value()
    assert OmegaConf.create({"text": value}).text == text


class Pieces(list[bytes]):
    def read1(self, size: int) -> bytes:
        return self.pop(0) if self else b""


@target
@given(st.lists(st.text(st.sampled_from("ab\n\r\0"), min_size=1, max_size=5).map(str.encode), max_size=8))
def stream_lines(pieces: list[bytes]) -> None:
    expected = b"".join(pieces).split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert list(StreamLines(Pieces(pieces))) == expected  # type: ignore[arg-type]


assert set(SEEDS) | {"ndjson", "parquet", "xlsx"} == {extension[1:] for extension in EXTENSIONS}
