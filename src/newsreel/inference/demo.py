"""A web page on which finished runs classify and explain what is typed, made with Gradio."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from newsreel.config.sections import Settings, check_section
from newsreel.core.errors import UserError, first_line
from newsreel.core.paths import user_path
from newsreel.evaluation.explanations import Explanation
from newsreel.inference.eval_data import find_documents
from newsreel.inference.run import OWN_PATHS, Run
from newsreel.runs.ensemble import open_ensemble

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_PROBABLE = "the most probable label"
MAX_SHOWN_LABELS = 10  # with their probabilities
MAX_EXAMPLE_CHARACTERS = 100  # of an example in the list


@dataclass(frozen=True, kw_only=True)
class Request:
    """The settings of configs/demo.yaml."""

    run: str | None
    num_examples: Annotated[int, Ge(0)]
    max_characters: Annotated[int, Ge(1)]
    explain_steps: Annotated[int, Ge(1)]
    host: str
    port: Annotated[int, Ge(1), Le(65535)] | None
    share: bool

    @property
    def run_dirs(self) -> list[Path]:
        """The directories in `run`. Raises UserError if there are none."""
        if not self.run:
            raise UserError("run is null: name the directory of a finished run, such as run=outputs/imdb/lstm/<time>.")
        whole = user_path(self.run, "run")
        return [whole] if whole.is_dir() else [user_path(name.strip(), "run") for name in self.run.split(",")]


@dataclass(frozen=True)
class Answer:
    """What one run says of a text."""

    probabilities: dict[str, float]  # by label, the most probable first
    decision: str  # the predicted labels in words
    words: list[tuple[str, float | None]]  # with their contributions, relative to the strongest: -1 … 1

    @property
    def shown(self) -> list[Any]:
        """As the components of the page show it."""
        return [self.probabilities, self.decision, self.words]


class Demo:
    """Finished runs that answer to typed texts, one text at a time."""

    def __init__(self, runs: Sequence[Run], max_characters: int, explain_steps: int) -> None:
        self.runs = runs
        self.max_characters = max_characters
        self.explain_steps = explain_steps
        self._lock = threading.Lock()  # the networks' threads are those of one call

    @property
    def labels(self) -> Sequence[str]:
        """The labels that all runs can explain."""
        first, *others = (run.labels.names for run in self.runs)
        return [name for name in first if all(name in names for names in others)]

    def answer(self, text: str, label: str) -> list[Answer]:
        """What each run says of a text. label: to explain; empty: the most probable one."""
        if not text.strip():
            return [Answer({}, "Type a text.", [])] * len(self.runs)
        if len(text) > self.max_characters:
            message = f"The text has {len(text):,} characters, and at most {self.max_characters:,} are classified."
            return [Answer({}, message, [])] * len(self.runs)
        with self._lock:
            return [self.answer_of(run, text, label or None) for run in self.runs]

    def answer_of(self, run: Run, text: str, label: str | None) -> Answer:
        (row,) = run.predict([text])
        ranking = sorted(row["probabilities"].items(), key=lambda item: -item[1])
        try:
            (explanation,) = run.explain([text], label, self.explain_steps)
            words = relative(explanation)
        except UserError as error:  # such as an ensemble with several vocabularies
            words = [(first_line(error), None)]
        return Answer(dict(ranking[:MAX_SHOWN_LABELS]), describe_decision(run, row), words)

    def shown(self, text: str, label: str) -> list[Any]:
        """The values of the page's components for a text: those of each run in turn."""
        return [value for answer in self.answer(text, label) for value in answer.shown]


def relative(explanation: Explanation) -> list[tuple[str, float | None]]:
    """The words with their contributions, divided by that of the strongest."""
    strongest = max((abs(value) for _, value in explanation.attributions), default=0) or 1
    if not explanation.attributions:
        return [("No word of the text is known to this run.", None)]
    return [(word, value / strongest) for word, value in explanation.attributions]


def describe_decision(run: Run, row: dict[str, Any]) -> str:
    """The predicted labels; with thresholds, if there are any."""
    if "label" in row:
        return f"{row['label']}, with a probability of {row['probability']:.4f}"
    rule, probabilities = run.predictor.decisions, row["probabilities"]
    if not rule.by_thresholds:
        return f"{', '.join(row['labels'])}: the {int(rule.k)} most probable"
    thresholds = dict(zip(run.labels.names, rule.thresholds.tolist(), strict=True))
    if not row["labels"]:
        return "no label: every probability is below the threshold of its label"
    chosen = sorted(row["labels"], key=lambda name: -probabilities[name])
    return "; ".join(f"{name}: {probabilities[name]:.4f}, threshold {thresholds[name]:.4f}" for name in chosen)


