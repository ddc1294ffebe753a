"""Checks a composed config against the signatures it configures, before documents are read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from pydantic import BaseModel

from newsreel.batches.batch import BatchSettings
from newsreel.config.loggers import LoggerSettings, TensorBoard
from newsreel.config.sections import (
    Settings,
    check_section,
    classes_of,
    constructor_arguments,
    find_problems,
    show,
    strict_model,
)
from newsreel.core.dist import dist_env, is_gpu_available
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import CorpusReader, Paths
from newsreel.embeddings.embedding import Embedding, EmbeddingBuilder, OneHot
from newsreel.embeddings.pretrained import Pretrained
from newsreel.models.decisions import EvaluationSettings
from newsreel.models.network import Network
from newsreel.models.optimization import ADAMS, DEFAULT_BETAS, TrainingSettings
from newsreel.text.tokens import Tokenizer

SEED = Annotated[int, Ge(0), Le(2**32 - 1)]
ADDITIONAL_LOSSES = ("adversarial", "vat", "entropy")  # their weights, in the section training
COMMAND_KEYS = ("resume", "regularize", "budget_minutes")  # keys at the top level that are not in config.yaml
MAX_BATCH_BYTES = 2**30  # of one dense tensor; larger batches are an error
MAX_WEIGHT_BYTES = 2**32  # of a network; gradients and Adam's two moments need three times as much in addition


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """The section `trainer` of the config: hardware, checkpoints and logging."""

    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Annotated[int, Ge(1), Le(1024)] | None
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    threads: Annotated[int, Ge(1), Le(1024)] | None
    log_every_n_steps: Annotated[int, Ge(1)]
    projector_words: Annotated[int, Ge(0)]
    histograms: bool
    accumulate_grad_batches: Annotated[int, Ge(1)]
    compile: bool
    profile: bool
    checkpoint_every_s: Annotated[float, Ge(0)] | None

    @property
    def num_processes(self) -> int:
        """On each machine."""
        return self.devices or 1

    @property
    def on_gpus(self) -> bool:
        """Whether several processes have a GPU each."""
        return self.accelerator != "cpu" and torch.cuda.is_available()


@dataclass(frozen=True, kw_only=True)
class Published:
    """The section `published` of the config: published scores with these settings, shown next to the run's."""

    val_accuracy: Annotated[float, Ge(0), Le(1)] | None
    test_accuracy: Annotated[float, Ge(0), Le(1)] | None
    source: str | None

    def __str__(self) -> str:
        scores = {"validation accuracy": self.val_accuracy, "test accuracy": self.test_accuracy}
        known = [f"{name} {score:.4f}" for name, score in scores.items() if score is not None]
        return ", ".join(known) + (f" ({self.source})" if known and self.source else "")


@dataclass(frozen=True)
class Experiment:
    """A checked config as objects."""

    seed: int
    paths: Paths
    reader: CorpusReader
    tokenizer: Tokenizer
    embedding: EmbeddingBuilder
    network: Callable[[Embedding, int], Network]  # from an embedding and the number of outputs
    batches: BatchSettings
    training: TrainingSettings
    evaluation: EvaluationSettings
    trainer: TrainerSettings
    logger: LoggerSettings
    published: Published
    config: Settings  # the complete resolved config, as plain values
    takes_counts: bool  # whether the network reads bags of words with counts
    pretrained: str | None = None  # run directory that the network starts from

    def build_network(self, embedding: Embedding, num_outputs: int) -> Network:
        """The network on an embedding. Raises UserError if its weights are too large."""
        self.check_weights(embedding.num_words, embedding.dimension, num_outputs)
        return self.network(embedding, num_outputs)

    def check_weights(self, num_words: int, dimension: int, num_outputs: int) -> None:
        """Raise UserError if the weights of the network would exceed MAX_WEIGHT_BYTES, without allocating them.

        Also if it has no last layer of a known name.
        """
        with torch.device("meta"):  # shapes without values
            network = self.network(self.embedding.empty(num_words, dimension), num_outputs)
        if not hasattr(network, "output_bias"):
            raise UserError(
                f"{type(network).__name__} has no self.output, which explanations and the initial bias of several "
                "labels need: give its last layer this name, or override the property output_bias."
            )
        sizes = {name: 4 * weights.numel() for name, weights in network.named_parameters()}  # bytes
        total = sum(sizes.values())
        if total <= MAX_WEIGHT_BYTES:
            return
        largest = max(sizes, key=lambda name: sizes[name])
        shape = " × ".join(f"{size:,}" for size in network.get_parameter(largest).shape)
        raise UserError(
            f"The weights of this model would need {total / 2**30:.1f} GiB; the limit is "
            f"{MAX_WEIGHT_BYTES / 2**30:.0f} GiB. {largest} alone has {shape} numbers of 4 bytes. Lower the sizes in "
            "model, tokenizer.max_size or embedding.dimension. With embedding=one_hot, the first layer has separate "
            "weights for every word; with embedding=learned, words share them."
        )


