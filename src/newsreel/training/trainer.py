"""The Lightning trainers: of a run, and for testing a trained run."""

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from newsreel.batches.batch import Batch
from newsreel.config.pretraining import PretrainerSettings, Pretraining
from newsreel.config.schema import Experiment, TrainerSettings
from newsreel.core.dist import DistEnv, dist_env
from newsreel.corpora.corpus import Corpus
from newsreel.evaluation.predictions import Predictions
from newsreel.models.classifier import TextClassifier
from newsreel.models.functional import require_finite
from newsreel.training.callbacks.ema import ExponentialMovingAverage
from newsreel.training.callbacks.histograms import Histograms
from newsreel.training.callbacks.history import History
from newsreel.training.callbacks.progress_bar import ProgressBar
from newsreel.training.callbacks.sigterm import SigtermCallback
from newsreel.training.checkpoints import AtomicCheckpointIO, ResumeState, RunCheckpoints
from newsreel.training.cluster import ExternalClusterEnvironment
from newsreel.training.loggers import build_logger
from newsreel.training.monitor import Monitor
from newsreel.training.profile import OperatorProfile, PhaseProfiler


def build_trainer(
    experiment: Experiment | Pretraining,
    run_dir: Path,
    fingerprint: str,
    monitor: Monitor,
    resume: ResumeState | None,
    callbacks: Sequence[Callback] = (),
) -> tuple[Trainer, History]:
    """The trainer of a run, and the history callback.

    fingerprint: of the documents. monitor: selects the best epoch. resume: the state to resume from; None: a new run.
    callbacks: additional ones.
    """
    quiet_lightning()
    env = dist_env()
    settings, training = experiment.trainer, experiment.training
    on_terminal = sys.stderr.isatty() and env.is_rank_zero
    history = History(monitor, training.checkpoint, lines_within_epochs=not on_terminal)
    trainer = Trainer(
        **process_settings(env, settings),
        **optimization_settings(experiment),
        log_every_n_steps=settings.log_every_n_steps,
        num_sanity_val_steps=0,
        logger=build_logger(experiment.logger, run_dir, resume.log_step if resume else 0),
        callbacks=[history, *callbacks, *config_callbacks(experiment, run_dir, fingerprint, monitor, on_terminal)],
        plugins=[AtomicCheckpointIO()],
        profiler=PhaseProfiler() if settings.profile else None,
        enable_progress_bar=on_terminal,
        enable_model_summary=False,
    )
    return trainer, history


def config_callbacks(
    experiment: Experiment | Pretraining, run_dir: Path, fingerprint: str, monitor: Monitor, on_terminal: bool
) -> list[Callback]:
    """The callbacks according to the config."""
    settings, training = experiment.trainer, experiment.training
    average = None if training.ema is None else ExponentialMovingAverage(training.ema)
    callbacks: list[Callback] = [
        RunCheckpoints(run_dir, monitor, training.checkpoint, settings.checkpoint_every_s, fingerprint, average)
    ]
    if average is not None:
        callbacks.append(average)
    if training.patience is not None:
        callbacks.append(EarlyStopping(monitor.key, mode=monitor.mode, patience=training.patience))
    if on_terminal:
        callbacks.append(ProgressBar(monitor.metric))
    if settings.profile:
        callbacks.append(OperatorProfile())
    if settings.histograms:
        callbacks.append(Histograms())
    callbacks.append(SigtermCallback())
    return callbacks


class StopAfterEpoch(Callback):
    """Ends a training after some epochs of it; its learning rates are those of the whole training."""

    def __init__(self, num_epochs: int) -> None:
        self.num_epochs = num_epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.num_epochs


def build_fold_trainer(experiment: Experiment, num_epochs: int) -> Trainer:
    """A trainer with the optimization of a run up to an epoch, which writes no files and does not validate."""
    training = experiment.training
    average = [] if training.ema is None else [ExponentialMovingAverage(training.ema)]
    return Trainer(
        **process_settings(dist_env(), experiment.trainer),
        **optimization_settings(experiment),
        callbacks=[StopAfterEpoch(num_epochs), *average, SigtermCallback()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def optimization_settings(experiment: Experiment | Pretraining) -> dict[str, Any]:
    """The Trainer's arguments that decide the weights."""
    settings, training = experiment.trainer, experiment.training
    by_gradients = training.solver == "minibatch"
    return {
        "precision": settings.precision,
        "max_epochs": training.num_epochs,
        "gradient_clip_val": training.gradient_clip if by_gradients else None,
        "accumulate_grad_batches": settings.accumulate_grad_batches if by_gradients else 1,
    }


def process_settings(env: DistEnv, settings: TrainerSettings | PretrainerSettings) -> dict[str, Any]:
    """The Trainer's arguments about devices and processes."""
    if env.world_size == 1:
        return {"accelerator": settings.accelerator, "devices": 1}
    return {
        "accelerator": "cuda" if settings.on_gpus else "cpu",
        "devices": env.local_world_size,
        "num_nodes": env.world_size // env.local_world_size,
        # all ranks compute the same buffers: statistics of all training, thresholds of all validation documents
        "strategy": DDPStrategy(cluster_environment=ExternalClusterEnvironment(env), broadcast_buffers=False),
        "use_distributed_sampler": False,  # TextDataModule.set_shard does it
    }


def build_tester(accelerator: str, precision: str) -> Trainer:
    """A trainer that writes no files, to test the classifier of a finished run."""
    quiet_lightning()
    return Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        callbacks=[SigtermCallback()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )


def quiet_lightning() -> None:
    """Silence Lightning's messages about its own choices, and its warnings about intended settings."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", message=".* is deprecated", module="lightning")  # what Lightning itself calls
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")  # patience became null
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]  # the default, with a warning


def predictions_of(classifier: TextClassifier, corpus: Corpus, split: str, loader: DataLoader[Batch]) -> Predictions:
    """What a classifier said of a split's documents when it was tested with the loader."""
    decisions = classifier.decisions.cpu()
    scores, _ = classifier.outputs.tensors()
    require_finite(scores)
    return Predictions.from_loader_order(
        corpus,
        split,
        loader.sampler.order,  # type: ignore[attr-defined]
        scores,
        decisions(scores),
        decisions.thresholds if decisions.by_thresholds else None,
    )
