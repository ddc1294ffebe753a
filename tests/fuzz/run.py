"""Runs every target of targets.py for some seconds and prints the executions and failures of each.

python tests/fuzz/run.py --seconds 60 file_csv labels
"""

import argparse
import faulthandler
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import hypothesis
from hypothesis import HealthCheck

from fuzz.targets import FOLDER, TARGETS

HANG_SECONDS = 10.0  # of one execution; damage of a .bz2 file can unpack to 1.6 million empty lines, read in 5 s
EXAMPLES_OF_A_ROUND = 200  # hypothesis begins anew, with another seed, after as many
MAX_FAILURES = 3  # of a target, which ends it


class Hang(BaseException):
    """An execution takes too long. Not an Exception, so that no code takes it for an error of its own."""


class Over(BaseException):
    """The time of a target is over."""


@dataclass
class Result:
    """What has happened to a target."""

    num_executions: int = 0
    failures: list[str] = field(default_factory=list)
    num_seconds: float = 0.0


def fuzz(target: Callable[..., None], seconds: float) -> Result:
    """Run a target with different inputs until the time is over."""
    result = Result()
    began = time.monotonic()
    has_failed = False  # in this round

    def is_over() -> bool:
        return time.monotonic() - began > seconds

    inner = target.hypothesis.inner_test  # type: ignore[attr-defined]

    def counted(*args: Any, **kwargs: Any) -> None:
        nonlocal has_failed
        if is_over() and not has_failed:  # a failure is made smaller first
            raise Over
        result.num_executions += 1
        signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
        try:
            inner(*args, **kwargs)
        except Exception:
            has_failed = True
            raise
        except Hang:
            has_failed = True
            raise Hang(f"{args} {kwargs}"[:2_000]) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    settings = hypothesis.settings(
        max_examples=EXAMPLES_OF_A_ROUND,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    seed = time.time_ns()
    target.hypothesis.inner_test = lambda *args, **kwargs: None  # type: ignore[attr-defined]
    bounded = settings(target)
    bounded()  # the strategies prepare tables when they are first used
    began = time.monotonic()
    while not is_over() and len(result.failures) < MAX_FAILURES:
        seed += 1
        target.hypothesis.inner_test = counted  # type: ignore[attr-defined]
        has_failed = False
        try:
            hypothesis.seed(seed)(bounded)()
        except Over:
            pass
        except (Exception, Hang):
            if has_failed or not is_over():  # else hypothesis calls the end of time unreliable
                result.failures.append(traceback.format_exc())
        finally:
            target.hypothesis.inner_test = inner  # type: ignore[attr-defined]
    result.num_seconds = time.monotonic() - began
    return result


def on_alarm(number: int, frame: FrameType | None) -> None:
    raise Hang


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz every reader of files from outside.")
    parser.add_argument("--seconds", type=float, default=60, help="of each target")
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help="default: all")
    arguments = parser.parse_args()
    signal.signal(signal.SIGALRM, on_alarm)
    results = {}
    for name in arguments.targets or TARGETS:
        faulthandler.dump_traceback_later(2 * arguments.seconds + 300, exit=True)  # a hang within C
        results[name] = fuzz(TARGETS[name], arguments.seconds)
        for failure in results[name].failures:
            print(f"── {name}\n{failure}", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    print(f"{'target':<26} {'seconds':>8} {'executions':>11} {'failures':>9}")
    for name, result in results.items():
        print(f"{name:<26} {result.num_seconds:>8.0f} {result.num_executions:>11,} {len(result.failures):>9}")
    return 1 if any(result.failures for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
