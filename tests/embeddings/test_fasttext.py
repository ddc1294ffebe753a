"""fastText: vectors from character n-grams for words that were not seen, and files in Facebook's format."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gensim.models import FastText as Model
from gensim.models.fasttext import load_facebook_vectors, save_facebook_model

from helpers.files import truncate
from helpers.vectors import WORD2VEC, build, given, two_topics
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Paths
from newsreel.embeddings.fasttext import FastText


def fasttext(**changes: Any) -> FastText:
    return FastText(**{**WORD2VEC, "min_n": 3, "max_n": 5, "bucket": 1_000, **changes})


@pytest.fixture
def facebook_file(tmp_path: Path) -> Path:
    model = Model([text.split() for text in two_topics()], vector_size=8, min_count=1, seed=1, workers=1, bucket=500)
    save_facebook_model(model, str(tmp_path / "given.bin"))
    return tmp_path / "given.bin"


def test_rare_words_get_the_mean_of_their_ngrams_and_are_counted(paths: Paths) -> None:
    embedding, words = build(fasttext(min_count=2, epochs=30), paths, [*two_topics(), "sailing sailed"])
    rows, names = embedding.rows().numpy(), list(words)
    assert (rows[2:] != 0).any(axis=1).all()
    assert not rows[:2].any()
    assert str(embedding.coverage).startswith("12 of 12 words (100.0%, 2 of them from subwords)")
    cosine = rows @ rows[names.index("sailing")] / np.maximum(np.linalg.norm(rows, axis=1), 1e-9)
    assert {"sailed", "sail"} <= {names[number] for number in np.argsort(-cosine)[1:4]}


def test_words_too_short_for_any_ngram_stay_unknown(paths: Paths) -> None:
    # <ox> has four characters
    embedding, words = build(fasttext(min_count=2, min_n=5, max_n=5), paths, [*two_topics(), "ox"])
    assert not any(words["ox"])
    assert str(embedding.coverage).startswith("10 of 11 words (90.9%)")


def test_every_setting_changes_the_rows_and_nothing_else_does(paths: Paths, tmp_path: Path) -> None:
    elsewhere = Paths(corpora_dir="none", cache_dir=str(tmp_path / "other"), output_dir="none")
    usual = build(fasttext(), paths, two_topics())[1]
    assert build(fasttext(), elsewhere, two_topics())[1] == usual
    for change in ({"min_n": 2}, {"max_n": 3}, {"bucket": 3}, {"seed": 2}, {"algorithm": "cbow"}):
        changed = build(fasttext(**change), paths, two_topics())[1]
        assert not np.allclose(list(usual.values()), list(changed.values())), change


def test_a_file_in_facebooks_format_gives_unseen_words_vectors_too(
    paths: Paths, facebook_file: Path, tmp_path: Path
) -> None:
    embedding, rows = build(fasttext(path=str(facebook_file)), paths, ["sail sailor"])
    vectors = load_facebook_vectors(str(facebook_file))
    for word in ("sail", "sailor"):
        assert rows[word] == vectors.get_vector(word).tolist()
    assert "sailor" not in vectors.key_to_index
    assert not embedding.rows()[:2].any()
    assert (embedding.coverage.known_types, embedding.coverage.from_subwords) == (2, 1)
    vectors.save(str(tmp_path / "given.kv"))
    assert build(fasttext(path=str(tmp_path / "given.kv"), trust_pickle=True), paths, ["sail sailor"])[1] == rows
    vectors.save_word2vec_format(str(tmp_path / "given.vec"))  # without n-grams
    text = build(fasttext(path=str(tmp_path / "given.vec")), paths, ["sail sailor"])[1]
    assert np.allclose(text["sail"], rows["sail"], atol=1e-6)
    assert not any(text["sailor"])


def test_cut_files_other_formats_and_other_settings_are_refused(paths: Paths, facebook_file: Path) -> None:
    truncate(facebook_file)
    with pytest.raises(UserError, match=r"given\.bin cannot be read"):
        build(fasttext(path=str(facebook_file)), paths, ["sail"])
    given().save_word2vec_format(str(facebook_file), binary=True)
    with pytest.raises(
        UserError, match=r"given\.bin cannot be read: .*\nBy its extension, it is Facebook's binary format"
    ):
        build(fasttext(path=str(facebook_file), dimension=2), paths, ["good film"])
    with pytest.raises(UserError, match=r"embedding\.min_n is 4 and embedding\.max_n is 3"):
        fasttext(min_n=4, max_n=3)


def overwrite(file: Path, position: int, content: bytes) -> None:
    whole = bytearray(file.read_bytes())
    whole[position : position + len(content)] = content
    file.write_bytes(whole)


# int32 at 8: dim, ws, epoch, min_count, neg, word_ngrams, loss, model, bucket at 40, minn, maxn at 48; double t at 56;
# then the numbers of entries, words and labels at 64, of tokens at 76 and of pruned n-grams at 84; the words from 92
@pytest.mark.parametrize(
    ("position", "content", "problem"),
    [
        (40, b"\xff\xff\xff\x7f", "vectors for 10 words and 2,147,483,647 n-grams"),
        (48, b"\xff\xff\xff\x7f", "n-grams of up to 2,147,483,647 characters"),
        (64, b"\xff\xff\xff\x7f" * 2, "too early|more than 2,000 bytes"),
        (72, b"\x01\0\0\0", "supervised"),
        (84, b"\x01\0\0\0\0\0\0\0", "quantized"),
    ],
)
def test_a_header_that_lies_is_refused(
    position: int, content: bytes, problem: str, paths: Paths, facebook_file: Path
) -> None:
    overwrite(facebook_file, position, content)
    with pytest.raises(UserError, match=rf"given\.bin cannot be read: ValueError: .*({problem})"):
        build(fasttext(path=str(facebook_file)), paths, ["sail"])


@pytest.mark.parametrize("size", [10, 70, 95, 130, 400])
def test_a_file_that_ends_early_is_refused_wherever_it_ends(size: int, paths: Paths, facebook_file: Path) -> None:
    facebook_file.write_bytes(facebook_file.read_bytes()[:size])
    with pytest.raises(UserError, match=r"given\.bin cannot be read: ValueError: it ends"):
        build(fasttext(path=str(facebook_file)), paths, ["sail"])
