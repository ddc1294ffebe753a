"""The run on one screen: corpus, tokens, batches, network, trainer, fit, test, results."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from newsreel.batches.datamodule import TextDataModule
from newsreel.config.idle import idle_settings
from newsreel.config.schema import Experiment
from newsreel.core.cache import digest
from newsreel.core.dist import dist_env
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus
from newsreel.corpora.duplicates import unlabeled_notes
from newsreel.models.classifier import TextClassifier
from newsreel.models.optimization import TrainingSettings
from newsreel.runs.environment import default_threads, reset_peak_rss
from newsreel.runs.run_dir import METRICS_FILE, read_weights, write_config
from newsreel.runs.teachers import teacher_dirs
from newsreel.runs.trained_run import Command, Labels
from newsreel.text.statistics import token_notes
from newsreel.text.tokens import TokenizedCorpus
from newsreel.training.build import build_data, build_model, tokenize
from newsreel.training.callbacks.projector import ProjectorWords
from newsreel.training.checkpoints import ResumeState, restoring
from newsreel.training.compilation import require_compiler
from newsreel.training.interrupts import stopped_by_signals
from newsreel.training.loggers import RunLogger
from newsreel.training.monitor import Monitor
from newsreel.training.out_of_fold import fit_thresholds, needs_folds
from newsreel.training.precision import require_precision
from newsreel.training.pretrained import open_source, read_coverage, start_from, write_start
from newsreel.training.pseudo_labels import pseudo_labelled, save_labels
from newsreel.training.results import Timing, TrainedParts, write_results
from newsreel.training.spec import RunSpec
from newsreel.training.trainer import build_trainer

log = logging.getLogger(__name__)


def train_run(spec: RunSpec, resume: ResumeState | None = None, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
    """Train, test and report; returns the content of metrics.json. Every process calls this; only rank 0 writes.

    resume: the state to resume from; None: a new run. callbacks: additional ones for the trainer.
    Raises UserError.
    """
    experiment, env = spec.experiment, dist_env()
    seed_everything(experiment.seed, workers=True, verbose=False)
    reset_peak_rss()
    torch.set_num_threads(experiment.trainer.threads or max(1, default_threads() // env.local_world_size))
    if resume is None:
        record_command(spec)
        require_teachers(experiment)
    preflight(experiment)
    source = open_source(experiment) if resume is None else None

    corpus, tokenized = load_documents(spec, resume)
    read = digest_of_read(corpus, tokenized)
    require_same_documents(spec.run_dir, corpus, read, resume)
    needs_folds(experiment, corpus)
    words = ProjectorWords(tokenized.tokenizer.tokens, experiment.trainer.projector_words)
    trainer, history = build_trainer(
        experiment, spec.run_dir, read, Monitor(corpus.metric), resume, [*callbacks, words]
    )
    on_accelerator = trainer.strategy.root_device.type != "cpu"
    data = build_data(experiment, corpus, tokenized, on_accelerator)
    embedding = experiment.embedding.build(tokenized, corpus, experiment.paths)
    classifier = build_model(experiment, corpus, embedding, data)
    words.embedding = embedding
    start = None if source is None else start_from(source, classifier.network, tokenized, corpus)
    log_model(spec, trainer, classifier, data)
    start_run(spec, resume, trainer, corpus, tokenized)
    if start is not None and env.is_rank_zero:
        write_start(start, spec.run_dir)
    if resume is not None and experiment.pretrained is not None:
        embedding.coverage = read_coverage(spec.run_dir)
    prepared = time.perf_counter()

    checkpoint = None if resume is None else str(resume.checkpoint)
    threads = torch.get_num_threads() if trainer.strategy.root_device.type == "cpu" else 1
    with classifier.runner.threads(threads), stopped_by_signals(trainer), restoring(resume, history):
        trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    fitted = time.perf_counter()
    classifier.load_state_dict(read_weights(spec.run_dir))
    folds = fit_thresholds(experiment, corpus, classifier, int(history.best_epoch["epoch"]), spec.run_dir)
    decided = time.perf_counter()
    loader = data.test_dataloader()
    with classifier.runner.threads(threads), stopped_by_signals(trainer):
        trainer.test(classifier, loader, verbose=False)
    if not env.is_rank_zero:
        return {}
    timing = Timing(spec.started, prepared, fitted, decided, time.perf_counter())
    parts = TrainedParts(corpus, tokenized, embedding.coverage, data, classifier, trainer, history, loader, folds)
    return write_results(spec, parts, timing)


def record_command(spec: RunSpec[Any]) -> None:
    """Rank 0 writes the command and the config."""
    if not dist_env().is_rank_zero:
        return
    spec.run_dir.mkdir(parents=True, exist_ok=True)
    command = Command(spec.choices, spec.overrides, os.getcwd(), spec.resumed, spec.hydra_overrides, spec.script)
    command.save(spec.run_dir)
    write_config(spec.run_dir, spec.experiment.config)


def preflight(experiment: Experiment) -> None:
    """Check all that can be checked without documents. Raises UserError."""
    experiment.logger.check()
    if experiment.trainer.compile:
        require_compiler(experiment.trainer.accelerator)
    require_precision(experiment)
    experiment.embedding.check(experiment.paths)


def require_teachers(experiment: Experiment) -> None:
    """Raise UserError if a run in data.pseudo_labels does not exist."""
    if experiment.reader.pseudo_labels is not None:
        teacher_dirs(experiment.reader.pseudo_labels)


def load_documents(spec: RunSpec, resume: ResumeState | None) -> tuple[Corpus, TokenizedCorpus]:
    """Load and tokenize the corpus. Raises UserError."""
    experiment = spec.experiment
    corpus = experiment.reader.load(experiment.paths)
    log.info(f"corpus      {corpus.name}: {corpus.task}, {corpus.num_labels} labels, from {corpus.source}")
    log.info(f"documents   {', '.join(f'{len(rows.rows):,} {split}' for split, rows in corpus.splits.items())}")
    corpus = pseudo_labelled(corpus, experiment, spec.run_dir, is_resumed=resume is not None)
    for note in [*corpus.notes, *idle_settings(spec.overrides, experiment.config, corpus)]:
        log.info(f"note        {note}")
    corpus, tokenized = tokenize(experiment, corpus)
    log.info(f"vocabulary  {len(tokenized.tokenizer.tokens):,} {spec.choices['tokenizer']}")
    notes = token_notes(corpus, tokenized, experiment.tokenizer.produces_bags)
    if "unlabeled" in tokenized.tables:
        notes += unlabeled_notes(corpus.with_unlabeled())
    for note in notes:
        log.info(f"note        {note}")
    return replace(corpus, notes=(*corpus.notes, *notes)), tokenized


def digest_of_read(corpus: Corpus, tokenized: TokenizedCorpus) -> str:
    """Of all that a training reads: `training_digest`, and the unlabelled documents if vocabulary or loss need them."""
    if "unlabeled" not in tokenized.tables:
        return corpus.training_digest
    return digest(corpus.training_digest, corpus.with_unlabeled().unlabeled_digest())


def require_same_documents(run_dir: Path, corpus: Corpus, fingerprint: str, resume: ResumeState | None) -> None:
    """Raise UserError if the documents of a resumed run have changed."""
    if resume is not None and resume.corpus != fingerprint:
        raise UserError(
            f"The documents differ from those that {run_dir} was trained on. They come from {corpus.source}, and their "
            f"fingerprint was {resume.corpus} and is {fingerprint} now. Restore them, or start a new run."
        )


def log_model(spec: RunSpec, trainer: Trainer, classifier: TextClassifier, data: TextDataModule) -> None:
    choices, num_processes = spec.choices, dist_env().world_size
    if data.passes > 1:
        log.info(f"epochs      of {data.passes} passes over the {len(data.dataset('train')):,} training documents")
    per_process = f" in each of {num_processes} processes" if num_processes > 1 else ""
    log.info(
        f"model       {choices['model']} on {choices['embedding']} embedding: {classifier.num_parameters:,} parameters"
    )
    if spec.experiment.training.solver == "newton":
        log_path(spec.experiment.training)
    threads = torch.get_num_threads()
    log.info(f"device      {trainer.strategy.root_device}, {threads} thread{'s' * (threads > 1)}{per_process}")
    log.info(f"run dir     {spec.run_dir}")


def log_path(training: TrainingSettings) -> None:
    """The L2 penalties that are solved for, and those that training.max_epochs leaves out."""
    penalties = [f"{l2:g}" for l2 in training.l2_path]
    solved, left_out = penalties[: training.num_epochs], penalties[training.num_epochs :]
    log.info(f"solver      newton: an epoch is the optimum for one L2 penalty of {', '.join(solved)}")
    if left_out:
        log.info(
            f"note        training.max_epochs={training.max_epochs} leaves out the penalties {', '.join(left_out)}"
        )


def start_run(
    spec: RunSpec, resume: ResumeState | None, trainer: Trainer, corpus: Corpus, tokenized: TokenizedCorpus
) -> None:
    """Rank 0 writes labels and tokenizer; the other ranks set different seeds, so that dropout masks differ.

    Until now a resumed run is as it was: an error leaves its results and its config.
    """
    experiment, env = spec.experiment, dist_env()
    if env.is_rank_zero:
        if resume is not None:
            (spec.run_dir / METRICS_FILE).unlink(missing_ok=True)  # its presence marks a finished run
            record_command(spec)
        Labels.of(corpus.labelled).save(spec.run_dir)
        if corpus.pseudo is not None:
            save_labels(spec.run_dir, corpus.pseudo.teacher)
        tokenized.tokenizer.save(spec.run_dir)
        assert isinstance(trainer.logger, RunLogger)
        trainer.logger.start(experiment.config, spec.choices)
    else:
        rank_seed = np.random.SeedSequence([experiment.seed, env.rank]).generate_state(1)[0]
        seed_everything(int(rank_seed), verbose=False)
