"""The private attributes of Lightning under newsreel.training.lightning_private, on a trainer that has trained."""

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from newsreel.training.lightning_private import (
    accumulates_gradients,
    mark_sigterm_received,
    num_logged_steps,
)


class Line(LightningModule):
    """A line through batches of three numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)

    def training_step(self, batch: list[Tensor], batch_index: int) -> Tensor:
        return self.line(batch[0]).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watch(Callback):
    """What the functions say as each batch ends."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, int]] = []

    def on_train_batch_end(self, trainer: Trainer, *arguments: object) -> None:
        self.seen.append((accumulates_gradients(trainer), num_logged_steps(trainer)))
        if len(self.seen) == 2:
            mark_sigterm_received(trainer)


def test_lightnings_private_attributes_mean_what_newsreel_takes_them_for() -> None:
    watch = Watch()
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, accumulate_grad_batches=2, callbacks=[watch], **silent)
    with pytest.raises(SystemExit):  # Lightning's answer to SIGTERM, before the third batch
        trainer.fit(Line(), DataLoader(TensorDataset(torch.ones(12, 1)), batch_size=3))
    assert trainer.received_sigterm
    assert watch.seen == [(True, 0), (False, 0)]  # steps are counted when a batch has ended
    assert num_logged_steps(trainer) == trainer.global_step == 1
