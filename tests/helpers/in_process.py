"""The commands within the test's process: no second start of Python and torch."""

import io
import logging
import os
import runpy
import signal
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from hydra.core.global_hydra import GlobalHydra

from helpers.project import PROJECT


def call(folder: Path, environment: dict[str, str], script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the project as its command line does, from a folder."""
    output, errors = io.StringIO(), io.StringIO()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    at_sigpipe = signal.getsignal(signal.SIGPIPE)  # predict.py lets it end the process
    status: int | str | None = 0
    with (
        chdir(folder),
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", [str(PROJECT / script), *arguments]),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        GlobalHydra.instance().clear()
        try:
            runpy.run_path(str(PROJECT / script), run_name="__main__")
        except SystemExit as stopped:
            status = stopped.code
            if isinstance(status, str):  # a message, which Python prints
                print(status, file=errors)
                status = 1
        finally:
            GlobalHydra.instance().clear()
            signal.signal(signal.SIGPIPE, at_sigpipe)
            for handler in root.handlers:
                if handler not in handlers:
                    handler.close()
            root.handlers[:] = handlers
            root.setLevel(level)
    return subprocess.CompletedProcess(arguments, int(status or 0), output.getvalue(), errors.getvalue())
