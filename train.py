"""Train, validate and test a classifier: `python train.py model=lstm data=imdb`."""

import time

STARTED = time.perf_counter()

import hydra  # noqa: E402  (after the clock is started)
from omegaconf import DictConfig  # noqa: E402

from newsreel.cli.app import run, user_errors  # noqa: E402


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(config: DictConfig) -> None:
    from newsreel.cli.train import train

    with user_errors():
        train(config, STARTED)


if __name__ == "__main__":
    run(main)
