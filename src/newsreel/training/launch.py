"""Trainings in several processes: who is who, how they are started, and how they end.

Processes are those that this command starts on its own machine (`launch`), or those in which torchrun or srun has
started the command itself, on one machine or several. Either way the environment of each says which one it is.

Imports little: libraries with threads of their own may have to wait.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from newsreel.core.dist import Place, hush
from newsreel.core.errors import UserError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess


GRACE_SECONDS = 2.0  # in which a process that failed may be followed by the one that was the cause
HERE = "127.0.0.1"


class LostProcessError(UserError):
    """A process that was started here is gone, without an error of its own."""


class ProcessError(Exception):
    """What a process that was started here died of, with its traceback as text."""


def launch(work: Callable[..., None], num_processes: int, *arguments: Any) -> None:
    """Call a function in new processes of this machine, which can be `connected`; returns when all have returned.

    If one fails, all are ended, and its error is raised: a UserError or OSError as it was, else ProcessError. They
    are ended too when this process is interrupted, or dies. SIGTERM raises SystemExit. The function and its arguments
    have to be what pickle can take.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    server = TCPStore(HERE, 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    running: dict[connection.Connection, BaseProcess] = {}
    with _exit_at_sigterm():
        try:
            for number in range(num_processes):
                receiver, sender = context.Pipe(duplex=False)
                here = Place(number, num_processes, number, num_processes)
                process: BaseProcess = context.Process(target=_begin, args=(here, server.port, sender, work, arguments))
                process.start()
                sender.close()  # so that the receiver notices when the process ends
                running[receiver] = process
            _wait(running)
        finally:
            for started in running.values():
                started.kill()  # what they write is whole or absent
            for started in running.values():
                started.join()


def _wait(running: "dict[connection.Connection, BaseProcess]") -> None:
    """Return when all have ended well, or raise what one has died of."""
    waiting = dict(running)
    failures: list[Exception] = []
    give_up = None
    while waiting and (give_up is None or time.monotonic() < give_up):
        for receiver in connection.wait(list(waiting), timeout=None if give_up is None else GRACE_SECONDS):
            assert isinstance(receiver, connection.Connection)
            error = _outcome(receiver, waiting.pop(receiver), len(running))
            if error is not None:
                failures.append(error)
                give_up = give_up or time.monotonic() + GRACE_SECONDS
    if failures:  # that another is gone is what the rest of them die of
        raise min(failures, key=lambda error: isinstance(error, ProcessError))


def _outcome(receiver: connection.Connection, process: "BaseProcess", num_processes: int) -> Exception | None:
    try:
        error: Exception = receiver.recv()
    except EOFError:
        process.join()
        status = process.exitcode or 0
        if not status:
            return None
        cause = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return LostProcessError(
            f"One of the {num_processes} processes of the training {cause}: too little memory is a common reason. "
            "A new run needs less of it with fewer trainer.devices or a smaller batches.batch_size."
        )
    return error


def _begin(here: Place, port: int, sender: connection.Connection, work: Callable[..., None], arguments: Any) -> None:
    """What a new process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the one that started them ends them
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {
        "RANK": str(here.number),
        "WORLD_SIZE": str(here.size),
        "LOCAL_RANK": str(here.local_number),
        "LOCAL_WORLD_SIZE": str(here.local_size),
        "MASTER_ADDR": HERE,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    if not here.first:
        hush()
    try:
        work(*arguments)
    except (UserError, OSError) as error:
        sender.send(error)
        sys.exit(1)
    except Exception:
        sender.send(ProcessError(f"process {here.number} of {here.size} failed:\n{traceback.format_exc()}"))
        sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _exit_at_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process as an exception does, by way of every `finally`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
