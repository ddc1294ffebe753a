"""Runs in one process or several: how processes are started, and how they end.

Processes are either spawned by this command on its machine (`spawn`), or started by torchrun or srun, which run the
command itself on one machine or several. In both cases environment variables hold the rank.

Processes start here, so imports are lazy: libraries with thread pools must be imported after `limit_threads`.
"""

import logging.config
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from newsreel.core.dist import DistEnv, dist_env, limit_threads, process_group, silence_nonzero_ranks
from newsreel.core.errors import UserError
from newsreel.core.signals import stop_at_sigterm
from newsreel.core.storage import lock_dir
from newsreel.core.terminal import print_every_character
from newsreel.runs.run_dir import read_metrics
from newsreel.training.interrupts import resume_command

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from lightning.pytorch import Callback

    from newsreel.config.schema import Experiment
    from newsreel.training.checkpoints import ResumeState
    from newsreel.training.spec import RunSpec


GRACE_SECONDS = 2.0  # after a failure, to receive the errors of other processes, which may be the cause
LOCALHOST = "127.0.0.1"


class LostProcessError(UserError):
    """A spawned process ended without reporting an error."""


class ProcessError(Exception):
    """An unexpected error in a spawned process, with its traceback as text."""


def lock_on_rank_zero(run_dir: Path) -> AbstractContextManager[None]:
    """`lock_dir` in rank 0, on behalf of all processes of a training."""
    return lock_dir(run_dir) if dist_env().is_rank_zero else nullcontext()


def run_or_spawn(
    spec: "RunSpec[Experiment]", resume: "ResumeState | None" = None, callbacks: "Sequence[Callback]" = ()
) -> dict[str, Any]:
    """Call `train_run` in this process, or in trainer.devices new ones, which get no callbacks. Raises UserError."""
    num_processes = spec.experiment.trainer.num_processes
    if num_processes == 1 or dist_env().world_size > 1:
        from newsreel.training.run import train_run

        with process_group(dist_env(), spec.experiment.trainer.on_gpus):
            return train_run(spec, resume, callbacks)
    job_logging = None
    if HydraConfig.initialized():
        job_logging = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    spec_fields = {field.name: getattr(spec, field.name) for field in fields(spec) if field.name != "experiment"}
    try:
        spawn(_worker, num_processes, spec.experiment.config, spec_fields, resume is not None, job_logging)
    except LostProcessError as error:
        raise UserError(f"{error}\nTo resume the run:\n  {resume_command(spec.run_dir)}") from error
    return read_metrics(spec.run_dir)


def _worker(config: dict[str, Any], spec: dict[str, Any], is_resumed: bool, job_logging: dict[str, Any] | None) -> None:
    """The work of each spawned process. spec: the fields of RunSpec without experiment. job_logging: for rank 0."""
    if dist_env().is_rank_zero and job_logging is not None:
        logging.config.dictConfig(job_logging)
    limit_threads(config)

    from newsreel.config.schema import read_experiment
    from newsreel.training.checkpoints import read_resume_state
    from newsreel.training.spec import RunSpec

    resume = read_resume_state(spec["run_dir"]) if is_resumed else None
    run_or_spawn(RunSpec(read_experiment(config), **spec), resume)


def spawn(work: Callable[..., None], num_processes: int, *arguments: Any) -> None:
    """Call a function in new processes on this machine and wait for them; they can form a `process_group`.

    If one fails, all are killed and its error is raised: UserError and OSError unchanged, others as ProcessError. They
    are also killed if this process is interrupted or dies. SIGTERM raises Stopped. The function and its arguments
    must be picklable.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    server = TCPStore(LOCALHOST, 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    running: dict[connection.Connection, BaseProcess] = {}
    with stop_at_sigterm():
        try:
            for number in range(num_processes):
                receiver, sender = context.Pipe(duplex=False)
                env = DistEnv(number, num_processes, number, num_processes)
                process: BaseProcess = context.Process(
                    target=_start_worker, args=(env, server.port, sender, work, arguments)
                )
                process.start()
                sender.close()  # so that the receiver gets EOF when the process ends
                running[receiver] = process
            _wait(running)
        finally:
            for started in running.values():
                started.kill()  # safe: all files are written atomically
            for started in running.values():
                started.join()


def _wait(running: "dict[connection.Connection, BaseProcess]") -> None:
    """Wait until all processes have succeeded, or raise the error of one that failed."""
    waiting = dict(running)
    failures: list[Exception] = []
    deadline = None
    while waiting and (deadline is None or time.monotonic() < deadline):
        for receiver in connection.wait(list(waiting), timeout=None if deadline is None else GRACE_SECONDS):
            assert isinstance(receiver, connection.Connection)
            error = _outcome(receiver, waiting.pop(receiver), len(running))
            if error is not None:
                failures.append(error)
                deadline = deadline or time.monotonic() + GRACE_SECONDS
    if failures:  # ProcessErrors may only be the consequence of another process's failure
        raise min(failures, key=lambda error: isinstance(error, ProcessError))


def _outcome(receiver: connection.Connection, process: "BaseProcess", num_processes: int) -> Exception | None:
    try:
        error: Exception = receiver.recv()
    except EOFError:
        process.join()
        status = process.exitcode or 0
        if not status:
            return None
        cause = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        return LostProcessError(
            f"One of the {num_processes} processes of the training {cause}; a common reason is lack of memory. "
            "A new run needs less memory with fewer trainer.devices or a smaller batches.batch_size."
        )
    return error


def _start_worker(
    env: DistEnv, port: int, sender: connection.Connection, work: Callable[..., None], arguments: Any
) -> None:
    """The entry point of a spawned process."""
    print_every_character()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent kills its children
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {
        "RANK": str(env.rank),
        "WORLD_SIZE": str(env.world_size),
        "LOCAL_RANK": str(env.local_rank),
        "LOCAL_WORLD_SIZE": str(env.local_world_size),
        "MASTER_ADDR": LOCALHOST,
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
