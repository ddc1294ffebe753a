"""LinearSVC beside the set-ups for Reuters."""

from pathlib import Path

import pytest

from helpers.configs import composed
from newsreel.config.schema import read_experiment
from reuters import SETUPS, linear_svc


@pytest.mark.parametrize("several", ["true", "false"])
def test_the_machine_learns_easy_documents_of_one_and_of_several_labels(tmp_path: Path, several: str) -> None:
    sizes = ["data.num_documents=1000", "data.vocabulary_size=300", "data.num_labels=4", "data.difficulty=0"]
    choices = ["experiment=reuters_bow", "data=synthetic", f"data.multilabel={several}"]
    figures = linear_svc(composed(*choices, *sizes, f"paths.cache_dir={tmp_path}"))
    assert figures["f1_micro"] > 0.8
    assert ("accuracy" in figures) == (several == "false")


@pytest.mark.parametrize("name", [name for setups in SETUPS.values() for name in setups])
def test_every_set_up_is_a_config(name: str) -> None:
    read_experiment(composed(f"experiment={name}"))
