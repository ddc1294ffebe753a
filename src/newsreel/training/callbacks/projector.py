"""Word vectors in TensorBoard's projector."""

from collections.abc import Sequence
from contextlib import redirect_stdout

from lightning.pytorch import Callback, LightningModule, Trainer

from newsreel.embeddings.embedding import Embedding
from newsreel.reporting.projector import add_words
from newsreel.training.loggers import RunTensorBoardLogger


class ProjectorWords(Callback):
    """Adds the vectors of the most frequent words before training, and after testing the best checkpoint.

    Does nothing for one-hot embeddings, which have no vectors, and for loggers other than TensorBoard.
    """

    def __init__(self, words: Sequence[str], num_words: int) -> None:
        """words: the vocabulary. num_words: how many of its first words to show."""
        self.words = words
        self.embedding: Embedding | None = None  # set once it is built
        self.num_words = num_words

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, "words_before_training")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, "words_after_training")

    def _show(self, trainer: Trainer, tag: str) -> None:
        weight = None if self.embedding is None else self.embedding.rows()
        logger = trainer.logger
        if (
            trainer.is_global_zero
            and isinstance(logger, RunTensorBoardLogger)
            and weight is not None
            and self.num_words
        ):
            with redirect_stdout(None):  # it prints a warning if a resumed run has added them before
                add_words(logger.writer, tag, self.words, weight.cpu(), self.num_words)
