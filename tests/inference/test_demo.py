"""The web page to type into."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import newsreel
from helpers.configs import compose_config, own
from helpers.project import PROJECT
from helpers.shared_runs import CLASSES, LSTM, TOPICS, SharedRuns
from helpers.tiny_runs import plain
from newsreel.cli.app import quote_literals
from newsreel.core.errors import UserError
from newsreel.inference import demo
from newsreel.inference.demo import Demo, Examples, Request, build_app, describe_decision, find_examples, serve

SPY = """
import runpy, sys

def print_hosts(event, arguments):
    if event == "socket.getaddrinfo" and arguments[0] not in ("127.0.0.1", "localhost", None):
        print("asked", arguments[0])

sys.addaudithook(print_hosts)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
HOSTILE = "baba <img src=x onerror=alert(1)> {{7*7}} ${7*7} <script>alert(2)</script>"


def demo_of(shared_runs: SharedRuns, *settings: Sequence[str]) -> Demo:
    return Demo([newsreel.load(shared_runs.run(*each)) for each in settings], max_characters=100, explain_steps=20)


def settings_of(*overrides: str) -> dict[str, Any]:
    return plain(own(compose_config("demo", *quote_literals(overrides, ("run", "host")))))


def test_each_run_answers_with_what_it_predicts_and_the_words_that_decide(shared_runs: SharedRuns) -> None:
    page = demo_of(shared_runs, LSTM, ["model=bow"])
    answers = page.answer("baba bafa niva", "")
    for run, answer in zip(page.runs, answers, strict=True):
        (row,) = run.predict(["baba bafa niva"])
        assert answer.probabilities == row["probabilities"]
        assert next(iter(answer.probabilities)) == row["label"]
        assert answer.decision == f"{row['label']}, with a probability of {row['probability']:.4f}"
        (explanation,) = run.explain(["baba bafa niva"], steps=20)
        strongest = max(abs(value) for _, value in explanation.attributions)
        assert answer.words == [(word, pytest.approx(value / strongest)) for word, value in explanation.attributions]
    other = list(answers[1].probabilities)[1]
    opposite = page.answer("baba bafa niva", other)[1].words
    assert opposite == [(word, pytest.approx(-value)) for word, value in answers[1].words if value is not None]


def test_thresholds_decide_where_documents_have_several_labels(shared_runs: SharedRuns) -> None:
    run = newsreel.load(shared_runs.run(*TOPICS))
    run.predictor.decisions.thresholds[:] = 0.5
    names = list(run.labels.names)
    row = {"labels": [names[0], names[2]], "probabilities": dict(zip(names, [0.6, 0.1, 0.75, 0.2], strict=True))}
    expected = f"{names[2]}: 0.7500, threshold 0.5000; {names[0]}: 0.6000, threshold 0.5000"
    assert describe_decision(run, row) == expected
    assert describe_decision(run, {**row, "labels": []}).startswith("no label: every probability is below")


@pytest.mark.parametrize(("text", "answer"), [(" \n", "Type a text."), ("a" * 101, "The text has 101 characters, and")])
def test_empty_and_long_texts_get_a_sentence(shared_runs: SharedRuns, text: str, answer: str) -> None:
    probabilities, decision, words = demo_of(shared_runs, ["model=bow"]).shown(text, "")
    assert (probabilities, words) == ({}, [])
    assert decision.startswith(answer)


