"""Train, evaluate and predict in one process for an hour: `make soak` (SECONDS=600 for less).

Memory, open files and threads are measured after every round. Exit status 1 if one is higher in the last quarter
of the rounds than in the second one: memory by more than MAX_GROWTH, the others at all.
"""

import argparse
import gc
import logging
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import newsreel
from helpers.tiny_runs import SMALL_LSTM, evaluated, train_tiny

MODELS = (["model=bow"], SMALL_LSTM, ["model=kim_cnn", "model.num_filters=4", "embedding.dimension=8"])
MAX_GROWTH = 0.03  # of the memory
COLUMNS = ("memory, MB", "open files", "threads")


def usage() -> tuple[float, int, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir("/proc/self/fd")), threading.active_count()


def work(folder: Path, number: int) -> None:
    """Train, evaluate and predict once; the cache is shared by all rounds of a model."""
    model = MODELS[number % len(MODELS)]
    train_tiny(folder, *model, f"seed={number}", "trainer.threads=1", "logger=tensorboard", folder=f"run{number}")
    run_dir = folder / f"run{number}"
    evaluated(folder / f"evaluation{number}", f"run={run_dir}")
    newsreel.load(run_dir)(["baba bafa", "", "x"] * 50)


def main() -> int:
    parser = argparse.ArgumentParser(description="Train, evaluate and predict again and again in one process.")
    parser.add_argument("--seconds", type=float, default=3600)
    seconds = parser.parse_args().seconds
    logging.disable(logging.WARNING)
    started = time.monotonic()
    rows: list[tuple[float, int, int]] = []
    while time.monotonic() - started < seconds:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(len(MODELS)):
                work(Path(folder), number)
        rows.append(usage())
        if len(rows) % 20 == 1:
            print(f"round {len(rows)}, {time.monotonic() - started:.0f} s: {describe(rows[-1])}", flush=True)
    if len(rows) < 4:
        print(f"only {len(rows)} rounds: raise --seconds")
        return 1
    quarter = len(rows) // 4
    early, late = ([median(column) for column in zip(*part, strict=True)]
                   for part in (rows[quarter : 2 * quarter], rows[-quarter:]))  # fmt: skip
    print(f"{len(rows)} rounds of trainings, evaluations and predictions in {time.monotonic() - started:.0f} s")
    print(f"second quarter: {describe(early)}\nlast quarter:   {describe(late)}")
    grown = late[0] > (1 + MAX_GROWTH) * early[0] or late[1] > early[1] or late[2] > early[2]
    print("GROWN" if grown else "flat")
    return 1 if grown else 0


def describe(row: object) -> str:
    return ", ".join(f"{name} {value:,.0f}" for name, value in zip(COLUMNS, row, strict=True))  # type: ignore[call-overload]


if __name__ == "__main__":
    sys.exit(main())
