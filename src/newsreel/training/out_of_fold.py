"""Decision rules fitted on all labelled documents but the test, with scores of models not trained on them.

The training and validation documents are divided into folds. For each fold, the model of the run is trained anew on the
other folds, tokenizer and embedding included, for as many epochs as the run has kept, and scores the fold.

Axes: N documents of a fold, L labels.
"""

import logging
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch import seed_everything
from torch import Tensor

from newsreel.config.schema import Experiment
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus, Rows
from newsreel.corpora.splits import block_folds, stratified_folds
from newsreel.models.classifier import TextClassifier
from newsreel.models.functional import require_finite
from newsreel.runs.run_dir import BEST_CHECKPOINT, read_best_checkpoint
from newsreel.training.build import build_data, build_model, tokenize
from newsreel.training.checkpoints import AtomicCheckpointIO
from newsreel.training.interrupts import stopped_by_signals
from newsreel.training.trainer import build_fold_trainer

log = logging.getLogger(__name__)

Scores = tuple[Tensor, Tensor]  # (N, L) probabilities and (N, L) target indicators of a fold


def needs_folds(experiment: Experiment, corpus: Corpus) -> bool:
    """Whether the decision rule is fitted on out-of-fold scores. Raises UserError if there are too few documents."""
    evaluation = experiment.evaluation
    if evaluation.folds is None or corpus.task != "multilabel" or evaluation.thresholds == "fixed":
        return False
    num_documents = sum(len(corpus.splits[split].rows) for split in ("train", "validation"))
    if num_documents < evaluation.folds:
        raise UserError(
            f"evaluation.folds is {evaluation.folds}, but there are only {num_documents} documents for training and "
            "validation: lower it."
        )
    return True


def fit_thresholds(
    experiment: Experiment, corpus: Corpus, classifier: TextClassifier, num_epochs: int, run_dir: Path
) -> dict[str, float]:
    """Fit a classifier's decision rule on out-of-fold scores, if evaluation.folds is set, and write it to best.ckpt.

    num_epochs: of training for each fold. Returns F1 over all folds, each decided by the rule that is fitted on the
    others: an estimate for new documents; empty if there are no folds.
    """
    if not needs_folds(experiment, corpus):
        return {}
    folds = []
    for number, fold in enumerate(divide(corpus, experiment), start=1):
        scores, metrics = score_fold(experiment, fold, num_epochs)
        folds.append(scores)
        values = "  ".join(f"{name} {metrics[f'val/{name}']:.4f}" for name in ("f1_micro", "f1_macro"))
        log.info(f"fold {number}/{experiment.evaluation.folds}    {values}, with a rule fitted on this fold")
    results = cross_fitted(classifier, folds)
    classifier.decisions.fit_folds(folds)
    values = "  ".join(f"{name} {value:.4f}" for name, value in results.items())
    log.info(f"folds       {values}, each fold with a rule fitted on the others")
    checkpoint = read_best_checkpoint(run_dir)
    rule = classifier.decisions.state_dict(prefix="decisions.")
    checkpoint["state_dict"] |= {name: value.cpu() for name, value in rule.items()}
    AtomicCheckpointIO().save_checkpoint(checkpoint, run_dir / BEST_CHECKPOINT)
    return {f"folds/{name}": value for name, value in results.items()}


def divide(corpus: Corpus, experiment: Experiment) -> Iterator[Corpus]:
    """For each fold, the corpus with this fold as its validation documents and the others as those for training.

    It has no test documents.
    """
    num_folds = experiment.evaluation.folds
    assert num_folds is not None
    pooled = corpus.pooled()
    rows = pooled.splits["train"]
    if experiment.reader.split_method == "blocks":
        folds = block_folds(pooled.positions("train"), num_folds)
    else:
        folds = stratified_folds(pooled.targets("train"), num_folds, experiment.reader.split_seed)
    for fold in range(num_folds):
        parts = {"train": folds != fold, "validation": folds == fold}
        splits = {split: Rows(rows.table, rows.rows[part]) for split, part in parts.items()}
        yield replace(pooled, splits={**pooled.splits, **splits})


def score_fold(experiment: Experiment, corpus: Corpus, num_epochs: int) -> tuple[Scores, dict[str, float]]:
    """Train the model of an experiment, and score the validation documents; also returns their metrics."""
    seed_everything(experiment.seed, workers=True, verbose=False)
    corpus, tokenized = tokenize(experiment, corpus)
    trainer = build_fold_trainer(experiment, num_epochs)
    on_accelerator = trainer.strategy.root_device.type != "cpu"
    data = build_data(experiment, corpus, tokenized, on_accelerator)
    embedding = experiment.embedding.build(tokenized, corpus, experiment.paths)
    classifier = build_model(experiment, corpus, embedding, data)
    threads = 1 if on_accelerator else torch.get_num_threads()
    with classifier.runner.threads(threads), stopped_by_signals(trainer):
        trainer.fit(classifier, data.train_dataloader())
        metrics = trainer.validate(classifier, data.val_dataloader(), verbose=False)[0]
    probabilities, targets = classifier.outputs.tensors()
    require_finite(probabilities)
    return (probabilities, targets), dict(metrics)


def cross_fitted(classifier: TextClassifier, folds: list[Scores]) -> dict[str, float]:
    """F1 over the documents of all folds, each decided by the rule that is fitted on the other folds."""
    rule = deepcopy(classifier.decisions).cpu()
    preds = []
    for number, (probabilities, _) in enumerate(folds):
        rule.fit_folds(folds[:number] + folds[number + 1 :])
        preds.append(rule(probabilities))
    scores, targets = (torch.cat(parts) for parts in zip(*folds, strict=True))
    metrics = classifier.measure(scores, torch.cat(preds), targets)
    return {name: round(metrics[name], 7) for name in ("f1_micro", "f1_macro")}