def test_unknown_words_and_what_cannot_be_explained_get_a_sentence(
    shared_runs: SharedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = demo_of(shared_runs, CLASSES)
    assert page.answer("zorb", "")[0].words == [("No word of the text is known to this run.", None)]

    def refuse(*_: Any) -> None:
        raise UserError("The members have different vocabularies.\nExplain them one by one.")

    monkeypatch.setattr(page.runs[0], "explain", refuse)
    (answer,) = page.answer("baba", "")
    assert answer.words == [("The members have different vocabularies.", None)]
    assert answer.probabilities


def test_labels_that_all_runs_have_can_be_explained(shared_runs: SharedRuns) -> None:
    page = demo_of(shared_runs, CLASSES, ["model=bow"])
    assert [len(run.labels.names) for run in page.runs] == [3, 2]
    assert page.labels == ["label0", "label1"]


def test_examples_are_test_documents_and_none_if_the_corpus_is_gone(
    shared_runs: SharedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = newsreel.load(shared_runs.run("model=bow"))
    examples = find_examples(run, 5)
    (member,) = run.ensemble.members
    table = member.experiment.reader.load(member.experiment.paths)["test"]
    assert list(examples.texts) == [table[row]["text"] for row in (0, 5, 10, 14, 19)]
    assert examples.names[0] == f"label{table[0]['labels']}: {table[0]['text'][:100]}"
    assert len(find_examples(run, 1000).texts) == 20
    assert find_examples(run, 0) == Examples([], [])

    def missing(*_: Any) -> None:
        raise UserError("The corpus 'imdb' was not found.\nDownload it.")

    monkeypatch.setattr(demo, "find_documents", missing)
    assert find_examples(run, 5).note.endswith("cannot be read: The corpus 'imdb' was not found.")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "run is null"),
        (["run=nowhere"], "nowhere is not a run directory"),
        (["run=a", "port=0"], "port is 0: it must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "import_gradio", lambda: None)
    with pytest.raises(UserError, match=message):
        serve(settings_of(*overrides))


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install --editable '\.\[demo\]'"):
        serve(settings_of("run=outputs/x"))


def test_runs_are_separated_by_commas_unless_a_directory_has_one(tmp_path: Path) -> None:
    both = tmp_path / "a,b"
    assert Request(**settings_of(f"run={both}")).run_dirs == [tmp_path / "a", Path("b")]
    both.mkdir()
    assert Request(**settings_of(f"run={both}")).run_dirs == [both]


def test_the_page_s_function_gives_its_components_what_they_show(shared_runs: SharedRuns) -> None:
    pytest.importorskip("gradio")
    from gradio.state_holder import SessionState

    page = demo_of(shared_runs, LSTM, TOPICS)
    app = build_app(page, Examples(["baba"], ["label0: baba"]))
    assert not app.analytics_enabled
    (function,) = [each for each in app.fns.values() if each.api_name == "classify"]
    result = asyncio.run(app.process_api(function, [HOSTILE, ""], state=SessionState(app)))
    labels, decision, words = result["data"][:3]
    expected = page.answer(HOSTILE, "")[0]
    assert [each["label"] for each in labels["confidences"]] == list(expected.probabilities)
    assert decision == expected.decision
    assert [each["token"] for each in words] == [word for word, _ in expected.words]
    assert len(result["data"]) == 6
    assert [each["label"] for each in result["data"][3]["confidences"]] != []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_serves_a_page_on_this_machine_that_asks_no_other(shared_runs: SharedRuns, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    run_dirs = ",".join(str(shared_runs.run(*each)) for each in (LSTM, ["model=bow"]))
    with subprocess.Popen(
        [sys.executable, "-c", SPY, str(PROJECT / "scripts" / "demo.py"), f"run={run_dirs}", f"port={free_port()}"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            assert process.stdout is not None
            (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
            drive(address, [newsreel.load(each) for each in run_dirs.split(",")])
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
            assert process.stdout.read() == ""  # no other host was looked up
        finally:
            process.kill()
    assert not list(tmp_path.iterdir())


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def classify_by_http(address: str) -> list[str]:
    """The decisions that the page's function returns; unlike Gradio's client, this asks no other host."""
    import httpx

    event = httpx.post(address, json={"data": [HOSTILE, ""]}).json()["event_id"]
    *_, line = httpx.get(f"{address}/{event}", timeout=120).text.strip().splitlines()
    answer: list[Any] = json.loads(line.removeprefix("data: "))
    return answer[1::3]


def drive(address: str, runs: list[newsreel.Run]) -> None:
    """Type a hostile text: in Chromium if it and Playwright are here, else by HTTP."""
    decisions = [Demo([run], 1000, 50).answer(HOSTILE, "")[0].decision for run in runs]
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        assert classify_by_http(f"{address}gradio_api/call/classify") == decisions
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        requests: list[str] = []
        dialogs: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        page.get_by_label("Text", exact=True).fill(HOSTILE)
        page.get_by_role("button", name="Classify").click()
        boxes = page.get_by_label("Decision")
        page.wait_for_function(
            "document.querySelector('body').innerText.includes('+1') && "
            "[...document.querySelectorAll('textarea, input')].filter(e => e.value.includes('probability')).length > 1"
        )
        assert [boxes.nth(number).input_value() for number in range(2)] == decisions
        assert page.get_by_text("baba", exact=True).count() >= 2
        assert page.locator("img[src=x]").count() == 0
        browser.close()
    assert dialogs == []
    assert {urlsplit(url).netloc for url in requests} == {urlsplit(address).netloc}
