"""summary.html from run directories that the tests write by hand."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from helpers.html_page import Tags, require_self_contained, rows_of
from helpers.project import Command
from helpers.shared_runs import SharedRuns
from helpers.tested_runs import LSTM, mistaken, write_tested_run
from helpers.tiny_runs import SMALL_LSTM, evaluated
from newsreel.reporting.charts import Axis, parallel_chart
from newsreel.reporting.comparison import Comparison
from newsreel.reporting.summary_page import CorpusPart, shown_value, write_summary_page
from newsreel.runs.records import find_runs

TARGETS = [row % 2 for row in range(60)]
HOSTILE = "<script>alert(1)</script>\"' onload=x \u202eevil\u200f {{ 7 * 7 }} &amp;"


def page_of(runs: Path, output: Path, title: str = "Sweep") -> str:
    output.mkdir(exist_ok=True)
    write_summary_page(Comparison(find_runs([runs])), output, title)
    return (output / "summary.html").read_text(encoding="utf-8")


def write_three(folder: Path) -> None:
    """Two seeds of a bag and of an LSTM that tie, and a linear model that is much worse."""
    for seed in (1, 2):
        write_tested_run(folder / f"bow{seed}", f"model=bow seed={seed}", mistaken(TARGETS, range(4 + seed)), TARGETS,
                         2.0, 0.8)  # fmt: skip
        write_tested_run(folder / f"lstm{seed}", f"model=lstm seed={seed}", mistaken(TARGETS, range(4)), TARGETS,
                         30.0 + seed, 0.9, network=LSTM)  # fmt: skip
    write_tested_run(folder / "rnn", "model=rnn", mistaken(TARGETS, range(28)), TARGETS, 40.0, 0.6, network=LSTM)


def test_the_page_answers_which_model_at_what_cost(tmp_path: Path) -> None:
    write_three(tmp_path / "runs")
    page = page_of(tmp_path / "runs", tmp_path / "page")
    text = require_self_contained(page).text
    assert "No model here is significantly better than bow (test accuracy 0.9083, 95% interval " in text
    assert "lstm has the best validation score, and its test accuracy of 0.9333 does not differ significantly" in text
    assert "It trains in 2 s, 16 times as fast as lstm." in text
    assert "python train.py -m model=bow seed=1,2" in text
    head, *rows = rows_of(page, "Means over seeds")
    assert head[1] == "model"
    models = {row[1].removesuffix("recommended"): row for row in rows}
    assert list(models) == ["lstm", "bow", "rnn"]
    metrics = [json.loads((tmp_path / "runs" / f"bow{seed}" / "metrics.json").read_text()) for seed in (1, 2)]
    mean = np.mean([each["test/accuracy"] for each in metrics])
    assert models["bow"][2:5] == ["1, 2", "0.8000", f"{mean:.4f}"]
    assert models["bow"][6].startswith("tie (p = ")
    assert models["bow"][7:] == ["2.0", "123", "2.00", "456"]  # seconds, documents/s, size and memory in MB
    assert models["rnn"][6] == "worse (p < 0.0001)"
    assert models["lstm"][6] == "best by validation"


def test_every_section_has_its_figures_as_text_too(tmp_path: Path) -> None:
    write_three(tmp_path / "runs")
    page = page_of(tmp_path / "runs", tmp_path / "page")
    text = Tags(page).text
    assert "Of 60 test documents, lstm and bow both get 55 right, and both fail on 4. Only lstm gets 1 right" in text
    agreement = rows_of(page, "Share of test documents")
    assert ["lstm", "bow", "98.3%", "0.9667"] in agreement
    labels = rows_of(page, "F1 of each label")
    assert labels[0] == ["label", "test documents", "lstm", "bow", "rnn"]
    assert rows_of(page, "Expected calibration error")[1] == ["lstm", "0.1250"]
    assert ["lstm", "0.8000", "0.9333", "120"] in rows_of(page, "Decisions in bins")
    assert len(rows_of(page, "Finished runs")) == 6
    assert "The texts of the documents are left out: the corpus cannot be read here (" in text
    images = [attributes for tag, attributes in Tags(page).attributes if tag == "svg"]
    assert len(images) == 3  # cost, calibration and runs
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in images)
    assert page.count("<table") == page.count("<caption>")
    assert page.count("<th ") == page.count('<th scope="')


def test_p_values_are_those_of_summary_md(tmp_path: Path) -> None:
    write_three(tmp_path / "runs")
    comparison = Comparison(find_runs([tmp_path / "runs"]))
    (frame,) = comparison.parts()
    part = CorpusPart.of(comparison, frame)
    assert list(part.p_values.values())[1:] == list(comparison.against_best["imdb"].p_values.values())


def test_hostile_names_settings_and_messages_are_shown_and_not_interpreted(tmp_path: Path) -> None:
    names = (HOSTILE, "</style><b>", "</script>")
    for number in (1, 2):
        write_tested_run(tmp_path / "runs" / str(number), f"model={number}", [0, 1, 2] * 20, [0, 1, 2] * 20,
                         names=names, settings={"note": f"{HOSTILE}{number}"}, training_documents=(1,) * 3)  # fmt: skip
    failed = tmp_path / "runs" / "3"
    failed.mkdir()
    (failed / "failed.json").write_text(json.dumps({"message": HOSTILE}))
    page = page_of(tmp_path / "runs", tmp_path / "page", HOSTILE)
    tags = require_self_contained(page)
    assert "\u202e" not in page
    assert "\u200f" not in page
    shown = "<script>alert(1)</script>\"' onload=x \ufffdevil\ufffd {{ 7 * 7 }} &amp;"
    assert tags.texts.count(shown) >= 4  # title, heading, label and message
    assert "</style><b>" in tags.texts


def test_runs_without_results_are_listed_with_their_reasons(tmp_path: Path) -> None:
    write_tested_run(tmp_path / "runs" / "0", "model=bow", TARGETS, TARGETS)
    for name, file, message in (("1", "failed.json", "it is too much"), ("2", "pruned.json", "below the median")):
        (tmp_path / "runs" / name).mkdir()
        content = {"message": message, "overrides": ["model=lstm", "seed=3"], "choices": {"model": "lstm"}}
        (tmp_path / "runs" / name / file).write_text(json.dumps(content))
    _, failed, pruned = rows_of(page_of(tmp_path / "runs", tmp_path / "page"), "Runs that failed")
    assert failed[1:] == ["model=lstm", "3", "failed", "it is too much"]
    assert pruned[1:] == ["model=lstm", "3", "pruned", "below the median"]
    (tmp_path / "runs" / "0" / "metrics.json").unlink()
    only_failures = page_of(tmp_path / "runs", tmp_path / "page")
    assert "0 finished runs, 3 without results" in Tags(only_failures).text


def test_numbers_of_training_documents_make_a_curve_and_do_not_compete(tmp_path: Path) -> None:
    for size, num_wrong in ((100, 25), (200, 20), (400, 5)):
        write_tested_run(tmp_path / "runs" / str(size), f"model=bow data.train_limit={size}",
                         mistaken(TARGETS, range(num_wrong)), TARGETS, val=size / 1000,
                         results={"documents/train": size})  # fmt: skip
    page = page_of(tmp_path / "runs", tmp_path / "page")
    text = Tags(page).text
    assert "bow is the only model here (test accuracy 0.9167, " in text
    assert "More documents would probably help bow: from 200 to 400 training documents its test accuracy" in text
    assert "+0.2500" in text
    curve = rows_of(page, "Test accuracy by number")
    assert [row[:2] for row in curve[1:]] == [["bow", "100"], ["bow", "200"], ["bow", "400"]]
    assert len(rows_of(page, "Means over seeds")) == 2
    assert [row[1] for row in rows_of(page, "Finished runs")[1:]] == [
        "bow on 100 documents",
        "bow on 200 documents",
        "bow",
    ]


def test_two_settings_that_vary_are_drawn_as_parallel_coordinates(tmp_path: Path) -> None:
    for number, (dropout, kind) in enumerate([(0, "nb"), (0, "tf"), (0.5, "nb"), (0.5, "tf")]):
        write_tested_run(tmp_path / "runs" / str(number), f"model=bow model.dropout={dropout} model.weighting={kind}",
                         mistaken(TARGETS, range(number)), TARGETS, settings={"dropout": dropout, "weighting": kind},
                         val=number / 10)  # fmt: skip
    page = page_of(tmp_path / "runs", tmp_path / "page")
    chart = page.partition('aria-label="Settings of each run')[2].partition("</svg>")[0]
    assert chart.count("<polyline") == 4
    assert 'class="run q4"' in chart
    for label in ("model.dropout", "model.weighting", "validation accuracy", "nb", "tf"):
        assert f">{label}</text>" in chart
    assert "dropout=0.5, weighting=tf" in Tags(page).text


def test_documents_that_every_run_contradicts_are_named(tmp_path: Path) -> None:
    sure = np.full((60, 2), 0.5, dtype=np.float32)
    sure[7] = 0.97, 0.03  # its label is 1
    for name in ("bow", "lstm"):
        write_tested_run(tmp_path / "runs" / name, f"model={name}", mistaken(TARGETS, [7]), TARGETS,
                         probabilities=sure)  # fmt: skip
    page = page_of(tmp_path / "runs", tmp_path / "page")
    assert (
        "1 test documents have a label that every run contradicts with a probability of at least 0.9" in Tags(page).text
    )
    assert rows_of(page, "By their numbers in predictions.parquet")[1] == ["7", "politics", "sport", "0.9700"]


def test_limits_of_a_model_are_those_of_all_its_seeds(tmp_path: Path) -> None:
    wrong = {"bow": ([4], [4, 8]), "lstm": ([12], [16])}
    for model, runs in wrong.items():
        for seed, rows in enumerate(runs, 1):
            folder = tmp_path / "runs" / f"{model}{seed}"
            write_tested_run(folder, f"model={model} seed={seed}", mistaken(TARGETS, rows), TARGETS)
            own = f"- No label {model}.\n" if seed == 1 or model == "bow" else ""
            (folder / "report.md").write_text(f"# Run\n\n## Limits\n\n- On 120.\n- Of seed {seed}.\n{own}")
    text = Tags(page_of(tmp_path / "runs", tmp_path / "page")).text
    assert "On 120." in text
    assert "No label bow." in text
    assert "No label lstm." not in text
    assert "Of seed" not in text


def test_texts_and_limits_come_from_the_runs_themselves(tmp_path: Path, shared_runs: SharedRuns) -> None:
    overrides = ("model=bow", "data.difficulty=1")
    shared_runs.copy(tmp_path / "runs" / "a", *overrides)
    shared_runs.copy(tmp_path / "runs" / "b", *overrides, "model.weighting=nb")
    page = page_of(tmp_path / "runs", tmp_path / "page")
    text = Tags(page).text
    assert "It predicts one of these 2 labels for every document" in text
    assert "The texts of the documents are left out" not in text
    assert "Words are not coloured" not in text
    for run in ("a", "b"):
        metrics = tmp_path / "runs" / run / "metrics.json"
        results = json.loads(metrics.read_text())
        results["environment"]["corpus_fingerprint"] = "another"
        metrics.write_text(json.dumps(results))
    again = Tags(page_of(tmp_path / "runs", tmp_path / "page")).text
    assert "The texts of the documents are left out: the corpus has changed since the run." in again


@pytest.mark.slow
def test_both_models_colour_the_words_of_what_only_one_gets_right(tmp_path: Path, shared_runs: SharedRuns) -> None:
    corpus = ("data.difficulty=0.7", "data.num_documents=200")
    shared_runs.copy(tmp_path / "runs" / "bag", "model=bow", *corpus)
    shared_runs.copy(tmp_path / "runs" / "lstm", *SMALL_LSTM, *corpus)
    page = page_of(tmp_path / "runs", tmp_path / "page")
    require_self_contained(page)
    tables = {name: pl.read_parquet(tmp_path / "runs" / name / "predictions.parquet") for name in ("bag", "lstm")}
    only = {row for row in range(40) if len({tables[name]["predicted"][row] for name in tables}) == 2}
    shown = re.findall(r"<summary>Words that decide on document (\d+), labelled.*?</details>", page, re.DOTALL)
    assert {int(row) for row in shown} <= only
    assert 0 < len(shown) <= 16
    for part in re.findall(r"<summary>Words that decide on document .*?</details>", page, re.DOTALL):
        row = int(re.findall(r"document (\d+),", part)[0])
        said = re.findall(r'<b dir="auto">.*?</b>: words .*?<bdi>(.*?)</bdi>', part)
        assert sorted(said) == sorted(tables[name]["predicted"][row] for name in tables)
        assert len(re.findall(r'<p class="words"', part)) == 2
    members = f"run=[{tmp_path / 'runs' / 'bag'},{tmp_path / 'runs' / 'lstm'}]"
    evaluated(tmp_path / "both", members, "weights=fit", f"save={tmp_path / 'runs' / 'ensemble'}")
    again = page_of(tmp_path / "runs", tmp_path / "page")
    assert "ensemble of bow, lstm" in [row[1].removesuffix("recommended") for row in rows_of(again, "Means over seeds")]
    assert again.count("Words that decide on document") == len(shown)
    (tmp_path / "runs" / "lstm" / "checkpoints" / "best.ckpt").unlink()
    assert "Words are not coloured: " in Tags(page_of(tmp_path / "runs", tmp_path / "page")).text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        ([], "[]"),
        ([64, 32], "[64, 32]"),
        (0.123456, "0.1235"),
        ("outputs/sweep", "outputs/sweep"),
        ("outputs/baselines/imdb/1f9a/7", "…/1f9a/7"),
        (["/home/ann/outputs/imdb/bow", "outputs/baselines/imdb/1f9a/7"], "…/imdb/bow, …/1f9a/7"),
    ],
)
def test_of_long_paths_the_ends_are_shown(value: Any, shown: str) -> None:
    assert shown_value(value) == shown


def test_runs_with_one_and_the_same_score_are_lines_too() -> None:
    axes = [Axis("model", ["bow", "lstm"]), Axis("data.limit", [9, 9]), Axis("validation accuracy", [1.0, 1.0])]
    chart = parallel_chart(axes, "accuracy")
    assert chart.count('class="run ') == 2
    assert ">1<" in chart


def test_what_is_typed_for_a_sweep_is_not_part_of_the_command_that_repeats_a_run(tmp_path: Path) -> None:
    for model in ("bow", "lstm"):
        write_tested_run(
            tmp_path / "runs" / model,
            f"sweep=baselines sweep/ladder=own model={model} data.limit=9",
            mistaken(TARGETS, range(4)),
            TARGETS,
        )
    page = page_of(tmp_path / "runs", tmp_path / "page")
    assert "python train.py model=bow data.limit=9 seed=1" in Tags(page).text
    assert "sweep=" not in page
    assert "sweep/" not in page


def test_points_of_learning_curves_are_not_among_the_models_that_are_compared(tmp_path: Path) -> None:
    write_three(tmp_path / "runs")
    few = {"documents/train": 30.0}
    wrong = mistaken(TARGETS, range(9))
    write_tested_run(tmp_path / "runs" / "part", "model=bow data.train_limit=30", wrong, TARGETS, results=few)
    for metrics in (tmp_path / "runs").glob("*[0-9n]/metrics.json"):
        metrics.write_text(json.dumps({**json.loads(metrics.read_text()), "documents/train": 60}))
    (frame,) = (comparison := Comparison(find_runs([tmp_path / "runs"]))).parts()
    part = CorpusPart.of(comparison, frame)
    assert part.survey is not None
    assert [each.name for each in part.survey.surveyed] == ["lstm", "bow", "rnn"]
    assert [model.name for model in part.models] == ["lstm", "bow", "rnn", "bow on 30 documents"]
    assert len(part.timed) == 3


def test_an_ensemble_whose_training_documents_are_not_counted_is_compared(tmp_path: Path) -> None:
    size = {"documents/train": 60.0}
    write_tested_run(tmp_path / "runs" / "bow", "model=bow", mistaken(TARGETS, range(9)), TARGETS, results=size)
    write_tested_run(tmp_path / "runs" / "both", "model=both", mistaken(TARGETS, range(2)), TARGETS, val=0.9)
    page = page_of(tmp_path / "runs", tmp_path / "page")
    assert [row[1].removesuffix("recommended") for row in rows_of(page, "Means over seeds")[1:]] == ["both", "bow"]


def test_the_script_writes_the_page(tmp_path: Path, command_here: Command) -> None:
    write_three(tmp_path / "runs")
    process = command_here("scripts/compare.py", "runs", "--output", "table")
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-2:] == ["table/summary.md", "table/summary.html"]
    require_self_contained((tmp_path / "table" / "summary.html").read_text())


def test_a_damaged_run_leaves_a_page_that_says_so(tmp_path: Path) -> None:
    write_three(tmp_path / "runs")
    (tmp_path / "runs" / "rnn" / "predictions.parquet").write_bytes(b"PAR1 and no more")
    page = page_of(tmp_path / "runs", tmp_path / "page")
    assert "Not compared: " in page
    assert rows_of(page, "Means over seeds")[3][6] == "not compared"
    for file in (tmp_path / "runs").rglob("predictions.parquet"):
        file.unlink()
    assert "There is no answer: no run has predictions that can be read." in page_of(
        tmp_path / "runs", tmp_path / "page"
    )
