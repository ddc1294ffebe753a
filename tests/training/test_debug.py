"""Small runs that find mistakes: configs/debug."""

import logging
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from helpers.project import CONFIGS
from helpers.tiny_runs import SMALL_LSTM, compose_tiny, read_tiny, train_tiny
from newsreel.core.errors import UserError


def test_debug_wins_over_experiments_and_the_command_line_over_both(tmp_path: Path) -> None:
    chosen = ["experiment=lecture/glove_200_documents", "debug=overfit", "paths.corpora_dir=nowhere"]
    config = compose_tiny(tmp_path, *chosen, "training.patience=4", "data.limit=9", "paths.output_dir=typed")
    assert (config.data.train_limit, config.batches.batch_size, config.training.schedule) == (None, 4, "constant")
    assert (config.training.patience, config.data.limit, config.paths.output_dir) == (4, 9, "typed")
    for file in (CONFIGS / "debug").glob("*.yaml"):  # debug runs have a folder of their own
        assert OmegaConf.load(file).paths.output_dir == "outputs/debug"


def test_a_smoke_run_tests_and_reports(tmp_path: Path) -> None:
    results = train_tiny(tmp_path, *SMALL_LSTM, "debug=smoke", "data.num_documents=200", "training.max_epochs=1")
    assert results["train/steps"] <= 2
    assert results["documents/test"] < 40
    assert (tmp_path / "run" / "report.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [[*SMALL_LSTM, "training.learning_rate=0.02"], ["model=bow", "training.learning_rate=1"]],
    ids=["lstm", "bow"],
)
def test_nothing_keeps_an_overfitting_run_from_learning_its_documents(tmp_path: Path, model: list[str]) -> None:
    num_epochs = 100 if "model=lstm" in model else 30
    longer = ["data.mean_length=30", "debug=overfit", f"training.max_epochs={num_epochs}"]
    results = train_tiny(tmp_path, *model, "data.num_documents=200", *longer)
    assert results["documents/train"] < 20
    assert results["train/epochs"] == num_epochs
    report = (tmp_path / "run" / "report.md").read_text()
    (loss,) = re.findall(rf"^\| {num_epochs} +\| ([\d.e-]+) +\|", report, re.MULTILINE)
    assert float(loss) < 0.05


def test_regularisation_is_off_wherever_it_was_set(tmp_path: Path) -> None:
    strict = ["model.dropout=0.5", "model.recurrent_dropout=0.5", "embedding.word_dropout=0.5", "embedding.max_norm=1"]
    training = ["training.weight_decay=1", "training.label_smoothing=0.1"]
    config = read_tiny(tmp_path, *SMALL_LSTM, *strict, *training, "regularize=false").config
    assert (config["model"]["dropout"], config["model"]["recurrent_dropout"]) == (0, 0)
    assert (config["embedding"]["dropout"], config["embedding"]["word_dropout"]) == (0, 0)
    assert config["embedding"]["max_norm"] is None
    assert (config["training"]["weight_decay"], config["training"]["label_smoothing"]) == (0, 0)
    assert "regularize" not in config
    with pytest.raises(UserError, match="regularize is 3: it must be true or false"):
        read_tiny(tmp_path, "regularize=3")


@pytest.mark.slow
def test_a_profile_ends_with_where_the_time_went(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    results = train_tiny(tmp_path, *SMALL_LSTM, "debug=profile", "training.max_epochs=1")
    table = caplog.records[-1].message
    rows = dict(re.findall(r"^(\w[\w ]+?) {2,}(-?[\d.]+) +-?[\d.]+%$", table, re.MULTILINE))
    steps = {"before training", "reading batches", "forward and loss", "backward", "optimizer", "validation"}
    assert "where the time went" in table
    assert steps <= rows.keys()
    total = float(rows.pop("total"))
    assert total == pytest.approx(results["time/total_s"], abs=0.01)
    assert sum(map(float, rows.values())) == pytest.approx(total, abs=0.1)
    assert all(float(seconds) >= 0 for seconds in rows.values())
    assert re.search(r"aten::\w+ +[\d.]+ +[\d.]+% +\d", table)
