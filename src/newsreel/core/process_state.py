"""The state of a process that a training changes, for programs that go on after it, such as notebooks."""

import logging
import os
import random
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from newsreel.core.signals import Stopped, stop_at_sigterm


@contextmanager
def restored_process_state() -> Iterator[None]:
    """Context after which the process is as it was: random generators, torch's number of threads, environment
    variables, filters of warnings, levels of loggers, and signal handlers.

    A signal that stops the work has the effect that it has without this context: SIGINT raises KeyboardInterrupt,
    another one is raised again. Imports torch and Lightning. What cannot be restored are the thread pools of Polars
    and tokenizers, whose sizes are those of their first use.
    """
    environment, python, numpy = dict(os.environ), random.getstate(), np.random.get_state()  # imports change them
    import_tqdm()
    import lightning.pytorch  # noqa: F401  (its loggers exist from now on)
    import torch

    torch_cpu, num_threads = torch.get_rng_state(), torch.get_num_threads()
    torch_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    levels = {each: each.level for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)}
    try:
        with warnings.catch_warnings(), stop_at_sigterm():
            yield
    except Stopped as stopped:
        signalled: Stopped | None = stopped
    else:
        signalled = None
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_cpu)
        torch.cuda.set_rng_state_all(torch_gpus)
        torch.set_num_threads(num_threads)
        restore_environment(environment)
        for logger, level in levels.items():
            if logger.level != level:  # setting one clears the caches of all loggers
                logger.setLevel(level)
    if signalled is not None:
        if signalled.number != signal.SIGINT:
            signal.raise_signal(signalled.number)
        raise KeyboardInterrupt


def import_tqdm() -> None:
    """Import `tqdm.auto` without its advice to install widgets, which newsreel does not need in notebooks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import tqdm.auto  # noqa: F401


def restore_environment(before: dict[str, str]) -> None:
    """Set the environment variables that have changed to what they were."""
    for name in [name for name, value in os.environ.items() if before.get(name) != value]:
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if name not in os.environ})
