"""LinearSVC beside the set-ups for Reuters."""

from pathlib import Path

import pytest

from lecture import PROJECT, settings
from newsreel.config.schema import read_experiment
from reuters import SETUPS, linear_svc


def test_the_machine_learns_easy_documents_of_one_and_of_several_labels(tmp_path: Path) -> None:
    for several in ("true", "false"):
        made = [
            "data=synthetic",
            "data.num_documents=1000",
            "data.vocabulary_size=300",
            "data.num_labels=4",
            f"data.multilabel={several}",
        ]
        overrides = [*made, "data.difficulty=0", f"paths.cache_dir={tmp_path}"]
        figures = linear_svc(settings("reuters_bow", overrides))
        assert figures["f1_micro"] > 0.8, figures
        assert ("accuracy" in figures) == (several == "false")


@pytest.mark.parametrize("name", [name for setups in SETUPS.values() for name in setups])
def test_every_set_up_is_a_config(name: str) -> None:
    config = settings(name, [])
    assert (PROJECT / "configs" / "experiment" / f"{name}.yaml").exists()
    read_experiment(config)