SECTIONS: dict[str, type] = {
    "data": CorpusReader,
    "tokenizer": Tokenizer,
    "embedding": EmbeddingBuilder,
    "model": Network,
    "batches": BatchSettings,
    "training": TrainingSettings,
    "evaluation": EvaluationSettings,
    "trainer": TrainerSettings,
    "logger": LoggerSettings,
    "published": Published,
    "paths": Paths,
}


def read_experiment(config: Settings, is_trained: bool = True) -> Experiment:
    """Check a resolved config and build the objects that need no data. Raises one UserError with all problems.

    is_trained: whether it is to be trained now, in the processes of this command; False: it is that of a finished run.
    """
    regularize = config.get("regularize", True)
    config = {key: value for key, value in config.items() if key not in COMMAND_KEYS}
    if regularize is False:
        config = without_regularization(config)
    targets = checked_classes(config, regularize, is_trained)
    if config["training"].get("solver") == "auto":
        config = {**config, "training": {**config["training"], "solver": decide_solver(config, targets)}}

    made = {name: target(**constructor_arguments(config[name])) for name, target in targets.items() if name != "model"}
    model = constructor_arguments(config["model"])
    experiment = Experiment(
        seed=config["seed"],
        reader=made.pop("data"),
        network=lambda embedding, num_outputs: targets["model"](embedding, num_outputs, **model),
        **made,
        config=config,
        takes_counts=targets["model"].takes_counts,
        pretrained=config.get("pretrained"),
    )
    experiment.evaluation.check(experiment.reader.nests_labels)
    num_words = config["tokenizer"].get("max_size")
    dimension = num_words if isinstance(experiment.embedding, OneHot) else config["embedding"].get("dimension")
    if num_words is not None and dimension is not None:  # else they depend on the documents or vectors
        experiment.check_weights(num_words, dimension, num_outputs=1)
    return experiment


def checked_classes(config: Settings, regularize: Any, is_trained: bool) -> dict[str, Any]:
    """The class of each section. Raises one UserError with all problems."""
    problems = find_problems({**config, "regularize": regularize}, top_level_model(), "")
    targets: dict[str, Any] = {}
    for name, section, target in classes_of(config, SECTIONS, problems):
        problems += check_section(name, section, target)
        targets[name] = target
    if not problems:
        problems += check_combinations(config, targets)
        problems += check_processes(config) if is_trained else []
    if problems:
        raise UserError("\n".join(problems))
    return targets


@cache
def top_level_model() -> type[BaseModel]:
    kinds = {"seed": SEED, "regularize": bool, "pretrained": str | None, **dict.fromkeys(SECTIONS, dict)}
    return strict_model(kinds, {"pretrained": None})  # older run directories lack it


def unregularized(key: str, value: Any) -> Any:
    """The value of a setting without regularization."""
    if key.endswith("dropout") or key in ("weight_decay", "label_smoothing", *ADDITIONAL_LOSSES):
        return 0.0
    if key == "solver":
        return "minibatch"  # newton has no optimum without an L2 penalty
    return None if key == "max_norm" else value


def without_regularization(config: Settings) -> Settings:
    """The same config with all regularization turned off, so that a network can memorise its documents."""
    return {
        name: {key: unregularized(key, value) for key, value in section.items()}
        if isinstance(section, dict)
        else section
        for name, section in config.items()
    }


def check_combinations(config: Settings, targets: dict[str, Any]) -> list[str]:
    """Problems of settings in different sections that cannot be combined."""
    return [
        *check_trainer(config["trainer"], targets["logger"]),
        *check_optimizer(config["training"]),
        *check_training(config, targets),
        *check_folds(config),
        *check_additional_losses(config, targets),
        *check_words(config, targets),
    ]


