"""Classify documents with a finished run: `echo "a fine film" | python predict.py run=outputs/…`."""

import signal
import sys

import hydra
from omegaconf import DictConfig

from newsreel.cli.app import quote_literals, run, user_errors

TEXTS = ("run", "text", "input", "column", "delimiter", "output", "explain_label", "html")


@hydra.main(version_base="1.3", config_path="configs", config_name="predict")
def main(config: DictConfig) -> None:
    from newsreel.inference.predict import predict

    with user_errors():
        predict(config)


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # exit silently when a pipe is closed, as in `… | head`
    sys.argv[1:] = quote_literals(sys.argv[1:], TEXTS)
    run(main)
