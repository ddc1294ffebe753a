"""Export of finished runs to ONNX, for inference without this project and without torch.

Axes: B documents, T tokens, L labels.
"""

import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn

from newsreel.batches.batch import Batch
from newsreel.batches.datamodule import TextDataModule
from newsreel.config.sections import Settings, check_section, read_reader
from newsreel.core.errors import UserError, first_line
from newsreel.core.paths import user_path
from newsreel.core.storage import build_dir
from newsreel.corpora.corpus import Corpus, Task
from newsreel.inference.eval_data import PathOverrides, encode_split, find_documents
from newsreel.inference.export.program import CLASSIFY, write_program
from newsreel.models.functional import logits_to_probs
from newsreel.models.network import Network
from newsreel.models.pooling import token_mask
from newsreel.runs.trained_run import TrainedRun, open_run
from newsreel.text.tokens import PAD, TokenSequences

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger(__name__)

MODEL_FILE = "model.onnx"
THRESHOLDS_FILE = "thresholds.json"
OPSET = 17
MAX_DIFFERENCE = 1e-4  # between the probabilities of the ONNX model and the network
MAX_BYTES = 2**31  # of an ONNX file
ERRORS_ONLY = 3  # log severity of onnxruntime, which warns of loops that it cannot optimise
SHORT_LENGTHS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55)  # numbers of tokens that are verified in addition to real documents
INSTALL_PACKAGES = "pip install --editable '.[export]'"


@dataclass(frozen=True, kw_only=True)
class Request:
    """The settings of configs/export.yaml outside its sections."""

    run: str | None
    output: str
    num_documents: Annotated[int, Ge(1)]


def export(settings: Settings) -> Path:
    """Export a run with the settings of configs/export.yaml; returns the output directory. Raises UserError."""
    problems = check_section("", {key: settings[key] for key in settings if key not in ("data", "paths")}, Request)
    problems += check_section("paths", settings["paths"], PathOverrides)
    reader = read_reader(settings["data"], problems)
    if not problems and settings["run"] is None:
        problems.append("run is null: name the directory of a finished run, such as run=outputs/imdb/lstm/<time>.")
    if problems:
        raise UserError("\n".join(problems))
    output_dir = user_path(settings["output"], "output")
    if output_dir.exists():
        raise UserError(f"{output_dir} exists already: name another directory with output=…")
    require_packages()
    run = open_run(user_path(settings["run"], "run"))
    documents = sample_documents(
        find_documents([run], "test", PathOverrides(**settings["paths"]), reader), settings["num_documents"]
    )
    build_dir(output_dir, lambda partial: write_export(run, documents, partial))
    log.info(f"exported    {', '.join(sorted(path.name for path in output_dir.iterdir()))}")
    log.info(f"folder      {output_dir}")
    return output_dir


