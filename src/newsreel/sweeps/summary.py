"""Sweeps: what is kept of a job that fails, and how the command ends.

Imports little: every command makes a `SweepFailureCallback` before it does anything else.
"""

import json
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from newsreel.core.dist import dist_env
from newsreel.core.errors import EXPECTED_ERRORS, TrialPruned, UserError, explain
from newsreel.core.storage import write_atomically
from newsreel.runs.run_dir import FAILED_FILE, METRICS_FILE, PRUNED_FILE, config_choices

log = logging.getLogger(__name__)

SOME_FAILED = 1  # exit status

_folder: Path | None = None  # of the sweep that this process runs


class SweepFailureCallback(Callback):
    """Keeps what a job died of in a file of its folder, so that the jobs after it go on, whoever launches them."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        global _folder
        if dist_env().world_size > 1:
            return  # the name of the folder says why there will be no sweep
        _folder = Path(config.hydra.sweep.dir).absolute()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if config.hydra.mode is not RunMode.MULTIRUN or job_return.status is not JobStatus.FAILED:
            return
        if (Path(config.hydra.runtime.output_dir) / METRICS_FILE).exists():  # not this job's: it was refused the folder
            return
        write_failure(job_return._return_value, config)
        job_return.status = JobStatus.COMPLETED  # else the launcher's caller would end the sweep
        job_return.return_value = None


def write_failure(error: Exception, config: DictConfig) -> None:
    """Write failed.json, or pruned.json, into the folder of the job with this config."""
    expected = isinstance(error, (*EXPECTED_ERRORS, TrialPruned))
    message = explain(error) if isinstance(error, EXPECTED_ERRORS) else str(error)
    message = "; ".join(line.strip() for line in message.splitlines() if line.strip()) or "no message"
    folder = Path(config.hydra.runtime.output_dir)
    content = {
        "error": type(error).__name__,
        "message": message,
        "overrides": OmegaConf.to_container(config.hydra.overrides.task),
        "choices": config_choices(config.hydra.runtime.choices),
        "traceback": [] if expected else traceback.format_exception(error),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / (PRUNED_FILE if isinstance(error, TrialPruned) else FAILED_FILE)
    write_atomically(file, json.dumps(content, ensure_ascii=False, indent=1))
    if isinstance(error, TrialPruned):
        log.info(message)
    else:
        log.error(f"This job failed: {message if expected else f'{type(error).__name__}: {message}'} ({file})")


# The presets in configs/hydra/launcher have the names of the packages' own configs, which Hydra says is to end.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


def summarize_sweep() -> int:
    """Summarise the sweep that this process has run, from its files; the exit status that it calls for.

    0 where there was no sweep, or one that was refused before its first job.
    """
    if _folder is None or not _folder.is_dir():
        return 0
    from newsreel.reporting.comparison import Comparison
    from newsreel.runs.records import find_runs

    try:
        comparison = Comparison(find_runs([_folder]))
        if not comparison.runs:
            return 0
        comparison.write(_folder, f"Sweep {os.path.relpath(_folder)}")
    except (UserError, OSError) as error:
        print(f"error: there is no summary: {error}", file=sys.stderr)
        return SOME_FAILED
    print(f"\n{comparison.text()}\n\n{os.path.relpath(_folder / 'summary.md')}")
    lost = [run for run in comparison.runs if run.status in ("failed", "unfinished")]
    if lost:
        print(f"error: {len(lost)} of {len(comparison.runs)} jobs have no results", file=sys.stderr)
    return SOME_FAILED if lost else 0
