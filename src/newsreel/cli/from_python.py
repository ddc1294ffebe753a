"""`newsreel.train`: what `python train.py` does, inside a program that goes on after it."""

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from newsreel.cli.app import quote_literals, remove_refused_run
from newsreel.cli.train import train
from newsreel.core.dist import dist_env
from newsreel.core.errors import EXPECTED_ERRORS, UserError, explain
from newsreel.core.paths import user_path
from newsreel.core.process_state import restored_process_state

CONFIGS = Path(__file__).parents[3] / "configs"  # of the checkout
LOG_FILE = "run.log"

_one_at_a_time = Lock()  # trainings share the random generators of the process


def train_in_process(overrides: Sequence[str], run_dir: str | Path | None) -> Path:
    """Train and test a new run, or resume one, with the overrides of `python train.py`; returns its run directory.

    run_dir: a new directory; None: `<paths.output_dir>/<data>/<model>/<time>`. Raises UserError, and KeyboardInterrupt
    when interrupted.
    """
    started = time.perf_counter()
    check_call(overrides, run_dir)
    if run_dir is not None:
        path = user_path(run_dir, "run_dir")
        overrides = [*overrides, *quote_literals([f"hydra.run.dir={path}"], ["hydra.run.dir"])]
    try:
        with _one_at_a_time, composed(overrides) as config, restored_process_state():
            output_dir = Path(HydraConfig.get().runtime.output_dir)
            output_dir.mkdir(parents=True, exist_ok=True)
            try:
                with job_logging(output_dir):
                    train(config, started)
            except EXPECTED_ERRORS:
                remove_refused_run(HydraConfig.get())
                raise
            return output_dir
    except UserError:
        raise
    except EXPECTED_ERRORS as error:
        raise UserError(explain(error, overrides)) from error


def check_call(overrides: Sequence[str], run_dir: str | Path | None) -> None:
    """Raise UserError for what only the command can do, and for arguments that are no overrides."""
    for override in overrides:
        if not isinstance(override, str):
            raise UserError(f'{override!r} is not an override: write each setting as a string, such as "model=lstm".')
        if override.startswith("-"):
            raise UserError(
                f"{override} is an option of the command: newsreel.train takes only key=value. For a sweep, use "
                "python train.py -m …, or call newsreel.train once for each run."
            )
        if run_dir is not None and override.startswith(("hydra.run.dir=", "resume=")):
            raise UserError(
                f"{override} names the run directory, and so does run_dir={run_dir}: leave one of them out."
            )
    if dist_env().world_size > 1:
        raise UserError(
            "newsreel.train cannot run under torchrun or srun, which started this program in several processes: use "
            'python train.py, or newsreel.train(…, "trainer=ddp") in one process, which starts the others.'
        )
    if not (CONFIGS / "train.yaml").is_file():
        raise UserError(
            f"newsreel.train needs the project's directory configs, which is not at {CONFIGS}: install newsreel from "
            "its checkout with `pip install --editable .`, as `make setup` does. newsreel.load needs no configs."
        )


@contextmanager
def composed(overrides: Sequence[str]) -> Iterator[DictConfig]:
    """Context with the config of these overrides and, as in the command, with HydraConfig.

    An application of Hydra that calls this has its own config back afterwards.
    """
    hydra, before = GlobalHydra.instance(), HydraConfig.instance().cfg
    hydra_before, hydra.hydra = hydra.hydra, None
    try:
        with initialize_config_dir(str(CONFIGS), job_name="train", version_base="1.3"):
            config = compose("train", list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)  # which hydra.run.dir refers to
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.mode = RunMode.RUN
            config.hydra.runtime.output_dir = os.path.abspath(config.hydra.run.dir)
        HydraConfig.instance().set_config(config)
        yield OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    finally:
        HydraConfig.instance().cfg = before
        GlobalHydra.instance().hydra = hydra_before


@contextmanager
def job_logging(run_dir: Path) -> Iterator[None]:
    """Context in which newsreel logs to run.log of a run directory, and to standard output.

    A program that logs newsreel's messages itself, since it has handlers and the level INFO, gets them instead of
    standard output.
    """
    formatters = HydraConfig.get().job_logging["formatters"]
    logger = logging.getLogger("newsreel")
    before = list(logger.handlers), logger.level, logger.propagate
    has_handlers = logger.hasHandlers() and logger.isEnabledFor(logging.INFO)
    handlers = (
        [] if has_handlers else [with_format(logging.StreamHandler(sys.stdout), formatters["terminal"]["format"])]
    )
    file = with_format(
        logging.FileHandler(run_dir / LOG_FILE, encoding="utf-8", delay=True), formatters["file"]["format"]
    )
    try:
        logger.setLevel(logging.INFO)
        logger.propagate = logger.propagate and has_handlers
        for handler in (*handlers, file):
            logger.addHandler(handler)
        yield
    finally:
        logger.handlers[:], level, logger.propagate = before
        logger.setLevel(level)
        file.close()


def with_format(handler: logging.Handler, line: str) -> logging.Handler:
    handler.setFormatter(logging.Formatter(line))
    return handler