def require_packages() -> None:
    """Raise UserError if onnx or onnxruntime is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"Exporting needs a package that is not installed: {error}. Install it: {INSTALL_PACKAGES}"
        ) from error


def sample_documents(corpus: Corpus, num_documents: int) -> Corpus:
    """The corpus with up to `num_documents` of its test documents, evenly spaced."""
    table = corpus["test"]
    rows = np.linspace(0, len(table) - 1, min(num_documents, len(table))).astype(np.int64)
    return replace(corpus, tables={"test": table.select(rows)}, splits={})


def write_export(run: TrainedRun, documents: Corpus, output_dir: Path) -> None:
    """Write all files into an empty directory.

    Raises UserError if the model's probabilities, or the tokens that classify.py reads, differ from the run's.
    """
    model = Classification(run.classifier.network, run.labels.task)
    write_model(model, output_dir / MODEL_FILE)
    tokenized = encode_split(documents, "test", run.tokenizer)
    loader = TextDataModule(documents, tokenized, run.experiment.batches, seed=0, pin_memory=False).test_dataloader()
    difference = largest_difference(run, output_dir / MODEL_FILE, [*loader, *short_documents(next(iter(loader)))])
    num_documents = len(documents["test"])
    tested_on = f"{num_documents:,} test documents of {documents.name} and {len(SHORT_LENGTHS)} short ones"
    if not difference <= MAX_DIFFERENCE:  # also true for NaN
        raise UserError(
            f"{run.run_dir} cannot be exported: the probabilities of its {network_name(run)} and of the ONNX model "
            f"differ by up to {difference:.2g} on {tested_on}; the limit is {MAX_DIFFERENCE:g}."
        )
    run.tokenizer.save(output_dir)
    run.labels.save(output_dir)
    if run.labels.task == "multilabel":
        rule = run.classifier.decisions.describe(run.labels.names)
        (output_dir / THRESHOLDS_FILE).write_text(json.dumps(rule, indent=1), encoding="utf-8")
    verified = f"On {tested_on}, its probabilities differ from the network's by at most {difference:.2g}."
    write_program(run, verified, output_dir)
    texts = [text for chunk in documents.texts("test") for text in chunk.to_pylist()]
    require_same_tokens(run, texts, tokenized.tables["test"], output_dir)
    log.info(
        f"verified    on {tested_on}: same tokens in classify.py; probabilities differ by at most {difference:.2g}"
    )


def require_same_tokens(run: TrainedRun, texts: Sequence[str], expected: TokenSequences, folder: Path) -> None:
    """Raise UserError unless the classify.py of an export reads the same tokens in texts as the run does."""
    from newsreel.inference.export.classify import Classifier

    problem = f"{run.run_dir} cannot be exported: classify.py does not read texts as its tokenizer does"
    try:
        found = [list(ids) for ids in Classifier(folder).encode(texts)]
    except Exception as error:  # whatever comes of a tokenizer that it does not know
        raise UserError(f"{problem}: {type(error).__name__}: {first_line(error)}") from error
    in_order = sorted if run.experiment.tokenizer.produces_bags else list
    for number, ids in enumerate(found):
        if in_order(ids) != in_order(expected[number].tolist()):
            raise UserError(f"{problem}: test document {number} has other tokens. See `encoder` in {CLASSIFY}.")


class Classification(nn.Module):
    """The module that is exported: a network with probabilities as outputs, prepared for tracing."""

    def __init__(self, network: Network, task: Task) -> None:
        super().__init__()
        self.network = deepcopy(network).eval().requires_grad_(False)
        self.task: Task = task

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) token ids, with any padding, (B,) lengths → (B, L) probabilities."""
        token_ids = token_ids.where(token_mask(lengths, token_ids.shape[1]), PAD)
        return logits_to_probs(self.network(token_ids, lengths).float(), self.task)


def write_model(model: Classification, file: Path) -> None:
    """Trace a model into an ONNX file for any number of documents and tokens. Raises UserError if that fails."""
    name = type(model.network).__name__
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if num_bytes >= MAX_BYTES:
        raise UserError(
            f"This {name} has {num_bytes / 2**30:.1f} GiB of weights; an ONNX file must be smaller than "
            f"{MAX_BYTES / 2**30:.0f} GiB. Export a run with a smaller vocabulary."
        )
    example = torch.ones((2, 40), dtype=torch.long), torch.tensor([40, 17])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about constants in the trace, which the verification would detect
            # Not torch.export, which unrolls recurrent layers for a fixed number of tokens
            torch.onnx.export(
                model,
                example,
                str(file),
                dynamo=False,
                opset_version=OPSET,
                input_names=["token_ids", "lengths"],
                output_names=["probabilities"],
                dynamic_axes={
                    "token_ids": {0: "documents", 1: "tokens"},
                    "lengths": {0: "documents"},
                    "probabilities": {0: "documents"},
                },
            )
    except Exception as error:  # the exporter raises many kinds of errors
        raise UserError(f"{name} cannot be exported to ONNX: {str(error).strip().splitlines()[0]}") from error


def short_documents(batch: Batch) -> Iterator[Batch]:
    """Batches of one document each: the beginnings of the first document, of SHORT_LENGTHS tokens."""
    for length in SHORT_LENGTHS:
        lengths = batch.lengths[:1].clamp(max=length)
        token_ids = batch.token_ids[:1, : max(1, length)] * token_mask(lengths, 1)  # zeros (padding) if empty
        yield Batch(token_ids, lengths, batch.targets[:1], num_documents=1)


def largest_difference(run: TrainedRun, file: Path, batches: Iterable[Batch]) -> float:
    """The largest difference between probabilities of a file and a run. Raises UserError if the file cannot run."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(ERRORS_ONLY)
    try:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        differences = [max_difference(run, session, batch) for batch in batches]
    except Exception as error:  # onnxruntime's errors have no common base class
        raise UserError(f"onnxruntime cannot run the exported {network_name(run)}: {error}") from error
    return float(np.max(differences))  # NaN if any is NaN


def max_difference(run: TrainedRun, session: "onnxruntime.InferenceSession", batch: Batch) -> Any:
    with torch.inference_mode():
        logits = run.classifier(batch.token_ids, batch.lengths).float()
        expected = logits_to_probs(logits, run.labels.task).numpy()  # (B, L)
    (actual,) = session.run(None, {"token_ids": batch.token_ids.numpy(), "lengths": batch.lengths.numpy()})
    return np.abs(actual - expected).max()


def network_name(run: TrainedRun) -> str:
    return type(run.classifier.network).__name__
