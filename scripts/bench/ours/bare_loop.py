"""Time the epochs of a bare PyTorch loop: `python -m bench.ours.bare_loop model=lstm data=imdb …`.

The same network, loss, optimizer, clipping, batches and threads as in train.py, but the batches are made before, and
there are no Trainer, schedule, metrics or logs. Epochs count from the second on.
"""

import math
import sys
import time
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch import seed_everything

from bench.ours.experiment import experiment_of
from bench.peers.documents import documents_per_s, print_figures
from newsreel.batches.batch import Batch
from newsreel.batches.datamodule import TextDataModule
from newsreel.config.schema import Experiment
from newsreel.models.classifier import TextClassifier
from newsreel.models.trained_module import clip_gradients
from newsreel.runs.environment import default_threads
from newsreel.training.build import build_model
from newsreel.training.run import load_documents
from newsreel.training.spec import RunSpec


def build(experiment: Experiment) -> tuple[TextClassifier, list[Batch]]:
    """The classifier, as the run has it, and the batches of an epoch."""
    choices = dict.fromkeys(("tokenizer", "model", "embedding"))
    spec = RunSpec(experiment, experiment.paths.cache, choices, [], 0.0)
    corpus, tokenized = load_documents(spec, None)
    data = TextDataModule(corpus, tokenized, experiment.batches, experiment.seed, pin_memory=False)
    embedding = experiment.embedding.build(tokenized, corpus, experiment.paths)
    return build_model(experiment, corpus, embedding, data), list(data.single_pass())


def build_optimizer(classifier: TextClassifier, num_steps: int) -> torch.optim.Optimizer:
    """The optimizer of the run; its learning rate is that of the first step of the schedule."""
    trainer: Any = SimpleNamespace(precision="32-true", estimated_stepping_batches=num_steps)
    classifier.trainer = trainer
    optimizers: Any = classifier.configure_optimizers()
    return optimizers["optimizer"]  # type: ignore[no-any-return]


def train_epoch(
    classifier: TextClassifier, batches: list[Batch], optimizer: torch.optim.Optimizer, max_norm: float | None
) -> None:
    parameters = list(classifier.network.parameters())
    for batch in batches:
        optimizer.zero_grad()
        classifier.loss(classifier(batch.token_ids, batch.lengths), batch.targets).backward()
        if max_norm is not None:
            clip_gradients(parameters, max_norm)
        optimizer.step()


def main() -> None:
    experiment = experiment_of(sys.argv[1:])
    seed_everything(experiment.seed, verbose=False)
    torch.set_num_threads(experiment.trainer.threads or default_threads())
    classifier, batches = build(experiment)
    num_epochs = max(2, experiment.training.max_epochs)
    optimizer = build_optimizer(classifier, math.ceil(len(batches) * num_epochs))
    times = [time.perf_counter()]
    with classifier.runner.threads(torch.get_num_threads()):
        for _ in range(num_epochs):
            train_epoch(classifier.train(), batches, optimizer, experiment.training.gradient_clip)
            times.append(time.perf_counter())
    num_documents = sum(batch.num_documents for batch in batches)
    speed = documents_per_s(num_documents, times)
    print_figures(documents_per_s=speed, epoch_s=num_documents / speed)


if __name__ == "__main__":
    main()
