"""Signals that stop a command: exit statuses, and `finally` blocks that run."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(SystemExit):
    """A signal has stopped the command. The exit status is 128 + its number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.is_logged = False  # whether the user has been told how to go on

    @classmethod
    def of(cls, error: "KeyboardInterrupt | Stopped") -> "Stopped":
        return error if isinstance(error, Stopped) else cls(signal.SIGINT)


def stop(number: int, _: Any) -> None:
    """A signal handler that raises Stopped."""
    raise Stopped(number)


def set_handler(number: int, handler: Callable[..., Any] | int | None) -> None:
    """`signal.signal`; without effect outside the main thread, where Python does not allow it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)


@contextmanager
def stop_at_sigterm() -> Iterator[None]:
    """Context in which SIGTERM raises Stopped, so that `finally` blocks run; without effect outside the main thread."""
    previous = signal.getsignal(signal.SIGTERM)
    set_handler(signal.SIGTERM, stop)
    try:
        yield
    finally:
        set_handler(signal.SIGTERM, previous)
