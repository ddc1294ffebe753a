"""Settings that change nothing beside others."""

import pytest

from helpers.configs import configured
from newsreel.config.idle import idle_settings
from newsreel.config.schema import read_experiment
from newsreel.corpora.corpus import Task

NOT_FITTED = "evaluation.thresholds=top_k evaluation.shrinkage=3"
GIVEN_VECTORS = "embedding.window=3 embedding.min_n=2"


@pytest.mark.parametrize(
    ("overrides", "task", "note"),
    [
        ("training.one_vs_rest=true", "binary", "training.one_vs_rest=true changes nothing: every label here"),
        ("training.one_vs_rest=true", "multilabel", "training.one_vs_rest=true changes nothing"),
        ("training.one_vs_rest=true", "multiclass", None),
        ("evaluation.shrinkage=3", "multiclass", "evaluation.shrinkage=3 changes nothing: documents have one"),
        ("training.one_vs_rest=false evaluation.shrinkage=3", "multilabel", None),
        (NOT_FITTED, "multilabel", "evaluation.shrinkage=3 changes nothing: only evaluation.thresholds=per_label"),
        (NOT_FITTED, "binary", f"{NOT_FITTED} changes nothing: documents have one label"),
        ("trainer.projector_words=9", "binary", None),
        ("logger=csv trainer.projector_words=9", "binary", "trainer.projector_words=9 changes nothing: only"),
        ("model=bow trainer.projector_words=9", "binary", "trainer.projector_words=9 changes nothing: one-hot"),
        ("model=bow model.sublinear_tf=true", "binary", None),
        (
            "model=bow model.weighting=nb model.sublinear_tf=true",
            "binary",
            "model.sublinear_tf=true changes nothing: model.weighting=binary and nb",
        ),
        (f"embedding=fasttext {GIVEN_VECTORS}", "binary", None),
        (
            f"embedding=fasttext embedding.path=a.bin {GIVEN_VECTORS}",
            "binary",
            f"{GIVEN_VECTORS} changes nothing: the vectors are those of embedding.path",
        ),
        ("batches.truncation=tail", "binary", None),
        ("model=bow batches.truncation=tail", "binary", "batches.truncation=tail changes nothing"),
    ],
)
def test_settings_without_effect_are_told(overrides: str, task: Task, note: str | None) -> None:
    given = overrides.split()
    found = idle_settings(given, read_experiment(configured(*given)).config, task)
    assert len(found) == (note is not None)
    assert all(told.startswith(note or "") for told in found)
