"""Perplexity of a Kneser–Ney n-gram model on the text of a language model: `python scripts/kneser_ney.py run=…`."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import hydra
from annotated_types import Ge, Le
from omegaconf import DictConfig, OmegaConf

from newsreel.cli.app import run, user_errors
from newsreel.config.sections import check_section
from newsreel.core.errors import UserError
from newsreel.core.paths import user_path, working_directory


@dataclass(frozen=True, kw_only=True)
class Request:
    """The settings of configs/kneser_ney.yaml outside its sections."""

    run: str
    order: Annotated[int, Ge(1), Le(8)]


@hydra.main(version_base="1.3", config_path="../configs", config_name="kneser_ney")
def main(config: DictConfig) -> None:
    with user_errors():
        settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        measure(settings)


def measure(settings: dict[str, Any]) -> float:
    """Print the perplexity on the held-out text of a language model, and return it. Raises UserError."""
    from newsreel.config.pretraining import read_pretraining
    from newsreel.evaluation.kneser_ney import KneserNey
    from newsreel.inference.eval_data import PathOverrides
    from newsreel.runs.run_dir import PRETRAIN, check_format, read_config, read_metrics, read_script
    from newsreel.runs.trained_run import read_command
    from newsreel.text.loading import load_tokenizer
    from newsreel.training.language_text import load_text

    paths = settings.pop("paths")
    if problems := [*check_section("", settings, Request), *check_section("paths", paths, PathOverrides)]:
        raise UserError("\n".join(problems))
    request = Request(**settings)
    run_dir = user_path(request.run, "run")
    if not run_dir.is_dir() or read_script(run_dir) != PRETRAIN:
        raise UserError(f"run is {request.run}, which is not a language model: name a run directory of pretrain.py.")
    check_format(run_dir)
    pretraining = read_pretraining(read_config(run_dir))
    given = {
        name: str(Path.cwd() / user_path(value, f"paths.{name}"))
        for name, value in paths.items()
        if value is not None and name != "output_dir"
    }
    pretraining = replace(pretraining, paths=replace(pretraining.paths, **given))
    started = time.perf_counter()
    with working_directory(read_command(run_dir).start):
        text = load_text(pretraining)
    if list(text.tokenized.tokenizer.tokens) != list(load_tokenizer(run_dir).tokens):
        raise UserError(f"The documents have changed since {run_dir} was trained: the vocabulary is another one.")
    training, held_out = text.joined(text.training), text.joined(text.held_out)
    num_words = len(text.tokenized.tokenizer.tokens)
    loaded = time.perf_counter()
    model = KneserNey(training, num_words, request.order)
    counted = time.perf_counter()
    perplexity = model.perplexity(held_out)
    print(f"text        {len(training) - 1:,} tokens, and {len(held_out) - 1:,} held out; {num_words:,} words")
    for k, level in enumerate(model.levels, start=1):
        discounts = "  ".join(f"{each:.3f}" for each in level.discounts)
        print(f"{k}-grams     {len(level.keys):,}, discounts {discounts}")
    print(f"perplexity  {perplexity:,.2f} of interpolated modified Kneser–Ney, order {request.order}")
    results = read_metrics(run_dir)
    for name, value in results.items():
        if "perplexity" in name:
            print(f"            {value:,.2f} of the language model ({name})")
    print(
        f"time        {loaded - started:.1f} s loading, {counted - loaded:.1f} s counting, "
        f"{time.perf_counter() - counted:.1f} s measuring"
    )
    return perplexity


if __name__ == "__main__":
    run(main)
