"""`scripts/kneser_ney.py`, as a user calls it."""

import re
from pathlib import Path

import numpy as np

from helpers.project import Command
from helpers.tiny_language_models import pretrain_small, read_small
from helpers.tiny_runs import MINIBATCH_BOW, train_tiny
from newsreel.evaluation.kneser_ney import KneserNey
from newsreel.training.language_text import load_text


def test_the_perplexity_is_that_on_the_held_out_documents_of_the_run(command_here: Command, tmp_path: Path) -> None:
    results = pretrain_small(tmp_path, "training.max_epochs=1")
    done = command_here("scripts/kneser_ney.py", "run=lm", "order=3")
    assert done.returncode == 0, done.stderr
    text = load_text(read_small(tmp_path))
    training, held_out = text.joined(text.training), text.joined(text.held_out)
    assert len(held_out) - 1 == results["tokens/held_out"]
    expected = KneserNey(training, results["model/vocabulary"], 3).perplexity(held_out)
    shown = re.search(r"perplexity  ([\d.,]+) of interpolated modified Kneser–Ney, order 3", done.stdout)
    assert shown is not None
    assert np.isclose(float(shown[1].replace(",", "")), expected, atol=0.01)
    assert "of the language model (val/perplexity)" in done.stdout

    train_tiny(tmp_path, *MINIBATCH_BOW, "training.max_epochs=1")
    refused = command_here("scripts/kneser_ney.py", "run=run")
    assert refused.returncode == 2
    assert "run is run, which is not a language model" in refused.stderr
