"""The processes, threads and devices of this machine, as the environment says.

Imports little: libraries with threads of their own may have to wait for `limit_threads`.
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


ON_PROCESSORS = 2  # processes of trainer=ddp where there is no GPU
FIRST_PORT, NUM_PORTS = 15_000, 10_000  # where the processes that srun started meet, unless MASTER_PORT says
_groups = count()


@dataclass(frozen=True)
class DistEnv:
    """Where a process stands among those of one training."""

    rank: int  # from 0
    world_size: int  # number of processes
    local_rank: int  # on this machine, from 0
    local_world_size: int  # number of processes on this machine

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the one process that writes and speaks."""
        return self.rank == 0


def dist_env() -> DistEnv:
    """This process's, as its environment says. Raises UserError."""
    environment = os.environ
    if "RANK" in environment and (size := int(environment.get("WORLD_SIZE", "1"))) > 1:
        number = int(environment["RANK"])
        local_number = int(environment.get("LOCAL_RANK", number))
        return DistEnv(number, size, local_number, int(environment.get("LOCAL_WORLD_SIZE", size)))
    if (size := int(environment.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:  # of srun; sbatch alone starts one process
        num_machines = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
        if size % num_machines:
            raise UserError(
                f"srun has started {size} processes on {num_machines} machines: every machine needs as many as the "
                "others, such as srun --ntasks-per-node=4."
            )
        number, local_number = int(environment["SLURM_PROCID"]), int(environment["SLURM_LOCALID"])
        return DistEnv(number, size, local_number, size // num_machines)
    return DistEnv(0, 1, 0, 1)


def processes() -> int:
    """`${processes:}` in configs: as many as were started env, else one for each GPU, or ON_PROCESSORS."""
    env = dist_env()
    if env.world_size > 1:
        return env.local_world_size
    import torch

    return torch.cuda.device_count() or ON_PROCESSORS


OmegaConf.register_new_resolver("processes", processes, replace=True)


def broadcast_from_rank_zero(value: str) -> str:
    """What the first process says where each would say something else, such as the time."""
    env = dist_env()
    if env.world_size == 1:
        return value
    if env.is_rank_zero:
        return str(store().compare_set("value", "", value), "utf-8")  # as it was when this was first asked
    return str(store().get("value"), "utf-8")


def silence_nonzero_ranks() -> None:
    """Let this process, which is not the first, say nothing of what all of them would say."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


@cache
def store() -> "Store":
    """What the processes tell each other by before they have tensors."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]
    from torch.distributed.distributed_c10d import PrefixStore

    env = dist_env()
    if "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    else:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        address = SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_STEP_NODELIST"])
        port = FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % NUM_PORTS  # other jobs may share the machine
    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by whoever has started the processes
    server = TCPStore(address, port, is_master=env.is_rank_zero and not served, wait_for_workers=False)
    return PrefixStore(f"newsreel/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", server)


@contextmanager
def process_group(env: DistEnv, on_gpus: bool) -> Iterator[None]:
    """Around what several processes do together: Gloo adds up their tensors, or NCCL on GPUs."""
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
    distributed.destroy_process_group()  # not after an error: it could wait for those that failed


def jobs_at_once(threads: int | None, processes: int | None = None) -> int:
    """`${jobs_at_once:…}` in configs: how many jobs the cores here can run.

    threads: of each process. processes: of each job. null: one.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores // ((threads or 1) * (processes or 1)))


OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, replace=True)


def limit_threads(config: dict[Any, Any]) -> None:
    """Tell the libraries with threads of their own, before they are imported, how many to use."""
    trainer = config.get("trainer")
    threads = trainer.get("threads") if isinstance(trainer, dict) else None
    threads = threads or os.environ.get("OMP_NUM_THREADS")  # a launcher's processes have their share from there
    if threads is None and dist_env().local_world_size > 1:
        threads = jobs_at_once(dist_env().local_world_size)  # so many such processes, or so many threads of each
    if threads is not None and str(threads).isdecimal():
        for variable in ("POLARS_MAX_THREADS", "RAYON_NUM_THREADS"):
            os.environ.setdefault(variable, str(threads))


def gpu_is_there() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def device_of(accelerator: str) -> "torch.device":
    """What a checked setting `accelerator` comes to env."""
    import torch

    if accelerator == "cpu" or not gpu_is_there():
        return torch.device("cpu")
    return torch.device("cuda" if torch.cuda.is_available() else "mps")
