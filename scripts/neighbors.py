"""Explore word vectors: `python scripts/neighbors.py run=outputs/… word=awful`, or `… embedding=glove word=awful`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import hydra
from annotated_types import Ge
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from newsreel.cli.app import read_request, run, user_errors
from newsreel.core.errors import UserError
from newsreel.core.paths import user_path


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The settings that configs/neighbors.yaml adds to those of configs/train.yaml."""

    run: str | None
    word: str | None
    analogy: str | None
    words: Sequence[str]
    num_neighbors: Annotated[int, Ge(1)]
    projector_words: Annotated[int, Ge(0)]


@hydra.main(version_base="1.3", config_path="../configs", config_name="neighbors")
def main(config: DictConfig) -> None:
    with user_errors():
        answer(config)


def answer(config: DictConfig) -> None:
    """Print the neighbours and similarities that the config asks for. Raises UserError."""
    from newsreel.embeddings.neighbors import WordVectors
    from newsreel.runs.word_table import read_table

    questions, settings = read_request(config, Questions, "use run=<run directory> to show the words of a finished run")
    if questions.run is not None:
        words, rows = read_table(user_path(questions.run, "run"))
    else:
        words, rows = table_of_config(settings)
    vectors = WordVectors.of(words, rows)
    if questions.word is not None:
        nearest = vectors.nearest(vectors.direction(questions.word), questions.num_neighbors, but=[questions.word])
        print_neighbors(f"nearest to {questions.word}", nearest)
    if questions.analogy is not None:
        query, terms = vectors.combine(questions.analogy)
        print_neighbors(questions.analogy, vectors.nearest(query, questions.num_neighbors, but=terms))
    if questions.words:
        print_similarities(questions.words, vectors.similarities(questions.words).tolist())
    if questions.projector_words:
        show_in_projector(words, rows, questions.projector_words)


def table_of_config(config: dict[str, Any]) -> tuple[Sequence[str], Any]:
    """The words of a corpus and the initial (V, E) embedding table of a training on it."""
    from lightning.pytorch import seed_everything

    from newsreel.config.schema import read_experiment

    experiment = read_experiment(config)
    seed_everything(experiment.seed, workers=True, verbose=False)
    experiment.embedding.check(experiment.paths)
    corpus = experiment.reader.load(experiment.paths)
    tokenized = experiment.tokenizer.fit(corpus, experiment.paths.cache)
    rows = experiment.embedding.build(tokenized, corpus, experiment.paths).rows()
    if rows is None:
        raise UserError(
            "embedding=one_hot has no word vectors: the distance of every two words is the same. Choose another one."
        )
    return tokenized.tokenizer.tokens, rows


def print_neighbors(title: str, neighbors: list[tuple[str, float]]) -> None:
    print(f"\n{title}")
    for word, cosine in neighbors:
        print(f"  {cosine:7.4f}  {word}")


def print_similarities(words: Sequence[str], cosines: list[list[float]]) -> None:
    width = max(7, *map(len, words))
    print("\nsimilarity\n" + " " * (width + 2) + "  ".join(f"{word:>{width}}" for word in words))
    for word, row in zip(words, cosines, strict=True):
        print(f"{word:>{width}}  " + "  ".join(f"{cosine:{width}.4f}" for cosine in row))


def show_in_projector(words: Sequence[str], rows: Any, num_words: int) -> None:
    """Write the vectors of the most frequent words for TensorBoard's projector to this command's directory."""
    from torch.utils.tensorboard import SummaryWriter

    from newsreel.reporting.projector import add_words

    folder = HydraConfig.get().runtime.output_dir
    with SummaryWriter(folder) as writer:
        add_words(writer, "words", words, rows, num_words)
    print(f"\nprojector: tensorboard --logdir {folder}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
