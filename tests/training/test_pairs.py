"""Every model on every embedding, as the files under configs name them."""

from itertools import cycle, product
from pathlib import Path

import polars as pl
import pytest

from helpers.configs import composed
from helpers.project import CONFIGS
from helpers.tiny_runs import train_tiny
from newsreel.config.schema import read_experiment
from newsreel.core.errors import UserError
from newsreel.corpora.synthetic import pseudo_words

MODELS = sorted(file.stem for file in (CONFIGS / "model").glob("*.yaml"))
EMBEDDINGS = sorted(file.stem for file in (CONFIGS / "embedding").glob("*.yaml"))
SMALL = {  # what makes an embedding small, by its name
    "one_hot": [],
    "fasttext": ["embedding.dimension=8", "embedding.bucket=100"],
    "glove": ["embedding.dimension=8", "embedding.path={folder}/vectors.txt"],
}
TWO_STEPS = ["data.num_documents=50", "data.validation_fraction=0.1", "batches.batch_size=18", "batches.max_tokens=20",
             "training.max_epochs=1", "training.solver=minibatch"]  # fmt: skip
# every model and every embedding; a model that looks one-hot words up
FAST = {*zip(MODELS, cycle(EMBEDDINGS), strict=False), ("kim_cnn", "one_hot")}
PAIRS = [pytest.param(*pair, marks=[] if pair in FAST else [pytest.mark.slow]) for pair in product(MODELS, EMBEDDINGS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all pairs, so that they share what is prepared; it has a file of vectors."""
    folder = tmp_path_factory.mktemp("pairs")
    values = " ".join(["0.5", "-1"] * 4)
    (folder / "vectors.txt").write_text("".join(f"{word} {values}\n" for word in pseudo_words(40)))
    return folder


@pytest.mark.parametrize(("model", "embedding"), PAIRS)
def test_a_pair_trains_two_steps_and_predicts(folder: Path, model: str, embedding: str) -> None:
    small = [setting.format(folder=folder) for setting in SMALL.get(embedding, ["embedding.dimension=8"])]
    pair = [f"model={model}", f"embedding={embedding}", *small]
    results = train_tiny(folder, *TWO_STEPS, *pair, folder=f"{model} {embedding}")
    assert results["train/steps"] == 2
    predictions = pl.read_parquet(folder / f"{model} {embedding}" / "predictions.parquet")
    assert len(predictions) == results["documents/test"] == 10
    assert predictions["p(label1)"].is_between(0, 1).all()


@pytest.mark.parametrize(
    ("model", "needs_rows"),
    [
        ("cnn", True),
        ("lstm", False),
        *(pytest.param(*row, marks=pytest.mark.slow) for row in [("flatten", True), ("kim_cnn", True), ("bow", False)]),
    ],
)
def test_a_model_looks_long_one_hot_words_up_or_says_what_they_would_take(model: str, needs_rows: bool) -> None:
    sizes = ["batches.batch_size=32", "batches.max_tokens=600", "tokenizer.max_size=20000"]
    config = composed("data=synthetic", f"model={model}", "embedding=one_hot", *sizes)
    if needs_rows:
        with pytest.raises(UserError, match=r"× 600 tokens × 20000 words = 1\.4 GiB.* Use embedding=learned"):
            read_experiment(config)
    else:
        read_experiment(config)
