"""Starting a classifier from another run: its word vectors and its recurrent layers.

Axes: V words of the classifier, W words of the other run, E embedding dimensions.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from newsreel.config.schema import Experiment
from newsreel.config.sections import Settings
from newsreel.core.errors import UserError
from newsreel.core.json_files import read_json
from newsreel.core.paths import user_path
from newsreel.core.storage import write_atomically
from newsreel.corpora.corpus import Corpus
from newsreel.embeddings.embedding import Coverage, OneHot, TableEmbedding
from newsreel.embeddings.pretrained import align, coverage
from newsreel.models.network import Network
from newsreel.runs.run_dir import CONFIG_FILE, TABLE_KEY_SUFFIX, check_format, read_config, read_weights
from newsreel.text.loading import load_tokenizer
from newsreel.text.tokens import SPECIAL_TOKENS, TokenizedCorpus

log = logging.getLogger(__name__)

PRETRAINED_FILE = "pretrained.json"
PREFIX = "network."  # of the names of a network's weights in a checkpoint
SAME = ("cell", "hidden_size")  # settings of `model` that recurrent layers depend on


@dataclass(frozen=True)
class Source:
    """What a classifier can start from: the weights of another run."""

    run_dir: Path
    tokens: Sequence[str]  # (W,)
    weights: dict[str, Tensor]  # of its network
    model: Settings  # its section `model`
    is_one_hot: bool  # whether its words are one-hot

    @property
    def table(self) -> Tensor | None:
        """(W, E) word vectors; None if there are none."""
        if self.is_one_hot:
            return None  # the table of a recurrent network has its input weights
        return next((value for name, value in self.weights.items() if name.endswith(TABLE_KEY_SUFFIX)), None)


@dataclass(frozen=True)
class Start:
    """The content of pretrained.json: what a classifier has started with."""

    run: str
    layers: Sequence[str]  # descriptions of the recurrent layers that were copied
    coverage: Coverage


def open_source(experiment: Experiment) -> Source | None:
    """The run that `pretrained` names, None if it is null. Raises UserError if the classifier cannot start from it."""
    if experiment.pretrained is None:
        return None
    run_dir = user_path(experiment.pretrained, "pretrained")
    if not (run_dir / CONFIG_FILE).is_file():
        raise UserError(
            f"pretrained is {experiment.pretrained}, which is not a run directory: it has no {CONFIG_FILE}. Name the "
            "directory of a language model (python pretrain.py) or of a classifier."
        )
    check_format(run_dir)
    config = read_config(run_dir, "model", "embedding")
    state = read_weights(run_dir)
    weights = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    is_one_hot = str(config["embedding"].get("_target_")).endswith(f".{OneHot.__name__}")
    source = Source(run_dir, load_tokenizer(run_dir).tokens, weights, config["model"], is_one_hot)
    if problems := find_problems(experiment.config, source):
        raise UserError("\n".join(problems))
    return source


def find_problems(config: Settings, source: Source) -> list[str]:
    """Why a classifier with this config cannot start from a run."""
    model, other = config["model"], source.model
    if source.table is None:
        return [f"pretrained={source.run_dir} has no word vectors: name a run with a table, such as embedding=learned"]
    problems = []
    dimension = source.table.shape[1]
    if config["embedding"].get("dimension") != dimension:
        problems.append(
            f"embedding.dimension is {config['embedding'].get('dimension')}, and the vectors of "
            f"pretrained={source.run_dir} have {dimension} values: set embedding.dimension={dimension}"
        )
    problems += [
        f"model.{key} is {model[key]}, and that of pretrained={source.run_dir} is {other[key]}: set "
        f"model.{key}={other[key]}"
        for key in SAME
        if key in model and key in other and model[key] != other[key]
    ]
    directions = (model.get("directions"), other.get("directions"))
    if set(directions) == {"forward", "backward"}:
        problems.append(
            f"model.directions is {directions[0]}, and pretrained={source.run_dir} reads {directions[1]}: set "
            f"model.directions={directions[1]}"
        )
    return problems


def start_from(source: Source, network: Network, tokenized: TokenizedCorpus, corpus: Corpus) -> Start:
    """Copy vectors, by words, and recurrent layers into a network; words without a vector keep their initial one.

    Raises UserError if no word has one.
    """
    embedding = next(module for module in network.modules() if isinstance(module, TableEmbedding))
    assert source.table is not None
    tokens = tokenized.tokenizer.tokens
    vectors = align(tokens, source.tokens, source.table.numpy())
    known = vectors.known.copy()
    known[: len(SPECIAL_TOKENS)] = False
    if not known.any():
        raise UserError(
            f"None of the {len(tokens) - len(SPECIAL_TOKENS):,} words of {corpus.name!r} is in the vocabulary of "
            f"pretrained={source.run_dir}: was it trained with another tokenizer or language?"
        )
    rows = torch.from_numpy(vectors.known)
    with torch.no_grad():
        embedding.table.weight[rows] = torch.from_numpy(vectors.values)[rows]
    embedding.limit_norms()
    embedding.coverage = coverage(known, 0, tokenized, corpus)
    layers = network.copy_layers(source.weights, source.model)
    log.info(f"pretrained  {source.run_dir}")
    log.info(f"coverage    {embedding.coverage}")
    log.info(f"layers      {', '.join(layers) or 'none: only the word vectors are used'}")
    return Start(str(source.run_dir), layers, embedding.coverage)


def write_start(start: Start, run_dir: Path) -> None:
    write_atomically(run_dir / PRETRAINED_FILE, json.dumps(asdict(start), ensure_ascii=False, indent=1))


def read_coverage(run_dir: Path) -> Coverage:
    """The coverage of a run that has started from another, from its own directory. Raises UserError."""
    try:
        return read_json(run_dir / PRETRAINED_FILE, Start).coverage
    except FileNotFoundError as error:
        raise UserError(f"{run_dir / PRETRAINED_FILE} is missing: restore it, or start a new run.") from error
