"""The run on one screen: corpus, tokens, batches, network, trainer, fit, test, results."""

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from omegaconf import OmegaConf

from newsreel.batches.datamodule import TextDataModule
from newsreel.config.idle import idle_settings
from newsreel.config.schema import Experiment
from newsreel.core.dist import dist_env
from newsreel.core.errors import UserError
from newsreel.core.storage import write_atomically
from newsreel.corpora.corpus import Corpus
from newsreel.embeddings.embedding import Embedding
from newsreel.models.classifier import TextClassifier
from newsreel.models.functional import num_outputs
from newsreel.models.newton import NewtonClassifier
from newsreel.models.optimization import TrainingSettings
from newsreel.runs.environment import default_threads, reset_peak_rss
from newsreel.runs.run_dir import CONFIG_FILE, METRICS_FILE, read_weights
from newsreel.runs.trained_run import Command, Labels, build_classifier
from newsreel.text.statistics import token_notes
from newsreel.text.tokens import TokenizedCorpus
from newsreel.training.callbacks.projector import ProjectorWords
from newsreel.training.checkpoints import ResumeState, restoring
from newsreel.training.compilation import compile_network, require_compiler
from newsreel.training.interrupts import stopped_by_signals
from newsreel.training.loggers import RunLogger
from newsreel.training.precision import require_precision
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
    preflight(experiment)

    corpus, tokenized = load_documents(spec, resume)
    words = ProjectorWords(tokenized.tokenizer.tokens, experiment.trainer.projector_words)
    trainer, history = build_trainer(experiment, spec.run_dir, corpus, resume, [*callbacks, words])
    on_accelerator = trainer.strategy.root_device.type != "cpu"
    passes = passes_per_epoch(experiment, corpus)
    data = TextDataModule(
        corpus,
        tokenized,
        experiment.batches,
        experiment.seed,
        on_accelerator,
        passes,
        bags=experiment.takes_counts,
        whole_split=experiment.training.solver == "newton",
    )
    embedding = experiment.embedding.build(tokenized, corpus, experiment.paths)
    classifier = build_model(experiment, corpus, embedding, data)
    words.embedding = embedding
    log_model(spec, trainer, classifier)
    start_run(spec, resume, trainer, corpus, tokenized)
    prepared = time.perf_counter()

    checkpoint = None if resume is None else str(resume.checkpoint)
    threads = torch.get_num_threads() if trainer.strategy.root_device.type == "cpu" else 1
    with classifier.runner.threads(threads), stopped_by_signals(trainer), restoring(resume, history):
        trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    fitted = time.perf_counter()
    loader = data.test_dataloader()
    classifier.load_state_dict(read_weights(spec.run_dir))
    with classifier.runner.threads(threads), stopped_by_signals(trainer):
        trainer.test(classifier, loader, verbose=False)
    if not env.is_rank_zero:
        return {}
    timing = Timing(spec.started, prepared, fitted, time.perf_counter())
    parts = TrainedParts(corpus, tokenized, embedding.coverage, data, classifier, trainer, history, loader)
    return write_results(spec, parts, timing)


def record_command(spec: RunSpec) -> None:
    """Rank 0 writes the command and the config."""
    if not dist_env().is_rank_zero:
        return
    spec.run_dir.mkdir(parents=True, exist_ok=True)
    Command(spec.choices, spec.overrides, os.getcwd(), spec.resumed, spec.hydra_overrides).save(spec.run_dir)
    write_atomically(spec.run_dir / CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.create(spec.experiment.config)))


def preflight(experiment: Experiment) -> None:
    """Check all that can be checked without documents. Raises UserError."""
    experiment.logger.check()
    if experiment.trainer.compile:
        require_compiler(experiment.trainer.accelerator)
    require_precision(experiment)
    experiment.embedding.check(experiment.paths)


