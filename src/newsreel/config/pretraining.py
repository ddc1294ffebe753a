"""Checks a composed config of a language model, before documents are read."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

from newsreel.batches.streams import StreamSettings
from newsreel.config.loggers import LoggerSettings
from newsreel.config.schema import MAX_WEIGHT_BYTES, SEED
from newsreel.config.sections import (
    Settings,
    check_section,
    classes_of,
    constructor_arguments,
    find_problems,
    strict_model,
)
from newsreel.core.dist import dist_env, is_gpu_available
from newsreel.core.errors import UserError
from newsreel.corpora.corpus import CorpusReader, Paths
from newsreel.embeddings.embedding import EmbeddingBuilder, OneHot, TableEmbedding
from newsreel.models.language_model import LanguageModel, LanguageModelSettings
from newsreel.models.network import Network
from newsreel.models.optimization import LanguageModelTraining
from newsreel.models.recurrent import RecurrentNetwork
from newsreel.text.tokens import Tokenizer

COMMAND_KEYS = ("resume",)  # keys of configs/pretrain.yaml that are not in config.yaml
DEFAULT_POWER = 0.75  # training.sampling_power in configs/pretrain.yaml
CLASSIFIER_ONLY = ("pooling", "layer_norm")  # settings of the section `model` that a language model has no use for


@dataclass(frozen=True, kw_only=True)
class PretrainerSettings:
    """The section `trainer` of the config of a language model."""

    precision: ClassVar[Literal["32-true"]] = "32-true"
    histograms: ClassVar[bool] = False
    accumulate_grad_batches: ClassVar[int] = 1
    compile: ClassVar[bool] = False
    num_processes: ClassVar[int] = 1
    on_gpus: ClassVar[bool] = False

    accelerator: Literal["auto", "cpu", "gpu"]
    threads: Annotated[int, Ge(1), Le(1024)] | None
    log_every_n_steps: Annotated[int, Ge(1)]
    projector_words: Annotated[int, Ge(0)]
    profile: bool
    checkpoint_every_s: Annotated[float, Ge(0)] | None


@dataclass(frozen=True)
class Pretraining:
    """A checked config of a language model as objects."""

    seed: int
    paths: Paths
    reader: CorpusReader
    tokenizer: Tokenizer
    embedding: EmbeddingBuilder
    model: LanguageModelSettings
    batches: StreamSettings
    training: LanguageModelTraining
    trainer: PretrainerSettings
    logger: LoggerSettings
    config: Settings  # the complete resolved config, as plain values

    def build_network(self, embedding: TableEmbedding) -> LanguageModel:
        """The network on an embedding. Raises UserError if its weights are too large."""
        num_values = embedding.num_words * (embedding.dimension + self.model.hidden_size)
        if 4 * num_values > MAX_WEIGHT_BYTES:
            raise UserError(
                f"The tables of this language model would need {4 * num_values / 2**30:.1f} GiB; the limit is "
                f"{MAX_WEIGHT_BYTES / 2**30:.0f} GiB: lower tokenizer.max_size, embedding.dimension or "
                "model.hidden_size."
            )
        return LanguageModel(embedding, self.model)


SECTIONS: dict[str, type] = {
    "data": CorpusReader,
    "tokenizer": Tokenizer,
    "embedding": EmbeddingBuilder,
    "model": Network,
    "batches": StreamSettings,
    "training": LanguageModelTraining,
    "trainer": PretrainerSettings,
    "logger": LoggerSettings,
    "paths": Paths,
}


def read_pretraining(config: Settings) -> Pretraining:
    """Check a resolved config and build the objects that need no data. Raises one UserError with all problems."""
    config = {key: value for key, value in config.items() if key not in COMMAND_KEYS}
    problems = find_problems(config, strict_model({"seed": SEED, **dict.fromkeys(SECTIONS, dict)}), "")
    if isinstance(config.get("trainer"), dict):
        problems += check_machine(config["trainer"])
        config = {**config, "trainer": {key: value for key, value in config["trainer"].items() if key != "devices"}}
    targets: dict[str, Any] = {}
    for name, section, target in classes_of(config, SECTIONS, problems):
        if issubclass(target, Network) and target is not RecurrentNetwork:
            problems.append(
                f"a language model has recurrent layers, and this model ({target.__name__}) has none: use model=lstm, "
                "gru, rnn, bilstm, bigru or birnn"
            )
        else:
            problems += check_section(name, section, target)
            targets[name] = target
    if not problems:
        problems += check_combinations(config, targets)
    if problems:
        raise UserError("\n".join(problems))

    made = {name: target(**constructor_arguments(config[name])) for name, target in targets.items() if name != "model"}
    model = {key: value for key, value in constructor_arguments(config["model"]).items() if key not in CLASSIFIER_ONLY}
    reader = made.pop("data")
    return Pretraining(seed=config["seed"], reader=reader, model=LanguageModelSettings(**model), **made, config=config)


def check_machine(trainer: Settings) -> list[str]:
    """Problems of processes and devices."""
    problems = []
    if dist_env().world_size > 1 or trainer.get("devices") not in (None, 1):
        problems.append(
            "a language model is trained in one process, whose streams carry their states from step to step: leave out "
            "trainer=ddp, torchrun or srun; on a CPU, trainer.threads divides its work"
        )
    if trainer.get("accelerator") == "gpu" and not is_gpu_available():
        problems.append("trainer.accelerator is gpu, but torch finds no GPU: use trainer=cpu or trainer=auto")
    return problems


def check_combinations(config: Settings, targets: dict[str, Any]) -> list[str]:
    """Problems of settings in different sections that cannot be combined."""
    problems = []
    if targets["tokenizer"].produces_bags:
        problems.append(
            "this tokenizer produces bags of n-grams without an order, but a language model reads sequences: use "
            "tokenizer=words_unlabeled, tokenizer=words, tokenizer=subwords or tokenizer=characters"
        )
    if issubclass(targets["embedding"], OneHot):
        problems.append("embedding=one_hot has no table to learn: use another embedding for a language model")
    if config["model"]["layer_norm"]:
        problems.append("model.layer_norm is true, which a language model does not have: set it to false")
    training = config["training"]
    if training["num_samples"] is None and training["sampling_power"] != DEFAULT_POWER:
        problems.append(
            f"training.sampling_power is {training['sampling_power']}, but with training.num_samples=null nothing is "
            "sampled: leave it out"
        )
    return problems
