"""Settings that change nothing beside others."""

import pytest
from datasets import Dataset

from helpers.configs import composed
from newsreel.config.idle import idle_settings
from newsreel.config.schema import read_experiment
from newsreel.corpora.corpus import Corpus, Task

NOT_FITTED = "evaluation.thresholds=top_k evaluation.shrinkage=3"
GIVEN_VECTORS = "embedding.window=3 embedding.min_n=2"
OWN = "data=files data.train=a.csv"
HELD_OUT = "data.split_seed=2 data.split_method=blocks"


def corpus_of(task: Task, *splits: str) -> Corpus:
    tables = {split: Dataset.from_dict({"text": ["w"], "labels": [0]}) for split in splits}
    return Corpus("corpus", task, ("a", "b"), "accuracy", tables, "fingerprint", "source")


@pytest.mark.parametrize(
    ("overrides", "task", "note"),
    [
        ("training.one_vs_rest=true", "binary", "training.one_vs_rest=true has no effect: in this task, every label"),
        ("training.one_vs_rest=true", "multilabel", "training.one_vs_rest=true has no effect"),
        ("training.one_vs_rest=true", "multiclass", None),
        ("evaluation.shrinkage=3", "multiclass", "evaluation.shrinkage=3 has no effect: each document gets one"),
        ("training.one_vs_rest=false evaluation.shrinkage=3", "multilabel", None),
        (NOT_FITTED, "multilabel", "evaluation.shrinkage=3 has no effect: only evaluation.thresholds=per_label"),
        (NOT_FITTED, "binary", f"{NOT_FITTED} has no effect: each document gets one label"),
        ("evaluation.thresholds=scut_fbr evaluation.fbr=0.1 evaluation.folds=3", "multilabel", None),
        (
            "evaluation.folds=3 evaluation.fbr=0.2",
            "multilabel",
            "evaluation.fbr=0.2 has no effect: only evaluation.thresholds=scut_fbr raises",
        ),
        (
            "evaluation.thresholds=fixed evaluation.folds=3",
            "multilabel",
            "evaluation.folds=3 has no effect: evaluation.thresholds=fixed fits nothing",
        ),
        (
            "evaluation.folds=3 evaluation.fbr=0.2",
            "multiclass",
            "evaluation.folds=3 evaluation.fbr=0.2 has no effect: each document gets one label",
        ),
        ("trainer.projector_words=9", "binary", None),
        ("logger=csv trainer.projector_words=9", "binary", "trainer.projector_words=9 has no effect: only"),
        ("model=bow trainer.projector_words=9", "binary", "trainer.projector_words=9 has no effect: one-hot"),
        ("model=bow model.sublinear_tf=true", "binary", None),
        (
            "model=bow model.weighting=nb model.sublinear_tf=true",
            "binary",
            "model.sublinear_tf=true has no effect: model.weighting=binary and nb",
        ),
        (f"embedding=fasttext {GIVEN_VECTORS}", "binary", None),
        (
            f"embedding=fasttext embedding.path=a.bin {GIVEN_VECTORS}",
            "binary",
            f"{GIVEN_VECTORS} has no effect: the vectors are read from embedding.path",
        ),
        ("embedding.ratio_scale=5", "binary", None),
        (
            "embedding.ratio_scale=5 embedding.adapt_below=0",
            "binary",
            "embedding.ratio_scale=5 has no effect: embedding.adapt_below=0 starts no row with ratios",
        ),
        ("batches.truncation=tail", "binary", None),
        ("data.pseudo_labels=run data.pseudo_weight=0.5", "binary", None),
        (
            "data.pseudo_targets=hard data.pseudo_weight=0.5",
            "binary",
            "data.pseudo_targets=hard data.pseudo_weight=0.5 has no effect: data.pseudo_labels=null names no run",
        ),
        (f"{OWN} model=bow data.unlabeled=b.csv", "binary", "data.unlabeled=b.csv has no effect: without data.pseudo"),
        (f"{OWN} data.unlabeled=b.csv training.vat=1", "binary", None),
        (f"{OWN} data.unlabeled=b.csv tokenizer.unlabeled=true", "binary", None),
        (f"{OWN} data.unlabeled=b.csv data.pseudo_labels=run", "binary", None),
        (f"{OWN} data.unlabeled=b.csv embedding=word2vec", "binary", None),
        (f"{OWN} data.unlabeled=b.csv embedding=word2vec embedding.unlabeled=false", "binary", "data.unlabeled=b.csv"),
        ("training.adversarial=1 training.perturbation_norm=3", "binary", None),
        (
            "training.entropy=1 training.perturbation_norm=3",
            "binary",
            "training.perturbation_norm=3 has no effect: only",
        ),
        ("training.vat=1 batches.unlabeled_batch_size=3", "binary", None),
        (
            "training.adversarial=1 batches.unlabeled_batch_size=3",
            "binary",
            "batches.unlabeled_batch_size=3 has no effect: only",
        ),
        ("regularize=false training.vat=0.5", "binary", "training.vat=0.5 has no effect: regularize=false"),
        (
            "model=bow training.learning_rate=0.5 training.schedule=cosine",
            "binary",
            "training.learning_rate=0.5 training.schedule=cosine has no effect: training.solver=newton computes the",
        ),
        ("model=bow training.learning_rate=0.5 training.solver=minibatch", "binary", None),
        ("model=bow training.l2_path=[1]", "binary", None),
        ("training.l2_path=[1]", "binary", "training.l2_path=[1] has no effect: training.solver=minibatch"),
        ("model.dropout=0.3 embedding.max_norm=2 seed=3", "binary", None),
        (
            "regularize=false model.dropout=0.3 embedding.max_norm=2 model.hidden_size=3",
            "binary",
            "model.dropout=0.3 embedding.max_norm=2 has no effect: regularize=false",
        ),
        ("model=bow batches.truncation=tail", "binary", "batches.truncation=tail has no effect"),
    ],
)
def test_settings_without_effect_are_told(overrides: str, task: Task, note: str | None) -> None:
    given = overrides.split()
    found = idle_settings(given, read_experiment(composed(*given)).config, corpus_of(task, "train", "test"))
    assert len(found) == (note is not None)
    assert all(told.startswith(note or "") for told in found)


@pytest.mark.parametrize(
    ("overrides", "splits", "notes"),
    [
        (f"data.validation_fraction=0.2 data.test_fraction=0.3 {HELD_OUT}", ["train"], []),
        (f"data.validation_fraction=0.2 {HELD_OUT}", ["train", "test"], []),
        (
            f"data.test_fraction=0.3 {HELD_OUT}",
            ["train", "test"],
            ["data.test_fraction=0.3 has no effect: the corpus has test documents of its own"],
        ),
        (
            f"data.validation_fraction=0.2 {HELD_OUT}",
            ["train", "validation"],
            ["data.validation_fraction=0.2 has no effect: the corpus has validation documents of its own"],
        ),
        (
            f"data.validation_fraction=0.2 {HELD_OUT}",
            ["train", "validation", "test"],
            [
                f"data.validation_fraction=0.2 {HELD_OUT} has no effect: the corpus has validation and test documents "
                "of its own"
            ],
        ),
        (f"evaluation.folds=3 {HELD_OUT}", ["train", "validation", "test"], []),
    ],
)
def test_ways_to_divide_what_is_divided_are_told(overrides: str, splits: list[str], notes: list[str]) -> None:
    given = [*OWN.split(), *overrides.split()]
    config = read_experiment(composed(*given)).config
    assert idle_settings(given, config, corpus_of("multilabel", *splits)) == notes
