"""Run directories with results, written by hand instead of trained."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from helpers.predictions import predictions
from newsreel.evaluation.context import ScoreContext
from newsreel.evaluation.predictions import Predictions
from newsreel.evaluation.statistics import Outcomes

BOW, LSTM = "newsreel.models.bow.BagOfWords", "newsreel.models.recurrent.RecurrentNetwork"


def write_tested_run(
    folder: Path,
    overrides: str,
    preds: Sequence[Any],
    targets: Sequence[Any],
    fit_s: float = 1.0,
    val: float = 0.5,
    probabilities: Any = None,
    names: Sequence[str] = ("sport", "politics"),
    network: str = BOW,
    settings: dict[str, Any] | None = None,
    training_documents: Sequence[int] = (60, 40),
    results: dict[str, float] | None = None,
) -> Predictions:
    """Write a run whose test documents have one label each, or lists of them; returns its predictions.

    overrides: as typed, model=… and seed=… among them. probabilities: (N, L); None: 0.8 for what is predicted. val:
    validation metric. settings: more of the section `model`. results: more of metrics.json.
    """
    several = isinstance(targets[0], list)
    typed = dict(override.split("=") for override in overrides.split())
    size = (len(targets), len(names))
    preds_array = np.asarray(preds)
    if probabilities is None:
        indicators = preds_array if several else preds_array[:, None] == np.arange(size[1])
        probabilities = np.where(indicators, 0.8, 0.2 / max(1, size[1] - 1)).astype(np.float32)
    tested = predictions(
        [(f"text {row}", labels) for row, labels in enumerate(targets)],
        preds_array,
        probabilities,
        "multilabel" if several else "multiclass" if size[1] > 2 else "binary",
    )
    tested = replace(tested, corpus=replace(tested.corpus, label_names=tuple(names)))
    metric = tested.corpus.metric
    outcomes = Outcomes.of(tested.preds, tested.targets)
    folder.mkdir(parents=True)
    config = {"seed": int(typed.get("seed", 1)), "model": {"_target_": network, **(settings or {})}}
    config |= {"data": {"train_limit": int(typed["data.train_limit"]) if "data.train_limit" in typed else None}}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    command = {"choices": {"model": typed["model"], "data": "imdb"}, "overrides": overrides.split(), "directory": "/"}
    (folder / "command.json").write_text(json.dumps(command))
    labels = {"task": tested.corpus.task, "metric": metric, "names": names, "titles": [], "parents": []}
    labels["training_documents"] = training_documents
    (folder / "labels.json").write_text(json.dumps(labels))
    metrics: dict[str, Any] = {
        f"val/{metric}": val,
        f"test/{metric}": round(outcomes.score, 7),
        **{f"test/{name}": value for name, value in ScoreContext.of(tested, 0).results().items()},
        "test/ece": 0.125,
        "time/fit_s": fit_s,
        "model/parameters": 10,
        "throughput/test_documents_per_s": 123.0,
        "memory/peak_rss_mb": 456.0,
        **(results or {}),
        "environment": {"corpus_fingerprint": "the same"},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "tokenizer.json").write_bytes(b"x" * 1_000)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"x" * 2_000_000)
    tested.write(folder / "predictions.parquet")
    return tested


def mistaken(targets: Sequence[int], rows: Sequence[int]) -> list[int]:
    """Binary predictions that are wrong for these documents."""
    wrong = set(rows)
    return [1 - target if row in wrong else target for row, target in enumerate(targets)]
