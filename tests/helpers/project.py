"""Where things are, and how the commands are called."""

import subprocess
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., subprocess.CompletedProcess[str]]  # what the fixture `command` is
PROJECT = Path(__file__).parents[2]
CONFIGS = PROJECT / "configs"
