"""The Lightning trainer of a run: checkpoints, early stopping, progress and what its logger is told."""

import logging
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from tqdm import tqdm

from newsreel.batches.batch import Batch
from newsreel.config.schema import Experiment, TrainerSettings, show
from newsreel.core.dist import Place, place
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus
from newsreel.embeddings.embedding import Embedding
from newsreel.evaluation.predictions import Predictions
from newsreel.models.classifier import TextClassifier
from newsreel.models.optimization import Keep
from newsreel.reporting.figures import DOTS_PER_INCH
from newsreel.reporting.projector import add_words
from newsreel.reporting.samples import samples
from newsreel.runs.records import NOT_DECISIVE, flat, parse
from newsreel.training.checkpoints import AtomicCheckpointIO, Progress, RunCheckpoints
from newsreel.training.loggers import RunLog, TensorBoardLog
from newsreel.training.profile import OperatorProfile, PhaseProfiler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 30.0
FINAL_FIGURES = ("f1_macro", "f1_micro", "loss")  # f1_micro: the accuracy, where documents have one label


def build_trainer(
    experiment: Experiment, folder: Path, corpus: Corpus, progress: Progress | None, more: Sequence[Callback] = ()
) -> tuple[Trainer, "History"]:
    """A trainer that writes into the run folder and follows the corpus's metric, and the history that it keeps.

    progress: where the training goes on; None: it begins. more: callbacks beside its own.
    """
    settings, training = experiment.trainer, experiment.training
    quiet_lightning()
    metric = corpus.metric
    here = place()
    on_terminal = sys.stderr.isatty() and here.first
    history = History(metric, training.keep, lines_within_epochs=not on_terminal)
    callbacks: list[Callback] = [
        history,
        *more,
        RunCheckpoints(folder, metric, training.keep, settings.checkpoint_every_s, corpus.fingerprint),
    ]
    if training.patience is not None:
        callbacks.append(EarlyStopping(f"val/{metric}", mode="max", patience=training.patience))
    if on_terminal:
        callbacks.append(TerminalBar(metric))
    if settings.profile:
        callbacks.append(OperatorProfile())
    if settings.histograms:
        callbacks.append(Histograms())
    if here.size > 1:
        callbacks.append(JointStop())
    trainer = Trainer(
        **processes_of(here, settings),
        precision=settings.precision,
        max_epochs=training.max_epochs,
        gradient_clip_val=training.gradient_clip,
        accumulate_grad_batches=settings.accumulate,
        log_every_n_steps=settings.log_every_n_steps,
        num_sanity_val_steps=0,
        logger=experiment.logger.build(folder, progress.log_step if progress else 0),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        profiler=PhaseProfiler() if settings.profile else None,
        enable_progress_bar=on_terminal,
        enable_model_summary=False,
    )
    return trainer, history


def processes_of(here: Place, settings: TrainerSettings) -> dict[str, Any]:
    """What a Trainer is told of the processes that train together, of which this is one."""
    if here.size == 1:
        return {"accelerator": settings.accelerator, "devices": 1}
    return {
        "accelerator": "cuda" if settings.on_gpus else "cpu",
        "devices": here.local_size,
        "num_nodes": here.size // here.local_size,
        # buffers are the same everywhere: statistics of all training documents, thresholds of all validation documents
        "strategy": DDPStrategy(cluster_environment=Started(here), broadcast_buffers=False),
        "use_distributed_sampler": False,  # TextDataModule.share_out
    }


class Started(ClusterEnvironment):
    """Tells Lightning that the processes are there already, and `connected`."""

    def __init__(self, here: Place) -> None:
        super().__init__()
        self.here = here

    creates_processes_externally = True
    main_address = ""  # they have found each other
    main_port = 0

    @staticmethod
    def detect() -> bool:
        return place().size > 1

    def world_size(self) -> int:
        return self.here.size

    def set_world_size(self, size: int) -> None:
        assert size == self.here.size

    def global_rank(self) -> int:
        return self.here.number

    def set_global_rank(self, rank: int) -> None:
        assert rank == self.here.number

    def local_rank(self) -> int:
        return self.here.local_number

    def node_rank(self) -> int:
        return self.here.number // self.here.local_size


class JointStop(Callback):
    """Lets all processes stop before the same step when torchrun or srun sends them SIGTERM.

    Before each step Lightning tells all what the first was sent. Its own handler does so from within the signal too,
    amid whatever the processes are exchanging.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def note(*_: Any) -> None:
            trainer._signal_connector.received_sigterm = True

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, note)


def build_tester(accelerator: str, precision: str) -> Trainer:
    """A trainer that writes nothing, to test a finished run's classifier with."""
    quiet_lightning()
    return Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )


