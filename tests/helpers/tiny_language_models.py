"""Language models that are trained in a second, within the test's process."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from helpers.configs import compose_config, plain
from helpers.tiny_runs import SYNTHETIC
from newsreel.config.pretraining import Pretraining, read_pretraining
from newsreel.runs.run_dir import PRETRAIN, config_choices
from newsreel.training.pretrain import pretrain_run
from newsreel.training.resume import resume
from newsreel.training.spec import RunSpec

SMALL = [
    *("model.hidden_size=6", "embedding.dimension=8", "batches.batch_size=8", "batches.num_steps=20"),
    *("batches.held_out_fraction=0.1", "training.num_samples=50", "training.max_epochs=2"),
    *("trainer=cpu", "trainer.log_every_n_steps=1", "logger=none"),
]


def small(*overrides: str) -> list[str]:
    data = [] if any(override.startswith("data=") for override in overrides) else SYNTHETIC
    return [*data, *SMALL, *overrides]


def compose_small(tmp_path: Path, *overrides: str) -> Any:
    paths = [f"paths.cache_dir={tmp_path / 'cache'}", f"paths.output_dir={tmp_path / 'outputs'}"]
    return compose_config("pretrain", *paths, *small(*overrides))


def read_small(tmp_path: Path, *overrides: str) -> Pretraining:
    return read_pretraining(plain(compose_small(tmp_path, *overrides)))


def pretrain_small(
    tmp_path: Path, *overrides: str, folder: str = "lm", callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """metrics.json of a small language model."""
    config = compose_small(tmp_path, *overrides)
    spec = RunSpec(
        read_pretraining(plain(config)),
        tmp_path / folder,
        config_choices(config.hydra.runtime.choices),
        small(*overrides),
        time.perf_counter(),
        script=PRETRAIN,
    )
    return pretrain_run(spec, callbacks=callbacks)


def go_on_pretraining(folder: Path, *overrides: str) -> dict[str, Any]:
    """`python pretrain.py resume=<folder> …`, within this process."""
    chosen = [f"resume={folder}", *overrides]
    config = plain(compose_small(folder.parent, *chosen))
    return resume(folder, config, chosen, time.perf_counter(), PRETRAIN)
