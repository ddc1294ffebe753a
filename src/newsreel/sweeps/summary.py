"""Sweeps: failure records of jobs, and the summary with its exit status.

Imports lazily: every command creates a `SweepFailureCallback` before it does anything else.
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
from newsreel.core.errors import EXPECTED_ERRORS, USER_MISTAKE, TrialPruned, UserError, explain
from newsreel.core.storage import write_atomically
from newsreel.runs.run_dir import FAILED_FILE, METRICS_FILE, PRUNED_FILE, config_choices

log = logging.getLogger(__name__)

JOBS_FAILED = 1  # exit status
NO_RESUME = (
    "resume continues a single run, and -m and sweep=… start several. Leave out one of them; a search or a ladder that "
    "was stopped is continued by its own command."
)

_sweep_dir: Path | None = None  # of the sweep that this process runs


class SweepFailureCallback(Callback):
    """Writes the error of a failed job into its run directory and lets the sweep continue, with any launcher."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        global _sweep_dir
        if dist_env().world_size > 1:
            return  # resolving hydra.sweep.dir raises the error
        if any(override.startswith("resume=") for override in config.hydra.overrides.task):
            print(f"error: {NO_RESUME}", file=sys.stderr)  # Hydra turns an exception into a warning
            raise SystemExit(USER_MISTAKE)
        _sweep_dir = Path(config.hydra.sweep.dir).absolute()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if config.hydra.mode is not RunMode.MULTIRUN or job_return.status is not JobStatus.FAILED:
            return
        if (
            Path(config.hydra.runtime.output_dir) / METRICS_FILE
        ).exists():  # of another run: this job was refused the directory
            return
        write_failure(job_return._return_value, config)
        job_return.status = JobStatus.COMPLETED  # otherwise the sweeper would stop
        job_return.return_value = None


def write_failure(error: Exception, config: DictConfig) -> None:
    """Write failed.json or pruned.json into the run directory of the job with this config."""
    expected = isinstance(error, (*EXPECTED_ERRORS, TrialPruned))
    message = explain(error) if isinstance(error, EXPECTED_ERRORS) else str(error)
    message = "; ".join(line.strip() for line in message.splitlines() if line.strip()) or "no message"
    run_dir = Path(config.hydra.runtime.output_dir)
    content = {
        "error": type(error).__name__,
        "message": message,
        "overrides": OmegaConf.to_container(config.hydra.overrides.task),
        "choices": config_choices(config.hydra.runtime.choices),
        "traceback": [] if expected else traceback.format_exception(error),
    }
    run_dir.mkdir(parents=True, exist_ok=True)
    file = run_dir / (PRUNED_FILE if isinstance(error, TrialPruned) else FAILED_FILE)
    write_atomically(file, json.dumps(content, ensure_ascii=False, indent=1))
    if isinstance(error, TrialPruned):
        log.info(message)
    else:
        log.error(f"This job failed: {message if expected else f'{type(error).__name__}: {message}'} ({file})")


# The presets in configs/hydra/launcher share the names of the packages' structured configs, which Hydra deprecates.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


def summarize_sweep() -> int:
    """Write and print the summary of the sweep that this process ran; returns the exit status.

    The status is 1 if jobs have no results. It is 0 if there was no sweep, or one that ended before its first job.
    """
    if _sweep_dir is None or not _sweep_dir.is_dir():
        return 0
    from newsreel.reporting.comparison import Comparison
    from newsreel.reporting.summary_page import PAGE_FILE, write_summary_page
    from newsreel.runs.records import find_runs

    try:
        comparison = Comparison(find_runs([_sweep_dir]))
        if not comparison.runs:
            return 0
        title = f"Sweep {os.path.relpath(_sweep_dir)}"
        comparison.write(_sweep_dir, title)
        write_summary_page(comparison, _sweep_dir, title)
    except (UserError, OSError) as error:
        print(f"error: the summary cannot be written: {error}", file=sys.stderr)
        return JOBS_FAILED
    pages = [os.path.relpath(_sweep_dir / name) for name in ("summary.md", PAGE_FILE)]
    print("\n".join(["", comparison.text(), "", *pages]))
    missing = [run for run in comparison.runs if run.status in ("failed", "unfinished")]
    if missing:
        print(f"error: {len(missing)} of {len(comparison.runs)} jobs have no results", file=sys.stderr)
    return JOBS_FAILED if missing else 0
