"""A run in this process or in several: how processes are started, and how they end.

Processes are those that this command starts on its own machine (`spawn`), or those in which torchrun or srun has
started the command itself, on one machine or several. Either way the environment of each says which one it is.

This is where a process begins, so it imports lazily: libraries with threads of their own wait for `limit_threads`.
"""

import logging.config
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from newsreel.core.dist import DistEnv, dist_env, limit_threads, process_group, silence_nonzero_ranks
from newsreel.core.errors import UserError
from newsreel.core.storage import lock_dir
from newsreel.runs.run_dir import METRICS_FILE, read_json
from newsreel.training.interrupts import exit_stopped, resume_command

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from lightning.pytorch import Callback

    from newsreel.training.checkpoints import ResumeState
    from newsreel.training.spec import RunSpec


GRACE_SECONDS = 2.0  # in which a process that failed may be followed by the one that was the cause
HERE = "127.0.0.1"


class LostProcessError(UserError):
    """A process that was started here is gone, without an error of its own."""


class ProcessError(Exception):
    """What a process that was started here died of, with its traceback as text."""


def lock_on_rank_zero(run_dir: Path) -> AbstractContextManager[None]:
    """`lock_dir`, for all processes that train together."""
    return lock_dir(run_dir) if dist_env().is_rank_zero else nullcontext()


def run_or_spawn(
    spec: "RunSpec", resume: "ResumeState | None" = None, callbacks: "Sequence[Callback]" = ()
) -> dict[str, Any]:
    """`train_run` in this process, or in as many as the config asks for, which take no callbacks. Raises UserError."""
    from newsreel.training.run import train_run

    num_processes = spec.experiment.trainer.num_processes
    if num_processes == 1 or dist_env().world_size > 1:
        with process_group(dist_env(), spec.experiment.trainer.on_gpus):
            return train_run(spec, resume, callbacks)
    job_logging = None
    if HydraConfig.initialized():
        job_logging = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    plain = {field.name: getattr(spec, field.name) for field in fields(spec) if field.name != "experiment"}
    try:
        spawn(_worker, num_processes, spec.experiment.config, plain, resume is not None, job_logging)
    except LostProcessError as error:
        raise UserError(f"{error}\nTo go on where it was:\n  {resume_command(spec.run_dir)}") from error
    except KeyboardInterrupt:
        exit_stopped(spec.run_dir, signal.SIGINT)
    except SystemExit:
        exit_stopped(spec.run_dir, signal.SIGTERM)
    return read_json(spec.run_dir / METRICS_FILE)


def _worker(config: dict[str, Any], spec: dict[str, Any], is_resumed: bool, job_logging: dict[str, Any] | None) -> None:
    """What each spawned process does. spec: the fields of RunSpec but the experiment. job_logging: of rank 0."""
    if dist_env().is_rank_zero and job_logging is not None:
        logging.config.dictConfig(job_logging)
    limit_threads(config)

    from newsreel.config.schema import read_experiment
    from newsreel.training.checkpoints import read_resume_state
    from newsreel.training.spec import RunSpec

    resume = read_resume_state(spec["run_dir"]) if is_resumed else None
    run_or_spawn(RunSpec(read_experiment(config), **spec), resume)


def spawn(work: Callable[..., None], num_processes: int, *arguments: Any) -> None:
    """Call a function in new processes of this machine, which can be `process_group`; returns when all have returned.

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
                env = DistEnv(number, num_processes, number, num_processes)
                process: BaseProcess = context.Process(target=_begin, args=(env, server.port, sender, work, arguments))
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


def _begin(env: DistEnv, port: int, sender: connection.Connection, work: Callable[..., None], arguments: Any) -> None:
    """What a new process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the one that started them ends them
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {
        "RANK": str(env.rank),
        "WORLD_SIZE": str(env.world_size),
        "LOCAL_RANK": str(env.local_rank),
        "LOCAL_WORLD_SIZE": str(env.local_world_size),
        "MASTER_ADDR": HERE,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    if not env.is_rank_zero:
        silence_nonzero_ranks()
    try:
        work(*arguments)
    except (UserError, OSError) as error:
        sender.send(error)
        sys.exit(1)
    except Exception:
        sender.send(ProcessError(f"process {env.rank} of {env.world_size} failed:\n{traceback.format_exc()}"))
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
