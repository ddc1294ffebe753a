"""One training, from the corpus to the report."""

import json
import logging
import logging.config
import os
import shlex
import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from newsreel.core.dist import connected, limit_threads, place
from newsreel.core.errors import UserError
from newsreel.core.storage import held
from newsreel.evaluation.metrics import rounded
from newsreel.runs.run_dir import BEST_CHECKPOINT, CONFIG_FILE, METRICS_FILE, chosen, holds_run, read_json
from newsreel.training.launch import LostProcessError, launch

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from newsreel.config.schema import Experiment, Settings
    from newsreel.corpora.corpus import Task
    from newsreel.embeddings.embedding import Coverage
    from newsreel.training.checkpoints import Progress

log = logging.getLogger(__name__)

ONE_VS_REST = "training.one_vs_rest=true"
FOR_SEVERAL = ("evaluation.thresholds=", "evaluation.shrinkage=")  # settings for documents that can have several labels


def train(config: DictConfig, started: float) -> dict[str, Any]:
    """Train, validate and test what a config describes; returns what metrics.json holds.

    started: `time.perf_counter()` when the command began. Raises UserError.
    """
    hydra = HydraConfig.get()
    if hydra.mode is RunMode.MULTIRUN and hydra.job.num:
        started = time.perf_counter()  # a sweep's later jobs find everything imported
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    if plain["resume"] is not None:
        if hydra.mode is RunMode.MULTIRUN:
            raise UserError("resume goes on with one run, and -m starts many: leave one of them out.")
        from newsreel.training.resume import resume

        folder = Path(plain["resume"]).expanduser()
        return resume(folder, {str(key): value for key, value in plain.items()}, list(hydra.overrides.task), started)
    limit_threads(plain)

    from newsreel.config.schema import read_experiment

    experiment = read_experiment({str(key): value for key, value in plain.items()})
    choices, overrides = chosen(hydra.runtime.choices), list(hydra.overrides.task)
    folder = Path(hydra.runtime.output_dir)
    if place().first and holds_run(folder):
        raise UserError(f"{folder} holds another run, which would be lost: name another folder, or remove that one.")
    callbacks = []
    if hydra.mode is RunMode.MULTIRUN:
        from newsreel.sweeps.pruning import pruning_of

        callbacks = pruning_of(hydra)
    with held_by_first(folder):
        return perform(experiment, folder, choices, overrides, started, callbacks=callbacks)


def held_by_first(folder: Path) -> AbstractContextManager[None]:
    """`held`, for all processes that train together."""
    return held(folder) if place().first else nullcontext()


def perform(
    experiment: "Experiment",
    folder: Path,
    choices: dict[str, str],
    overrides: list[str],
    started: float,
    resumed: Sequence[Sequence[str]] = (),
    progress: "Progress | None" = None,
    callbacks: Sequence["Callback"] = (),
) -> dict[str, Any]:
    """`run_experiment` in this process, or in several that it starts, where `callbacks` have no place."""
    num_processes = experiment.trainer.num_processes
    if num_processes == 1 or place().size > 1:
        with connected(place(), experiment.trainer.on_gpus):
            return run_experiment(experiment, folder, choices, overrides, started, resumed, progress, callbacks)
    spoken = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True) if HydraConfig.initialized() else None
    arguments = (experiment.config, folder, choices, overrides, started, resumed, progress is not None, spoken)
    try:
        launch(take_part, num_processes, *arguments)
    except LostProcessError as error:
        raise UserError(f"{error}\nTo go on where it was:\n  {resume_command(folder)}") from error
    except KeyboardInterrupt:
        stop(folder, signal.SIGINT)
    except SystemExit:
        stop(folder, signal.SIGTERM)
    return read_json(folder / METRICS_FILE)


def take_part(
    config: "Settings",
    folder: Path,
    choices: dict[str, str],
    overrides: list[str],
    started: float,
    resumed: Sequence[Sequence[str]],
    goes_on: bool,
    spoken: dict[str, Any] | None,
) -> None:
    """What each process does that `perform` starts. spoken: how the first of them logs; None: not at all."""
    if place().first and spoken is not None:
        logging.config.dictConfig(spoken)
    limit_threads(config)

    from newsreel.config.schema import read_experiment
    from newsreel.training.checkpoints import read_progress

    progress = read_progress(folder) if goes_on else None
    perform(read_experiment(config), folder, choices, overrides, started, resumed, progress)


def resume_command(folder: Path) -> str:
    return f"python train.py {shlex.quote(f'resume={folder}')}"


def stop(folder: Path, number: signal.Signals) -> NoReturn:
    """End this process as one that a signal has stopped, and say how to go on."""
    if (folder / CONFIG_FILE).exists():
        log.error(
            f"Stopped before the end: {folder} has no results. To go on where it was:\n  {resume_command(folder)}"
        )
    raise SystemExit(128 + number)


