"""A web page to type into: `python scripts/demo.py run=outputs/imdb/lstm/<time>`."""

import sys
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from newsreel.cli.app import quote_literals, run, user_errors


@hydra.main(version_base="1.3", config_path="../configs", config_name="demo")
def main(config: DictConfig) -> None:
    with user_errors():
        settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        from newsreel.inference.demo import serve

        serve(settings)


if __name__ == "__main__":
    sys.argv[1:] = quote_literals(sys.argv[1:], ("run", "host"))
    run(main)
