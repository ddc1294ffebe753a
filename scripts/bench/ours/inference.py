"""Time evaluation and prediction with a finished run, and the bare work in them, all with the model in memory.

`python -m bench.ours.inference <work> <run directory> <documents.jsonl>`, where work is
- evaluate: Lightning's test loop on the test documents, encoded before; forward: the network on the same batches;
- predict: from the file of documents to a file of predictions (JSONL); encode_and_forward: tokens of the same texts,
  in memory, then the network on batches that are made before.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.peers.documents import print_figures, seconds
from newsreel.batches.batch import Batch
from newsreel.batches.datamodule import TextDataModule
from newsreel.files.readers import Layout
from newsreel.inference.eval_data import encode_split
from newsreel.inference.input_stream import MAX_DOCUMENTS, chunks, file_source
from newsreel.inference.output_writers import writing
from newsreel.inference.predictors import RunPredictor
from newsreel.runs.environment import default_threads
from newsreel.runs.scoring import batches_of_similar_length
from newsreel.runs.trained_run import TrainedRun, open_run
from newsreel.training.trainer import build_tester

Work = Callable[[], object]


def texts_of(documents: Path) -> list[list[str]]:
    """The documents in chunks of the size that a prediction has."""
    source = file_source(documents, ["text"], [], Layout())
    return [[row[1] for row in chunk] for chunk in chunks(source, MAX_DOCUMENTS)]


def test_loader(run: TrainedRun) -> torch.utils.data.DataLoader[Batch]:
    experiment = run.experiment
    corpus = experiment.reader.load(experiment.paths)
    tokenized = encode_split(corpus, "test", run.tokenizer)
    data = TextDataModule(
        corpus, tokenized, experiment.batches, experiment.seed, pin_memory=False, bags=experiment.takes_counts
    )
    return data.evaluation_dataloader("test")


def evaluate(run: TrainedRun, documents: Path) -> Work:
    tester, loader = build_tester("cpu", run.experiment.trainer.precision), test_loader(run)
    return lambda: tester.test(run.classifier, loader, verbose=False)


def forward(run: TrainedRun, documents: Path) -> Work:
    classifier, batches = run.classifier.eval(), list(test_loader(run))
    return lambda: forward_all(classifier, batches)


def predict(run: TrainedRun, documents: Path) -> Work:
    predictor = RunPredictor(run)

    def work() -> None:
        source = file_source(documents, ["text"], [], Layout())
        with TemporaryDirectory() as folder, writing(Path(folder) / "predictions.jsonl") as write:
            for chunk in chunks(source, MAX_DOCUMENTS):
                write(predictor.predict_batch(predictor.documents([row[1] for row in chunk])))

    return work


def encode_and_forward(run: TrainedRun, documents: Path) -> Work:
    predictor, texts = RunPredictor(run), texts_of(documents)
    batches = []
    for part in texts:
        (encoded,) = predictor.documents(part)
        batches += [encoded[rows] for rows in batches_of_similar_length(encoded.lengths, predictor.scorer.batch_tokens)]

    def work() -> None:
        for part in texts:
            run.tokenizer.encode(part)
        forward_all(run.classifier.eval(), batches)

    return work


@torch.inference_mode()
def forward_all(classifier: torch.nn.Module, batches: list[Batch]) -> None:
    for batch in batches:
        classifier(batch.token_ids, batch.lengths, batch.counts)


WORK = {function.__name__: function for function in (evaluate, forward, predict, encode_and_forward)}


def main() -> None:
    name, run_dir, documents = sys.argv[1:]
    run = open_run(Path(run_dir))
    torch.set_num_threads(run.experiment.trainer.threads or default_threads())
    with run.classifier.runner.threads(torch.get_num_threads()):
        duration = seconds(WORK[name](run, Path(documents)))
    with open(documents, encoding="utf-8") as file:
        num_documents = sum(1 for _ in file)
    print_figures(seconds=duration, ms_per_document=1000 * duration / num_documents)


if __name__ == "__main__":
    main()
