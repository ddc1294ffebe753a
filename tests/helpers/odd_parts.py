"""Parts of RCV1 for processes that do not end well; they are found here by processes that import little else."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from newsreel.corpora.rcv1_stories import Story


@dataclass
class DeadlyPart:
    """A part that no process survives."""

    name: str

    def stories(self, bad_files: list[str]) -> Iterator[Story]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield Story(1, [], "")


@dataclass
class EndlessPart:
    """A part that is read until its process is killed; the process writes its id to the file of this name."""

    name: str

    def stories(self, bad_files: list[str]) -> Iterator[Story]:
        Path(self.name).write_text(str(os.getpid()))
        time.sleep(600)
        yield Story(1, [], "")
