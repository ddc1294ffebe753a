"""Every model on every embedding, as the files under configs name them."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import polars as pl
import pytest
from _pytest.mark import ParameterSet

from helpers.project import CONFIGS
from helpers.tiny_runs import read_tiny, train_tiny
from newsreel.core.errors import UserError
from newsreel.corpora.synthetic import pseudo_words

MODELS = sorted(file.stem for file in (CONFIGS / "model").glob("*.yaml"))
EMBEDDINGS = sorted(file.stem for file in (CONFIGS / "embedding").glob("*.yaml"))
EIGHT = ["embedding.dimension=8"]
SMALL: dict[str, Sequence[str]] = {  # what makes an embedding small, by its name
    **dict.fromkeys(("learned", "learned_small", "word2vec", "svd"), EIGHT),
    "fasttext": [*EIGHT, "embedding.bucket=100"],
    "glove": [*EIGHT, "embedding.path={folder}/vectors.txt"],
}
TWO_STEPS = [
    "data.num_documents=50",
    "data.validation_fraction=0.1",
    "batches.batch_size=18",
    "batches.max_tokens=20",
    "training.max_epochs=1",
]
NEEDS_ROWS = {"cnn", "flatten", "kim_cnn"}  # models that cannot look one-hot words up


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all pairs, so that they share what is prepared; it has a file of vectors."""
    folder = tmp_path_factory.mktemp("pairs")
    values = " ".join(["0.5", "-1"] * 4)
    (folder / "vectors.txt").write_text("".join(f"{word} {values}\n" for word in pseudo_words(40)))
    return folder


def pairs() -> list[ParameterSet]:
    """The lstm on every embedding, every model on one of them and bow on learned rows too; the others are slow."""
    fast = {*(("lstm", name) for name in EMBEDDINGS), *zip(MODELS, cycle(EMBEDDINGS), strict=False), ("bow", "learned")}
    return [
        pytest.param(model, embedding, marks=[] if (model, embedding) in fast else [pytest.mark.slow])
        for model in MODELS
        for embedding in EMBEDDINGS
    ]


@pytest.mark.parametrize(("model", "embedding"), pairs())
def test_a_pair_trains_two_steps_and_predicts(folder: Path, model: str, embedding: str) -> None:
    small = [setting.format(folder=folder) for setting in SMALL.get(embedding, [])]
    pair = [f"model={model}", f"embedding={embedding}", *small]
    results = train_tiny(folder, *TWO_STEPS, *pair, folder=f"{model} {embedding}")
    assert results["train/steps"] == 2
    predictions = pl.read_parquet(folder / f"{model} {embedding}" / "predictions.parquet")
    assert len(predictions) == results["documents/test"] == 10
    assert predictions["p(label1)"].is_between(0, 1).all()


@pytest.mark.parametrize("model", MODELS)
def test_a_model_looks_long_one_hot_words_up_or_says_what_they_would_take(tmp_path: Path, model: str) -> None:
    sizes = ["batches.batch_size=32", "batches.max_tokens=600", "tokenizer.max_size=20000"]
    if model in NEEDS_ROWS:
        with pytest.raises(UserError, match=r"× 600 tokens × 20000 words = 1\.4 GiB.* Use embedding=learned"):
            read_tiny(tmp_path, f"model={model}", "embedding=one_hot", *sizes)
    else:
        read_tiny(tmp_path, f"model={model}", "embedding=one_hot", *sizes)
