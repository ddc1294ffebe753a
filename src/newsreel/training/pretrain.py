"""The run of a language model on one screen: text, streams, network, trainer, fit, results."""

import json
import logging
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from newsreel.batches.streams import StreamDataModule, StreamDataset
from newsreel.config.idle import idle_settings
from newsreel.config.pretraining import Pretraining
from newsreel.core.errors import UserError
from newsreel.core.storage import write_atomically
from newsreel.embeddings.embedding import TableEmbedding
from newsreel.evaluation.metrics import round_metrics
from newsreel.models.language_model import PERPLEXITY, LanguageModelModule
from newsreel.models.recurrent import REVERSED
from newsreel.models.sampled_softmax import Proposal
from newsreel.reporting.language_report import LanguageReport, neighbor_rows, sampled_documents
from newsreel.runs.environment import default_threads, describe_environment, peak_rss_mb, reset_peak_rss
from newsreel.runs.run_dir import METRICS_FILE, read_weights
from newsreel.text.tokens import UNK
from newsreel.training.callbacks.history import History
from newsreel.training.callbacks.projector import ProjectorWords
from newsreel.training.callbacks.sampled_documents import SampledDocuments
from newsreel.training.checkpoints import ResumeState, restoring
from newsreel.training.final_logging import log_final_metrics
from newsreel.training.interrupts import stopped_by_signals
from newsreel.training.language_text import Text, load_text
from newsreel.training.loggers import RunLogger
from newsreel.training.monitor import Monitor
from newsreel.training.results import coverage_metrics
from newsreel.training.run import record_command, require_same_documents
from newsreel.training.spec import RunSpec
from newsreel.training.trainer import build_trainer

log = logging.getLogger(__name__)

MAX_PERPLEXITY_RATIO = 0.95  # to that of the words' frequencies; with more, a model has not learned


