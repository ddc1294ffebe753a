"""The private attributes of Lightning under newsreel.training.lightning_private, on a trainer that has trained."""

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from newsreel.training.lightning_private import (
    accumulates_gradients,
    add_epoch_sums,
    epoch_sums,
    mark_sigterm_received,
    num_logged_steps,
)


class Line(LightningModule):
    """Logs the number of the batch as its loss, for batches of three documents."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)

    def training_step(self, batch: list[Tensor], batch_index: int) -> Tensor:
        self.log("train/number", float(batch_index + 1), on_step=True, on_epoch=True, batch_size=3)
        return self.line(batch[0]).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watch(Callback):
    """What the functions say as each batch ends."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, int]] = []
        self.sums: list[dict[str, tuple[float, int]]] = []

    def on_train_batch_end(self, trainer: Trainer, *arguments: object) -> None:
        self.seen.append((accumulates_gradients(trainer), num_logged_steps(trainer)))
        if len(self.seen) == 2:
            self.note_sums(trainer)
            add_epoch_sums(trainer, {name: (v.clone(), d.clone()) for name, (v, d) in epoch_sums(trainer).items()})
            self.note_sums(trainer)
            mark_sigterm_received(trainer)

    def note_sums(self, trainer: Trainer) -> None:
        self.sums.append({name: (float(v), int(d)) for name, (v, d) in epoch_sums(trainer).items()})


def test_lightnings_private_attributes_mean_what_newsreel_takes_them_for() -> None:
    watch = Watch()
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, accumulate_grad_batches=2, callbacks=[watch], **silent)
    with pytest.raises(SystemExit):  # Lightning's answer to SIGTERM, before the third batch
        trainer.fit(Line(), DataLoader(TensorDataset(torch.ones(12, 1)), batch_size=3))
    assert trainer.received_sigterm
    assert watch.seen == [(True, 0), (False, 0)]  # steps are counted when a batch has ended
    assert num_logged_steps(trainer) == trainer.global_step == 1
    (name,) = watch.sums[0]
    assert name.startswith("training_step.train/number")
    assert watch.sums[0][name] == (1 * 3 + 2 * 3, 6)  # the numbers of two batches of three documents
    assert watch.sums[1][name] == (18, 12)
