"""The embedding table of a trained run."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from newsreel.core.errors import UserError
from newsreel.runs.run_dir import TABLE_KEY_SUFFIX, read_weights
from newsreel.text.loading import load_tokenizer


def read_table(run_dir: Path) -> tuple[Sequence[str], Tensor]:
    """The words of a run's vocabulary and the (V, E) embedding table of its best checkpoint. Raises UserError."""
    tokens = load_tokenizer(run_dir).tokens
    tables = [value for name, value in read_weights(run_dir).items() if name.endswith(TABLE_KEY_SUFFIX)]
    if not tables:
        raise UserError(
            f"{run_dir} has no word vectors, because its words are one-hot. Name a run with another embedding."
        )
    return tokens, tables[0]
