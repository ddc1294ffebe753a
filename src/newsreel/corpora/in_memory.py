"""Documents held in Python objects, written to a file that `data=files` reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from newsreel.core.errors import UserError
from newsreel.core.paths import user_path
from newsreel.core.storage import replacing


def save_documents(documents: Any, path: str | Path, text: str = "text", label: str = "label") -> Path:
    """Write documents to a Parquet file with the columns `text` and `label`, for `data=files data.train=<path>`.

    documents: a scikit-learn Bunch (`data`, `target` and `target_names`), a `datasets.Dataset`, or a data frame of
    pandas, Polars or PyArrow. text, label: its columns; a Bunch needs none.
    Class numbers get the names of their classes.
    Returns the path. Raises UserError for other objects, missing columns, columns with values of several types, and
    texts that are not strings.
    """
    path = user_path(path, "path")
    if path.suffix != ".parquet":
        raise UserError(f"{path}: documents are saved as Parquet, so the name must end in .parquet.")
    try:
        texts, labels = columns_of(documents, text, label)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(
            f"The documents cannot be written to {path}, as a column has values of several types "
            f"({'; '.join(map(str, error.args))}): convert them to one, such as labels to strings."
        ) from error
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        raise UserError(f"The texts are of the type {texts.type}, but must be strings: name their column with text=…")
    with replacing(path) as partial:
        pq.write_table(pa.table({"text": texts, "label": labels}), partial)
    return path


def columns_of(documents: Any, text: str, label: str) -> tuple[Any, Any]:
    """Texts and labels as Arrow arrays."""
    if hasattr(documents, "data") and hasattr(documents, "target"):
        names = getattr(documents, "target_names", None)
        labels = list(documents.target)
        if len(labels) != len(documents.data):
            raise UserError(
                f"The Bunch has {len(documents.data):,} texts in `data`, and {len(labels):,} labels in `target`."
            )
        if names is not None:
            labels = [name_of_number(label, names, number) for number, label in enumerate(labels)]
        return pa.array(documents.data), pa.array(labels)
    names = None
    if hasattr(documents, "features") and hasattr(documents, "with_format"):  # a datasets.Dataset
        names = class_names_of(documents.features.get(label))
        documents = documents.with_format("arrow")[:]
    elif hasattr(documents, "to_arrow"):  # Polars, whose strings Parquet does not have in the form of its stream
        documents = documents.to_arrow()
    elif not hasattr(documents, "__arrow_c_stream__"):
        raise UserError(
            f"{type(documents).__name__} is not a scikit-learn Bunch, a datasets.Dataset or a data frame of pandas, "
            "Polars or PyArrow."
        )
    table = pa.table(documents)
    for argument, name in (("text", text), ("label", label)):
        if name not in table.column_names:
            raise UserError(f"{argument}={name}: the columns are {', '.join(table.column_names)}.")
    labels = (
        table[label] if names is None else pa.array([class_name(value, names) for value in table[label].to_pylist()])
    )
    return table[text], labels


def name_of_number(label: Any, names: Sequence[str], position: int) -> str | None:
    """The name of a Bunch's class; None for -1, which means no label. Raises UserError for anything but its number."""
    if not isinstance(label, int | np.integer) or isinstance(label, bool) or not -1 <= label < len(names):
        raise UserError(
            f"`target` has {label} for document {position}, and with `target_names` it must have the numbers of "
            f"classes, 0 … {len(names) - 1}, or -1 for none. Leave out `target_names` for labels of another form."
        )
    return None if label == -1 else str(names[int(label)])


def class_names_of(feature: Any) -> list[str] | None:
    """The names of the classes of a feature of `datasets`, or of the items of a list; None if it has none."""
    names: list[str] | None = getattr(getattr(feature, "feature", feature), "names", None)
    return names


def class_name(value: Any, names: list[str]) -> Any:
    """The name of a class number, or those of a list of them; None for -1, which means no label on the Hub."""
    if isinstance(value, list):
        return [class_name(item, names) for item in value]
    return None if value is None or value < 0 else names[value]
