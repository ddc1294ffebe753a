"""The pages of docs/extend, followed: their files written, their tests run, a training started with them."""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

import newsreel
from helpers.configs import CONFIGURED, plain, require_a_key_for_each_setting
from helpers.project import PROJECT
from newsreel.config.schema import read_experiment
from newsreel.core.errors import UserError
from newsreel.text import loading
from newsreel.training.run import train_run
from newsreel.training.spec import RunSpec

PAGES = PROJECT / "docs" / "extend"
BLOCK = re.compile(r"^```(?:python|yaml)\n# (\S+\.(?:py|yaml))\n.*?^```$", re.MULTILINE | re.DOTALL)
SYNTHETIC = ["data=synthetic", "data.num_documents=200", "data.vocabulary_size=300", "data.mean_length=12"]
CNN = [*SYNTHETIC, "model=kim_cnn", "model.num_filters=4", "embedding.dimension=8"]
TINY = [
    "batches.batch_size=72",  # of 144 training documents: two steps
    "training.max_epochs=1",
    "training.min_steps_per_epoch=1",
    "trainer=cpu",
    "trainer.threads=1",
    "logger=none",
    "evaluation.figures=false",
]
Follow = Callable[[str], Path]  # a page's name → the directory with its files


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Follow]:
    """Write a page's files into a copy of the repository's configs and beside the package's modules; run its tests."""
    before = dict(sys.modules)

    def write(page: str) -> Path:
        shutil.copytree(PROJECT / "configs", tmp_path / "configs")
        for block in BLOCK.finditer((PAGES / page).read_text(encoding="utf-8")):
            assert not (PROJECT / block[1]).exists(), f"{page}: {block[1]} is a file of the repository"
            file = tmp_path / block[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(block[0].splitlines(keepends=True)[1:-1]), encoding="utf-8")
        for room in (tmp_path / "src" / "newsreel").iterdir():
            package = importlib.import_module(f"newsreel.{room.name}")
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(room)])
        importlib.invalidate_caches()
        configs = ["--config", str(PROJECT / "pyproject.toml"), "--config", 'lint.isort.known-first-party=["newsreel"]']
        for action in (["check"], ["format", "--diff"]):
            command = [sys.executable, "-m", "ruff", *action, "--quiet", *configs, "src", "tests"]
            assert not subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
        run_tests(tmp_path)
        return tmp_path

    yield write
    for name in set(sys.modules) - set(before):
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(tmp_path):
            room, _, module = name.rpartition(".")
            delattr(sys.modules[room], module)
            del sys.modules[name]


def run_tests(root: Path) -> None:
    """Run the test functions of a page, with `tmp_path` as their only fixture."""
    (file,) = root.glob("tests/*/test_*.py")
    namespace: dict[str, Any] = {"__name__": file.stem}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), namespace)
    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test(**dict.fromkeys(inspect.signature(test).parameters, root))


def train(root: Path, *overrides: str) -> dict[str, Any]:
    """metrics.json of a training of two steps with the configs of a followed page."""
    typed = [*TINY, *(f"paths.{name}_dir={root / name}" for name in ("corpora", "cache", "output")), *overrides]
    with initialize_config_dir(str(root / "configs"), version_base="1.3"):
        config = compose("train", typed, return_hydra_config=True)
    choices = {name: choice for name, choice in config.hydra.runtime.choices.items() if "/" not in name}
    settings = plain(config)
    for group in CONFIGURED:
        require_a_key_for_each_setting(group, settings[group])
    experiment = read_experiment(settings)
    results = train_run(RunSpec(experiment, root / "run", choices, typed, time.perf_counter()))
    assert results["train/steps"] == 2
    (answer,) = newsreel.load(root / "run")(["a fine film"])  # the run directory is enough
    assert answer["label"] in answer["probabilities"]
    return results


def test_the_page_on_networks(follow: Follow) -> None:
    train(follow("network.md"), *SYNTHETIC, "model=attention", "model.hidden_size=6", "embedding.dimension=8")


def test_the_page_on_embeddings(follow: Follow) -> None:
    assert train(follow("embedding.md"), *CNN, "embedding=hashed")["embedding/coverage_types"] == 1


def test_the_page_on_tokenizers(follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    root = follow("tokenizer.md")
    fitted = importlib.import_module("newsreel.text.chunks").FittedChunks
    assert '`"chunks": FittedChunks` to `KINDS`' in (PAGES / "tokenizer.md").read_text(encoding="utf-8")
    with pytest.raises(UserError, match=r"FittedChunks is not in KINDS in .*loading\.py.* add it"):
        train(root, *CNN, "tokenizer=chunks")
    monkeypatch.setitem(loading.KINDS, "chunks", fitted)
    results = train(root, *CNN, "tokenizer=chunks")
    assert results["model/vocabulary"] <= 300 + 2  # the generator's words, <pad> and <unk>


def test_the_page_on_corpora(follow: Follow) -> None:
    root = follow("corpus.md")
    file = root / "corpora" / "sms_spam" / "SMSSpamCollection"
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"ham\tsee you at {hour}\nspam\twin {hour} prizes now\n" for hour in range(100)))
    results = train(root, "data=sms_spam", "model=bow", "training.solver=minibatch")
    assert [results[f"documents/{split}"] for split in ("train", "validation", "test")] == [144, 16, 40]
