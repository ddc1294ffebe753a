"""word2vec: learned by gensim, the same from the same seed, and read from files of every format."""

import gzip
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.project import PROJECT
from helpers.vectors import GIVEN, WORD2VEC, given, share_topics, two_topics
from helpers.vectors import build_word2vec as build
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Paths
from newsreel.embeddings import word2vec
from newsreel.embeddings.corpus_trained import Documents
from newsreel.embeddings.word2vec import Sentences, Word2Vec
from newsreel.text.tokens import TokenSequences


def from_file(paths: Paths, file: Path, **changes: object) -> dict[str, list[float]]:
    """The rows of the words good, odd and film, as a file gives them."""
    embedding, words = build(paths, ["good film", "odd film"], **{"path": str(file), "dimension": 2, **changes})
    return dict(zip(words, embedding.rows().tolist(), strict=True))


@pytest.mark.parametrize("algorithm", ["skipgram", "cbow"])
def test_neighbours_in_the_table_share_a_topic(paths: Paths, algorithm: str) -> None:
    embedding, words = build(paths, two_topics(150), algorithm=algorithm, epochs=60)
    assert share_topics(words[2:], embedding.rows().numpy()[2:])


LEARN = """
import sys
from hashlib import sha256
from pathlib import Path
from newsreel.corpora.corpus import Paths
from helpers.vectors import build_word2vec as build, two_topics
cache, algorithm = sys.argv[1:]
paths = Paths(corpora_dir="none", cache_dir=cache, output_dir="none")
embedding, _ = build(paths, two_topics(), algorithm=algorithm, sample=0.01)
print(sha256(embedding.rows().numpy().tobytes()).hexdigest())
"""


@pytest.mark.parametrize("algorithm", ["skipgram", pytest.param("cbow", marks=pytest.mark.slow)])
def test_two_processes_with_other_hash_seeds_learn_the_same_to_the_bit(tmp_path: Path, algorithm: str) -> None:
    folders = [PROJECT / "src", PROJECT / "tests"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LEARN, str(tmp_path / seed), algorithm],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(map(str, folders))},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    assert len(first.strip()) == 64
    assert first == second


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "cbow"},
        {"dimension": 9},
        {"window": 1},
        {"negative": 1},
        {"sample": 0.001},
        {"min_count": 49},
        {"epochs": 2},
        {"seed": 2},
    ],
)
def test_every_setting_changes_the_rows(paths: Paths, change: dict[str, object]) -> None:
    usual, changed = (
        build(paths, two_topics())[0].rows(),
        build(paths, two_topics(), **change)[0].rows(),
    )
    assert usual.shape != changed.shape or not np.allclose(usual, changed)


def test_small_corpora_are_read_more_often_than_large_ones(paths: Paths) -> None:
    ten, unset = (build(paths, two_topics(), epochs=epochs)[0].rows() for epochs in (10, None))
    assert ten.tolist() == unset.tolist()
    builder = Word2Vec(**{**WORD2VEC, "epochs": None})  # type: ignore[arg-type]
    assert [builder.enough_epochs(millions * 1_000_000) for millions in (1, 16, 45, 700)] == [10, 5, 2, 1]


def test_words_rarer_than_min_count_have_no_vector(paths: Paths) -> None:
    embedding, words = build(paths, [*two_topics(), "cow rare", "rare"], min_count=3)
    assert embedding.rows()[words.index("rare")].tolist() == [0] * 8
    assert str(embedding.coverage).startswith("10 of 11 words")
    with pytest.raises(UserError, match=r"embedding\.min_count=1000: none of the 10 words"):
        build(paths, two_topics(), min_count=1000)


def test_long_documents_reach_gensim_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word2vec, "MAX_SENTENCE", 2)
    sequences = TokenSequences(np.array([2, 3, 2, 2, 3, 1, 1], dtype=np.int32), np.array([0, 5, 6, 6, 7]))
    with word2vec.tqdm(disable=True) as bar:
        sentences = Sentences(Documents([(sequences, np.arange(4))]), ["<pad>", "<unk>", "a", "b"], bar)
        assert list(sentences) == list(sentences) == [["a", "b"], ["a", "a"], ["b"]]


