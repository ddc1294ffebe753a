"""From a tokenized corpus to the batches and the LightningModule of a training."""

import logging
import math

import torch

from newsreel.batches.datamodule import TextDataModule
from newsreel.config.schema import Experiment
from newsreel.core.dist import dist_env
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import Corpus
from newsreel.embeddings.embedding import Embedding
from newsreel.models.classifier import TextClassifier
from newsreel.models.functional import num_outputs
from newsreel.models.newton import NewtonClassifier
from newsreel.models.optimization import TrainingSettings
from newsreel.runs.trained_run import Labels, build_classifier
from newsreel.text.loading import require_known
from newsreel.text.tokens import TokenizedCorpus
from newsreel.text.unlabeled import encode_unlabeled
from newsreel.training.compilation import compile_network

log = logging.getLogger(__name__)


def tokenize(experiment: Experiment, corpus: Corpus) -> tuple[Corpus, TokenizedCorpus]:
    """Fit the tokenizer and encode the documents, with the unlabelled ones if the training reads them.

    Raises UserError if there are none of these, or if the tokenizer is none that a run could be opened with.
    """
    if experiment.training.reads_unlabeled:
        corpus = require_unlabeled(corpus.with_unlabeled(), experiment.training)
    tokenized = experiment.tokenizer.fit(corpus, experiment.paths.cache)
    require_known(tokenized.tokenizer)
    if experiment.training.reads_unlabeled:
        tokenized = encode_unlabeled(tokenized, corpus, experiment.paths.cache)
    return corpus, tokenized


def require_unlabeled(corpus: Corpus, training: TrainingSettings) -> Corpus:
    """The same corpus. Raises UserError if it has no unlabelled documents."""
    if "unlabeled" in corpus.tables and len(corpus.tables["unlabeled"]):
        return corpus
    name, value = ("vat", training.vat) if training.vat else ("entropy", training.entropy)
    cause, remedy = (
        (f"the corpus {corpus.name!r} ({corpus.source}) has none", "add some (docs/own_corpus.md)")
        if corpus.pseudo is None
        else ("with data.pseudo_labels they are training documents", "leave out one of the two")
    )
    raise UserError(
        f"training.{name} is {value:g}, which needs unlabelled documents, but {cause}: {remedy}, or use "
        f"training.adversarial={value:g} instead, which needs labelled documents only."
    )


def build_data(
    experiment: Experiment, corpus: Corpus, tokenized: TokenizedCorpus, on_accelerator: bool
) -> TextDataModule:
    """The batches of a corpus. Raises UserError if one would be too large."""
    return TextDataModule(
        corpus,
        tokenized,
        experiment.batches,
        experiment.seed,
        on_accelerator,
        passes_per_epoch(experiment, corpus),
        bags=experiment.takes_counts,
        whole_split=experiment.training.solver == "newton",
        with_unlabeled=experiment.training.reads_unlabeled,
    )


def passes_per_epoch(experiment: Experiment, corpus: Corpus) -> int:
    """Passes over the training documents in an epoch, according to training.min_steps_per_epoch; 1 for newton."""
    if experiment.training.solver == "newton":
        return 1
    num_documents = len(corpus.splits["train"].rows)
    num_batches = math.ceil(num_documents / experiment.batches.batch_size)
    batches_per_step = experiment.trainer.accumulate_grad_batches
    return experiment.training.passes_per_epoch(num_batches, batches_per_step, corpus.num_labels)


def build_model(experiment: Experiment, corpus: Corpus, embedding: Embedding, data: TextDataModule) -> TextClassifier:
    """Build the LightningModule and fit its statistics on all training documents; then set the shard of `data`."""
    env = dist_env()
    if experiment.training.perturbs:
        embedding.keep_normalized(torch.from_numpy(data.count_tokens()))
    network = experiment.build_network(embedding, num_outputs(corpus.task, corpus.num_labels))
    require_unfrozen(experiment.training, len(network.layer_groups()))
    if experiment.takes_counts:  # statistics of all training documents, in every process
        split = data.training_bags()
        targets = split.targets if corpus.pseudo is None else torch.from_numpy(corpus.label_probabilities())
        network.fit_word_statistics(split.counts, targets)
    else:
        network.fit_statistics(data.single_pass())
    data.set_shard(env.rank, env.world_size)
    label_counts, num_documents = corpus.weighted_label_counts()
    counts = torch.from_numpy(label_counts)
    if corpus.task == "multilabel":
        network.init_bias_from_priors((counts + 0.5) / (num_documents + 1))
    kind = NewtonClassifier if experiment.training.solver == "newton" else TextClassifier
    classifier = build_classifier(experiment, network, Labels.of(corpus.labelled), counts, num_documents, kind)
    if experiment.trainer.compile:
        compile_network(network)
    return classifier


def require_unfrozen(training: TrainingSettings, num_groups: int) -> None:
    """Raise UserError if training.unfreeze_epochs would leave a group of layers frozen until the end."""
    needed = (num_groups - 1) * training.unfreeze_epochs + 1
    if training.unfreeze_epochs and training.max_epochs < needed:
        raise UserError(
            f"training.unfreeze_epochs is {training.unfreeze_epochs}, and this network has {num_groups} groups of "
            f"layers, the last of which would train from epoch {needed} on: training.max_epochs is "
            f"{training.max_epochs}. Raise it to {needed} or more."
        )
