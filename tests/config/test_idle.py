"""Settings that change nothing beside others."""

import pytest

from helpers.tiny_runs import composed
from newsreel.config.idle import idle_settings
from newsreel.config.schema import read_experiment
from newsreel.corpora.corpus import Task


@pytest.mark.parametrize(
    ("overrides", "task", "told"),
    [
        (["training.one_vs_rest=true"], "binary", ["training.one_vs_rest=true changes nothing: every label here"]),
        (["training.one_vs_rest=true"], "multilabel", ["training.one_vs_rest=true changes nothing"]),
        (["training.one_vs_rest=true"], "multiclass", []),
        (["evaluation.shrinkage=3"], "multiclass", ["evaluation.shrinkage=3 changes nothing: documents have one"]),
        (["training.one_vs_rest=false", "evaluation.shrinkage=3"], "multilabel", []),
        (
            ["evaluation.thresholds=top_k", "evaluation.shrinkage=3"],
            "multilabel",
            ["evaluation.shrinkage=3 changes nothing: only evaluation.thresholds=per_label"],
        ),
        (
            ["evaluation.thresholds=top_k", "evaluation.shrinkage=3"],
            "binary",
            ["evaluation.thresholds=top_k evaluation.shrinkage=3 changes nothing: documents have one label"],
        ),
        (["trainer.projector_words=9"], "binary", []),
        (["logger=csv", "trainer.projector_words=9"], "binary", ["trainer.projector_words=9 changes nothing: only"]),
        (["model=bow", "trainer.projector_words=9"], "binary", ["trainer.projector_words=9 changes nothing: one-hot"]),
        (["model=bow", "model.sublinear_tf=true"], "binary", []),
        (
            ["model=bow", "model.weighting=nb", "model.sublinear_tf=true"],
            "binary",
            ["model.sublinear_tf=true changes nothing: model.weighting=binary and nb"],
        ),
        (["embedding=fasttext", "embedding.window=3", "embedding.min_n=2"], "binary", []),
        (
            ["embedding=fasttext", "embedding.path=a.bin", "embedding.window=3", "embedding.min_n=2"],
            "binary",
            ["embedding.window=3 embedding.min_n=2 changes nothing: the vectors are those of embedding.path"],
        ),
        (["batches.truncation=tail"], "binary", []),
        (["model=bow", "batches.truncation=tail"], "binary", ["batches.truncation=tail changes nothing"]),
    ],
)
def test_settings_without_effect_are_told(overrides: list[str], task: Task, told: list[str]) -> None:
    found = idle_settings(overrides, read_experiment(composed(*overrides)).config, task)
    assert len(found) == len(told)
    assert all(note.startswith(begin) for note, begin in zip(found, told, strict=True))