def quiet_lightning() -> None:
    """Leave out what Lightning says of its own choices and of settings that are as they should be."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*is deprecated, use.*", module="lightning")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message="Sparse invariant checks")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # TextDataModule.start_at
    warnings.filterwarnings("ignore", message=".*when logging on epoch level in distributed.*")  # all log the same
    warnings.filterwarnings("ignore", message=".*it is recommended to use `Trainer\\(devices=1.*")  # for testing
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # by a name that old versions lack
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")  # patience became null


def predictions_of(classifier: TextClassifier, corpus: Corpus, split: str, loader: DataLoader[Batch]) -> Predictions:
    """What a classifier said of a split's documents when it was tested with the loader."""
    decisions = classifier.decisions.cpu()
    scores, _ = classifier.outputs.whole()
    return Predictions.in_order(
        corpus,
        split,
        loader.sampler.order,  # type: ignore[attr-defined]
        scores,
        decisions(scores),
        decisions.thresholds if decisions.by_thresholds else None,
    )


def log_words(trainer: Trainer, tag: str, words: Sequence[str], embedding: Embedding, num_words: int) -> None:
    """The most frequent words' vectors as they are now, in TensorBoard's projector; nothing for one-hot words."""
    rows = embedding.rows()
    if isinstance(trainer.logger, TensorBoardLog) and rows is not None and num_words:
        with redirect_stdout(None):  # of a run that goes on, they are there already
            add_words(trainer.logger.writer, tag, words, rows.cpu(), num_words)


def log_figures(trainer: Trainer, figures: dict[str, "Figure"], folder: Path) -> None:
    """Keep figures as PNG files in a folder and show them in TensorBoard."""
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=DOTS_PER_INCH)
        if isinstance(trainer.logger, TensorBoardLog):
            trainer.logger.writer.add_figure(f"figures/{name}", figure, trainer.global_step, close=False)


def log_samples(trainer: Trainer, predictions: Predictions) -> None:
    """Some documents with what was said of them, in TensorBoard."""
    if isinstance(trainer.logger, TensorBoardLog):
        for name, table in samples(predictions).items():
            trainer.logger.writer.add_text(f"documents/{name}", table, trainer.global_step)


def log_final_metrics(
    trainer: Trainer,
    config: dict[str, Any],
    choices: dict[str, str],
    overrides: Sequence[str],
    results: dict[str, Any],
) -> None:
    """Tell the logger what the run came to: a few figures of the kept epoch and of the test, in HPARAMS for one.

    They are those that every task has, and their names stand in the order in which TensorBoard has room for five.
    """
    assert isinstance(trainer.logger, RunLog)
    names = {f"{name}_{split}": f"{split}/{name}" for name in FINAL_FIGURES for split in ("test", "val")}
    names |= {"fit_s": "time/fit_s", "parameters": "model/parameters"}
    figures = {f"final/{name}": results[key] for name, key in names.items() if key in results}
    trainer.logger.finish(telling_settings(config, choices, overrides), figures, trainer.global_step)


def telling_settings(config: dict[str, Any], choices: dict[str, str], overrides: Sequence[str]) -> dict[str, Any]:
    """What was asked for, by the names of the command line: its choices, the seed, and what was given beside them.

    What a choice brings with it would be columns of their own in a table of runs, and hide those that were asked for.
    """
    given = [key for key in parse(overrides) if "." in key and key.partition(".")[0] not in NOT_DECISIVE]
    values = flat(config)
    return {
        **{group: choice for group, choice in choices.items() if choice is not None and group not in NOT_DECISIVE},
        "seed": config["seed"],
        **{key: plain(values[key]) for key in given if key in values},
    }


def plain(value: Any) -> float | str:
    """A number, or any other value as one writes it in a config."""
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else show(value)


