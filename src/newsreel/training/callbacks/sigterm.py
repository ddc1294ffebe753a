"""SIGTERM while a trainer works."""

import signal
import threading
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from newsreel.core.signals import stop
from newsreel.training.lightning_private import mark_sigterm_received


class SigtermCallback(Callback):
    """At SIGTERM, training ends before the next step, with a checkpoint, and a test at once.

    With several processes, Lightning broadcasts rank 0's flag before each step, so that all end before the same one.
    Its own signal handler would also broadcast from within the signal, in the middle of other collectives.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def handler(*_: Any) -> None:
            mark_sigterm_received(trainer)

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stop)
