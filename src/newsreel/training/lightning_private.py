"""The private attributes of Lightning that newsreel relies on, all of them.

Public API does not reach them: the sums that Lightning averages over an epoch, the number of steps that were logged,
whether the next batch only accumulates gradients, and whether SIGTERM has arrived.
tests/training/test_lightning_private.py fails when a new version of Lightning changes one.
"""

from typing import Any

from lightning.pytorch import Trainer


def mark_sigterm_received(trainer: Trainer) -> None:
    """Let Lightning stop before the next step, as if its own handler had received the signal."""
    trainer._signal_connector.received_sigterm = True


def accumulates_gradients(trainer: Trainer) -> bool:
    """Whether the batch that has just ended made no step of the optimizer."""
    return trainer.fit_loop._should_accumulate()


def num_logged_steps(trainer: Trainer) -> int:
    """Number of batches that ended with a step of the optimizer: the step numbers that loggers get."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def epoch_sums(trainer: Trainer) -> dict[str, Any]:
    """What Lightning adds up over an epoch for its means, by the name of what was logged: (sum, documents)."""
    return {
        name: (result.value, result.cumulated_batch_size)
        for name, result in trainer.fit_loop.epoch_loop._results.items()
        if result.is_tensor and result.meta.on_epoch
    }


def add_epoch_sums(trainer: Trainer, sums: dict[str, Any]) -> None:
    """Add an epoch's sums up to a checkpoint to those of the one batch since then."""
    for name, (value, documents) in sums.items():
        result = trainer.fit_loop.epoch_loop._results[name]
        result.value = value.to(result.value.device) + result.value
        result.cumulated_batch_size = documents.to(result.value.device) + result.cumulated_batch_size
