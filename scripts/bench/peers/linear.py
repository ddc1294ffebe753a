"""scikit-learn: TF-IDF of 1–2-grams with LinearSVC or LogisticRegression, and CountVectorizer alone.

As in the user guide, "Working with text data": a vectorizer, then a linear classifier, with default settings.
"""

import argparse
import time
from pathlib import Path

from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from bench.peers.documents import accuracy, print_figures, read_all_training, read_documents, seconds

CLASSIFIERS = {"svc": LinearSVC, "logistic": LogisticRegression}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", type=Path)
    parser.add_argument("work", choices=[*CLASSIFIERS, "count"])
    parser.add_argument("--max-n", type=int, default=2, help="maximum length of an n-gram, in words")
    arguments = parser.parse_args()
    train, test = read_all_training(arguments.documents), read_documents(arguments.documents, "test")
    ngrams = (1, arguments.max_n)
    if arguments.work == "count":
        counter = CountVectorizer(ngram_range=ngrams)
        print_figures(
            seconds=seconds(lambda: counter.fit_transform(train.texts)) + seconds(lambda: counter.transform(test.texts))
        )
        return
    started = time.perf_counter()
    vectorizer = TfidfVectorizer(ngram_range=ngrams)
    classifier = CLASSIFIERS[arguments.work]().fit(vectorizer.fit_transform(train.texts), train.labels)
    preds = classifier.predict(vectorizer.transform(test.texts))
    print_figures(seconds=time.perf_counter() - started, accuracy=accuracy(preds, test.labels))


if __name__ == "__main__":
    main()
