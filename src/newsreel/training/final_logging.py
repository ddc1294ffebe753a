"""What the logger gets when a run has ended: figures, documents, and the entry among the hyperparameters."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer

from newsreel.config.schema import show
from newsreel.evaluation.predictions import Predictions
from newsreel.reporting.figures import DOTS_PER_INCH
from newsreel.reporting.samples import samples
from newsreel.runs.records import IGNORED_SECTIONS, flat, parse
from newsreel.training.loggers import RunLogger, RunTensorBoardLogger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINAL_FIGURES = ("f1_macro", "f1_micro", "loss")  # f1_micro: the accuracy, where documents have one label


def log_figures(trainer: Trainer, figures: dict[str, "Figure"], folder: Path) -> None:
    """CheckpointPolicy figures as PNG files in a folder and show them in TensorBoard."""
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=DOTS_PER_INCH)
        if isinstance(trainer.logger, RunTensorBoardLogger):
            trainer.logger.writer.add_figure(f"figures/{name}", figure, trainer.global_step, close=False)


def log_samples(trainer: Trainer, predictions: Predictions) -> None:
    """Some documents with what was said of them, in TensorBoard."""
    if isinstance(trainer.logger, RunTensorBoardLogger):
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
    assert isinstance(trainer.logger, RunLogger)
    names = {f"{name}_{split}": f"{split}/{name}" for name in FINAL_FIGURES for split in ("test", "val")}
    names |= {"fit_s": "time/fit_s", "parameters": "model/parameters"}
    figures = {f"final/{name}": results[key] for name, key in names.items() if key in results}
    trainer.logger.finish(distinguishing_settings(config, choices, overrides), figures, trainer.global_step)


def distinguishing_settings(
    config: dict[str, Any], choices: dict[str, str], overrides: Sequence[str]
) -> dict[str, Any]:
    """What was asked for, by the names of the command line: its choices, the seed, and what was given beside them.

    What a choice brings with it would be columns of their own in a table of runs, and hide those that were asked for.
    """
    given = [key for key in parse(overrides) if "." in key and key.partition(".")[0] not in IGNORED_SECTIONS]
    values = flat(config)
    return {
        **{group: choice for group, choice in choices.items() if choice is not None and group not in IGNORED_SECTIONS},
        "seed": config["seed"],
        **{key: plain(values[key]) for key in given if key in values},
    }


def plain(value: Any) -> float | str:
    """A number, or any other value as one writes it in a config."""
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else show(value)
