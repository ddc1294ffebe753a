"""Train a language model that classifiers can start from: `python pretrain.py model=lstm data=imdb`."""

import time

STARTED = time.perf_counter()

import hydra  # noqa: E402  (after the clock is started)
from omegaconf import DictConfig  # noqa: E402

from newsreel.cli.app import run, user_errors  # noqa: E402


@hydra.main(version_base="1.3", config_path="configs", config_name="pretrain")
def main(config: DictConfig) -> None:
    from newsreel.cli.pretrain import pretrain

    with user_errors():
        pretrain(config, STARTED)


if __name__ == "__main__":
    run(main)
