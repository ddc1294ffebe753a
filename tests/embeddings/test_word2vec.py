"""word2vec: learned by gensim, the same from the same seed, and read from files of every format."""

import gzip
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gensim.models import Word2Vec as Model

from helpers.documents import token_sequences
from helpers.files import truncate
from helpers.project import PROJECT
from helpers.vectors import GIVEN, WORD2VEC, build, given, share_topics, two_topics
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Paths
from newsreel.embeddings import word2vec as word2vec_module
from newsreel.embeddings.corpus_trained import Documents
from newsreel.embeddings.word2vec import Sentences, Word2Vec


def word2vec(**changes: Any) -> Word2Vec:
    return Word2Vec(**{**WORD2VEC, **changes})


def from_file(paths: Paths, file: Path, **changes: Any) -> dict[str, list[float]]:
    """The rows of the words good, odd and film, as a file gives them."""
    settings = {"path": str(file), "dimension": 2, "trust_pickle": file.suffix == ".kv", **changes}
    return build(word2vec(**settings), paths, ["good film", "odd film"])[1]


@pytest.mark.parametrize("algorithm", ["skipgram", "cbow"])
def test_neighbours_in_the_table_share_a_topic(paths: Paths, algorithm: str) -> None:
    embedding, words = build(word2vec(algorithm=algorithm, epochs=60), paths, two_topics(150))
    assert share_topics(list(words)[2:], embedding.rows().numpy()[2:])


LEARN = """
import sys
from newsreel.corpora.corpus import Paths
from newsreel.embeddings.word2vec import Word2Vec
from helpers.vectors import WORD2VEC, build, two_topics
paths = Paths(corpora_dir="none", cache_dir=sys.argv[1], output_dir="none")
for algorithm in ("skipgram", "cbow"):
    print(build(Word2Vec(**{**WORD2VEC, "algorithm": algorithm, "sample": 0.01}), paths, two_topics())[1])
"""


@pytest.mark.slow
def test_a_process_with_another_hash_seed_learns_the_same_to_the_bit(paths: Paths, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2",
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT / "tests")]),
    }
    arguments = [sys.executable, "-c", LEARN, str(tmp_path / "other")]
    said = subprocess.check_output(arguments, env=environment, text=True, timeout=120)
    models = [word2vec(algorithm=algorithm, sample=0.01) for algorithm in ("skipgram", "cbow")]
    assert said == "".join(f"{build(model, paths, two_topics())[1]}\n" for model in models)


CHANGES = [("algorithm", "cbow"), ("dimension", 9), ("window", 1), ("negative", 1), ("sample", 0.001),
           ("min_count", 49), ("epochs", 2), ("seed", 2)]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_every_setting_changes_the_rows(paths: Paths, name: str, value: Any) -> None:
    usual, changed = (build(word2vec(**changes), paths, two_topics())[0].rows() for changes in ({}, {name: value}))
    assert usual.shape != changed.shape or not np.allclose(usual, changed)


def test_small_corpora_are_read_more_often_than_large_ones(paths: Paths) -> None:
    ten, unset = (build(word2vec(epochs=epochs), paths, two_topics())[1] for epochs in (10, None))
    assert ten == unset
    assert [word2vec().enough_epochs(millions * 1_000_000) for millions in (1, 16, 45, 700)] == [10, 5, 2, 1]


def test_words_rarer_than_min_count_have_no_vector(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    embedding, rows = build(word2vec(min_count=3), paths, [*two_topics(), "cow rare", "rare"])
    assert rows["rare"] == [0] * 8
    assert str(embedding.coverage).startswith("10 of 11 words")
    assert {record.name.split(".")[0] for record in caplog.records} == {"newsreel"}  # gensim leaves the log to us
    assert "vectors     word2vec from 62 training documents" in caplog.text
    with pytest.raises(UserError, match=r"embedding\.min_count=1000: none of the 10 words"):
        build(word2vec(min_count=1000), paths, two_topics())


def test_long_documents_reach_gensim_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word2vec_module, "MAX_SENTENCE", 2)
    documents = Documents([(token_sequences([2, 3, 2, 2, 3], [1], [], [1]), np.arange(4))])
    with word2vec_module.tqdm(disable=True) as bar:
        sentences = Sentences(documents, ["<pad>", "<unk>", "a", "b"], bar)
        assert list(sentences) == list(sentences) == [["a", "b"], ["a", "a"], ["b"]]


def binary(file: Path) -> None:
    given().save_word2vec_format(str(file), binary=True)


def text(file: Path) -> None:
    given().save_word2vec_format(str(file))


def saved_model(file: Path) -> None:
    model = Model([list(GIVEN)], vector_size=2, min_count=1)
    for word, vector in GIVEN.items():
        model.wv.vectors[model.wv.key_to_index[word]] = vector
    model.save(str(file))


def packed(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def write_packed(file: Path) -> None:
        plain = file.with_suffix("")
        write(plain)
        if file.suffix == ".gz":
            file.write_bytes(gzip.compress(plain.read_bytes()))
        else:
            with zipfile.ZipFile(file, "w") as archive:
                archive.write(plain, plain.name)

    return write_packed


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (binary, "given.bin"),
        (text, "given.vec"),
        (text, "given.txt"),
        (lambda file: given().save(str(file)), "given.kv"),
        (saved_model, "model.kv"),
        (packed(binary), "given.bin.gz"),
        (packed(binary), "given.bin.zip"),
        (packed(text), "given.vec.gz"),
        (packed(text), "given.vec.zip"),
    ],
)
def test_files_of_every_format_give_their_words_vectors(write: Any, name: str, paths: Paths, tmp_path: Path) -> None:
    file = tmp_path / name
    write(file)
    rows = from_file(paths, file)
    assert rows == {"<pad>": [0, 0], "<unk>": [0, 0], "film": [1.5, -2], "good": [0.25, 4], "odd": [0, 0]}
    with pytest.raises(UserError, match=r"vectors of 2 values, but embedding\.dimension is 3"):
        from_file(paths, file, dimension=3)


