"""What predicting costs beside tokens and logits: `python scripts/benchmark_predict.py <run directory> <documents>`.

Takes turns between the whole way from the file of documents to a file of predictions, and bare tokenizing plus the bare
forward pass on the same documents, in the same batches, with the documents in memory and the batches made beforehand.
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
from newsreel.inference.input_stream import MAX_DOCUMENTS, chunks, file_source
from newsreel.inference.output_writers import writing
from newsreel.inference.predict import Predictor, batches_of_similar_length
from newsreel.runs.trained_run import open_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("documents", type=Path, help="file of documents, as predict.py reads them")
    parser.add_argument("--column", default="text", help="its column of texts")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    predictor = Predictor(open_run(arguments.run))
    source = file_source(arguments.documents, arguments.column, [])
    texts = [[row[1] for row in chunk] for chunk in chunks(source, MAX_DOCUMENTS)]
    num_documents = sum(map(len, texts))
    batches = []
    for part in texts:
        documents = predictor.documents(part)
        batches += [
            documents[chosen] for chosen in batches_of_similar_length(documents.lengths, predictor.batch_tokens)
        ]

    @torch.inference_mode()
    def bare() -> None:
        for part in texts:
            predictor.run.tokenizer.encode(part)
        for batch in batches:
            predictor.network(batch.token_ids, batch.lengths)

    def whole(output: Path) -> None:
        source = file_source(arguments.documents, arguments.column, [])
        with writing(output) as write:
            for chunk in chunks(source, MAX_DOCUMENTS):
                write(predictor.predict_batch(predictor.documents([row[1] for row in chunk])))

    with TemporaryDirectory() as folder:
        for ending in (".jsonl", ".parquet"):
            times = [
                (seconds(bare), seconds(lambda: whole(Path(folder) / f"predictions{ending}")))  # noqa: B023
                for _ in range(arguments.rounds)
            ]
            bare_s, whole_s = (statistics.median(column) for column in zip(*times, strict=True))
            ratio = statistics.median(whole / bare for bare, whole in times)
            print(
                f"{num_documents:,} documents to {ending}: bare {bare_s:.2f} s ({num_documents / bare_s:,.0f} a "
                f"second), predicting {whole_s:.2f} s ({num_documents / whole_s:,.0f} a second), {ratio:.2f} times"
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
