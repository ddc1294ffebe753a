"""A shorter version of Lightning's progress bar."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar


class ProgressBar(TQDMProgressBar):
    """Shows only the loss and the metric of the last step; `History` logs the metrics of epochs."""

    def __init__(self, metric: str) -> None:
        super().__init__(leave=False)
        self.shown = {"train/loss_step": "loss", f"train/{metric}_step": metric}

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        return {name: metrics[key] for key, name in self.shown.items() if key in metrics}