def test_a_file_is_read_once(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "given.bin"
    binary(file)
    rows = from_file(paths, file)
    monkeypatch.setattr(Word2Vec, "read_vectors", lambda self, file, vocabulary: pytest.fail("read again"))
    assert from_file(paths, file) == rows
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(pytest.fail.Exception, match="read again"):
        from_file(paths, file)


class Canary:
    """Leaves a file when it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> Any:
        return Path.touch, (self.sign,)


@pytest.mark.parametrize("name", ["given.kv", "given.bin", "given.vec", "given.txt"])
def test_a_pickle_runs_only_if_it_is_trusted(name: str, paths: Paths, tmp_path: Path) -> None:
    file, sign = tmp_path / name, tmp_path / "it ran"
    file.write_bytes(pickle.dumps(Canary(sign)))
    with pytest.raises(UserError):
        from_file(paths, file, trust_pickle=False)
    assert not sign.exists()
    if file.suffix == ".kv":
        with pytest.raises(UserError, match=r"is a pickle: .*\n.* set embedding\.trust_pickle=true"):
            from_file(paths, file, trust_pickle=False)
        with pytest.raises(UserError, match="cannot be read"):
            from_file(paths, file, trust_pickle=True)
        assert sign.exists()


def test_a_companion_array_of_a_trusted_file_is_not_unpickled(paths: Paths, tmp_path: Path) -> None:
    file, sign = tmp_path / "given.kv", tmp_path / "it ran"
    given().save(str(file), separately=["vectors"])
    assert from_file(paths, file)["film"] == [1.5, -2]
    file.touch()  # so that it is read anew
    np.save(f"{file}.vectors.npy", np.array([Canary(sign)], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="allow_pickle=False"):
        from_file(paths, file)
    assert not sign.exists()


def test_trust_without_a_pickle_is_refused(paths: Paths, tmp_path: Path) -> None:
    binary(tmp_path / "given.bin")
    for path in (None, str(tmp_path / "given.bin")):
        with pytest.raises(UserError, match=r"embedding\.trust_pickle=true is for files of gensim \(\.kv\)"):
            word2vec(path=path, trust_pickle=True).check(paths)


def test_what_is_no_regular_file_is_refused_before_reading(paths: Paths, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.vec")
    (tmp_path / "folder.bin").mkdir()
    (tmp_path / "device.txt").symlink_to("/dev/zero")
    for name, kind in (("pipe.vec", "a pipe"), ("folder.bin", "a folder"), ("device.txt", "a device")):
        with pytest.raises(UserError, match=rf"embedding\.path=.*{name}: this is {kind}, not a file"):
            from_file(paths, tmp_path / name)


def test_only_the_first_vector_of_a_word_counts(paths: Paths, tmp_path: Path) -> None:
    vectors = np.array([[1.5, -2], [9, 9], [0.25, 4]], dtype="<f4")
    words = [b"film", b"\nfilm", b"\ngood"]  # word2vec's own program writes the line breaks
    rows = b"".join(word + b" " + vector.tobytes() for word, vector in zip(words, vectors, strict=True))
    (tmp_path / "given.bin").write_bytes(b"3 2\n" + rows)
    rows_of = from_file(paths, tmp_path / "given.bin")
    assert (rows_of["film"], rows_of["good"]) == ([1.5, -2], [0.25, 4])


def not_finite(file: Path) -> None:
    vectors = given()
    vectors.vectors[vectors.key_to_index["good"], 1] = np.nan
    vectors.save(str(file))


DAMAGED = r"cannot be read: .*\nBy its extension, it is .*Download it again"


@pytest.mark.parametrize(
    ("write", "name", "problem"),
    [
        (lambda file: (binary(file), truncate(file)), "given.bin", DAMAGED),
        (lambda file: (packed(binary)(file), truncate(file)), "given.bin.gz", DAMAGED),
        (lambda file: file.write_bytes(b"9" * 5_000 + b" 2\n"), "given.bin", DAMAGED),
        (lambda file: file.write_bytes(b"99999999999 2\nfilm \0\0\0\0\0\0\0\0"), "given.bin", DAMAGED),
        (lambda file: file.write_bytes(b"2 2\n" + b"x" * 3_000 + b" "), "given.bin", DAMAGED),
        (lambda file: file.write_text("9" * 5_000 + " 2\nfilm 1.5 2.0\n"), "given.vec", "?, line 1"),
        (lambda file: file.write_text("film 1.5 2.0\ngood 1.0 1.0\n"), "given.bin", DAMAGED),
        (lambda file: file.write_bytes(pickle.dumps({"film": [1.0, 2.0]})), "given.kv", DAMAGED),
        (lambda file: file.write_text("film 1.5 2.0"), "given.kv", DAMAGED),
        (not_finite, "given.kv", "has values that are not finite numbers, such as one of 'good'"),
        (lambda file: file.write_text("2 2\nfilm 1.5 2.0\ngood 1.0\n"), "given.vec", "?, line 3"),
        (lambda file: None, "nowhere.bin", "?: there is no such file"),
        (lambda file: None, "given.npy", "?: the extension must be"),
    ],
)
def test_a_file_that_is_damaged_or_something_else_is_named(
    write: Callable[[Path], Any], name: str, problem: str, paths: Paths, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(UserError, match=rf"{tmp_path / name} {problem}"):
        from_file(paths, tmp_path / name)
