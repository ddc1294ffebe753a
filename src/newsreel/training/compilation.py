"""torch.compile for networks, with dynamic numbers and lengths of documents."""

import torch
from torch import nn

from newsreel.core.dist import device_of
from newsreel.core.errors import UserError
from newsreel.models.network import Network


def require_compiler(accelerator: str) -> None:
    """Raise UserError if torch cannot compile for this accelerator."""
    try:
        torch.compile(lambda numbers: 2 * numbers + 1)(torch.ones(3, device=device_of(accelerator)))
    except Exception as error:  # torch raises many kinds of errors if compilers are missing or fail
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"trainer.compile is true, but torch cannot compile on this machine: {reason}\n"
            "It needs a C++ compiler (g++, or the one that the environment variable CXX names) and, for a GPU, "
            "Triton. Install them, or leave trainer.compile=false."
        ) from error


def compile_network(network: Network) -> None:
    """Compile a network in place, at its first call; parameter names do not change.

    It gets whole batches, and its gradients are dense: torch cannot compile sparse ones, nor in several threads.
    Recurrent layers and convolutions are not compiled: torch skips the former by itself, and would recompile the
    gradients of the latter for every number of tokens (torch 2.13).
    """
    torch.compiler.reset()  # the runs of a sweep share a process, and torch limits the recompilations of a function
    network.micro_batch_size = None
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = False
        if isinstance(module, nn.Conv1d):
            eager_forward = torch.compiler.disable(module.forward)  # type: ignore[no-untyped-call]
            module.forward = eager_forward  # type: ignore[method-assign]
    network.compile(dynamic=True)
