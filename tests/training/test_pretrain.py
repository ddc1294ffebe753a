"""Language models: runs, and how they are resumed."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from helpers.killed import snapshots
from helpers.marks import slow
from helpers.project import Command
from helpers.tiny_language_models import go_on_pretraining, pretrain_small, small
from helpers.tiny_runs import without_times
from newsreel.core.errors import UserError
from newsreel.runs.records import find_runs
from newsreel.runs.trained_run import open_run
from newsreel.runs.word_table import read_table
from newsreel.training.resume import resume

FORWARD = ["model.dropout=0.3", "embedding.word_dropout=0.2"]
BOTH = ["model=bilstm", "model.num_layers=2", "model.recurrent_dropout=0.2", "batches.batch_size=40"]


def weights_of(run_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]  # type: ignore[no-any-return]


def assert_same_weights(run_dir: Path, expected: Path) -> None:
    weights, targets = weights_of(run_dir), weights_of(expected)
    assert weights.keys() == targets.keys()
    assert all(torch.equal(weights[name], targets[name]) for name in targets)


@pytest.mark.parametrize(("overrides", "step"), [(FORWARD, 3), slow(FORWARD, 6), slow(BOTH, 2)])
def test_a_killed_language_model_goes_on_with_the_same_numbers(tmp_path: Path, overrides: list[str], step: int) -> None:
    with snapshots(tmp_path / "lm", [step]):
        expected = pretrain_small(tmp_path, "trainer.checkpoint_every_s=0", *overrides)
    killed = tmp_path / f"killed{step}"
    assert not (killed / "metrics.json").exists()
    results = go_on_pretraining(killed)
    assert without_times(results) == without_times(expected)
    assert json.loads((killed / "metrics.json").read_text()) == results
    assert_same_weights(killed, tmp_path / "lm")


@pytest.mark.slow
def test_numbers_do_not_depend_on_threads(tmp_path: Path) -> None:
    for threads in (1, 2):
        pretrain_small(tmp_path, *BOTH, *FORWARD, f"trainer.threads={threads}", folder=f"threads{threads}")
    assert_same_weights(tmp_path / "threads1", tmp_path / "threads2")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language_model")
    pretrain_small(folder, "logger=tensorboard")
    return folder / "lm"


def test_a_run_directory_has_its_results(language_model: Path) -> None:
    results = json.loads((language_model / "metrics.json").read_text())
    assert results["val/perplexity"] == pytest.approx(2.718281828 ** results["val/loss"], rel=1e-5)
    assert results["documents/held_out"] == 7
    assert results["documents/train"] == 65
    assert results["model/vocabulary"] == 2 + len(
        json.loads((language_model / "tokenizer.json").read_text(encoding="utf-8"))["tokens"][2:]
    )
    report = (language_model / "report.md").read_text(encoding="utf-8")
    assert "## Nearest words" in report
    assert report.count("- forward: ") == 3
    assert "has no unlabelled documents" in report
    assert "python pretrain.py data=synthetic" in report
    assert json.loads((language_model / "command.json").read_text())["script"] == "pretrain.py"


@pytest.mark.parametrize(("learning_rate", "has_learned"), [(1e-6, False), (0.03, True)])
def test_a_language_model_that_has_learned_nothing_says_so(
    tmp_path: Path, learning_rate: float, has_learned: bool
) -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    texts = [" ".join((words[start:] + words[:start]) * 2) for start in range(10)] * 4
    rows = [f"{text} no {number},{number % 2}" for number, text in enumerate(texts)]
    (tmp_path / "own.csv").write_text("\n".join(["text,label", *rows]))
    own = ["data=files", f"data.train={tmp_path / 'own.csv'}", "data.text=text", "data.label=label"]
    results = pretrain_small(tmp_path, *own, "tokenizer=words", f"training.learning_rate={learning_rate}",
                             "training.max_epochs=6")  # fmt: skip
    report = (tmp_path / "lm" / "report.md").read_text()
    assert ("learned next to nothing" not in report) == has_learned
    if not has_learned:  # it still has the biases of its start
        (frequencies,) = re.findall(r"hardly below ([\d.]+), that", report)
        assert results["val/perplexity"] == pytest.approx(float(frequencies), rel=0.05)


def test_its_word_vectors_can_be_explored_and_its_record_be_read(language_model: Path) -> None:
    words, rows = read_table(language_model)
    assert rows.shape == (len(words), 8)
    (run,) = find_runs([language_model])
    assert run.status == "finished"
    assert run.results["val/perplexity"] > 1


@pytest.mark.parametrize("script", ["evaluate.py", "predict.py"])
def test_commands_for_classifiers_refuse_it(command_here: Command, language_model: Path, script: str) -> None:
    done = command_here(script, f"run={language_model}")
    assert done.returncode == 2
    assert "is a language model, which predicts words and not labels" in done.stderr


def test_what_needs_labels_refuses_it_with_words(language_model: Path) -> None:
    with pytest.raises(UserError, match=r"is a language model, which predicts words and not labels.*pretrained="):
        open_run(language_model)
    with pytest.raises(UserError, match=r"was started by pretrain\.py: resume it with python pretrain\.py resume="):
        resume(language_model, {}, [], 0.0)


def test_a_finished_one_has_nothing_to_do_until_its_epochs_are_raised(language_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(language_model, tmp_path / "lm")
    before = (folder / "metrics.json").read_bytes()
    go_on_pretraining(folder)
    assert (folder / "metrics.json").read_bytes() == before
    assert go_on_pretraining(folder, "training.max_epochs=3")["train/epochs"] == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=cnn"], "a language model has recurrent layers, and this model (StackedCNN) has none"),
        (["embedding=one_hot"], "embedding=one_hot has no table to learn"),
        (["tokenizer=ngrams"], "this tokenizer produces bags of n-grams without an order"),
        (["model.layer_norm=true"], "model.layer_norm is true, which a language model does not have"),
        (["trainer=ddp"], "a language model is trained in one process"),
        (["training.num_samples=null", "training.sampling_power=1"], "nothing is sampled: leave it out"),
        (["batches.batch_size=5000"], "The text has"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    command_here: Command, tmp_path: Path, overrides: list[str], message: str
) -> None:
    base = [each for each in small() if each.partition("=")[0] not in {"embedding.dimension"}]
    done = command_here("pretrain.py", *base, *overrides)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
