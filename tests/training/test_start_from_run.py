"""Classifiers that start from another run."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from helpers.tiny_language_models import pretrain_small
from helpers.tiny_runs import MINIBATCH_BOW, SMALL_LSTM, go_on, read_tiny, tiny_spec, train_tiny, without_times
from newsreel.core.errors import UserError
from newsreel.embeddings.embedding import TableEmbedding
from newsreel.models.classifier import TextClassifier
from newsreel.models.recurrent import RecurrentNetwork
from newsreel.runs.run_dir import read_weights
from newsreel.runs.trained_run import open_run
from newsreel.training.pretrained import open_source, start_from
from newsreel.training.run import load_documents

RECURRENT: dict[str, Any] = {
    "hidden_size": 4, "pooling": "max", "dropout": 0.0, "recurrent_dropout": 0.0, "layer_norm": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the language models `lm`, `both` and `gru`."""
    folder = tmp_path_factory.mktemp("pretrained")
    once = ["training.max_epochs=1", "batches.num_steps=100"]
    pretrain_small(folder, *once, "tokenizer.max_size=60")
    pretrain_small(folder, *once, "model=bilstm", "model.num_layers=2", folder="both")
    pretrain_small(folder, *once, "model=gru", folder="gru")
    return folder


def recurrent(directions: str, num_layers: int = 1, cell: str = "lstm") -> RecurrentNetwork:
    table = TableEmbedding(torch.randn(9, 3))
    settings: Any = RECURRENT | {"directions": directions, "num_layers": num_layers, "cell": cell}
    return RecurrentNetwork(table, 2, **settings)


def equal_layers(
    network: RecurrentNetwork, other: dict[str, torch.Tensor], number: int, index: int, source: int
) -> bool:
    own = network.layers[number][index].state_dict()  # type: ignore[index, union-attr]
    return all(torch.equal(value, other[f"layers.{number}.{source}.{name}"]) for name, value in own.items())


def test_layers_are_copied_where_cell_size_and_direction_fit() -> None:
    both = recurrent("both", num_layers=2)
    weights = both.state_dict()
    forward, backward, twin = recurrent("forward", 2), recurrent("backward"), recurrent("both", 2)
    assert forward.copy_layers(weights, {"directions": "both"}) == [
        "forward 1"
    ]  # its second layer reads 4 values, not 8
    assert equal_layers(forward, weights, 0, 0, source=0)
    assert backward.copy_layers(weights, {"directions": "both"}) == ["backward 1"]
    assert equal_layers(backward, weights, 0, 0, source=1)
    copied = twin.copy_layers(weights, {"directions": "both"})
    assert copied == ["forward 1", "forward 2", "backward 1", "backward 2"]
    assert all(equal_layers(twin, weights, number, index, index) for number in range(2) for index in range(2))
    assert recurrent("both").copy_layers(forward.state_dict(), {"directions": "forward"}) == ["forward 1"]
    assert recurrent("forward").copy_layers({}, {}) == []


def test_words_get_the_vectors_of_the_same_words(folder: Path) -> None:
    spec = tiny_spec(folder, *SMALL_LSTM, "embedding.dropout=0", f"pretrained={folder / 'lm'}")
    corpus, tokenized = load_documents(spec, None)
    source = open_source(spec.experiment)
    assert source is not None
    torch.manual_seed(5)
    embedding = spec.experiment.embedding.build(tokenized, corpus, spec.experiment.paths)
    network = spec.experiment.build_network(embedding, 1)
    before = embedding.rows()
    assert before is not None
    before = before.clone()
    start = start_from(source, network, tokenized, corpus)
    rows, own, other = embedding.rows(), tokenized.tokenizer.tokens, list(source.tokens)
    assert rows is not None
    assert source.table is not None
    assert len(own) > len(other) == 62
    for number, word in enumerate(own):
        expected = source.table[other.index(word)] if word in other else before[number]
        assert torch.equal(rows[number], expected), word
    counts = tokenized.tables["train"].count_tokens(corpus.splits["train"].rows, len(own))
    known = [number for number, word in enumerate(own) if word in other and number > 1]
    assert start.coverage.known_types == len(known)
    assert start.coverage.known_tokens == counts[known].sum()
    assert start.coverage.tokens == counts[1:].sum()
    assert start.layers == ["forward 1"]


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (["embedding.dimension=12"], ["embedding.dimension is 12, and the vectors of", "have 8 values: set embedding"]),
        (["model.hidden_size=7"], ["model.hidden_size is 7", "is 6: set model.hidden_size=6"]),
        (["model=gru", "model.hidden_size=6"], ["model.cell is gru", "set model.cell=lstm"]),
        (["model.directions=backward"], ["model.directions is backward", "set model.directions=forward"]),
    ],
)
def test_what_does_not_fit_is_named_with_both_sizes(folder: Path, overrides: list[str], messages: list[str]) -> None:
    experiment = read_tiny(folder, *SMALL_LSTM, *overrides, f"pretrained={folder / 'lm'}")
    with pytest.raises(UserError) as error:
        open_source(experiment)
    assert all(message in str(error.value) for message in messages)


