"""Classifying documents by a finished run: as a function, and for the command.

Axes: N documents, L labels.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from newsreel.batches.batch import DocumentDataset
from newsreel.config.schema import check_section
from newsreel.core.dist import device_of, gpu_is_there
from newsreel.core.errors import UserError
from newsreel.inference.explain import COMPLETENESS, Explainer, page
from newsreel.inference.input_stream import MAX_DOCUMENTS, Source, chunks, count_documents, file_source, standard_input
from newsreel.inference.output_writers import Answers, check_output, require_writable, writing
from newsreel.models.functional import logits_to_probs
from newsreel.runs.trained_run import TrainedRun, open_run

Accelerator = Literal["auto", "cpu", "gpu"]
EXPLAINED_AT_A_TIME = 16  # documents, so that the first answers do not wait for thousands
LONG_DOCUMENT = 1_000  # tokens; where a run sets no limit, a batch is as large as `batch_size` documents of this length


@dataclass(frozen=True, kw_only=True)
class Request:
    """What configs/predict.yaml asks for."""

    run: str | None
    text: str | None
    input: str | None
    column: str
    keep: Sequence[str]
    output: str | None
    top_k: Annotated[int, Ge(1)] | None
    explain: bool
    explain_label: str | None
    explain_steps: Annotated[int, Ge(1)]
    html: str | None
    accelerator: Accelerator

    def __post_init__(self) -> None:
        if self.run is None:
            raise UserError("run is null: name the folder of a finished run, as run=outputs/…")
        if self.text is not None and self.input is not None:
            raise UserError(
                "text and input are both given; one is a document, the other a file of them: leave one out."
            )
        if self.keep and self.input is None:
            raise UserError(f"keep={self.keep[0]} names a column, and only files have such: give input=… too.")
        if not self.explain and (self.html is not None or self.explain_label is not None):
            raise UserError("html and explain_label say how to explain: set explain=true too, or leave them out.")


class Predictor:
    """A finished run as a function of texts."""

    def __init__(self, run: TrainedRun, accelerator: Accelerator = "cpu") -> None:
        """Raises UserError if the accelerator is not there."""
        self.run = run
        self.device = find_device(accelerator)
        self.network = run.classifier.network.to(self.device)
        batches = run.experiment.batches
        self.batch_tokens = batches.batch_size * (batches.max_tokens or LONG_DOCUMENT)

    def __call__(self, texts: Sequence[str], top_k: int | None = None) -> list[dict[str, Any]]:
        """For each text, in order, its `label` and that one's `probability`, or its `labels` where it can have several;
        and `logits_to_probs` by label: all of them, or the `top_k` highest.

        Raises UserError for a single text and for a `top_k` that is no number of labels.
        """
        if isinstance(texts, str):
            raise UserError(f"One text was given, {texts[:30]!r}, where a list of them is expected: write [text].")
        self.check_top_k(top_k)
        parts = (texts[start : start + MAX_DOCUMENTS] for start in range(0, len(texts), MAX_DOCUMENTS))
        return [row for part in parts for row in self.answer(self.documents(part), top_k).rows()]

    def check_top_k(self, top_k: int | None) -> None:
        """Raise UserError if the run does not have so many labels."""
        num_labels = len(self.run.labels.names)
        if top_k is not None and not 1 <= top_k <= num_labels:
            raise UserError(f"top_k is {top_k}: it has to be 1 to {num_labels}, the run's labels, or null.")

    def documents(self, texts: Sequence[str]) -> DocumentDataset:
        """The texts as the run's network reads them, without labels."""
        settings = self.run.experiment.batches
        sequences = self.run.tokenizer.encode(texts)
        rows = np.arange(len(texts))
        return DocumentDataset(sequences, rows, np.zeros(len(texts)), settings.max_tokens, settings.truncation)

    @torch.inference_mode()
    def answer(self, documents: DocumentDataset, top_k: int | None = None) -> Answers:
        """What the run says of documents."""
        labels = self.run.labels
        scores = torch.zeros(len(documents), len(labels.names))  # (N, L)
        for chosen in batches_of_similar_length(documents.lengths, self.batch_tokens):
            batch = documents[chosen]
            logits = self.network(batch.token_ids.to(self.device), batch.lengths.to(self.device))
            scores[chosen] = logits_to_probs(logits.float(), labels.task).cpu()
        decided = self.run.classifier.decisions(scores)
        return Answers(labels.task, labels.names, scores.numpy(), decided.numpy(), top_k)