def test_gensim_leaves_the_log_to_us(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    build(paths, two_topics())
    assert {record.name.split(".")[0] for record in caplog.records} == {"newsreel"}
    assert "vectors     word2vec from 60 training documents" in caplog.text


def packed(file: Path) -> Path:
    target = file.with_name(f"{file.name}.gz")
    with file.open("rb") as plain, gzip.open(target, "wb") as archive:
        shutil.copyfileobj(plain, archive)
    return target


def zipped(file: Path) -> Path:
    target = file.with_name(f"{file.name}.zip")
    with zipfile.ZipFile(target, "w") as archive:
        archive.write(file, file.name)
    return target


def binary(folder: Path) -> Path:
    given().save_word2vec_format(str(folder / "given.bin"), binary=True)
    return folder / "given.bin"


def text(folder: Path) -> Path:
    given().save_word2vec_format(str(folder / "given.vec"))
    return folder / "given.vec"


def saved(folder: Path) -> Path:
    given().save(str(folder / "given.kv"))
    return folder / "given.kv"


def saved_model(folder: Path) -> Path:
    from gensim.models import Word2Vec as Model

    model = Model([list(GIVEN)], vector_size=2, min_count=1)
    for word, vector in GIVEN.items():
        model.wv.vectors[model.wv.key_to_index[word]] = vector
    model.save(str(folder / "model.kv"))
    return folder / "model.kv"


@pytest.mark.parametrize(
    "write",
    [
        binary,
        text,
        saved,
        saved_model,
        lambda folder: packed(binary(folder)),
        lambda folder: packed(text(folder)),
        lambda folder: zipped(text(folder)),
        lambda folder: text(folder).rename(folder / "given.txt"),
    ],
)
def test_files_of_every_format_give_their_words_vectors(
    write: Callable[[Path], Path], paths: Paths, tmp_path: Path
) -> None:
    rows = from_file(paths, write(tmp_path))
    assert rows == {"<pad>": [0, 0], "<unk>": [0, 0], "film": [1.5, -2], "good": [0.25, 4], "odd": [0, 0]}


def test_a_file_is_read_once(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = binary(tmp_path)
    rows = from_file(paths, file)
    monkeypatch.setattr(Word2Vec, "read", lambda self, file: pytest.fail("read again"))
    assert from_file(paths, file) == rows
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(pytest.fail.Exception, match="read again"):
        from_file(paths, file)


@pytest.mark.parametrize("write", [binary, text, saved])
def test_vectors_of_another_dimension_are_refused(write: Callable[[Path], Path], paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vectors of 2 values, and embedding\.dimension is 3"):
        from_file(paths, write(tmp_path), dimension=3)


def cut_binary(folder: Path) -> Path:
    file = binary(folder)
    file.write_bytes(file.read_bytes()[:-9])
    return file


def text_named_binary(folder: Path) -> Path:
    file = folder / "given.bin"
    file.write_text("film 1.5 2.0\ngood 1.0 1.0\n")
    return file


def cut_archive(folder: Path) -> Path:
    file = packed(binary(folder))
    file.write_bytes(file.read_bytes()[:-12])
    return file


def other_pickle(folder: Path) -> Path:
    file = folder / "given.kv"
    file.write_bytes(pickle.dumps({"film": [1.0, 2.0]}))
    return file


def no_pickle(folder: Path) -> Path:
    file = folder / "given.kv"
    file.write_text("film 1.5 2.0")
    return file


@pytest.mark.parametrize("write", [cut_binary, text_named_binary, cut_archive, other_pickle, no_pickle])
def test_a_file_that_is_damaged_or_something_else_is_named(
    write: Callable[[Path], Path], paths: Paths, tmp_path: Path
) -> None:
    file = write(tmp_path)
    with pytest.raises(UserError, match=rf"{file} cannot be read: .*\nBy its name it is .*Get it again"):
        from_file(paths, file)


def test_a_text_file_with_a_malformed_line_is_named(paths: Paths, tmp_path: Path) -> None:
    file = tmp_path / "given.vec"
    file.write_text("2 2\nfilm 1.5 2.0\ngood 1.0\n")
    with pytest.raises(UserError, match=r"given\.vec, line 3"):
        from_file(paths, file)


def test_values_that_are_no_numbers_are_refused(paths: Paths, tmp_path: Path) -> None:
    vectors = given()
    vectors.vectors[vectors.key_to_index["good"], 1] = np.nan
    vectors.save(str(tmp_path / "given.kv"))
    with pytest.raises(UserError, match=r"given\.kv has values that are not finite numbers, such as one of 'good'"):
        from_file(paths, tmp_path / "given.kv")


def test_a_missing_file_or_one_of_unknown_kind_is_refused_before_any_work(paths: Paths, tmp_path: Path) -> None:
    for path, reason in (("nowhere.bin", "there is no such file"), ("given.npy", "the name has to say what")):
        with pytest.raises(UserError, match=rf"embedding\.path=.*{path}: {reason}"):
            Word2Vec(**{**WORD2VEC, "path": str(tmp_path / path)}).check(paths)  # type: ignore[arg-type]
