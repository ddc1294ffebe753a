"""newsreel: text-classification baselines, from a bag of words to recurrent and convolutional networks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from newsreel.inference.predictors import Predictor

__version__ = "0.2.0"


def load(run: str | Path) -> "Predictor":
    """A finished run or a saved ensemble as a function of texts: `newsreel.load("outputs/…")(["a fine film"])`.

    Raises UserError, which names what is missing or broken in the folder.
    """
    from newsreel.core.paths import user_path
    from newsreel.inference.predictors import predictor_of
    from newsreel.runs.ensemble import open_ensemble

    return predictor_of(open_ensemble(user_path(run, "run")))


def save_documents(documents: Any, path: str | Path, text: str = "text", label: str = "label") -> Path:
    """Write documents held in Python to a Parquet file, to train on it with `data=files data.train=<path>`.

    documents: a scikit-learn Bunch, a `datasets.Dataset`, or a data frame of pandas, Polars or PyArrow.
    text, label: its columns; a Bunch needs none.
    Returns the path. Raises UserError for what cannot be such documents.
    """
    from newsreel.corpora.in_memory import save_documents

    return save_documents(documents, path, text, label)