@dataclass(frozen=True)
class Examples:
    """Documents to click on."""

    texts: Sequence[str]
    names: Sequence[str]  # labels and beginning
    note: str = ""  # why there are none


def find_examples(run: Run, num_examples: int) -> Examples:
    """Test documents of a run's corpus, evenly spaced; none if the corpus cannot be read."""
    if not num_examples:
        return Examples([], [])
    try:
        corpus = find_documents(run.ensemble.members, "test", OWN_PATHS, None)
    except (UserError, OSError) as error:
        return Examples([], [], f"There are no examples, because the corpus cannot be read: {first_line(error)}")
    table = corpus["test"]
    rows = np.unique(np.linspace(0, len(table) - 1, num_examples).round().astype(int)).tolist()
    texts, names = [], []
    for row in rows:
        text, labels = table[row]["text"], np.atleast_1d(table[row]["labels"]).tolist()
        titles = ", ".join(corpus.label_names[label] for label in labels) or "no label"
        texts.append(text)
        names.append(f"{titles}: {' '.join(text[:MAX_EXAMPLE_CHARACTERS].split())}")
    return Examples(texts, names)


def build_app(demo: Demo, examples: Examples) -> Any:
    """The page as a gradio.Blocks; its function is `classify`. Raises UserError if Gradio is not installed."""
    gradio = import_gradio()
    with gradio.Blocks(title="newsreel", analytics_enabled=False) as app:
        text = gradio.Textbox(label="Text", lines=6, max_lines=20, max_length=demo.max_characters, autofocus=True)
        with gradio.Row():
            choices = [(MOST_PROBABLE, ""), *((name, name) for name in demo.labels)]
            label = gradio.Dropdown(choices, value="", label="Explain", scale=3)
            button = gradio.Button("Classify", variant="primary", scale=1)
        outputs: list[Any] = []
        with gradio.Row():
            for run in demo.runs:
                with gradio.Column():
                    gradio.Textbox(run.summary()[0][1], label="Run", info=str(run.run_dir), interactive=False)
                    outputs += [
                        gradio.Label(label="Probabilities", show_heading=False),
                        gradio.Textbox(label="Decision", interactive=False),
                        gradio.HighlightedText(
                            label="Contributions of the words that were read: for the label (1), against it (-1)",
                            show_legend=True,
                        ),
                    ]
        if examples.note:
            gradio.Textbox(examples.note, label="Examples", interactive=False)
        if examples.texts:
            gradio.Examples([[each] for each in examples.texts], text, example_labels=list(examples.names),
                            label="Test documents", cache_examples=False)  # fmt: skip
        for event in (button.click, text.submit, label.change):
            event(demo.shown, [text, label], outputs, api_name="classify" if event == button.click else None)
    return app


def import_gradio() -> Any:
    """Raises UserError if Gradio is not installed."""
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            "The demo needs the Python package gradio, which is not installed: in the project's directory, "
            "pip install --editable '.[demo]'."
        ) from error
    return gradio


def launch(app: Any, host: str, port: int | None, share: bool) -> str:
    """Serve an app in threads of this process; returns its address. Raises UserError if the port is taken."""
    try:
        _, local, public = app.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            inbrowser=False,
            quiet=True,
            footer_links=[],
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"host={host} port={port} cannot be served at: {first_line(error)}") from error
    return f"{local}{f' and {public}' if public else ''}"


def serve(settings: Settings) -> None:
    """Serve the page that configs/demo.yaml describes until Ctrl-C. Raises UserError."""
    if problems := check_section("", settings, Request):
        raise UserError("\n".join(problems))
    request = Request(**settings)
    import_gradio()
    runs = [Run(open_ensemble(run_dir)) for run_dir in request.run_dirs]
    examples = find_examples(runs[0], request.num_examples)
    if examples.note:
        print(examples.note)
    app = build_app(Demo(runs, request.max_characters, request.explain_steps), examples)
    with suppress(KeyboardInterrupt):
        address = launch(app, request.host, request.port, request.share)
        if request.share or request.host not in LOOPBACK:
            print("Everyone who can reach this address can use the page, which has no password.")
        print(f"Open {address} in a browser; Ctrl-C ends.")
        while True:  # an endless wait would not end at a signal that another thread has received
            time.sleep(0.2)
    app.close(verbose=False)
