"""Run folders, opened again."""

from pathlib import Path

import pytest
import torch

from helpers.shared_runs import CLASSES, LSTM, TOPICS, SharedRuns
from newsreel.core.errors import UserError
from newsreel.runs.trained_run import open_run


@pytest.mark.parametrize(("overrides", "num_labels"), [(LSTM, 2), (CLASSES, 3), (TOPICS, 4)], ids=str)
def test_a_moved_run_opens_as_its_best_checkpoint(
    tmp_path: Path, shared_runs: SharedRuns, overrides: list[str], num_labels: int
) -> None:
    run = open_run(shared_runs.copy(tmp_path / "moved", *overrides))
    weights = torch.load(tmp_path / "moved" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, weights[name]) for name, value in run.classifier.state_dict().items())
    assert not run.classifier.training
    assert run.command.overrides[-len(overrides) :] == overrides
    assert len(run.labels.names) == num_labels
    assert run.tokenizer.tokens[1] == "<unk>"


def test_what_is_missing_or_broken_is_named(tmp_path: Path, shared_runs: SharedRuns) -> None:
    folder = shared_runs.copy(tmp_path / "run", *LSTM)
    with pytest.raises(UserError, match="is not a run directory"):
        open_run(tmp_path)
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "failed.json").write_text('{"message": "seed is -1", "overrides": [], "choices": {}}')
    with pytest.raises(UserError, match=r"has no model, since it failed\. Its failed\.json says: seed is -1"):
        open_run(tmp_path / "failed")
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
