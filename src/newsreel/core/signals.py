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
        self.number = number
        self.is_logged = False  # whether the user has been told how to go on

    @classmethod
    def of(cls, error: "KeyboardInterrupt | Stopped") -> "Stopped":
        return error if isinstance(error, Stopped) else cls(signal.SIGINT)


_received: list[int] = []  # signals within the context of `stop_at_sigterm`


def stop(number: int, _: Any) -> None:
    """A signal handler that raises Stopped."""
    _received.append(number)
    raise Stopped(number)


def interrupt(number: int, _: Any) -> None:
    """A signal handler that raises KeyboardInterrupt, as Python's own does."""
    _received.append(number)
    raise KeyboardInterrupt


@contextmanager
def stopped_despite_errors() -> Iterator[None]:
    """Context that raises Stopped in place of an error that a signal has caused.

    Native code, such as pydantic's, turns exceptions of signal handlers into errors of its own.
    """
    try:
        yield
    except Exception as error:
        if _received:
            raise Stopped(_received[-1]) from error
        raise


def set_handler(number: int, handler: Callable[..., Any] | int | None) -> None:
    """`signal.signal`; without effect outside the main thread, where Python does not allow it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)


@contextmanager
def stop_at_sigterm() -> Iterator[None]:
    """Context in which SIGTERM raises Stopped, so that `finally` blocks run; without effect outside the main thread."""
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    set_handler(signal.SIGTERM, stop)
    if previous[signal.SIGINT] is signal.default_int_handler:  # and not ignored, as by jobs in the background
        set_handler(signal.SIGINT, interrupt)
    try:
        with stopped_despite_errors():
            yield
    finally:
        _received.clear()
        for number, handler in previous.items():
            set_handler(number, handler)
