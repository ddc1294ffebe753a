"""Measure the overhead of prediction: `python scripts/benchmark_predict.py <run directory> <documents>`.

Alternates between complete predictions, from the file of documents to a file of predictions, and only tokenization and
forward passes on the same documents, in the same batches, with the documents in memory and the batches precomputed.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from newsreel.core.errors import UserError
from newsreel.files.readers import Layout
from newsreel.inference.input_stream import MAX_DOCUMENTS, chunks, file_source
from newsreel.inference.output_writers import writing
from newsreel.inference.predict import Predictor, batches_of_similar_length
from newsreel.runs.trained_run import open_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run directory of a finished run")
    parser.add_argument("documents", type=Path, help="file of documents in a format of predict.py")
    parser.add_argument("--column", default="text", help="column of the texts")
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements")
    arguments = parser.parse_args()
    predictor = Predictor(open_run(arguments.run))
    source = file_source(arguments.documents, [arguments.column], [], Layout())
    texts = [[row[1] for row in chunk] for chunk in chunks(source, MAX_DOCUMENTS)]
    num_documents = sum(map(len, texts))
    batches = []
    for part in texts:
        documents = predictor.documents(part)
        batches += [documents[rows] for rows in batches_of_similar_length(documents.lengths, predictor.batch_tokens)]

    @torch.inference_mode()
    def tokenize_and_forward() -> None:
        for part in texts:
            predictor.run.tokenizer.encode(part)
        for batch in batches:
            predictor.network(batch.token_ids, batch.lengths)

    def predict_file(output: Path) -> None:
        source = file_source(arguments.documents, [arguments.column], [], Layout())
        with writing(output) as write:
            for chunk in chunks(source, MAX_DOCUMENTS):
                write(predictor.predict_batch(predictor.documents([row[1] for row in chunk])))

    with TemporaryDirectory() as folder:
        for suffix in (".jsonl", ".parquet"):
            times = [
                (seconds(tokenize_and_forward), seconds(lambda: predict_file(Path(folder) / f"predictions{suffix}")))  # noqa: B023
                for _ in range(arguments.rounds)
            ]
            minimum_s, full_s = (statistics.median(column) for column in zip(*times, strict=True))
            ratio = statistics.median(full / minimum for minimum, full in times)
            print(
                f"{num_documents:,} documents to {suffix}: minimum {minimum_s:.2f} s "
                f"({num_documents / minimum_s:,.0f} documents/s), prediction {full_s:.2f} s "
                f"({num_documents / full_s:,.0f} documents/s), ratio {ratio:.2f}"
            )


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
