"""Whether this machine computes a network in the precision that the config asks for."""

import torch

from newsreel.config.schema import Experiment
from newsreel.core.dist import device_of
from newsreel.core.errors import UserError

NUM_WORDS, DIMENSION, LENGTH = 10, 8, 5  # of the network and the document that it is tried with


def require_precision(experiment: Experiment) -> None:
    """Raise UserError if a small network of the config's kind fails in bf16-mixed precision on this CPU.

    oneDNN has no bfloat16 LSTM for CPUs without AVX-512 (torch 2.13), and torch says so only at the first step.
    """
    device = device_of(experiment.trainer.accelerator)
    if experiment.trainer.precision != "bf16-mixed" or device.type != "cpu":
        return
    try:
        with torch.random.fork_rng(devices=[]), torch.autocast("cpu", torch.bfloat16):
            network = experiment.network(experiment.embedding.empty(NUM_WORDS, DIMENSION), 1)
            network(torch.ones(1, LENGTH, dtype=torch.long), torch.tensor([LENGTH])).sum().backward()
    except RuntimeError as error:
        raise UserError(
            "trainer.precision is bf16-mixed, and this CPU cannot compute the model in it: "
            f"{str(error).partition('. ')[0]}.\nUse trainer.precision=32-true, or a GPU."
        ) from error
