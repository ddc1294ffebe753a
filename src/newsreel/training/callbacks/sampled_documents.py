"""Sampled documents of a language model in TensorBoard."""

from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer

from newsreel.models.language_model import LanguageModelModule
from newsreel.reporting.language_report import sampled_documents
from newsreel.training.loggers import RunTensorBoardLogger


class SampledDocuments(Callback):
    """Adds documents that the model draws to TensorBoard after each epoch."""

    def __init__(self, tokens: Sequence[str], seed: int) -> None:
        self.tokens = tokens
        self.seed = seed

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(trainer.logger, RunTensorBoardLogger):
            return
        assert isinstance(pl_module, LanguageModelModule)
        samples = sampled_documents(pl_module.network, self.tokens, self.seed)
        text = "\n".join(f"- {direction}: {sample}" for direction, sample in samples)
        trainer.logger.writer.add_text("samples", text, trainer.global_step - 1)
