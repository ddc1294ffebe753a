"""Export a finished run to ONNX: `python scripts/export.py run=outputs/imdb/lstm/<time>`."""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from newsreel.cli.app import run, user_errors


@hydra.main(version_base="1.3", config_path="../configs", config_name="export")
def main(config: DictConfig) -> None:
    with user_errors():
        settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        from newsreel.inference.export.onnx import export

        export(settings)


if __name__ == "__main__":
    run(main)
