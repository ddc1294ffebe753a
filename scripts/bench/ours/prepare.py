"""Time the preparation of a corpus's documents, in memory as Arrow: words or n-grams, vocabulary, encoding, cache.

`python -m bench.ours.prepare data=imdb tokenizer=ngrams …`. The corpus is read before, and imports take no part.
"""

import sys

from bench.ours.experiment import experiment_of
from bench.peers.documents import print_figures, seconds


def main() -> None:
    experiment = experiment_of(sys.argv[1:])
    corpus = experiment.reader.load(experiment.paths)
    num_documents = sum(len(table) for table in corpus.tables.values())
    duration = seconds(lambda: experiment.tokenizer.fit(corpus, experiment.paths.cache))
    print_figures(seconds=duration, ms_per_document=1000 * duration / num_documents)


if __name__ == "__main__":
    main()
