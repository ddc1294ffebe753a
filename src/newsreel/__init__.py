"""newsreel: text-classification baselines, from a bag of words to recurrent and convolutional networks.

Imports lazily, so that `import newsreel` takes no time.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from newsreel.core.errors import UserError
    from newsreel.inference.run import Run

__version__ = "0.2.0"
__all__ = ["Run", "UserError", "load", "save_documents", "train"]


def train(*overrides: str, run_dir: str | Path | None = None) -> "Run":
    """Train and test a run as `python train.py` does: `newsreel.train("model=lstm", "data=imdb")`.

    overrides: those of the command, also `resume=<run directory>`. run_dir: a new directory for the run; None:
    `outputs/<data>/<model>/<time>`.
    Afterwards the process is as before: random generators, threads, logging, signal handlers, working directory.
    Raises UserError with the command's message, and KeyboardInterrupt when interrupted.
    """
    from newsreel.cli.from_python import train_in_process

    return load(train_in_process(overrides, run_dir))


def load(run: str | Path) -> "Run":
    """A finished run or a saved ensemble: `newsreel.load("outputs/…").predict(["a fine film"])`.

    Raises UserError, which names what is missing or broken in the folder.
    """
    from newsreel.core.paths import user_path
    from newsreel.core.process_state import import_tqdm

    import_tqdm()
    from newsreel.inference.run import Run
    from newsreel.runs.ensemble import open_ensemble

    return Run(open_ensemble(user_path(run, "run")))


def save_documents(documents: Any, path: str | Path, text: str = "text", label: str = "label") -> Path:
    """Write documents held in Python to a Parquet file, to train on it with `data=files data.train=<path>`.

    documents: a scikit-learn Bunch, a `datasets.Dataset`, or a data frame of pandas, Polars or PyArrow.
    text, label: its columns; a Bunch needs none.
    Returns the path. Raises UserError for what cannot be such documents.
    """
    from newsreel.corpora.in_memory import save_documents

    return save_documents(documents, path, text, label)


def __getattr__(name: str) -> Any:
    if name == "UserError":
        from newsreel.core.errors import UserError

        return UserError
    if name == "Run":
        from newsreel.inference.run import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
