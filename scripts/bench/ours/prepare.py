"""Time the preparation of a corpus's documents, in memory as Arrow: words or n-grams, vocabulary, encoding, cache.

`python -m bench.ours.prepare data=imdb tokenizer=ngrams …`. The corpus is read before, and imports take no part.
"""

import sys
import time

from bench.ours.experiment import experiment_of
from bench.peers.documents import print_figures


def main() -> None:
    experiment = experiment_of(sys.argv[1:])
    corpus = experiment.reader.load(experiment.paths)
    started = time.perf_counter()
    tokenized = experiment.tokenizer.fit(corpus, experiment.paths.cache)
    duration = time.perf_counter() - started
    num_documents = sum(len(table.lengths) for table in tokenized.tables.values())
    print_figures(seconds=duration, ms_per_document=1000 * duration / num_documents)


if __name__ == "__main__":
    main()
