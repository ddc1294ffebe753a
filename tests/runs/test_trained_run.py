"""Run folders, opened again."""

from pathlib import Path

import pytest
import torch

from helpers.shared_runs import SharedRuns
from helpers.tiny_runs import SMALL_LSTM
from newsreel.core.errors import UserError
from newsreel.runs.trained_run import open_run


@pytest.mark.parametrize(
    "overrides",
    [
        SMALL_LSTM,
        ["model=lstm", "model.hidden_size=6", "embedding=one_hot", "tokenizer.max_size=200"],
        ["model=bow", "model.weighting=nb", "tokenizer=ngrams"],
        ["model=bow", "data.num_labels=4", "data.multilabel=true"],
        ["model=cnn", "model.num_filters=4", "embedding.dimension=8", "tokenizer=subwords"],
    ],
    ids=lambda overrides: " ".join(overrides[:3]),
)
def test_a_moved_run_opens_as_its_best_checkpoint(
    tmp_path: Path, shared_runs: SharedRuns, overrides: list[str]
) -> None:
    shared_runs.copy(tmp_path / "moved", *overrides)
    run = open_run(tmp_path / "moved")
    weights = torch.load(tmp_path / "moved" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, weights[name]) for name, value in run.classifier.state_dict().items())
    assert not run.classifier.training
    assert run.command.overrides[-len(overrides) :] == overrides
    assert len(run.labels.names) == (4 if "data.num_labels=4" in overrides else 2)
    assert run.tokenizer.tokens[1] == "<unk>"


def test_what_is_missing_or_broken_is_named(tmp_path: Path, shared_runs: SharedRuns) -> None:
    folder = shared_runs.copy(tmp_path / "run", *SMALL_LSTM)
    with pytest.raises(UserError, match="is not a run directory"):
        open_run(tmp_path)
    for name in ("config.yaml", "labels.json", "command.json", "tokenizer.json", "checkpoints/best.ckpt"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match=name.rpartition("/")[2]):
            open_run(folder)
        (folder / name).write_bytes(whole)
    (folder / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(UserError, match="does not exist: the run was stopped"):
        open_run(folder)
    (folder / "labels.json").unlink()
    with pytest.raises(UserError, match="ended before training started"):
        open_run(folder)
