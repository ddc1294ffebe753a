"""Classification of documents by a finished run: the class `Predictor`, and the command.

Axes: N documents, L labels.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from newsreel.batches.batch import MAX_DOCUMENT_TOKENS, DocumentDataset
from newsreel.config.sections import check_section
from newsreel.core.dist import device_of, is_gpu_available
from newsreel.core.errors import UserError
from newsreel.core.paths import user_path
from newsreel.files.readers import FormatName, Layout
from newsreel.inference.explain import COMPLETENESS, Explainer, page
from newsreel.inference.input_stream import MAX_DOCUMENTS, Source, chunks, count_documents, file_source, standard_input
from newsreel.inference.output_files import require_distinct
from newsreel.inference.output_writers import PredictionBatch, check_output, require_csv, require_writable, writing
from newsreel.models.functional import logits_to_probs, require_finite
from newsreel.runs.trained_run import TrainedRun, open_run

Accelerator = Literal["auto", "cpu", "gpu"]
EXPLAIN_CHUNK_SIZE = 16  # documents, so that the first results appear soon
TABLES_OF_RUNS = ("labels.csv", "metrics.csv", "predictions.parquet")
LONG_DOCUMENT = 1_000  # tokens; without max_tokens, a batch is as large as `batch_size` documents of this length


@dataclass(frozen=True, kw_only=True)
class Request:
    """The settings of configs/predict.yaml."""

    run: str | None
    text: str | None
    input: str | None
    column: str
    format: FormatName | None
    delimiter: str | None
    quoting: bool
    header: bool
    encoding: str
    keep: Sequence[str]
    output: str | None
    escape_formulas: bool
    top_k: Annotated[int, Ge(1)] | None
    explain: bool
    explain_label: str | None
    explain_steps: Annotated[int, Ge(1)]
    html: str | None
    accelerator: Accelerator

    def __post_init__(self) -> None:
        if self.run is None:
            raise UserError("run is null: name the directory of a finished run, such as run=outputs/…")
        if self.text is not None and self.input is not None:
            raise UserError(
                "text and input are both set: text is a single document, input a file of documents. Leave one out."
            )
        if self.keep and self.input is None:
            raise UserError(f"keep={self.keep[0]} names a column, and only files have columns: set input=… too.")
        if not self.explain and (self.html is not None or self.explain_label is not None):
            raise UserError("html and explain_label have no effect without explain=true: set it, or leave them out.")
        _ = self.layout  # checks its values

    @property
    def text_columns(self) -> list[str]:
        """The columns of the texts: `column` is taken literally, but may be a list such as [title,body]."""
        if self.column.startswith("[") and self.column.endswith("]"):
            return [name.strip() for name in self.column[1:-1].split(",")]
        return [self.column]

    @property
    def layout(self) -> Layout:
        return Layout.of(self, prefix="")


class Predictor:
    """Classifies texts with a finished run."""

    def __init__(self, run: TrainedRun, accelerator: Accelerator = "cpu") -> None:
        """Raises UserError if the accelerator is not available."""
        self.run = run
        self.device = find_device(accelerator)
        self.network = run.classifier.network.to(self.device)
        self.runner = run.classifier.runner
        batches = run.experiment.batches
        self.batch_tokens = batches.batch_size * (batches.max_tokens or LONG_DOCUMENT)

    def __call__(self, texts: Sequence[str], top_k: int | None = None) -> list[dict[str, Any]]:
        """Classify texts; returns one dict per text, in order.

        It has `label` and `probability`, or `labels` for `multilabel`, and `probabilities` by label: all of them, or
        the `top_k` highest. Raises UserError for a single string and for a `top_k` out of range.
        """
        if isinstance(texts, str):
            raise UserError(f"Expected a list of texts, got a single string, {texts[:30]!r}: write [text].")
        self.check_top_k(top_k)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(texts), MAX_DOCUMENTS):
            documents = self.documents(texts[start : start + MAX_DOCUMENTS])
            require_bounded(documents, lambda row, start=start: f"texts[{start + row}]")  # type: ignore[misc]
            rows += self.predict_batch(documents, top_k).rows()
        return rows

    def check_top_k(self, top_k: int | None) -> None:
        """Raise UserError if `top_k` is not between 1 and the number of labels."""
        num_labels = len(self.run.labels.names)
        if top_k is not None and not 1 <= top_k <= num_labels:
            raise UserError(f"top_k is {top_k}: it must be 1 to {num_labels}, the number of labels, or null.")

    def documents(self, texts: Sequence[str]) -> DocumentDataset:
        """Tokenize texts for the run's network; targets are zeros."""
        settings = self.run.experiment.batches
        sequences = self.run.tokenizer.encode(texts)
        rows = np.arange(len(texts))
        return DocumentDataset(sequences, rows, np.zeros(len(texts)), settings.max_tokens, settings.truncation)

    @torch.inference_mode()
    def predict_batch(self, documents: DocumentDataset, top_k: int | None = None) -> PredictionBatch:
        """Classify tokenized documents."""
        labels = self.run.labels
        scores = torch.zeros(len(documents), len(labels.names))  # (N, L)
        with self.runner.threads(torch.get_num_threads()):
            for rows in batches_of_similar_length(documents.lengths, self.batch_tokens):
                batch = documents[rows]
                logits = self.runner(batch.token_ids.to(self.device), batch.lengths.to(self.device))
                scores[rows] = logits_to_probs(logits.float(), labels.task).cpu()
        require_finite(scores)
        preds = self.run.classifier.decisions(scores)
        return PredictionBatch(labels.task, labels.names, scores.numpy(), preds.numpy(), top_k)


