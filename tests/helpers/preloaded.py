"""Commands in processes of their own that need not import torch and Lightning, which takes seconds each time.

They are forked from a server that has imported them and done nothing else: multiprocessing's forkserver.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from multiprocessing import connection
from pathlib import Path
from typing import Any

from helpers.project import PROJECT

SERVER = multiprocessing.get_context("forkserver")
OURS = (
    "corpora.custom",
    "corpora.synthetic",
    "inference.predictors",
    "reporting.figures",
    "sweeps.summary",
    "training.run",
)
LAZY = "datasets.load", "hydra.main", "matplotlib.backends.backend_agg", "pandas"  # what these import as they run
SERVER.set_forkserver_preload([*(f"newsreel.{name}" for name in OURS), *LAZY])


class PreloadedPopen(subprocess.Popen[str]):
    """subprocess.Popen for a script of the project and its arguments, with text streams."""

    def __init__(self, arguments: list[str], **options: Any) -> None:
        super().__init__(arguments, text=True, **options)

    def _execute_child(self, args: list[str], *options: Any) -> None:  # type: ignore[override]
        """Popen's own step that starts the child; options: its parameters, in their order."""
        folder, environment, pipe_ends = options[4], options[5], options[9:15]
        ends = [pipe_ends[0], pipe_ends[3], pipe_ends[5]]  # the child's, -1 for the stream that this process has
        streams = [connection.Connection(os.dup(number if end < 0 else end)) for number, end in enumerate(ends)]
        self.process = SERVER.Process(target=_run, args=(args, folder, environment or dict(os.environ), streams))
        self.process.start()
        self.pid = self.process.pid or 0
        self._child_created = True
        self._close_pipe_fds(*pipe_ends)

    def poll(self) -> int | None:
        self.returncode = self.process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode


def _run(arguments: list[str], folder: Path, environment: dict[str, str], streams: list[connection.Connection]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin = os.fdopen(0, encoding="utf-8")  # multiprocessing has put an empty one in its place
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(PROJECT / arguments[0]), *arguments[1:]]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except KeyboardInterrupt:  # ends Python as the signal itself does, and multiprocessing with status 1
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out, and joblib's workers wait for theirs
