"""Look before you train: `python scripts/corpus.py data=imdb`, with the settings of a training."""

from dataclasses import dataclass
from typing import Annotated

import hydra
from annotated_types import Ge, Le
from omegaconf import DictConfig

from newsreel.cli.app import read_request, run, user_errors
from newsreel.core.paths import user_path


@dataclass(frozen=True, kw_only=True)
class Request:
    """The settings that configs/corpus.yaml adds to those of configs/train.yaml."""

    output: str | None
    near_jaccard: Annotated[float, Ge(0.6), Le(1)]
    num_documents: Annotated[int, Ge(1)]


@hydra.main(version_base="1.3", config_path="../configs", config_name="corpus")
def main(config: DictConfig) -> None:
    with user_errors():
        describe(config)


def describe(config: DictConfig) -> None:
    """Print what is in the corpus of the config, and write it as a page. Raises UserError."""
    from newsreel.config.schema import read_experiment
    from newsreel.core.storage import write_atomically
    from newsreel.reporting.corpus_page import as_html, as_text
    from newsreel.reporting.corpus_sections import Inspection, inspect

    request, settings = read_request(config, Request, "name the corpus with data=…")
    experiment = read_experiment(settings)
    corpus = experiment.reader.load(experiment.paths)
    tokenized = experiment.tokenizer.fit(corpus, experiment.paths.cache)
    inspection = Inspection(
        corpus.with_unlabeled(),
        tokenized,
        experiment.batches.max_tokens,
        experiment.tokenizer.produces_bags,
        request.near_jaccard,
        request.num_documents,
    )
    sections = inspect(inspection)
    default = f"{experiment.paths.output_dir}/corpus/{experiment.reader.file_name(corpus)}.html"
    page = user_path(request.output or default, "output")
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, as_html(inspection.title, sections))
    print(as_text(inspection.title, sections))
    print(f"\npage  {page}")


if __name__ == "__main__":
    run(main)
