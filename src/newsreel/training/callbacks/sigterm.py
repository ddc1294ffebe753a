"""SIGTERM handling with several processes."""

import signal
import threading
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from newsreel.training.lightning_private import mark_sigterm_received


class SigtermCallback(Callback):
    """Stops all processes before the same step when torchrun or srun sends SIGTERM.

    Lightning broadcasts rank 0's flag before each step. Its own signal handler would also broadcast from within the
    signal, in the middle of other collectives.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def handler(*_: Any) -> None:
            mark_sigterm_received(trainer)

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