class Histograms(Callback):
    """Weights after each epoch, and the gradients of its last step before clipping, in TensorBoard.

    Both stand at the step that the epoch's figures have: its last one, counted from 0.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if trainer.is_last_batch:
            gradients = {name: weights.grad for name, weights in self._trained(pl_module)}
            self._add(trainer, "gradients", gradients, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._add(trainer, "weights", dict(self._trained(pl_module)), trainer.global_step - 1)

    def _trained(self, pl_module: LightningModule) -> list[tuple[str, nn.Parameter]]:
        assert isinstance(pl_module, TextClassifier)
        return [(name, weights) for name, weights in pl_module.network.named_parameters() if weights.requires_grad]

    def _add(self, trainer: Trainer, tag: str, tensors: Mapping[str, Tensor | None], step: int) -> None:
        assert isinstance(trainer.logger, TensorBoardLog)
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            values = tensor.detach().coalesce().values() if tensor.is_sparse else tensor.detach()
            values = values[values.isfinite()]  # the loss tells of the others
            if len(values):
                trainer.logger.writer.add_histogram(f"{tag}/{name}", values.cpu(), step)


class TerminalBar(TQDMProgressBar):
    """Lightning's bar with the loss and the metric of the last step only; the epochs' figures have their own lines."""

    def __init__(self, metric: str) -> None:
        super().__init__(leave=False)
        self.shown = {"train/loss_step": "loss", f"train/{metric}_step": metric}

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        figures = super().get_metrics(trainer, pl_module)
        return {name: figures[key] for key, name in self.shown.items() if key in figures}


class History(Callback):
    """Keeps each epoch's figures and prints a line for it; within long epochs too where there is no progress bar."""

    def __init__(self, metric: str, keep: Keep, lines_within_epochs: bool) -> None:
        self.metric = metric
        self.keep = keep
        self.lines_within_epochs = lines_within_epochs
        self.epochs: list[dict[str, float]] = []
        self.first_step = 0.0  # time.perf_counter() after this process's first optimiser step; 0: there was none
        self.seconds_before = 0.0  # of fitting, before this process went on with it
        self._fit_begun = 0.0
        self._epoch_seconds_before = 0.0
        self._training_seconds = 0.0
        self._num_documents = 0
        self._begun = self._shown = 0.0
        self._epoch_documents = 0

    @property
    def documents_per_second(self) -> float:
        """Training speed over all epochs, validation not counted."""
        return self._num_documents / self._training_seconds if self._training_seconds else 0.0

    @property
    def kept(self) -> dict[str, float]:
        """The figures of the epoch whose checkpoint is kept: the last, or the first with the highest metric."""
        if self.keep == "last":
            return self.epochs[-1]
        return max(self.epochs, key=lambda epoch: epoch[f"val/{self.metric}"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fit_begun = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown = time.perf_counter()
        self._begun = self._shown - self._epoch_seconds_before  # an epoch that goes on is not started again

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begun = self._shown = time.perf_counter()
        self._epoch_documents = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.first_step = self.first_step or now
        self._epoch_documents += batch.num_documents
        if self.lines_within_epochs and now - self._shown > LINE_EVERY_SECONDS:
            self._shown = now
            share = (batch_idx + 1) / float(trainer.num_training_batches)
            loss = float(trainer.callback_metrics["train/loss_step"])
            speed = self._epoch_documents / (now - self._begun)
            self._say(f"  epoch {trainer.current_epoch + 1}: {share:4.0%}  loss {loss:.4f}  {speed:,.0f} documents/s")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training_seconds += time.perf_counter() - self._begun
        self._num_documents += self._epoch_documents

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not math.isfinite(figures["train/loss_epoch"]):
            raise UserError(
                f"The training loss was {figures['train/loss_epoch']} in epoch {trainer.current_epoch + 1}: training "
                f"diverged. Lower training.learning_rate ({trainer.optimizers[0].defaults['lr']:g}), or set "
                "training.gradient_clip."
            )
        kept = {name: value for name, value in figures.items() if name.startswith("val/")}
        seconds = time.perf_counter() - self._begun
        self.epochs.append(
            {
                "epoch": trainer.current_epoch + 1,
                "train/loss": figures["train/loss_epoch"],
                f"train/{self.metric}": figures[f"train/{self.metric}_epoch"],
                **kept,
                "time/epoch_s": seconds,
            }
        )
        self._say(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            f"  train loss {figures['train/loss_epoch']:.4f}  {self.metric} {figures[f'train/{self.metric}_epoch']:.4f}"
            f"  validation loss {figures['val/loss']:.4f}  {self.metric} {figures[f'val/{self.metric}']:.4f}"
            f"  {self._epoch_documents / max(1e-9, seconds):,.0f} documents/s  {seconds:.1f} s",
        )

    def state_dict(self) -> dict[str, Any]:
        now = time.perf_counter()
        return {
            "epochs": self.epochs,
            "fit_seconds": self.seconds_before + now - self._fit_begun,
            "epoch_seconds": now - self._begun,
            "epoch_documents": self._epoch_documents,
            "training_seconds": self._training_seconds,
            "num_documents": self._num_documents,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]
        self.seconds_before = state_dict["fit_seconds"]
        self._epoch_seconds_before = state_dict["epoch_seconds"]
        self._epoch_documents = state_dict["epoch_documents"]
        self._training_seconds = state_dict["training_seconds"]
        self._num_documents = state_dict["num_documents"]

    def _say(self, line: str) -> None:
        with tqdm.external_write_mode():  # a bar on the terminal makes way for the line
            log.info(line)
