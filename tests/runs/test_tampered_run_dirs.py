"""Run directories that were damaged or made to do harm: one message, no code run, little memory and time."""

import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from helpers.shared_runs import CLASSES, LSTM, SUBWORDS, TOPICS, SharedRuns
from newsreel.core.errors import UserError
from newsreel.core.paths import working_directory
from newsreel.inference.predict import Predictor
from newsreel.runs.records import find_runs
from newsreel.runs.run_dir import FILES_KEY
from newsreel.runs.trained_run import open_run

Change = Callable[[Path], object]
BEST = "checkpoints/best.ckpt"
RUNS = {"lstm": LSTM, "topics": TOPICS, "classes": CLASSES, "subwords": SUBWORDS}


def text(name: str, content: str | bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def change_json(name: str, key: str, value: Any) -> Change:
    """Give a key of a JSON file, such as `rules.lowercase`, another value."""

    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        *parents, last = (int(part) if part.isdecimal() else part for part in key.split("."))
        section = content
        for parent in parents:
            section = section[parent]
        section[last] = value
        (folder / name).write_text(json.dumps(content))

    return change


def change_config(key: str, value: Any) -> Change:
    def change(folder: Path) -> None:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        section, _, name = key.rpartition(".")
        (config[section] if section else config)[name] = value
        (folder / "config.yaml").write_text(yaml.safe_dump(config))

    return change


def change_weights(change: Callable[[dict[str, Any]], object]) -> Change:
    """Write best.ckpt again with a changed content."""

    def write(folder: Path) -> None:
        content = torch.load(folder / BEST, weights_only=True)
        change(content)
        torch.save(content, folder / BEST)

    return write


def first_weights(content: dict[str, Any], value: Any) -> None:
    name = next(name for name, value in content["state_dict"].items() if value.ndim == 2)
    content["state_dict"][name] = value(content["state_dict"][name])


def flip_in_weights(folder: Path) -> None:
    content = bytearray((folder / BEST).read_bytes())
    with zipfile.ZipFile(folder / BEST) as archive:
        member = max(archive.infolist(), key=lambda each: each.file_size)
    content[member.header_offset + 200 + member.file_size // 2] ^= 1
    (folder / BEST).write_bytes(content)


def compress_checkpoint(folder: Path) -> None:
    with zipfile.ZipFile(folder / BEST) as archive:
        members = {each.filename: archive.read(each) for each in archive.infolist()}
    with zipfile.ZipFile(folder / BEST, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


class Canary:
    """Pickled, it creates a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.file),)


def pickled_checkpoint(folder: Path) -> None:
    torch.save({"state_dict": {}, "canary": Canary(folder / "canary")}, folder / BEST)


def pickled_ngrams(folder: Path) -> None:
    objects = np.array([Canary(folder / "canary")], dtype=object)
    np.savez(folder / "ngrams.npz", keys_2=objects, ids_1=objects, ids_2=objects)


def other_ids(folder: Path) -> None:
    with np.load(folder / "ngrams.npz") as arrays:
        content = dict(arrays)
    np.savez(folder / "ngrams.npz", **(content | {"ids_1": content["ids_1"] + 1}))


def without_digests(change: Change) -> Change:
    """A change in a run directory whose checkpoint has no digests of its files, as of an earlier version."""

    def apply(folder: Path) -> None:
        change_weights(lambda content: content.pop(FILES_KEY))(folder)
        change(folder)

    return apply


ALIASES = "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
REGEX = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}
NO_LABEL = "names has fewer than two labels, or an empty or a repeated one"
TAMPERED: list[tuple[str, str, Change, str]] = [
    # config.yaml
    ("lstm", "config is no YAML", text("config.yaml", "{"), "config.yaml is not a valid config"),
    ("lstm", "config is a list", text("config.yaml", "[]"), "config.yaml is not a valid config"),
    ("lstm", "config is binary", text("config.yaml", b"\xff\xfe\x00"), "config.yaml is not a valid config"),
    ("lstm", "config with aliases", text("config.yaml", f"a: &a [x]\n{ALIASES}"), "it has an alias"),
    ("lstm", "config of nested lists", text("config.yaml", "[" * 100_000), "config.yaml is not a valid config"),
    ("lstm", "config is large", text("config.yaml", "a: " + "b" * 2**19), "it has more than 262,144 bytes"),
    ("lstm", "config of the wrong type", change_config("trainer", 3), "trainer is not a section"),
    ("lstm", "unknown key", change_config("model.x", 1), "model.x is not a setting"),
    ("lstm", "size out of range", change_config("model.hidden_size", 10**9), "must be at least 1 and at most 65536"),
    ("lstm", "other size", change_config("model.hidden_size", 7), "is 7, but the run was trained with 6"),
    ("lstm", "many layers", change_config("model.num_layers", 100), "is 100, but the run was trained with 1"),
    ("subwords", "large workers", change_config("batches.num_workers", 10**6), "at most 256"),
    ("lstm", "class of another package", change_config("model._target_", "os.system"), "a class of newsreel"),
    ("lstm", "module beside", change_config("model._target_", "canary_module.Net"), "a class of newsreel"),
    ("lstm", "relative module", change_config("data._target_", "newsreel...canary_module.Net"), "a class of newsreel"),
    ("lstm", "file as module", change_config("tokenizer._target_", "/tmp/canary_module.Net"), "a class of newsreel"),
    ("lstm", "base class", change_config("model._target_", "newsreel.models.network.Network"), "is not a Network"),
    ("lstm", "other length", change_config("batches.max_tokens", 8), "is 8, but the run was trained with 9"),
    # labels.json
    ("lstm", "labels are a list", text("labels.json", "[]"), "labels.json is not as a run has written it"),
    ("lstm", "labels are nested", text("labels.json", "[" * 100_000), "labels.json is not as a run"),
    ("lstm", "unknown task", change_json("labels.json", "task", "rank"), "task: Input should be 'binary'"),
    ("lstm", "labels are a text", change_json("labels.json", "names", "ab"), "names: Input should be a valid array"),
    ("lstm", "number as label", change_json("labels.json", "names", [1, 2]), "names.0: Input should be a valid string"),
    ("lstm", "repeated label", change_json("labels.json", "names", ["a", "a"]), NO_LABEL),
    ("lstm", "one label", change_json("labels.json", "names", ["a"]), NO_LABEL),
    ("lstm", "swapped labels", change_json("labels.json", "names", ["label1", "label0"]), "another labels.json"),
    ("topics", "other number of labels", change_json("labels.json", "names", list("abcde")), "another labels.json"),
    ("topics", "a label too many", without_digests(change_json("labels.json", "names", list("abcde"))), "does not fit"),
    ("topics", "three labels, binary", change_json("labels.json", "task", "binary"), "binary, with 4 labels"),
    ("topics", "titles for some", change_json("labels.json", "titles", ["A"]), "one item for every label"),
    ("topics", "parent of no label", change_json("labels.json", "parents", [9, -1, -1, -1]), "a parent is no label"),
    ("topics", "circle of labels", change_json("labels.json", "parents", [1, 0, -1, -1]), "its own ancestor"),
    # command.json
    ("lstm", "command is null", text("command.json", "null"), "command.json is not as a run has written it"),
    ("lstm", "overrides are a text", change_json("command.json", "overrides", "a=b"), "overrides: Input should be"),
    ("lstm", "directory is a number", change_json("command.json", "directory", 3), "directory: Input should be"),
    ("lstm", "directory is relative", change_json("command.json", "directory", "."), "not an absolute path"),
    ("lstm", "no directory", text("command.json", '{"format": 2}'), "choices: Field required .and 2 more"),
    # tokenizer.json
    ("lstm", "unknown kind", change_json("tokenizer.json", "kind", "magic"), "kind is 'magic'"),
    ("lstm", "no rules", change_json("tokenizer.json", "rules", {}), "rules.strip_html: Field required"),
    ("lstm", "rule of a wrong type", change_json("tokenizer.json", "rules.lowercase", "yes"), "rules.lowercase: Input"),
    ("lstm", "tokens are numbers", change_json("tokenizer.json", "tokens", [0, 1]), "tokens.0: Input should be"),
    ("lstm", "no special tokens", change_json("tokenizer.json", "tokens", ["a", "b"]), "the first tokens are"),
    ("lstm", "repeated token", change_json("tokenizer.json", "tokens", ["<pad>", "<unk>", "a", "a"]), "occurs twice"),
    ("lstm", "no pattern", change_json("tokenizer.json", "rules.word_pattern", "("), "is not the tokenizer of a run"),
    ("lstm", "other words", change_json("tokenizer.json", "tokens.5", "x"), "another tokenizer.json"),
    ("subwords", "model is empty", change_json("tokenizer.json", "model", {}), "cannot read the model"),
    ("subwords", "slow pattern", change_json("tokenizer.json", "model.normalizer.normalizers.0", REGEX), r"\(a\+\)\+"),
    ("subwords", "fewer words", change_json("tokenizer.json", "model.model.vocab", {"<pad>": 0}), "tokenizer"),
    ("classes", "no n-grams", lambda folder: (folder / "ngrams.npz").unlink(), "is not the tokenizer of a run"),
    ("classes", "n-grams of another order", change_json("tokenizer.json", "max_n", 9), "is not the tokenizer of a run"),
    ("classes", "order out of range", change_json("tokenizer.json", "max_n", 10**9), "max_n: Input should be less"),
    ("classes", "other token ids", other_ids, "the token ids are not in order"),
    ("classes", "pickled n-grams", pickled_ngrams, "is not the tokenizer of a run"),
    # checkpoint
    ("lstm", "empty checkpoint", text(BEST, b""), "best.ckpt cannot be read"),
    ("lstm", "flipped bit", flip_in_weights, "best.ckpt cannot be read"),
    ("lstm", "compressed", compress_checkpoint, "its members are compressed"),
    ("lstm", "pickled code", pickled_checkpoint, "best.ckpt cannot be read"),
    ("lstm", "plain pickle", text(BEST, pickle.dumps({"state_dict": {}})), "best.ckpt cannot be read"),
    ("lstm", "NaN", change_weights(lambda c: first_weights(c, lambda w: w * np.nan)), "not finite numbers"),
    ("lstm", "infinity", change_weights(lambda c: first_weights(c, lambda w: w / 0)), "not finite numbers"),
    ("lstm", "other shape", change_weights(lambda c: first_weights(c, lambda w: w[1:])), "does not fit"),
    ("lstm", "huge shape", change_weights(lambda c: first_weights(c, lambda w: w[:1, :1].expand(10**7, 10**5))), "fit"),
    ("lstm", "other numbers", change_weights(lambda c: first_weights(c, lambda w: w.double())), "does not fit"),
    ("lstm", "sparse", change_weights(lambda c: first_weights(c, lambda w: w.to_sparse())), "not a tensor of weights"),
    ("lstm", "text for weights", change_weights(lambda c: first_weights(c, lambda w: "w")), "not a tensor of weights"),
    ("lstm", "weights are a list", change_weights(lambda c: c.update(state_dict=[])), "best.ckpt cannot be read"),
    ("lstm", "no weights", change_weights(lambda c: c.update(state_dict={})), "in only one of them"),
]  # fmt: skip


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the current directory, which is on the path as in a notebook, that leaves a trace if imported."""
    (tmp_path / "canary_module.py").write_text("import pathlib; pathlib.Path('canary').mkdir(); class Net: pass")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    return tmp_path / "canary"


@pytest.mark.parametrize(("kind", "name", "tamper", "message"), TAMPERED, ids=[each[1] for each in TAMPERED])
def test_a_tampered_run_directory_is_refused_in_words(
    tmp_path: Path, canary: Path, shared_runs: SharedRuns, kind: str, name: str, tamper: Change, message: str
) -> None:
    folder = shared_runs.copy(tmp_path / "run", *RUNS[kind])
    tamper(folder)
    with pytest.raises(UserError, match=message) as error:
        open_run(folder)
    assert len(str(error.value)) < 3_000
    assert not canary.exists()
    assert not (folder / "canary").exists()
    assert "canary_module" not in sys.modules


def test_no_module_is_imported_from_the_directory_that_a_run_names(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "canary_module.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with working_directory(tmp_path / "elsewhere"):
        assert Path.cwd() == tmp_path / "elsewhere"
        with pytest.raises(ImportError):
            __import__("canary_module")
    assert Path.cwd() == tmp_path
    assert sys.path[0] == ""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("metrics.json", content) for content in ("{", "[]", "3", '{"test/accuracy": "high"}', '{"val/loss": {}}')),
        *(("command.json", content) for content in ("{", "[]", '{"overrides": ["a=(("]}', '{"choices": 3}')),
        *(("labels.json", content) for content in ("{", "[]", '{"metric": 1}')),
        *(("config.yaml", content) for content in ("{", "[]", "a: &a 1\nb: *a")),
    ],
)
def test_a_broken_run_does_not_hide_the_others(
    tmp_path: Path, shared_runs: SharedRuns, name: str, content: str
) -> None:
    for number in range(2):
        shutil.copytree(shared_runs.run(*LSTM), tmp_path / str(number))
    (tmp_path / "0" / name).write_text(content)
    broken, whole = find_runs([tmp_path])
    assert whole.status == "finished"
    assert broken.status == "failed"
    assert name in broken.message or "overrides of a run cannot be read" in broken.message


def test_predictions_that_are_no_numbers_are_refused(shared_runs: SharedRuns, monkeypatch: Any) -> None:
    run = open_run(shared_runs.run(*CLASSES))
    overflow = torch.tensor([[0.0, 1, 2], [torch.inf, torch.inf, 0]])
    monkeypatch.setattr(run.classifier.network, "forward", lambda *_: overflow)
    with pytest.raises(UserError, match=r"gives no probabilities for 1 of 2 documents, but NaN: its weights"):
        Predictor(run)(["a", "b"])
