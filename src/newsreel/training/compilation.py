"""Networks translated by torch.compile, for documents of any number and length."""

import torch
from torch import nn

from newsreel.core.dist import device_of
from newsreel.core.errors import UserError
from newsreel.models.network import Network


def require_compiler(accelerator: str) -> None:
    """Raise UserError, before any document is read, if torch cannot compile for the device that will train."""
    try:
        torch.compile(lambda numbers: 2 * numbers + 1)(torch.ones(3, device=device_of(accelerator)))
    except Exception as error:  # whatever the compilers, or the lack of them, make torch raise
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"trainer.compile is true, and torch cannot compile here: {reason}\n"
            "It needs a C++ compiler (such as g++, or the one that the environment variable CXX names) and, for a GPU, "
            "Triton. Install them, or leave trainer.compile=false."
        ) from error


def compile_network(network: Network) -> None:
    """Let a network run as translated code from its first call on; its weights keep their names.

    Recurrences and convolutions stay what they are, calls of torch's own code: torch translates around the former by
    itself, and the latter's gradients (torch 2.13) anew for every number of tokens.
    """
    torch.compiler.reset()  # the runs of a sweep share a process, and torch gives up after some translations of a code
    for module in network.modules():
        if isinstance(module, nn.Conv1d):
            as_it_is = torch.compiler.disable(module.forward)  # type: ignore[no-untyped-call]
            module.forward = as_it_is  # type: ignore[method-assign]
    network.compile(dynamic=True)