def test_what_is_no_source_is_refused(folder: Path) -> None:
    for embedding in ("one_hot", "glove"):
        with pytest.raises(UserError, match="gives the words their vectors, and this embedding has its own or none"):
            read_tiny(folder, "model=lstm", f"embedding={embedding}", "pretrained=somewhere")
    with pytest.raises(UserError, match=r"is not a run directory: it has no config\.yaml"):
        open_source(read_tiny(folder, *SMALL_LSTM, "pretrained=nowhere"))
    train_tiny(
        folder, "model=lstm", "model.hidden_size=6", "embedding=one_hot", "training.max_epochs=1", folder="one_hot"
    )
    with pytest.raises(UserError, match="has no word vectors: name a run with a table"):
        open_source(read_tiny(folder, *SMALL_LSTM, f"pretrained={folder / 'one_hot'}"))


def test_a_run_stands_on_its_own_and_is_resumed_without_its_source(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder / "cache", tmp_path / "cache")
    shutil.copytree(folder / "both", tmp_path / "both")
    overrides = ["model=bilstm", "model.hidden_size=6", "embedding.dimension=8", f"pretrained={tmp_path / 'both'}"]
    overrides += [
        "training.layer_decay=0.5",
        "training.unfreeze_epochs=1",
        "training.max_epochs=3",
        "training.patience=null",
    ]
    expected = train_tiny(tmp_path, *overrides)
    assert expected["embedding/coverage_types"] == 1
    start = json.loads((tmp_path / "run" / "pretrained.json").read_text())
    assert start["layers"] == ["forward 1", "backward 1"]
    stopped = shutil.copytree(tmp_path / "run", tmp_path / "stopped")
    (stopped / "metrics.json").unlink()
    shutil.rmtree(tmp_path / "both")
    (stopped / "checkpoints" / "last.ckpt").unlink()  # the one before it is that of the epoch before
    assert without_times(go_on(stopped)) == without_times(expected)
    open_run(stopped)


@pytest.mark.slow
def test_any_network_starts_from_the_vectors_of_any_run(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder / "cache", tmp_path / "cache")
    quick = ["embedding.dimension=8", "training.max_epochs=1", "training.learning_rate=1e-9"]
    train_tiny(tmp_path, "model=cnn", "model.num_filters=4", *quick, f"pretrained={folder / 'gru'}", folder="cnn")
    train_tiny(tmp_path, *MINIBATCH_BOW, "embedding=learned", *quick, f"pretrained={tmp_path / 'cnn'}", folder="bow")
    tables = [
        next(value for name, value in read_weights(run).items() if name.endswith("embedding.table.weight"))
        for run in (folder / "gru", tmp_path / "cnn", tmp_path / "bow")
    ]
    assert tables[0].shape == tables[1].shape  # the same vocabulary
    for table in tables[1:]:
        torch.testing.assert_close(table, tables[0], rtol=0, atol=1e-6)


def classifier_of(tmp_path: Path, *overrides: str) -> TextClassifier:
    train_tiny(tmp_path, *SMALL_LSTM, "training.patience=null", *overrides)
    return open_run(tmp_path / "run").classifier


def test_learning_rates_fall_with_the_depth_of_the_layer() -> None:
    network = recurrent("both", num_layers=2)
    names = {weights: name for name, weights in network.named_parameters()}
    groups = [sorted({names[weights].rpartition(".")[0] for weights in group}) for group in network.layer_groups()]
    assert groups == [["output"], ["layers.1.0", "layers.1.1"], ["layers.0.0", "layers.0.1"], ["embedding.table"]]
    assert sum(len(group) for group in network.layer_groups()) == len(names)