def pretrain_run(
    spec: RunSpec[Pretraining], resume: ResumeState | None = None, callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Train a language model and report; returns the content of metrics.json. Raises UserError.

    resume: the state to resume from; None: a new run. callbacks: additional ones for the trainer.
    """
    pretraining = spec.experiment
    seed_everything(pretraining.seed, workers=True, verbose=False)
    reset_peak_rss()
    torch.set_num_threads(pretraining.trainer.threads or default_threads())
    if resume is None:
        record_command(spec)
    pretraining.logger.check()
    pretraining.embedding.check(pretraining.paths)

    text = load_text(pretraining)
    log_text(spec, text)
    require_same_documents(spec.run_dir, text.corpus, text.fingerprint, resume)
    tokens = text.tokenized.tokenizer.tokens
    words = ProjectorWords(tokens, pretraining.trainer.projector_words)
    samples = SampledDocuments(tokens, pretraining.seed)
    trainer, history = build_trainer(
        pretraining, spec.run_dir, text.fingerprint, Monitor(PERPLEXITY, "min"), resume, [*callbacks, words, samples]
    )
    data = build_streams(pretraining, text)
    module = build_module(pretraining, text)
    words.embedding = module.network.embedding
    log_model(spec, trainer, module, data)
    if resume is not None:
        (spec.run_dir / METRICS_FILE).unlink(missing_ok=True)  # its presence marks a finished run
        record_command(spec)
    text.tokenized.tokenizer.save(spec.run_dir)
    assert isinstance(trainer.logger, RunLogger)
    trainer.logger.start(pretraining.config, spec.choices)
    prepared = time.perf_counter()

    checkpoint = None if resume is None else str(resume.checkpoint)
    threads = torch.get_num_threads() if trainer.strategy.root_device.type == "cpu" else 1
    with module.runner.threads(threads), stopped_by_signals(trainer), restoring(resume, history):
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    fitted = time.perf_counter()
    module.load_state_dict(read_weights(spec.run_dir))
    words.on_test_end(trainer, module)
    results = collect_results(spec, text, module, trainer, history, data)
    results |= {
        "time/prepare_s": round(prepared - spec.started, 3),
        "time/fit_s": round(history.seconds_before + fitted - prepared, 3),
        "time/total_s": round(history.seconds_before + time.perf_counter() - spec.started, 3),
        "throughput/train_tokens_per_s": round(history.units_per_second, 1),
        "memory/peak_rss_mb": round(peak_rss_mb(), 1),
        "environment": describe_environment(pretraining, text.corpus, str(trainer.strategy.root_device)),
    }
    write_results(spec, text, module, trainer, history, results)
    return results


def log_text(spec: RunSpec[Pretraining], text: Text) -> None:
    log.info(f"corpus      {text.corpus.name}, from {text.corpus.source}")
    log.info(f"vocabulary  {len(text.tokenized.tokenizer.tokens):,} {spec.choices['tokenizer']}")
    for note in [*text.notes, *idle_settings(spec.overrides, spec.experiment.config, text.corpus)]:
        log.info(f"note        {note}")


def build_streams(pretraining: Pretraining, text: Text) -> StreamDataModule:
    """The streams of the training text, shuffled by the seed, and of the held-out text."""
    settings = pretraining.batches
    directions = REVERSED[pretraining.model.directions]
    training, held_out = (
        StreamDataset(text.tables, rows, settings.batch_size, settings.num_steps, directions, seed)
        for rows, seed in ((text.training, pretraining.seed), (text.held_out, None))
    )
    if training.num_targets <= settings.batch_size:
        raise UserError(
            f"The text has {training.num_targets:,} tokens, and batches.batch_size={settings.batch_size} streams need "
            "more: lower batches.batch_size, or add documents."
        )
    return StreamDataModule(training, held_out)


def build_module(pretraining: Pretraining, text: Text) -> LanguageModelModule:
    """The language model of the words of the text."""
    embedding = pretraining.embedding.build(text.tokenized, text.corpus, pretraining.paths)
    assert isinstance(embedding, TableEmbedding)  # one_hot is refused
    counts = text.counts(text.training)
    network = pretraining.build_network(embedding)
    network.init_bias_from_counts(counts)
    training = pretraining.training
    proposal = None
    if training.num_samples is not None:
        proposal = Proposal.of(counts, training.sampling_power, training.num_samples)
    return LanguageModelModule(network, training, proposal, pretraining.config)


def log_model(
    spec: RunSpec[Pretraining], trainer: Trainer, module: LanguageModelModule, data: StreamDataModule
) -> None:
    training, held_out = data.training, data.held_out
    log.info(
        f"text        {training.num_targets:,} tokens of {len(training.index):,} documents, and "
        f"{held_out.num_targets:,} of {len(held_out.index):,} held out"
    )
    log.info(
        f"model       {spec.choices['model']} language model on {spec.choices['embedding']} embedding: "
        f"{module.num_parameters:,} parameters"
    )
    log.info(f"epochs      of {len(training):,} steps of {training.num_streams} × {training.num_steps} tokens")
    log.info(f"device      {trainer.strategy.root_device}, {torch.get_num_threads()} threads")
    log.info(f"run dir     {spec.run_dir}")


def collect_results(
    spec: RunSpec[Pretraining],
    text: Text,
    module: LanguageModelModule,
    trainer: Trainer,
    history: History,
    data: StreamDataModule,
) -> dict[str, Any]:
    """The content of metrics.json, without times and the environment."""
    best = history.best_epoch
    held_out = text.counts(text.held_out)
    return {
        **round_metrics(best, "val/"),
        "train/epochs": len(history.epochs),
        "train/kept_epoch": int(best["epoch"]),
        **round_metrics(best, "train/"),
        "train/steps": trainer.global_step,
        "model/parameters": module.num_parameters,
        "model/vocabulary": len(text.tokenized.tokenizer.tokens),
        **coverage_metrics(module.network.embedding.coverage),
        "documents/train": len(data.training.index),
        "documents/held_out": len(data.held_out.index),
        "tokens/train": data.training.num_targets,
        "tokens/held_out": data.held_out.num_targets,
        "tokens/unknown_held_out": round(float(held_out[UNK] / held_out.sum()), 7),
    }


def learning_notes(results: dict[str, Any], frequency_perplexity: float) -> list[str]:
    """A note if the model has hardly learned anything: its biases start from the frequencies of the words."""
    perplexity = results[f"val/{PERPLEXITY}"]
    if perplexity < MAX_PERPLEXITY_RATIO * frequency_perplexity:
        return []
    return [
        f"The perplexity of {perplexity:,.1f} is hardly below {frequency_perplexity:,.1f}, that of the words' "
        f"frequencies alone: the model has learned next to nothing in {results['train/steps']:,} steps. Train longer "
        "(training.max_epochs), in smaller steps (batches.batch_size, batches.num_steps), or on more text."
    ]


def write_results(
    spec: RunSpec[Pretraining],
    text: Text,
    module: LanguageModelModule,
    trainer: Trainer,
    history: History,
    results: dict[str, Any],
) -> None:
    """Write report.md and, last, metrics.json."""
    tokens, network = text.tokenized.tokenizer.tokens, module.network
    report = LanguageReport(
        spec.run_dir,
        f"{spec.choices['model']} language model on {spec.choices['data']}",
        [[*spec.hydra_overrides, *spec.overrides], *([f"resume={spec.run_dir}", *more] for more in spec.resumed)],
        [*text.notes, *learning_notes(results, text.frequency_perplexity)],
        history.epochs,
        results,
        neighbor_rows(tokens, network.embedding.rows().cpu()),
        sampled_documents(network, tokens, spec.experiment.seed),
        spec.experiment.logger.view_hint(spec.run_dir),
    )
    log_final_metrics(trainer, spec.experiment.config, spec.choices, spec.all_overrides, results)
    report.write()
    write_atomically(spec.run_dir / METRICS_FILE, json.dumps(results, indent=2) + "\n")
    log.info("\n" + report.table())
