"""SIGTERM while a trainer works."""

import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from newsreel.core.signals import set_handler, stop
from newsreel.training.lightning_private import mark_sigterm_received


class SigtermCallback(Callback):
    """At SIGTERM, training ends before the next step, with a checkpoint, and a test at once.

    With several processes, Lightning broadcasts rank 0's flag before each step, so that all end before the same one.
    Its own signal handler would also broadcast from within the signal, in the middle of other collectives.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def handler(*_: Any) -> None:
            mark_sigterm_received(trainer)

        set_handler(signal.SIGTERM, handler)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        set_handler(signal.SIGTERM, stop)
