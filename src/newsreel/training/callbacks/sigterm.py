"""SIGTERM, when several processes train together."""

import signal
import threading
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from newsreel.training.lightning_private import mark_sigterm_received


class SigtermCallback(Callback):
    """Lets all processes stop before the same step when torchrun or srun sends them SIGTERM.

    Before each step Lightning tells all what the first was sent. Its own handler does so from within the signal too,
    amid whatever the processes are exchanging.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def note(*_: Any) -> None:
            mark_sigterm_received(trainer)

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, note)