def load_documents(spec: RunSpec, resume: ResumeState | None) -> tuple[Corpus, TokenizedCorpus]:
    """Load and tokenize the corpus. Raises UserError if the documents of a resumed run have changed."""
    experiment = spec.experiment
    corpus = experiment.reader.load(experiment.paths)
    log.info(f"corpus      {corpus.name}: {corpus.task}, {corpus.num_labels} labels, from {corpus.source}")
    log.info(f"documents   {', '.join(f'{len(rows.rows):,} {split}' for split, rows in corpus.splits.items())}")
    for note in [*corpus.notes, *idle_settings(spec.overrides, experiment.config, corpus.task)]:
        log.info(f"note        {note}")
    tokenized = experiment.tokenizer.fit(corpus, experiment.paths.cache)
    log.info(f"vocabulary  {len(tokenized.tokenizer.tokens):,} {spec.choices['tokenizer']}")
    notes = token_notes(corpus, tokenized, experiment.tokenizer.produces_bags)
    for note in notes:
        log.info(f"note        {note}")
    if resume is not None and resume.corpus != corpus.fingerprint:
        raise UserError(
            f"The documents differ from those that {spec.run_dir} was trained on: their fingerprint is "
            f"{corpus.fingerprint}, and was {resume.corpus}. Restore them, or start a new run."
        )
    return replace(corpus, notes=(*corpus.notes, *notes)), tokenized


def passes_per_epoch(experiment: Experiment, corpus: Corpus) -> int:
    """Passes over the training documents in an epoch, according to training.min_steps_per_epoch; 1 for newton."""
    if experiment.training.solver == "newton":
        return 1
    num_documents = len(corpus.splits["train"].rows)
    num_batches = math.ceil(num_documents / experiment.batches.batch_size)
    passes = experiment.training.passes_per_epoch(num_batches, experiment.trainer.accumulate_grad_batches)
    if passes > 1:
        log.info(f"epochs      of {passes} passes over the {num_documents:,} training documents")
    return passes


def build_model(experiment: Experiment, corpus: Corpus, embedding: Embedding, data: TextDataModule) -> TextClassifier:
    """Build the LightningModule and fit its statistics on all training documents; then set the shard of `data`."""
    env = dist_env()
    network = experiment.build_network(embedding, num_outputs(corpus.task, corpus.num_labels))
    if experiment.takes_counts:  # statistics of all training documents, in every process
        split = data.training_bags()
        network.fit_word_statistics(split.counts, split.targets)
    else:
        network.fit_statistics(data.single_pass())
    data.set_shard(env.rank, env.world_size)
    counts = torch.from_numpy(corpus.label_counts("train"))
    num_documents = len(corpus.splits["train"].rows)
    if corpus.task == "multilabel":
        network.init_bias_from_priors((counts + 0.5) / (num_documents + 1))
    kind = NewtonClassifier if experiment.training.solver == "newton" else TextClassifier
    classifier = build_classifier(experiment, network, Labels.of(corpus), counts, num_documents, kind)
    if experiment.trainer.compile:
        compile_network(network)
    return classifier


def log_model(spec: RunSpec, trainer: Trainer, classifier: TextClassifier) -> None:
    choices, num_processes = spec.choices, dist_env().world_size
    per_process = f" in each of {num_processes} processes" if num_processes > 1 else ""
    log.info(
        f"model       {choices['model']} on {choices['embedding']} embedding: {classifier.num_parameters:,} parameters"
    )
    if spec.experiment.training.solver == "newton":
        log_path(spec.experiment.training)
    log.info(f"device      {trainer.strategy.root_device}, {torch.get_num_threads()} threads{per_process}")
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
        Labels.of(corpus).save(spec.run_dir)
        tokenized.tokenizer.save(spec.run_dir)
        assert isinstance(trainer.logger, RunLogger)
        trainer.logger.start(experiment.config, spec.choices)
    else:
        rank_seed = np.random.SeedSequence([experiment.seed, env.rank]).generate_state(1)[0]
        seed_everything(int(rank_seed), verbose=False)
