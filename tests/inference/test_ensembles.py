"""Ensembles with weights, fitted and given, and as directories of their own."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit
from sklearn.metrics import f1_score, log_loss

import newsreel
from helpers.configs import compose_config, own
from helpers.project import Command
from helpers.shared_runs import LSTM, SharedRuns
from helpers.tiny_runs import evaluated, exported, figures
from newsreel.core.errors import UserError
from newsreel.inference import weighting
from newsreel.inference.predict import predict
from newsreel.reporting.comparison import Comparison
from newsreel.runs.ensemble import open_ensemble
from newsreel.runs.records import find_runs

EASY = ["data.difficulty=0.6", "data.num_documents=300", "training.max_epochs=4"]
PAIR = [[*LSTM, *EASY, "training.learning_rate=0.03"], ["model=bow", *EASY]]
TOPICS = ["model=bow", "data.num_labels=4", "data.multilabel=true", "evaluation.thresholds=global"]
TOPIC_PAIR = [TOPICS, [*TOPICS, "seed=2", "training.learning_rate=0.01"]]
SAME_WORDS = [["model=bow", *EASY], ["model=bow", "model.weighting=count", *EASY]]


def run_list(runs: list[Path]) -> str:
    return f"run=[{','.join(map(str, runs))}]"


def scores(folder: Path) -> np.ndarray:
    return pl.read_parquet(folder / "predictions.parquet").select(pl.col("^p\\(.*$")).to_numpy().astype(np.float64)


def targets_of(folder: Path) -> np.ndarray:
    """(N,) bool: whether documents have the second of two labels."""
    return (pl.read_parquet(folder / "predictions.parquet")["labels"] == "label1").to_numpy()


def ask(capsys: pytest.CaptureFixture[str], *overrides: str) -> list[dict[str, Any]]:
    predict(own(compose_config("predict", *overrides)))
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def pair(shared_runs: SharedRuns) -> list[Path]:
    return [shared_runs.run(*overrides) for overrides in PAIR]


@pytest.fixture
def saved(tmp_path: Path, shared_runs: SharedRuns) -> Path:
    """An ensemble with its members inside it."""
    runs = [shared_runs.copy(tmp_path / "both" / str(n), *overrides) for n, overrides in enumerate(SAME_WORDS)]
    evaluated(tmp_path / "results", run_list(runs), "weights=fit", f"save={tmp_path / 'both'}")
    return tmp_path / "both"


def test_weights_are_fitted_on_validation_documents(tmp_path: Path, pair: list[Path]) -> None:
    results = evaluated(tmp_path / "fitted", run_list(pair), "weights=fit")
    members = [results["runs"][str(run.resolve())] for run in pair]
    factors = [member["weight"] / member["temperature"] for member in members]
    assert sum(member["weight"] for member in members) == pytest.approx(1, abs=1e-6)
    for split, stage in (("validation", "val"), ("test", "test")):
        for number, run in enumerate(pair):
            evaluated(tmp_path / f"{split}{number}", f"run={run}", f"split={split}")
        folders = [tmp_path / f"{split}{number}" for number in range(2)]
        log_odds = np.array([logit(scores(folder)[:, 1]) for folder in folders])  # (2, N)
        targets = targets_of(folders[0])
        combined = expit(np.tensordot(factors, log_odds, axes=1))
        assert results[f"{stage}/loss"] == pytest.approx(log_loss(targets, combined), abs=1e-5)
        assert results[f"{stage}/accuracy"] == pytest.approx(((combined > 0.5) == targets).mean(), abs=1e-6)
        if split == "validation":
            grid = np.linspace(0, 4, 81)
            signed = np.where(targets, log_odds, -log_odds)  # (2, N)
            losses = [np.logaddexp(0, -a * signed[0] - b * signed[1]).mean() for a in grid for b in grid]
            assert min(losses) - 0.002 < results["val/loss"] <= min(losses) + 1e-6
            mean = np.mean([scores(folder)[:, 1] for folder in folders], axis=0)
            assert results["val/equal_weights_loss"] == pytest.approx(log_loss(targets, mean), abs=1e-5)
            assert results["val/equal_weights_accuracy"] == pytest.approx(((mean > 0.5) == targets).mean(), abs=1e-6)
    assert np.allclose(scores(tmp_path / "fitted")[:, 1], combined, atol=1e-6)
    again = evaluated(tmp_path / "again", run_list(pair), "weights=fit")
    assert (again["runs"], figures(again, "test")) == (results["runs"], figures(results, "test"))


def test_the_test_documents_are_read_after_the_fit(
    tmp_path: Path, pair: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from newsreel.inference import eval_runs, evaluate

    splits: list[str] = []
    original = eval_runs.encode_split

    def encode(corpus: Any, split: str, tokenizer: Any) -> Any:
        splits.append(split)
        return original(corpus, split, tokenizer)

    def fit(*arguments: Any) -> Any:
        fitted = weighting.fit_weights(*arguments)
        splits.append("fitted")
        return fitted

    monkeypatch.setattr(eval_runs, "encode_split", encode)
    monkeypatch.setattr(evaluate, "fit_weights", fit)
    evaluated(tmp_path / "fitted", run_list(pair), "weights=fit")
    assert splits == ["validation", "validation", "fitted", "test", "test"]


def test_thresholds_are_fitted_to_the_combined_scores(tmp_path: Path, shared_runs: SharedRuns) -> None:
    runs = [shared_runs.run(*overrides) for overrides in TOPIC_PAIR]
    results = evaluated(tmp_path / "fitted", run_list(runs), "weights=fit", f"save={tmp_path / 'both'}")
    validated = evaluated(tmp_path / "validation", f"run={tmp_path / 'both'}", "split=validation")
    assert figures(validated, "val").items() <= figures(results, "val").items()
    table = pl.read_parquet(tmp_path / "validation" / "predictions.parquet")
    targets = np.array([np.isin([f"label{n}" for n in range(4)], row) for row in table["labels"].to_list()])
    combined = scores(tmp_path / "validation")
    best = max(
        f1_score(targets, combined > threshold, average="micro", zero_division=0)
        for threshold in np.unique(combined) - 1e-9
    )
    assert results["val/f1_micro"] == pytest.approx(best, abs=1e-6)
    rule = json.loads((tmp_path / "both" / "ensemble.json").read_text())["decisions"]
    assert (rule["rule"], len(set(rule["thresholds"]))) == ("global", 1)
    preds = [np.isin([f"label{n}" for n in range(4)], row) for row in table["predicted"].to_list()]
    assert (np.array(preds) == (combined > rule["thresholds"][0])).all()


def test_given_weights_are_of_probabilities(tmp_path: Path, pair: list[Path]) -> None:
    weighted = evaluated(tmp_path / "weighted", run_list(pair), "weights=[0.75,0.25]")
    for number, run in enumerate(pair):
        evaluated(tmp_path / str(number), f"run={run}")
    mean = 0.75 * scores(tmp_path / "0") + 0.25 * scores(tmp_path / "1")
    assert np.allclose(scores(tmp_path / "weighted"), mean, atol=1e-6)
    assert [weighted["runs"][str(run.resolve())]["weight"] for run in pair] == [0.75, 0.25]
    equal = evaluated(tmp_path / "equal", run_list(pair))
    half = evaluated(tmp_path / "half", run_list(pair), "weights=[0.5,0.5]")
    assert figures(equal, "test") == figures(half, "test")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["weights=[0.5,0.3,0.2]"], "weights has 3 numbers, but run has 2 directories"),
        (["weights=[0.5,0.6]"], r"the sum of the weights is 1\.1, not 1\. Give numbers"),
        (["weights=[1.5,-0.5]"], "a weight is negative"),
        (["weights=fitted"], "weights is fitted: it must be one of equal, fit"),
        (["save=both", "split=validation"], "leave out data and split"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, pair: list[Path], overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        evaluated(tmp_path / "refused", run_list(pair), *overrides)
    for setting, name in (("weights=fit", "weights"), ("save=both", "save=both")):
        with pytest.raises(UserError, match=f"{name} is for several runs"):
            evaluated(tmp_path / "refused", f"run={pair[0]}", setting)
    assert not (tmp_path / "refused").exists()


def test_documents_that_a_member_may_have_been_trained_on_are_refused(tmp_path: Path, shared_runs: SharedRuns) -> None:
    first, other_split = shared_runs.run(*PAIR[1]), shared_runs.run(*PAIR[1], "data.split_seed=7")
    with pytest.raises(UserError, match=f"same validation documents, but {other_split} and {first} have different"):
        evaluated(tmp_path / "fitted", run_list([first, other_split]), "weights=fit")
    evaluated(tmp_path / "equal", run_list([first, other_split]))  # the test documents are the same
    changed = shared_runs.copy(tmp_path / "changed", *PAIR[0])
    metrics = json.loads((changed / "metrics.json").read_text())
    metrics["environment"]["corpus_fingerprint"] = "of other documents"
    (changed / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=f"{changed} was trained on other documents than there are now"):
        evaluated(tmp_path / "fitted", run_list([first, changed]), "weights=fit")
    (changed / "metrics.json").unlink()
    with pytest.raises(UserError, match=f"{changed} was not finished"):
        evaluated(tmp_path / "fitted", run_list([first, changed]), "weights=fit")


@pytest.mark.slow
def test_a_saved_ensemble_is_evaluated_as_it_was(tmp_path: Path, saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    before = json.loads((saved / "metrics.json").read_text())
    content = json.loads((saved / "ensemble.json").read_text())
    assert [member["run"] for member in content["members"]] == ["0", "1"]  # relative: inside it
    moved = Path(shutil.move(saved, tmp_path / "moved"))
    results = evaluated(tmp_path / "later", f"run={moved}")
    assert figures(results, "test") == figures(before, "test")
    assert "when saved" in caplog.text
    assert "the same metrics" in caplog.text
    assert np.array_equal(scores(tmp_path / "later"), scores(moved))
    with pytest.raises(UserError, match=r"has a file ensemble\.json, which would be lost"):
        evaluated(tmp_path / "more", run_list([moved / "0", moved / "1"]), f"save={moved}")
    with pytest.raises(UserError, match="is an ensemble of runs, and a single run is needed here"):
        evaluated(tmp_path / "more", run_list([moved, moved / "1"]))


def test_a_saved_ensemble_predicts_as_it_is_evaluated(
    tmp_path: Path, shared_runs: SharedRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [shared_runs.run(*overrides) for overrides in TOPIC_PAIR]
    documents = tmp_path / "films.csv"
    documents.write_text("text,label\nbaba bafa niva,label0\nbamu niva,label1\nzorb,label2\n")
    data = ["data=files", f"data.test={documents}", "data.separator=';'"]
    for name, weights in (("equal", "equal"), ("fit", "fit"), ("given", "[0.9,0.1]")):
        directory = tmp_path / name
        evaluated(tmp_path / f"results {name}", run_list(runs), f"weights={weights}", f"save={directory}")
        assert json.loads((directory / "ensemble.json").read_text())["members"][0]["run"] == str(runs[0].resolve())
        evaluated(tmp_path / f"files {name}", f"run={directory}", *data)
        table = pl.read_parquet(tmp_path / f"files {name}" / "predictions.parquet")
        order = table["labels"].list.first().arg_sort()  # that of the lines
        answers = newsreel.load(directory)(["baba bafa niva", "bamu niva", "zorb"])
        assert [answer["labels"] for answer in answers] == table["predicted"][order].to_list()
        probabilities = [[answer["probabilities"][f"label{n}"] for n in range(4)] for answer in answers]
        assert np.allclose(probabilities, scores(tmp_path / f"files {name}")[order], atol=1e-6)
        asked = ask(capsys, f"run={directory}", f"input={documents}")
        assert [answer["probabilities"] for answer in asked] == [answer["probabilities"] for answer in answers]


@pytest.mark.slow
def test_words_are_explained_by_the_weighted_mean_of_the_members(
    saved: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, pair: list[Path]
) -> None:
    text = "text=baba bafa niva unheardof"
    content = json.loads((saved / "ensemble.json").read_text())
    (together,) = ask(capsys, f"run={saved}", text, "explain=true", "explain_label=label1")
    expected, logits = np.zeros(4), 0.0
    for number, member in enumerate(content["members"]):
        (alone,) = ask(capsys, f"run={saved / str(number)}", text, "explain=true", "explain_label=label1")
        factor = member["weight"] / member["temperature"]
        expected += factor * np.array([value for _, value in alone["attributions"]])
        logits += factor * alone["logit"]
    assert [word for word, _ in together["attributions"]] == [word for word, _ in alone["attributions"]]
    assert [value for _, value in together["attributions"]] == pytest.approx(expected, abs=1e-6)
    assert together["logit"] == pytest.approx(logits, abs=1e-6)
    assert together["probabilities"]["label1"] == pytest.approx(expit(logits), abs=1e-6)
    evaluated(tmp_path / "mixed", run_list(pair), f"save={tmp_path / 'other'}")
    content = json.loads((tmp_path / "other" / "ensemble.json").read_text())
    assert content["average"] == "probabilities"


@pytest.mark.slow
def test_members_with_other_words_are_not_explained(
    tmp_path: Path, shared_runs: SharedRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [shared_runs.run(*PAIR[1]), shared_runs.run(*PAIR[1], "tokenizer=ngrams")]
    evaluated(tmp_path / "results", run_list(runs), f"save={tmp_path / 'both'}")
    ask(capsys, f"run={tmp_path / 'both'}", "text=baba")
    with pytest.raises(UserError, match="have different vocabularies, so that their words cannot be explained"):
        ask(capsys, f"run={tmp_path / 'both'}", "text=baba", "explain=true")
    runs = [shared_runs.run(*PAIR[1]), shared_runs.run(*SAME_WORDS[1], "batches.max_tokens=2")]
    evaluated(tmp_path / "more results", run_list(runs), f"save={tmp_path / 'cut'}")
    ask(capsys, f"run={tmp_path / 'cut'}", "text=baba bafa", "explain=true")
    with pytest.raises(UserError, match="read different tokens of a document, since they truncate it"):
        ask(capsys, f"run={tmp_path / 'cut'}", "text=baba bafa niva", "explain=true")


def test_members_that_are_missing_or_have_changed_are_named(tmp_path: Path, saved: Path) -> None:
    checkpoint = saved / "1" / "checkpoints" / "best.ckpt"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes((saved / "0" / "checkpoints" / "best.ckpt").read_bytes())
    with pytest.raises(UserError, match=f"{checkpoint} has changed since the ensemble {saved} was saved. Restore it"):
        open_ensemble(saved)
    checkpoint.unlink()
    with pytest.raises(UserError, match=f"{saved / '1'}, a member of the ensemble {saved}, is missing: it has no"):
        open_ensemble(saved)
    checkpoint.write_bytes(content)
    open_ensemble(saved)
    file = saved / "ensemble.json"
    good = json.loads(file.read_text())
    for change, message in (
        ({"format": 2}, "has format 2, and this version of newsreel opens format 1"),
        ({"members": good["members"][:1]}, "is not as it was saved: the sum of the weights"),
        ({"members": []}, "is not as it was saved"),
        ({"average": "medians"}, "is not as a run has written it"),
        ({"decisions": {**good["decisions"], "thresholds": [0.5]}}, "its decision rule is not one for 2 labels"),
        (
            {"members": [{**each, "temperature": 0.0} for each in good["members"]]},
            "a temperature is not a number",
        ),
    ):
        file.write_text(json.dumps({**good, **change}))
        with pytest.raises(UserError, match=message):
            open_ensemble(saved)


def test_other_commands_refuse_or_show_an_ensemble(tmp_path: Path, saved: Path, command_here: Command) -> None:
    with pytest.raises(UserError, match="is an ensemble of runs, and a single run is needed here"):
        exported(tmp_path / "exported", f"run={saved}")
    text = Comparison(find_runs([saved])).text()
    results = json.loads((saved / "metrics.json").read_text())
    (row,) = [line for line in text.splitlines() if line.startswith("| ensemble of bow, bow")]
    assert f"{results['test/accuracy']:.4f}" in row
    assert "3 finished" in text  # with its members
    assert "ensemble." not in text  # the others have no such setting
    members = [json.loads((saved / name / "metrics.json").read_text()) for name in ("0", "1")]
    assert results["model/parameters"] == sum(member["model/parameters"] for member in members)
    shown = command_here("scripts/compare.py", str(saved))
    assert shown.returncode == 0, shown.stderr
    (saved / "ensemble.json").write_text("{")
    broken = Comparison(find_runs([saved])).text()
    assert "2 finished, 1 failed" in broken
