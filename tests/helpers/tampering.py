"""Run directories that are damaged or made to do harm."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from newsreel.runs.run_dir import FILES_KEY

Change = Callable[[Path], object]
BEST = "checkpoints/best.ckpt"


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


def label_too_many(folder: Path) -> None:
    content = json.loads((folder / "labels.json").read_text())
    content |= {"names": [*content["names"], "more"], "training_documents": [*content["training_documents"], 1]}
    (folder / "labels.json").write_text(json.dumps(content))


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
    ("lstm", "config of nested lists", text("config.yaml", "[" * 100_000), "nested more than 20 levels deep"),
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
    ("topics", "more labels", change_json("labels.json", "names", list("abcde")), "one item for every label"),
    ("topics", "a label too many", without_digests(label_too_many), "does not fit"),
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
    ("lstm", "huge shape", change_weights(lambda c: first_weights(c, lambda w: w[:1, :1].expand(10**7, 10**5))),
     "values, which the file does not have"),
    ("lstm", "other numbers", change_weights(lambda c: first_weights(c, lambda w: w.double())), "does not fit"),
    ("lstm", "sparse", change_weights(lambda c: first_weights(c, lambda w: w.to_sparse())), "not a tensor of weights"),
    ("lstm", "text for weights", change_weights(lambda c: first_weights(c, lambda w: "w")), "not a tensor of weights"),
    ("lstm", "weights are a list", change_weights(lambda c: c.update(state_dict=[])), "best.ckpt cannot be read"),
    ("lstm", "no weights", change_weights(lambda c: c.update(state_dict={})), "in only one of them"),
]  # fmt: skip
VARIANTS = {  # of which another case is of the same kind
    "config is a list", "config is binary", "many layers", "other length", "module beside", "relative module",
    "labels are nested", "number as label", "repeated label", "titles for some", "overrides are a text",
    "directory is a number", "rule of a wrong type", "tokens are numbers", "repeated token", "order out of range",
    "n-grams of another order", "empty checkpoint", "plain pickle", "infinity", "other numbers", "text for weights",
    "weights are a list",
}  # fmt: skip
