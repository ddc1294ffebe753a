"""Pruning: a search or a ladder stops unpromising trainings early."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from newsreel.core.errors import TrialPruned
from newsreel.models.classifier import TextClassifier
from newsreel.sweeps.time_budget import TimeBudget

if TYPE_CHECKING:
    from optuna.trial import Trial


class Pruning(Callback):
    """Reports the validation metric of each epoch to a trial, and stops the training if the trial is to be pruned."""

    def __init__(self, trial: "Trial") -> None:
        self.trial = trial

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TextClassifier)
        epoch = trainer.current_epoch + 1
        value = float(trainer.callback_metrics[f"val/{pl_module.metric}"])
        self.trial.report(value, epoch)
        if epoch != trainer.max_epochs and self.trial.should_prune():
            raise TrialPruned(f"pruned after epoch {epoch} with a validation {pl_module.metric} of {value:.4f}")


def pruning_callbacks(hydra: Any) -> list[Callback]:
    """`Pruning` for a job of a search, `TimeBudget` for one of a ladder. hydra: `HydraConfig.get()` of the job."""
    sweep_dir = Path(hydra.sweep.dir)
    if "rungs" in hydra.sweeper:
        return [TimeBudget(sweep_dir, hydra.job.num)]
    if "pruner" not in hydra.sweeper:
        return []
    from newsreel.sweeps.search import SearchSettings, open_study, trial_of

    settings = SearchSettings(**{key: hydra.sweeper[key] for key in SearchSettings.__dataclass_fields__})
    return [Pruning(trial_of(open_study(sweep_dir, settings.build_pruner()), hydra.job.num))]