def check_trainer(trainer: Settings, logger: type) -> list[str]:
    """What the machine or the logger cannot do."""
    problems = []
    if trainer["accelerator"] == "gpu" and not is_gpu_available():
        problems.append(
            "trainer.accelerator is gpu, but torch finds no GPU: use trainer=cpu or trainer=auto, or install a torch "
            "build for your GPU (docs/quickstart.md)"
        )
    if trainer["precision"] == "16-mixed" and (trainer["accelerator"] == "cpu" or not is_gpu_available()):
        problems.append("trainer.precision is 16-mixed, which needs a GPU: use bf16-mixed or 32-true on a CPU")
    if trainer["histograms"] and not issubclass(logger, TensorBoard):
        problems.append("trainer.histograms is true, but only logger=tensorboard can show them: omit one of them")
    return problems


def check_optimizer(training: Settings) -> list[str]:
    """Settings that the optimizer does not have."""
    problems = []
    if training["initial_accumulator"] and training["optimizer"] != "adagrad":
        problems.append(
            f"training.initial_accumulator is {training['initial_accumulator']}, which only adagrad has, but "
            f"training.optimizer is {training['optimizer']}: set training.initial_accumulator=0"
        )
    betas = training.get("betas", DEFAULT_BETAS)
    if tuple(betas) != DEFAULT_BETAS and training["optimizer"] not in ADAMS:
        problems.append(
            f"training.betas is {show(betas)}, which only adam and adamw have, but training.optimizer is "
            f"{training['optimizer']}: leave out training.betas"
        )
    return problems


def check_training(config: Settings, targets: dict[str, Any]) -> list[str]:
    """How weights are trained that this network, or several processes, cannot train so."""
    training = config["training"]
    problems = []
    needs_all_weights = training.get("ema") is not None or config["trainer"]["devices"] not in (None, 1)
    if training.get("unfreeze_epochs") and needs_all_weights:
        problems.append(
            f"training.unfreeze_epochs is {training['unfreeze_epochs']}, which changes the trained weights between "
            "epochs, and training.ema and several processes (trainer=ddp) need the same ones throughout: leave out one "
            "of them"
        )
    if training.get("solver") == "newton" and (obstacles := newton_obstacles(config, targets)):
        problems.append(
            f"training.solver is newton, but {' and '.join(obstacles)}: use training.solver=minibatch, or auto, which "
            "chooses newton where it is possible"
        )
    return problems


def check_words(config: Settings, targets: dict[str, Any]) -> list[str]:
    """Tokenizer, embedding and network that do not fit together."""
    problems = []
    if targets["tokenizer"].produces_bags and not targets["model"].order_invariant:
        problems.append(
            "this tokenizer produces bags of n-grams without an order, but this model reads sequences: use model=bow, "
            "or tokenizer=words or tokenizer=characters"
        )
    if targets["tokenizer"].produces_bags and issubclass(targets["embedding"], Pretrained):
        problems.append(
            "this tokenizer produces n-grams, but this embedding has vectors for single words: use "
            "embedding=one_hot or embedding=learned, or tokenizer=words"
        )
    given = issubclass(targets["embedding"], (Pretrained, OneHot))
    if config.get("pretrained") is not None and given:
        problems.append(
            f"pretrained={config['pretrained']} gives the words their vectors, and this embedding has its own or none: "
            "use embedding=learned, or leave out pretrained"
        )
    if issubclass(targets["embedding"], OneHot) and targets["model"].needs_dense_embeddings:
        problems += check_one_hot(config)
    return problems


def check_additional_losses(config: Settings, targets: dict[str, Any]) -> list[str]:
    """Problems of the losses of perturbed and of unlabelled documents."""
    training = config["training"]
    weights = {name: training[name] for name in ADDITIONAL_LOSSES if training.get(name)}
    if not weights:
        return []
    given = " and ".join(f"training.{name} is {show(weight)}" for name, weight in weights.items())
    if targets["model"].takes_counts:
        return [f"{given}, but this model reads bags of words: use another model, or leave it out"]
    if "entropy" in weights and len(weights) == 1:
        return []
    problems = []
    if issubclass(targets["embedding"], OneHot):
        problems.append(f"{given}, but one-hot words have no vectors to perturb: use embedding=learned")
    if config["embedding"].get("max_norm") is not None:
        problems.append(
            f"{given}, which keeps the variance of the word vectors, but embedding.max_norm is "
            f"{show(config['embedding']['max_norm'])}: set embedding.max_norm=null"
        )
    if config["trainer"]["compile"]:
        problems.append(
            f"{given}, which needs gradients within a step, but trainer.compile is true: set trainer.compile=false"
        )
    return problems


