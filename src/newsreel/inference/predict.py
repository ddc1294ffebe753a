"""Classification of documents by a finished run or a saved ensemble: the command `predict.py`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from annotated_types import Ge
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from newsreel.config.sections import check_section
from newsreel.core.errors import UserError
from newsreel.core.paths import user_path
from newsreel.evaluation.explanations import COMPLETENESS
from newsreel.files.readers import FormatName, Layout
from newsreel.inference.explain import page
from newsreel.inference.input_stream import MAX_DOCUMENTS, Source, chunks, count_documents, file_source, standard_input
from newsreel.inference.output_files import require_distinct
from newsreel.inference.output_writers import check_output, require_csv, require_writable, writing
from newsreel.inference.predictors import Accelerator, predictor_of
from newsreel.runs.ensemble import open_ensemble
from newsreel.runs.scoring import require_bounded

EXPLAIN_CHUNK_SIZE = 16  # documents, so that the first results appear soon
FILES_OF_RUNS = ("labels.csv", "metrics.csv", "predictions.parquet", "report.html")


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
        if self.input is None and (self.format is not None or self.column != "text"):
            described = f"column={self.column}" if self.format is None else f"format={self.format}"
            where = "text=… is one document" if self.text is not None else "standard input has one document per line"
            raise UserError(f"{described} describes a file, and {where}: name the file with input=…, or /dev/stdin.")
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


def predict(config: DictConfig) -> None:
    """Classify documents with the settings of configs/predict.yaml. Raises UserError."""
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    if problems := check_section("", settings, Request):
        raise UserError("\n".join(problems))
    request = Request(**settings)
    source = open_source(request)
    run_dir = user_path(str(request.run), "run")
    predictor = predictor_of(open_ensemble(run_dir), request.accelerator)
    predictor.check_top_k(request.top_k)
    output = None if request.output is None else user_path(request.output, "output")
    html = None if request.html is None else user_path(request.html, "html")
    check_output(output, request.keep, predictor.predict_batch(predictor.documents([]), request.top_k), request.explain)
    if request.escape_formulas:
        require_csv(output)
    if html is not None:
        require_writable("html", html)
    require_distinct({"input": source.path, "output": output, "html": html})
    for setting, path in (("output", output), ("html", html)):
        if path is not None and path.name in FILES_OF_RUNS and path.parent.resolve() == run_dir.resolve():
            raise UserError(f"{setting}={path} is a file of the run, and would be replaced. Name another one.")
    explain = predictor.explainer(request.explain_label, request.explain_steps) if request.explain else None
    num_incomplete, num_empty, first_empty = 0, 0, 0
    with writing(output, request.escape_formulas) as write, page(html) as draw, progress_bar(request, source) as bar:
        for chunk in chunks(source, MAX_DOCUMENTS if explain is None else EXPLAIN_CHUNK_SIZE):
            texts = [row[1] for row in chunk]
            empty = [row[0] for row in chunk if not row[1]]
            first_empty = empty[0] if empty and not num_empty else first_empty
            num_empty += len(empty)
            documents = predictor.documents(texts)
            require_bounded(documents, lambda row, chunk=chunk: f"{source.where}, {source.unit} {chunk[row][0]}")  # type: ignore[misc]
            kept_columns = {name: [row[index] for row in chunk] for index, name in enumerate(request.keep, start=2)}
            predictions = replace(predictor.predict_batch(documents, request.top_k), kept_columns=kept_columns)
            if explain is not None:
                explanations = explain(texts, documents, predictions.probabilities)
                predictions = replace(predictions, explanations=explanations)
                draw(explanations)
                num_incomplete += sum(not explanation.complete for explanation in explanations)
            write(predictions)
            bar.update(len(chunk))
    if num_empty:
        print(
            f"{source.where} has documents without text: {num_empty:,}, the first in {source.unit} {first_empty}. They "
            "get the prediction of an empty document.",
            file=sys.stderr,
        )
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
