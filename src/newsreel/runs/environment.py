"""Versions, hardware and resource usage of a run."""

import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from newsreel.config.pretraining import Pretraining
from newsreel.config.schema import Experiment
from newsreel.corpora.corpus import Corpus

PACKAGES = ("newsreel", "torch", "lightning", "torchmetrics", "datasets", "polars", "tokenizers", "numpy")


def describe_environment(
    experiment: Experiment | Pretraining, corpus: Corpus, device: str, num_processes: int = 1
) -> dict[str, Any]:
    """Versions, machine, seeds and data of a run. num_processes: world size of the training."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": processor_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "processes": num_processes,
        "precision": experiment.trainer.precision,
        "git_commit": git_commit(),
        "seed": experiment.seed,
        "split_seed": experiment.reader.split_seed,
        "corpus_source": corpus.source,
        "corpus_fingerprint": corpus.fingerprint,
    }


def processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The git commit of this code, with `+` if tracked files are modified; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def default_threads() -> int:
    """torch's default number of threads, cached before any run sets it: the runs of a sweep share a process."""
    return torch.get_num_threads()


def reset_peak_rss() -> None:
    """Reset the peak memory of this process (Linux only)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_mb() -> float:
    """Peak resident memory of this process in MB (10⁶ bytes), since `reset_peak_rss` or else since its start."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
