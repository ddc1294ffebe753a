"""Log losses and probabilities."""

import pytest
import torch
from sklearn.metrics import log_loss

from newsreel.models.functional import logits_to_probs, task_loss


def test_losses_are_those_of_scikit_learn() -> None:
    torch.manual_seed(0)
    logits, classes, indicators = torch.randn(20, 4), torch.randint(0, 4, (20,)), torch.randint(0, 2, (20, 4)).float()
    expected = log_loss(classes, logits_to_probs(logits, "multiclass"), labels=range(4))
    assert task_loss(logits, classes, "multiclass").item() == pytest.approx(expected)
    expected = log_loss(indicators[:, 0], logits_to_probs(logits[:, :1], "binary"), labels=[0, 1])
    assert task_loss(logits[:, :1], indicators[:, 0].long(), "binary").item() == pytest.approx(expected)
    scores = logits_to_probs(logits, "multilabel")
    expected = sum(log_loss(indicators[:, k], scores[:, k], labels=[0, 1]) for k in range(4)) / 4
    assert task_loss(logits, indicators, "multilabel").item() == pytest.approx(expected)
