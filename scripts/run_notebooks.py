"""Execute the notebooks in notebooks/ and write them with their outputs: `python scripts/run_notebooks.py`.

python scripts/run_notebooks.py 6 7        # those whose names begin so
FULL=1 python scripts/run_notebooks.py     # on the IMDB reviews, an hour
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).parents[1]
NOTEBOOKS = PROJECT / "notebooks"
STARTUP_SECONDS = 300  # for a kernel on a busy machine


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 6; none: all notebooks")
    parser.add_argument("--output", type=Path, default=PROJECT / "outputs" / "notebooks", help="directory to write to")
    request = parser.parse_args(arguments)
    paths = [path for path in find_notebooks() if path.name.startswith(tuple(request.names or [""]))]
    if not paths:
        sys.exit(f"error: no notebook begins with {' or '.join(request.names)}: see {NOTEBOOKS}")
    os.environ.setdefault("NEWSREEL_CORPORA_DIR", str(PROJECT / "corpora"))
    request.output.mkdir(parents=True, exist_ok=True)
    for path in paths:
        started = time.perf_counter()
        execute(path, request.output)
        print(f"{request.output / path.name}  {time.perf_counter() - started:.1f} s")


def find_notebooks() -> list[Path]:
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def execute(path: Path, directory: Path) -> None:
    """Execute a notebook with `directory` as its working directory, and write it there with its outputs.

    A cell that fails raises nbclient.exceptions.CellExecutionError, once the outputs so far are written.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(directory)}}
    try:
        NotebookClient(
            notebook, kernel_name="python3", startup_timeout=STARTUP_SECONDS, timeout=None, resources=resources
        ).execute()
    finally:
        nbformat.write(notebook, directory / path.name)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