def batches_of_similar_length(lengths: np.ndarray, num_tokens: int) -> Iterator[list[int]]:
    """Every document once, longest first, as many at a time as take at most `num_tokens` with their padding."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, num_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size].tolist()
        start += size


def find_device(accelerator: Accelerator) -> torch.device:
    """Raises UserError if a GPU is asked for and there is none."""
    if accelerator == "gpu" and not gpu_is_there():
        raise UserError("accelerator is gpu, and torch finds no GPU here: use accelerator=cpu or accelerator=auto.")
    return device_of(accelerator)


def predict(config: DictConfig) -> None:
    """Answer what configs/predict.yaml asks. Raises UserError."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    if problems := check_section("", plain, Request):
        raise UserError("\n".join(problems))
    request = Request(**plain)
    source = find_documents(request)
    predictor = Predictor(open_run(Path(str(request.run)).expanduser()), request.accelerator)
    run, labels = predictor.run, predictor.run.labels
    predictor.check_top_k(request.top_k)
    output, html = (None if name is None else Path(name).expanduser() for name in (request.output, request.html))
    check_output(output, request.keep, predictor.answer(predictor.documents([]), request.top_k), request.explain)
    if html is not None:
        require_writable("html", html)
    explainer = None
    if request.explain:
        explainer = Explainer(
            predictor.network, run.tokenizer.tokens, labels.names, request.explain_label, request.explain_steps
        )
    num_incomplete = 0
    with writing(output) as write, page(html) as draw, progress_bar(request, source) as bar:
        for chunk in chunks(source, MAX_DOCUMENTS if explainer is None else EXPLAINED_AT_A_TIME):
            documents = predictor.documents([row[1] for row in chunk])
            kept = {name: [row[place] for row in chunk] for place, name in enumerate(request.keep, start=2)}
            answers = replace(predictor.answer(documents, request.top_k), kept=kept)
            if explainer is not None:
                spelled = [run.tokenizer.surface_forms(row[1]) for row in chunk]
                explanations = explainer(documents, answers.probabilities, spelled)
                answers = replace(answers, explanations=explanations)
                draw(explanations)
                num_incomplete += sum(not explanation.complete for explanation in explanations)
            write(answers)
            bar.update(len(chunk))
    if num_incomplete:
        print(
            f"The contributions to {num_incomplete:,} documents miss more than {COMPLETENESS:.0%} of what they explain "
            f"(see `gap`): raise explain_steps, now {request.explain_steps}.",
            file=sys.stderr,
        )


def find_documents(request: Request) -> Source:
    """Where the documents come from. Raises UserError."""
    if request.text is not None:
        return Source("text", "line", iter([(1, request.text)]))
    if request.input is not None:
        return file_source(Path(request.input).expanduser(), request.column, request.keep)
    if sys.stdin.isatty():
        print("Type documents, one a line; Ctrl-D ends them.", file=sys.stderr)
    return standard_input()


def progress_bar(request: Request, source: Source) -> Any:
    """A bar on the terminal, unless predictions are shown there too."""
    hidden = not sys.stderr.isatty() or (request.output is None and sys.stdout.isatty())
    total = None if hidden or source.path is None else count_documents(source.path)
    return tqdm(unit=" documents", total=total, disable=hidden)