def batches_of_similar_length(lengths: np.ndarray, num_tokens: int) -> Iterator[list[int]]:
    """Every document once, longest first, in batches of at most `num_tokens` tokens with padding."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, num_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size].tolist()
        start += size


def require_bounded(documents: DocumentDataset, name: Callable[[int], str]) -> None:
    """Raise UserError if a document has too many tokens for the memory of a network. name: of a document, by row."""
    too_long = np.flatnonzero(documents.lengths > MAX_DOCUMENT_TOKENS)
    if len(too_long):
        row = int(too_long[0])
        raise UserError(
            f"{name(row)}: the document has {documents.lengths[row]:,} tokens, but at most {MAX_DOCUMENT_TOKENS:,} are "
            "possible, since the run was trained without batches.max_tokens. Divide it into several documents."
        )


def find_device(accelerator: Accelerator) -> torch.device:
    """The device for an accelerator. Raises UserError for `gpu` without a GPU."""
    if accelerator == "gpu" and not is_gpu_available():
        raise UserError("accelerator is gpu, but torch finds no GPU: use accelerator=cpu or accelerator=auto.")
    return device_of(accelerator)


def predict(config: DictConfig) -> None:
    """Classify documents with the settings of configs/predict.yaml. Raises UserError."""
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    if problems := check_section("", settings, Request):
        raise UserError("\n".join(problems))
    request = Request(**settings)
    source = open_source(request)
    run_dir = user_path(str(request.run), "run")
    predictor = Predictor(open_run(run_dir), request.accelerator)
    run, labels = predictor.run, predictor.run.labels
    predictor.check_top_k(request.top_k)
    output = None if request.output is None else user_path(request.output, "output")
    html = None if request.html is None else user_path(request.html, "html")
    check_output(output, request.keep, predictor.predict_batch(predictor.documents([]), request.top_k), request.explain)
    if request.escape_formulas:
        require_csv(output)
    if html is not None:
        require_writable("html", html)
    require_distinct({"input": source.path, "output": output, "html": html})
    if output is not None and output.name in TABLES_OF_RUNS and output.parent.resolve() == run_dir.resolve():
        raise UserError(f"output={output} is a file of the run, and would be replaced. Name another one.")
    explainer = None
    if request.explain:
        explainer = Explainer(
            predictor.network, run.tokenizer.tokens, labels.names, request.explain_label, request.explain_steps
        )
    num_incomplete = 0
    with writing(output, request.escape_formulas) as write, page(html) as draw, progress_bar(request, source) as bar:
        for chunk in chunks(source, MAX_DOCUMENTS if explainer is None else EXPLAIN_CHUNK_SIZE):
            documents = predictor.documents([row[1] for row in chunk])
            require_bounded(documents, lambda row, chunk=chunk: f"{source.where}, {source.unit} {chunk[row][0]}")  # type: ignore[misc]
            kept_columns = {name: [row[index] for row in chunk] for index, name in enumerate(request.keep, start=2)}
            predictions = replace(predictor.predict_batch(documents, request.top_k), kept_columns=kept_columns)
            if explainer is not None:
                surface_forms = [run.tokenizer.surface_forms(row[1]) for row in chunk]
                spans = [run.tokenizer.spans(row[1]) for row in chunk]
                explanations = explainer(documents, predictions.probabilities, surface_forms, spans)
                predictions = replace(predictions, explanations=explanations)
                draw(explanations)
                num_incomplete += sum(not explanation.complete for explanation in explanations)
            write(predictions)
            bar.update(len(chunk))
    if num_incomplete:
        print(
            f"The explanations of {num_incomplete:,} documents have a gap of more than {COMPLETENESS:.0%} (see `gap`): "
            f"raise explain_steps, now {request.explain_steps}.",
            file=sys.stderr,
        )


def open_source(request: Request) -> Source:
    """The source of documents. Raises UserError."""
    if request.text is not None:
        return Source("text", "line", iter([(1, request.text)]))
    if request.input is not None:
        return file_source(user_path(request.input, "input"), request.text_columns, request.keep, request.layout)
    if sys.stdin.isatty():
        print("Type one document per line; end with Ctrl-D.", file=sys.stderr)
    return standard_input()


def progress_bar(request: Request, source: Source) -> Any:
    """A progress bar on the terminal, unless predictions are printed there too."""
    is_disabled = not sys.stderr.isatty() or (request.output is None and sys.stdout.isatty())
    total = None if is_disabled or source.path is None else count_documents(source.path)
    return tqdm(unit=" documents", total=total, disable=is_disabled)
