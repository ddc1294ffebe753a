"""fastText: vectors from character n-grams for words that were not seen, and files in Facebook's format."""

from pathlib import Path

import numpy as np
import pytest
from gensim.models import FastText as Model
from gensim.models.fasttext import load_facebook_vectors, save_facebook_model

from helpers.documents import make_corpus, word_tokenizer
from helpers.vectors import WORD2VEC, given, two_topics
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Paths
from newsreel.embeddings.embedding import TableEmbedding
from newsreel.embeddings.fasttext import FastText

NGRAMS = {"min_n": 3, "max_n": 5, "bucket": 1_000}


def build(paths: Paths, texts: list[str], **changes: object) -> tuple[TableEmbedding, list[str]]:
    """The embedding and its vocabulary."""
    corpus = make_corpus([(text, 0) for text in texts])
    tokenized = word_tokenizer().fit(corpus, paths.cache)
    builder = FastText(**{**WORD2VEC, **NGRAMS, **changes})  # type: ignore[arg-type]
    return builder.build(tokenized, corpus, paths), tokenized.tokenizer.tokens


@pytest.fixture
def facebook_file(tmp_path: Path) -> Path:
    model = Model([text.split() for text in two_topics()], vector_size=8, min_count=1, seed=1, workers=1, bucket=500)
    save_facebook_model(model, str(tmp_path / "given.bin"))
    return tmp_path / "given.bin"


def test_rare_words_get_the_mean_of_their_ngrams_and_are_counted(paths: Paths) -> None:
    embedding, words = build(paths, [*two_topics(), "sailing sailed"], min_count=2, epochs=30)
    rows = embedding.rows().numpy()
    assert (rows[2:] != 0).any(axis=1).all()
    assert not rows[:2].any()
    assert str(embedding.coverage).startswith("12 of 12 words (100.0%, 2 of them from subwords)")
    cosine = rows @ rows[words.index("sailing")] / np.maximum(np.linalg.norm(rows, axis=1), 1e-9)
    nearest = [words[number] for number in np.argsort(-cosine)[1:4]]
    assert {"sailed", "sail"} <= set(nearest)


def test_words_too_short_for_any_ngram_stay_unknown(paths: Paths) -> None:
    embedding, words = build(paths, [*two_topics(), "ox"], min_count=2, min_n=5, max_n=5)  # <ox> has four characters
    assert not embedding.rows()[words.index("ox")].any()
    assert str(embedding.coverage).startswith("10 of 11 words (90.9%)")


@pytest.mark.parametrize("change", [{"min_n": 2}, {"max_n": 3}, {"bucket": 3}, {"seed": 2}, {"algorithm": "cbow"}])
def test_every_setting_changes_the_rows(paths: Paths, change: dict[str, object]) -> None:
    usual, changed = build(paths, two_topics())[0].rows(), build(paths, two_topics(), **change)[0].rows()
    assert not np.allclose(usual, changed)


def test_the_same_seed_gives_the_same_rows(paths: Paths, tmp_path: Path) -> None:
    elsewhere = Paths(corpora_dir="none", cache_dir=str(tmp_path / "other"), output_dir="none")
    once, again = build(paths, two_topics())[0].rows(), build(elsewhere, two_topics())[0].rows()
    assert once.tolist() == again.tolist()


def test_a_file_in_facebooks_format_gives_unseen_words_vectors_too(paths: Paths, facebook_file: Path) -> None:
    embedding, words = build(paths, ["sail sailor"], path=str(facebook_file))
    vectors = load_facebook_vectors(str(facebook_file))
    for word in ("sail", "sailor"):
        assert embedding.rows()[words.index(word)].tolist() == vectors.get_vector(word).tolist()
    assert "sailor" not in vectors.key_to_index
    assert not embedding.rows()[:2].any()
    assert embedding.coverage is not None
    assert (embedding.coverage.known_types, embedding.coverage.from_subwords) == (2, 1)


def test_saved_vectors_keep_their_ngrams_and_text_files_have_none(
    paths: Paths, facebook_file: Path, tmp_path: Path
) -> None:
    vectors = load_facebook_vectors(str(facebook_file))
    vectors.save(str(tmp_path / "given.kv"))
    vectors.save_word2vec_format(str(tmp_path / "given.vec"))
    saved, words = build(paths, ["sail sailor"], path=str(tmp_path / "given.kv"))
    assert saved.rows()[words.index("sailor")].tolist() == vectors.get_vector("sailor").tolist()
    text, words = build(paths, ["sail sailor"], path=str(tmp_path / "given.vec"))
    assert np.allclose(text.rows()[words.index("sail")], vectors.get_vector("sail"), atol=1e-6)
    assert not text.rows()[words.index("sailor")].any()


def test_word2vecs_binary_format_is_told_from_facebooks(paths: Paths, tmp_path: Path) -> None:
    given().save_word2vec_format(str(tmp_path / "given.bin"), binary=True)
    with pytest.raises(UserError, match=r"given\.bin cannot be read: .*\nBy its name it is Facebook's binary format"):
        build(paths, ["good film"], path=str(tmp_path / "given.bin"), dimension=2)


def test_a_cut_file_is_named(paths: Paths, facebook_file: Path) -> None:
    facebook_file.write_bytes(facebook_file.read_bytes()[:-5_000])
    with pytest.raises(UserError, match=r"given\.bin cannot be read"):
        build(paths, ["sail"], path=str(facebook_file))


def test_shortest_ngrams_longer_than_the_longest_are_refused() -> None:
    with pytest.raises(UserError, match=r"embedding\.min_n is 4 and embedding\.max_n 3"):
        FastText(**{**WORD2VEC, **NGRAMS, "min_n": 4, "max_n": 3})  # type: ignore[arg-type]
