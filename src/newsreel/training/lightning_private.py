"""All private attributes of Lightning that newsreel uses.

There is no public API for the number of logged steps, whether a batch only accumulates gradients, and whether SIGTERM
was received. tests/training/test_lightning_private.py fails if a new
version of Lightning changes one of them.
"""

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