def run_experiment(
    experiment: "Experiment",
    folder: Path,
    choices: dict[str, str],
    overrides: list[str],
    started: float,
    resumed: Sequence[Sequence[str]] = (),
    progress: "Progress | None" = None,
    callbacks: Sequence["Callback"] = (),
) -> dict[str, Any]:
    """The run itself, in the order of the rooms that the data walks through.

    Where several processes train together, each of them does this, with its share of every batch; the first writes,
    and returns the results.

    resumed: what was typed when it went on after being stopped. progress: where it goes on; None: it begins.
    callbacks: for the trainer, beside its own.
    """
    import numpy as np
    import torch
    from lightning.pytorch import seed_everything

    from newsreel.batches.datamodule import TextDataModule
    from newsreel.core.storage import write_atomically
    from newsreel.models.functional import num_outputs
    from newsreel.reporting.caveats import limits
    from newsreel.reporting.report import Report, write_report
    from newsreel.runs.environment import default_threads, describe_environment, peak_rss_mb, reset_peak_rss
    from newsreel.runs.trained_run import Command, Labels, build_classifier
    from newsreel.training.compilation import compile_network, require_compiler
    from newsreel.training.loggers import RunLog
    from newsreel.training.profile import time_table
    from newsreel.training.trainer import (
        build_trainer,
        log_figures,
        log_final_metrics,
        log_samples,
        log_words,
        predictions_of,
    )

    here = place()
    seed_everything(experiment.seed, workers=True, verbose=False)
    reset_peak_rss()
    torch.set_num_threads(experiment.trainer.threads or max(1, default_threads() // here.local_size))
    if here.first:
        folder.mkdir(parents=True, exist_ok=True)
        Command(choices, overrides, os.getcwd(), resumed).save(folder)
        write_atomically(folder / CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.create(experiment.config)))

    experiment.logger.check()
    if experiment.trainer.compile:
        require_compiler(experiment.trainer.accelerator)
    experiment.embedding.check(experiment.paths)
    corpus = experiment.reader.load(experiment.paths)
    sizes = {split: len(rows.rows) for split, rows in corpus.splits.items()}
    log.info(f"corpus      {corpus.name}: {corpus.task}, {corpus.num_labels} labels, from {corpus.source}")
    log.info(f"documents   {', '.join(f'{count:,} {split}' for split, count in sizes.items())}")
    for note in corpus.notes:
        log.info(f"note        {note}")
    for note in idle_settings(overrides, corpus.task):
        log.info(f"note        {note}")
    tokenized = experiment.tokenizer.fit(corpus, experiment.paths.cache)
    vocabulary = tokenized.tokenizer.tokens
    log.info(f"vocabulary  {len(vocabulary):,} {choices['tokenizer']}")

    if progress is not None and progress.corpus != corpus.fingerprint:
        raise UserError(
            f"The documents are not those that {folder} was trained on so far: their fingerprint is "
            f"{corpus.fingerprint}, and was {progress.corpus}. Bring those back, or start a new run."
        )
    trainer, history = build_trainer(experiment, folder, corpus, progress, callbacks)
    on_accelerator = trainer.strategy.root_device.type != "cpu"
    data = TextDataModule(corpus, tokenized, experiment.batches, experiment.seed, pin_memory=on_accelerator)
    embedding = experiment.embedding.build(tokenized, corpus, experiment.paths)
    network = experiment.build_network(embedding, num_outputs(corpus.task, corpus.num_labels))
    network.fit_statistics(data.train_dataloader())  # of all documents, in every process
    data.share_out(here.number, here.size)
    counts = torch.from_numpy(corpus.label_counts("train"))
    if corpus.task == "multilabel":
        network.start_at((counts + 0.5) / (sizes["train"] + 1))
    if experiment.trainer.compile:
        compile_network(network)
    labels = Labels.of(corpus)
    classifier = build_classifier(experiment, network, labels, counts, sizes["train"])
    num_parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    log.info(f"model       {choices['model']} on {choices['embedding']} embedding: {num_parameters:,} parameters")
    each = f" in each of {here.size} processes" if here.size > 1 else ""
    log.info(f"device      {trainer.strategy.root_device}, {torch.get_num_threads()} threads{each}")
    log.info(f"run folder  {folder}")

    if here.first:
        labels.save(folder)
        tokenized.tokenizer.save(folder)
        assert isinstance(trainer.logger, RunLog)
        trainer.logger.start(experiment.config, choices)
        log_words(trainer, "words_before_training", vocabulary, embedding, experiment.trainer.projector_words)
    else:
        own_seed = np.random.SeedSequence([experiment.seed, here.number]).generate_state(1)[0]
        seed_everything(int(own_seed), verbose=False)  # its dropout; the weights it starts with are the first's
    prepared = time.perf_counter()

    try:
        checkpoint = None if progress is None else str(progress.checkpoint)
        trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # Lightning's answer to SIGINT and SIGTERM, with a status that could mean success
        stop(folder, signal.SIGTERM if trainer.received_sigterm else signal.SIGINT)
    except RuntimeError:
        if trainer.received_sigterm:  # the other processes are gone already
            stop(folder, signal.SIGTERM)
        raise
    fitted = time.perf_counter()

    loader = data.test_dataloader()
    trainer.test(classifier, loader, ckpt_path=str(folder / BEST_CHECKPOINT), verbose=False, weights_only=True)
    test_metrics = rounded(trainer.callback_metrics, "test/")
    finished = time.perf_counter()
    if not here.first:
        return {}

    predictions = predictions_of(classifier, corpus, "test", loader)
    decisions = classifier.decisions
    predictions.write(folder / "predictions.parquet")
    if corpus.task == "multilabel":
        write_atomically(folder / "thresholds.json", json.dumps(decisions.describe(corpus.label_names), indent=1))
    kept = history.kept
    results: dict[str, Any] = {
        **test_metrics,
        **rounded(kept, "val/"),
        "train/epochs": len(history.epochs),
        "train/kept_epoch": int(kept["epoch"]),
        **rounded(kept, "train/"),
        "train/steps": trainer.global_step,
        "model/parameters": num_parameters,
        "model/vocabulary": len(vocabulary),
        **coverage_figures(embedding.coverage),
        **({"labels_with_global_threshold": int(decisions.fallbacks)} if decisions.falls_back else {}),
        **{f"documents/{split}": count for split, count in sizes.items()},
        "time/prepare_s": round(prepared - started, 3),
        "time/fit_s": round(history.seconds_before + fitted - prepared, 3),
        "time/test_s": round(finished - fitted, 3),
        **({"time/first_step_s": round(history.first_step - started, 3)} if history.first_step else {}),
        "time/total_s": round(history.seconds_before + time.perf_counter() - started, 3),
        "throughput/train_documents_per_s": round(history.documents_per_second, 1),
        "memory/peak_rss_mb": round(peak_rss_mb(), 1),
        "environment": describe_environment(experiment, corpus, str(trainer.strategy.root_device), here.size),
    }
    log_words(trainer, "words_after_training", vocabulary, embedding, experiment.trainer.projector_words)
    figures = []
    if experiment.evaluation.figures:
        from newsreel.reporting.figures import draw_figures

        drawn = draw_figures(predictions, history.epochs, kept["epoch"], corpus.metric)
        log_figures(trainer, drawn, folder / "figures")
        figures = list(drawn)
    log_samples(trainer, predictions)
    asked = [*overrides, *(override for more in resumed for override in more)]
    log_final_metrics(trainer, experiment.config, choices, asked, results)
    report = Report(
        folder,
        choices,
        overrides,
        corpus.notes,
        history.epochs,
        results,
        corpus.metric,
        experiment.training.keep,
        predictions,
        figures,
        limits(predictions, data.dataset("test"), corpus.metric, experiment.seed, experiment.tokenizer.gives_bags),
        published=str(experiment.published),
        log=experiment.logger.whereabouts(folder),
        resumed=resumed,
    )
    write_report(report)
    write_atomically(folder / METRICS_FILE, json.dumps(results, indent=2) + "\n")  # last: the run is finished
    log.info("\n" + report.table())
    if experiment.trainer.profile:
        log.info("\n" + time_table(trainer, results))
    return results


def idle_settings(overrides: Sequence[str], task: "Task") -> list[str]:
    """What was given and makes no difference for documents of this kind, in sentences."""
    found = []
    if task != "multilabel" and (idle := [override for override in overrides if override.startswith(FOR_SEVERAL)]):
        found.append(f"{' '.join(idle)} changes nothing: documents have one label, the most probable")
    if task != "multiclass" and ONE_VS_REST in overrides:
        found.append(f"{ONE_VS_REST} changes nothing: every label here is a decision of its own already")
    return found


def coverage_figures(coverage: "Coverage | None") -> dict[str, float]:
    """Shares of the vocabulary and of the running training words that have given vectors, if the embedding has such."""
    if coverage is None:
        return {}
    return {
        "embedding/coverage_types": round(coverage.known_types / max(1, coverage.types), 7),
        "embedding/coverage_tokens": round(coverage.known_tokens / max(1, coverage.tokens), 7),
        "embedding/from_subwords": round(coverage.from_subwords / max(1, coverage.types), 7),
    }
