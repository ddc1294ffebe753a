"""All private attributes of Lightning that newsreel uses.

There is no public API for the sums that Lightning averages over an epoch, the number of logged steps, whether a batch
only accumulates gradients, and whether SIGTERM was received. tests/training/test_lightning_private.py fails if a new
version of Lightning changes one of them.
"""

from typing import Any

from lightning.pytorch import Trainer


def mark_sigterm_received(trainer: Trainer) -> None:
    """Make Lightning stop before the next step, as if its own handler had received the signal."""
    trainer._signal_connector.received_sigterm = True


def accumulates_gradients(trainer: Trainer) -> bool:
    """Whether the current batch accumulates gradients without an optimizer step."""
    return trainer.fit_loop._should_accumulate()


def num_logged_steps(trainer: Trainer) -> int:
    """Number of batches with an optimizer step so far, which is the step that loggers get."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def epoch_sums(trainer: Trainer) -> dict[str, Any]:
    """Lightning's running sums for epoch means, by logged name: (sum, number of documents)."""
    return {
        name: (result.value, result.cumulated_batch_size)
        for name, result in trainer.fit_loop.epoch_loop._results.items()
        if result.is_tensor and result.meta.on_epoch
    }


def add_epoch_sums(trainer: Trainer, sums: dict[str, Any]) -> None:
    """Add the epoch sums of a checkpoint to those of the one batch since then."""
    for name, (value, documents) in sums.items():
        result = trainer.fit_loop.epoch_loop._results[name]
        result.value = value.to(result.value.device) + result.value
        result.cumulated_batch_size = documents.to(result.value.device) + result.cumulated_batch_size
