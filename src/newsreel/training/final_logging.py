"""What is logged at the end of a run: figures, sample documents, and the HPARAMS entry with final metrics."""

import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer

from newsreel.config.sections import show
from newsreel.evaluation.predictions import Predictions
from newsreel.reporting.figures import DOTS_PER_INCH
from newsreel.reporting.run_page import PAGE_FILE
from newsreel.reporting.samples import samples
from newsreel.runs.records import IGNORED_SECTIONS, flat, parse
from newsreel.training.loggers import NoLogger, RunLogger, RunTensorBoardLogger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

MISSING_GLYPH = re.compile(r"Glyph \d+ .* missing from font")
FINAL_METRICS = ("f1_macro", "f1_micro", "loss")  # f1_micro is the accuracy if documents have one label


def log_figures(trainer: Trainer, figures: dict[str, "Figure"], figures_dir: Path) -> None:
    """Save figures as PNG files in a directory, and add them to TensorBoard."""
    figures_dir.mkdir(exist_ok=True)
    with warnings.catch_warnings(record=True) as caught:
        for name, figure in figures.items():
            figure.savefig(figures_dir / f"{name}.png", dpi=DOTS_PER_INCH)
            if isinstance(trainer.logger, RunTensorBoardLogger):
                trainer.logger.writer.add_figure(f"figures/{name}", figure, trainer.global_step, close=False)
    messages = [str(warning.message) for warning in caught]
    for message in dict.fromkeys(message for message in messages if not MISSING_GLYPH.match(message)):
        warnings.warn(message, stacklevel=2)
    if any(MISSING_GLYPH.match(message) for message in messages):
        log.info("figures     have boxes for characters of labels that no installed font has (Noto Sans has most)")


def log_samples(trainer: Trainer, predictions: Predictions) -> None:
    """Add sample documents with their predictions to TensorBoard."""
    if isinstance(trainer.logger, RunTensorBoardLogger):
        for name, table in samples(predictions).items():
            trainer.logger.writer.add_text(f"documents/{name}", table, trainer.global_step)


def log_page(trainer: Trainer) -> None:
    """Mention report.html among TensorBoard's texts."""
    if isinstance(trainer.logger, RunTensorBoardLogger):
        text = f"`{PAGE_FILE}` in the run directory shows these results, with more documents, to a browser."
        trainer.logger.writer.add_text("report", text, trainer.global_step)


def log_final_metrics(
    trainer: Trainer,
    config: dict[str, Any],
    choices: Mapping[str, str | None],
    overrides: Sequence[str],
    results: dict[str, Any],
) -> None:
    """Log the final metrics of a run (for TensorBoard, in HPARAMS): a few of the checkpoint's epoch and of the test.

    They exist for every task. The most important come first, since TensorBoard shows only five at a time.
    """
    assert isinstance(trainer.logger, RunLogger)
    if isinstance(trainer.logger, NoLogger):
        return
    names = {f"{name}_{split}": f"{split}/{name}" for name in FINAL_METRICS for split in ("test", "val")}
    names |= {"fit_s": "time/fit_s", "parameters": "model/parameters"}
    metrics = {f"final/{name}": results[key] for name, key in names.items() if key in results}
    trainer.logger.finish(distinguishing_settings(config, choices, overrides), metrics, trainer.global_step)


def distinguishing_settings(
    config: dict[str, Any], choices: Mapping[str, str | None], overrides: Sequence[str]
) -> dict[str, Any]:
    """The choices, the seed and the settings given on the command line, by key.

    The other settings follow from the choices, and would only add columns to a table of runs.
    """
    named = [key for key in parse(overrides) if "." in key and key.partition(".")[0] not in IGNORED_SECTIONS]
    values = flat(config)
    return {
        **{group: choice for group, choice in choices.items() if choice is not None and group not in IGNORED_SECTIONS},
        "seed": config["seed"],
        **{key: plain(values[key]) for key in named if key in values},
    }


def plain(value: Any) -> float | str:
    """Numbers and strings unchanged, other values as written in a config."""
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else show(value)