def test_groups_of_the_optimizer_have_decayed_rates_and_lazy_tables(tmp_path: Path) -> None:
    classifier = classifier_of(tmp_path, "training.layer_decay=0.5", "training.max_epochs=1")
    groups = classifier._parameter_groups()
    assert [(group["lr"], group.get("lazy", False)) for group in groups] == [
        (0.002, False), (0.001, False), (0.0005, True),
    ]  # fmt: skip
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert [group["initial_lr"] for group in state["optimizer_states"][0]["param_groups"]] == [0.002, 0.001, 0.0005]


def test_layers_are_unfrozen_one_after_another(tmp_path: Path) -> None:
    overrides = ["training.unfreeze_epochs=1", "training.checkpoint=last", "training.schedule=constant"]
    weights: list[dict[str, torch.Tensor]] = []

    class Snapshots(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            weights.append({name: value.clone() for name, value in pl_module.network.state_dict().items()})

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self.on_train_epoch_start(trainer, pl_module)

    train_tiny(
        tmp_path, *SMALL_LSTM, *overrides, "training.max_epochs=3", "training.patience=null", callbacks=[Snapshots()]
    )
    names = ["output.weight", "layers.0.0.weight_hh_l0", "embedding.table.weight"]
    changed = [[not torch.equal(before[name], after[name]) for name in names] for before, after in pairwise(weights)]
    assert changed == [[True, False, False], [True, True, False], [True, True, True]]


def test_unfreezing_that_would_not_end_or_cannot_be_combined_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"3 groups of layers, the last of which would train from epoch 3 on.*is 2"):
        train_tiny(tmp_path, *SMALL_LSTM, "training.unfreeze_epochs=1")
    with pytest.raises(UserError, match=r"training\.unfreeze_epochs is 1, which changes the trained weights"):
        read_tiny(tmp_path, *SMALL_LSTM, "training.unfreeze_epochs=1", "training.ema=0.99")


def write_reviews(folder: Path) -> list[str]:
    """Documents of words of one of two groups, which is the label. Test documents have other words of their group than
    training documents; that they belong together can only be learned from the unlabelled ones.
    """
    random = np.random.default_rng(1)
    groups = [[f"{name}{number}" for number in range(60)] for name in ("good", "bad")]

    def text(label: int, first: int, last: int) -> str:
        return " ".join(random.choice(groups[label][first:last], size=12))

    rows = {
        "train": [(label, text(label, 0, 20)) for label in (0, 1) for _ in range(10)],
        "test": [(label, text(label, 20, 60)) for label in (0, 1) for _ in range(100)],
    }
    for name, documents in rows.items():
        lines = ["label,text", *(f"{('good', 'bad')[label]},{words}" for label, words in documents)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    unlabeled = ["text", *(text(number % 2, 0, 60) for number in range(400))]
    (folder / "unlabeled.csv").write_text("\n".join(unlabeled) + "\n")
    return ["data=files", *(f"data.{name}={folder / f'{name}.csv'}" for name in ("train", "test", "unlabeled"))]


@pytest.mark.slow
def test_pretraining_makes_a_classifier_better(tmp_path: Path) -> None:
    files = [*write_reviews(tmp_path), "data.validation_fraction=0.2"]
    sizes = ["model.hidden_size=16", "embedding.dimension=16"]
    language_model = pretrain_small(
        tmp_path, *files, *sizes, "training.max_epochs=6", "training.learning_rate=0.02", "batches.batch_size=16"
    )
    assert language_model["documents/train"] + language_model["documents/held_out"] == 416
    assert language_model["val/perplexity"] < 75  # of 122 tokens, 61 of which can follow
    training = ["training.max_epochs=8", "training.patience=null", "embedding.word_dropout=0", "embedding.dropout=0"]
    training += ["training.min_steps_per_epoch=5", "training.learning_rate=0.005"]
    words = ["tokenizer=words_unlabeled", "embedding.adapt_below=0"]
    scores = [
        train_tiny(tmp_path, "model=lstm", *files, *sizes, *words, *training, f"pretrained={source}", folder=name)[
            "test/accuracy"
        ]
        for name, source in (("random", "null"), ("started", tmp_path / "lm"))
    ]
    assert scores[1] > 0.9
    assert scores[1] > scores[0] + 0.1
