"""Where things are, and how the commands are called."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from newsreel.corpora.corpus import Paths

Command = Callable[..., subprocess.CompletedProcess[str]]  # what the fixture `command` is
PROJECT = Path(__file__).parents[2]
CONFIGS = PROJECT / "configs"
NOWHERE = Paths(corpora_dir="nowhere", cache_dir="nowhere", output_dir="nowhere")  # for what reads and writes no file
