"""Evaluate finished runs: `python evaluate.py run=outputs/imdb/lstm/<time>`."""

from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from newsreel.cli.app import run, user_errors
from newsreel.cli.early import check_documents
from newsreel.core.dist import limit_threads


@hydra.main(version_base="1.3", config_path="configs", config_name="evaluate")
def main(config: DictConfig) -> None:
    with user_errors():
        settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        limit_threads(settings)
        check_documents(settings, settings["split"])
        from newsreel.inference.evaluate import evaluate

        evaluate(settings, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    run(main)
