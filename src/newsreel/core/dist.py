"""Processes, threads and devices of this machine, according to environment variables.

Imports torch lazily: libraries with thread pools must be imported after `limit_threads`.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from newsreel.core.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch.distributed.distributed_c10d import Store


NUM_CPU_PROCESSES = 2  # of trainer=ddp without a GPU
FIRST_PORT, NUM_PORTS = 15_000, 10_000  # range of the rendezvous port under srun, unless MASTER_PORT is set
_groups = count()


@dataclass(frozen=True)
class DistEnv:
    """The rank of a process among those of one training."""

    rank: int  # from 0
    world_size: int  # number of processes
    local_rank: int  # on this machine, from 0
    local_world_size: int  # number of processes on this machine

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0


def dist_env() -> DistEnv:
    """The DistEnv of this process, from the environment variables of torchrun or srun. Raises UserError."""
    environment = os.environ
    if "RANK" in environment and (world_size := int(environment.get("WORLD_SIZE", "1"))) > 1:
        rank = int(environment["RANK"])
        local_rank = int(environment.get("LOCAL_RANK", rank))
        return DistEnv(rank, world_size, local_rank, int(environment.get("LOCAL_WORLD_SIZE", world_size)))
    # Set by srun; sbatch alone starts one process
    if (world_size := int(environment.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
        num_machines = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
        if world_size % num_machines:
            raise UserError(
                f"srun has started {world_size} processes on {num_machines} machines: all need the same number of "
                "processes, such as srun --ntasks-per-node=4."
            )
        rank, local_rank = int(environment["SLURM_PROCID"]), int(environment["SLURM_LOCALID"])
        return DistEnv(rank, world_size, local_rank, world_size // num_machines)
    return DistEnv(0, 1, 0, 1)


def processes() -> int:
    """`${processes:}` in configs: the local world size under torchrun or srun, else the number of GPUs, or
    NUM_CPU_PROCESSES without a GPU.
    """
    env = dist_env()
    if env.world_size > 1:
        return env.local_world_size
    import torch

    return torch.cuda.device_count() or NUM_CPU_PROCESSES


OmegaConf.register_new_resolver("processes", processes, replace=True)


def broadcast_from_rank_zero(value: str) -> str:
    """The value of rank 0, for values such as the time that differ between processes."""
    env = dist_env()
    if env.world_size == 1:
        return value
    if env.is_rank_zero:
        return str(store().compare_set("value", "", value), "utf-8")  # the value of the first call
    return str(store().get("value"), "utf-8")


def silence_nonzero_ranks() -> None:
    """Disable logging and warnings in this process; rank 0 logs for all."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


@cache
def store() -> "Store":
    """The key-value store that the processes share before there is a process group."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]
    from torch.distributed.distributed_c10d import PrefixStore

    env = dist_env()
    if "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    else:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        address = SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_STEP_NODELIST"])
        port = FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % NUM_PORTS  # other jobs may share the machine
    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by the launcher
    server = TCPStore(address, port, is_master=env.is_rank_zero and not served, wait_for_workers=False)
    return PrefixStore(f"newsreel/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", server)


@contextmanager
def process_group(env: DistEnv, on_gpus: bool) -> Iterator[None]:
    """Context with an initialised process group (Gloo, or NCCL on GPUs) if there are several processes."""
    if env.world_size == 1:
        yield
        return
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore

    if on_gpus:
        torch.cuda.set_device(env.local_rank)

    distributed.init_process_group(
        "nccl" if on_gpus else "gloo",
        store=PrefixStore(f"group{next(_groups)}", store()),
        rank=env.rank,
        world_size=env.world_size,
    )
    yield
    distributed.destroy_process_group()  # not after an error: it could wait for failed processes


def jobs_at_once(threads: int | None, processes: int | None = None) -> int:
    """`${jobs_at_once:…}` in configs: the number of jobs that the cores of this machine can run in parallel.

    threads: per process. processes: per job. null: one.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores // ((threads or 1) * (processes or 1)))


OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, replace=True)


def limit_threads(config: dict[Any, Any]) -> None:
    """Set the thread counts of Polars and tokenizers by environment variables, before they are imported."""
    trainer = config.get("trainer")
    threads = trainer.get("threads") if isinstance(trainer, dict) else None
    threads = threads or os.environ.get("OMP_NUM_THREADS")  # set by launchers
    if threads is None and dist_env().local_world_size > 1:
        threads = jobs_at_once(dist_env().local_world_size)  # cores per process
    if threads is not None and str(threads).isdecimal():
        for variable in ("POLARS_MAX_THREADS", "RAYON_NUM_THREADS"):
            os.environ.setdefault(variable, str(threads))


def is_gpu_available() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def device_of(accelerator: str) -> "torch.device":
    """The device for a setting `accelerator`: the GPU if there is one, unless it is `cpu`."""
    import torch

    if accelerator == "cpu" or not is_gpu_available():
        return torch.device("cpu")
    return torch.device("cuda" if torch.cuda.is_available() else "mps")