def newton_obstacles(config: Settings, targets: dict[str, Any]) -> list[str]:
    """Why the training is not a convex problem that training.solver=newton can solve; empty if it is."""
    obstacles = []
    if not targets["model"].is_linear_in_words(config["model"]):
        obstacles.append("this model is not linear in its words (model=bow is, without hidden_sizes and dropout)")
    if not issubclass(targets["embedding"], OneHot):
        obstacles.append("the embedding is not one_hot")
    if config["training"]["focal_gamma"]:
        obstacles.append("the loss is not convex with training.focal_gamma above 0")
    if config["training"].get("ema") is not None:
        obstacles.append("training.ema averages the steps of mini-batches")
    return obstacles


def decide_solver(config: Settings, targets: dict[str, Any]) -> str:
    """training.solver, with the one that auto stands for."""
    solver: str = config["training"].get("solver", "minibatch")
    if solver != "auto":
        return solver
    return "minibatch" if newton_obstacles(config, targets) else "newton"


def check_folds(config: Settings) -> list[str]:
    """Problems of models for folds that know the documents of their fold through another run."""
    folds = config["evaluation"].get("folds")
    others = {"data.pseudo_labels": config["data"].get("pseudo_labels"), "pretrained": config.get("pretrained")}
    names = [name for name, value in others.items() if value is not None]
    if folds is None or not names:
        return []
    return [
        f"evaluation.folds is {folds}, but the run that {' and '.join(names)} names may have been trained on documents "
        "of every fold, so no score would be out of fold: set evaluation.folds=null, or leave out the other run"
    ]


def check_one_hot(config: Settings) -> list[str]:
    """Problems of a model whose input is one-hot vectors."""
    batch_size, num_tokens = config["batches"]["batch_size"], config["batches"]["max_tokens"]
    num_words = config["tokenizer"].get("max_size")
    if num_words is None or num_tokens is None:
        missing = "tokenizer.max_size" if num_words is None else "batches.max_tokens"
        return [f"embedding=one_hot with this model needs batches of documents × tokens × words: set {missing}"]
    num_bytes = 4 * batch_size * num_tokens * num_words
    if num_bytes <= MAX_BATCH_BYTES:
        return []
    return [
        f"embedding=one_hot with this model needs batches of {batch_size} documents × {num_tokens} tokens × "
        f"{num_words} words = {num_bytes / 2**30:.1f} GiB; the limit is {MAX_BATCH_BYTES / 2**30:.0f} GiB. "
        "Use embedding=learned, which looks words up by index, or a model that does so for one-hot words (bow and the "
        "recurrent models), or lower tokenizer.max_size, batches.max_tokens or batches.batch_size"
    ]


def check_processes(config: Settings) -> list[str]:
    """Problems of training in several processes."""
    trainer, env = config["trainer"], dist_env()
    devices = trainer["devices"] or 1
    if env.world_size > 1 and env.local_world_size != devices:
        return [
            f"trainer.devices is {show(trainer['devices'])}, but torchrun or srun started this command in "
            f"{env.local_world_size} processes on each machine: use trainer=ddp, or start one process"
        ]
    if devices == 1 and env.world_size == 1:
        return []
    problems = []
    num_processes = max(devices, env.world_size)
    if config["evaluation"].get("folds") is not None:
        problems.append(
            f"evaluation.folds is {show(config['evaluation']['folds'])}, but {num_processes} processes share the "
            "training, and models of folds are trained in one: set evaluation.folds=null, or use one process"
        )
    batch_size = config["batches"]["batch_size"]
    if batch_size < num_processes:
        problems.append(
            f"batches.batch_size is {batch_size}, but {num_processes} processes share the batch and each needs at "
            "least one document: raise it, or lower trainer.devices"
        )
    num_gpus = torch.cuda.device_count()
    if trainer["accelerator"] != "cpu" and 0 < num_gpus < devices:
        problems.append(
            f"trainer.devices is {devices}, but torch finds {num_gpus} GPU{'s' * (num_gpus > 1)}: lower it, or use "
            "trainer.accelerator=cpu. Under srun, every task must see all GPUs of its machine (--gpus-per-node)"
        )
    if trainer["accelerator"] == "gpu" and not num_gpus and is_gpu_available():
        problems.append(f"trainer.devices is {devices}, but only NVIDIA and AMD GPUs support it: use trainer=gpu")
    return problems
