"""Signals that stop a command: exit statuses, and `finally` blocks that run."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(SystemExit):
    """A signal has stopped the command. The exit status is 128 + its number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.is_logged = False  # whether the user has been told how to go on


def stop(number: int, _: Any) -> None:
    """A signal handler that raises Stopped."""
    raise Stopped(number)


@contextmanager
def stop_at_sigterm() -> Iterator[None]:
    """Context in which SIGTERM raises Stopped, so that `finally` blocks run; without effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
