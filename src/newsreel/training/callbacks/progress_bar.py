"""Lightning's progress bar, shorter."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the loss and the metric of the last step only; the epochs' figures have their own lines."""

    def __init__(self, metric: str) -> None:
        super().__init__(leave=False)
        self.shown = {"train/loss_step": "loss", f"train/{metric}_step": metric}

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        figures = super().get_metrics(trainer, pl_module)
        return {name: figures[key] for key, name in self.shown.items() if key in figures}
