"""The README of an exported run, with code to classify texts using only public packages."""

from string import Template
from textwrap import dedent

from newsreel.batches.batch import BatchSettings
from newsreel.runs.trained_run import TrainedRun
from newsreel.text.ngrams import FittedNgrams
from newsreel.text.subwords import FittedSubwords
from newsreel.text.tokens import FittedTokenizer
from newsreel.text.words import HTML_TAG, PUNCTUATION, TITLE, TITLE_MARK, FittedWords

NO_LIMIT = 10**9  # tokens of a document

README = Template("""\
# $title

`model.onnx` computes the probability of each of $num_labels labels ($task) for each document. $verified

| | | |
|---|---|---|
| input `token_ids` | (documents, tokens), int64 | token ids of the texts, with any padding at the end |
| input `lengths` | (documents,), int64 | number of tokens of each document, 0 or more |
| output `probabilities` | (documents, labels), float32 | in the order of `names` in labels.json |

Install the packages with `pip install onnxruntime numpy $package`, save this code as classify.py in this directory, and
run `python classify.py "a text" "another"`:

```python
import json, sys
import numpy as np, onnxruntime, $package

onnxruntime.set_default_logger_severity(3)  # errors only
session = onnxruntime.InferenceSession("model.onnx")
names = json.load(open("labels.json", encoding="utf-8"))["names"]
FIRST, LAST = $first, $last  # tokens read from the beginning and the end of longer documents
$encoder
def classify(texts):
    documents = [x if len(x) <= FIRST + LAST else [*x[:FIRST], *x[len(x) - LAST:]] for x in encode(texts)]
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    token_ids = np.zeros((len(documents), max(1, lengths.max())), dtype=np.int64)
    for row, document in zip(token_ids, documents):
        row[:len(document)] = document
    return session.run(None, {"token_ids": token_ids, "lengths": lengths})[0]
$decider
for row in classify(sys.argv[1:]):
    print(json.dumps({"labels": decide(row), "probabilities": dict(zip(names, row.tolist()))}))
```
""")

# From texts to token ids, by tokenizer
SPLIT = f'''
    tokenizer = json.load(open("tokenizer.json", encoding="utf-8"))
    rules, words = tokenizer["rules"], tokenizer.get("words") or tokenizer["tokens"]
    ids = {{word: number for number, word in enumerate(words)}}

    def split(texts):
        column = polars.Series(texts, dtype=polars.String)
        if rules["strip_html"]:
            column = column.str.replace_all(r"{HTML_TAG}", " ")
        if rules["normalization"]:
            column = column.str.normalize(rules["normalization"])
        if rules["lowercase"]:
            column = column.str.to_lowercase()
        pattern = rules["word_pattern"] + (r"|{PUNCTUATION}" if rules["punctuation"] == "keep" else "")
        texts = column.str.extract_all(pattern).to_list()
        if rules["mark_title"]:  # the words of the first line are repeated in front, marked
            titles = column.str.extract(r"{TITLE}").fill_null("").str.extract_all(pattern)
            texts = [[*("{TITLE_MARK}" + word for word in title), *text] for title, text in zip(titles, texts)]
        return [[ids.get(word, 1) for word in text] for text in texts]
'''
WORDS = f"""{SPLIT}
    encode = split
"""
NGRAMS = f'''{SPLIT}
    ngrams = np.load("ngrams.npz")

    def encode(texts):
        return [bag(np.array(word_ids, dtype=np.int64)) for word_ids in split(texts)]

    def bag(word_ids):
        """The n-grams of a document; the key of one combines the index of its prefix and its last word."""
        numbers, found = np.where(word_ids > 1, word_ids, -1), []
        for order in range(1, tokenizer["max_n"] + 1):
            if order > 1:
                known, prefix, last = ngrams[f"keys_{{order}}"], numbers[:-1], word_ids[order - 1:]
                keys = np.where((prefix >= 0) & (last > 1), prefix * len(words) + last, -1)
                places = np.searchsorted(known, keys).clip(max=max(0, len(known) - 1))
                numbers = np.where(known[places] == keys, places, -1) if len(known) else np.full_like(keys, -1)
            tokens = ngrams[f"ids_{{order}}"][numbers[numbers >= 0]]
            found += tokens[tokens != 1].tolist()
        return found
'''
SUBWORDS = """
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(json.load(open("tokenizer.json", encoding="utf-8"))["model"]))

    def encode(texts):
        return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
"""
ENCODERS: dict[type[FittedTokenizer], tuple[str, str]] = {  # (required package, code)
    FittedWords: ("polars", WORDS),
    FittedNgrams: ("polars", NGRAMS),
    FittedSubwords: ("tokenizers", SUBWORDS),
}

# From probabilities to labels, by decision rule
MOST_PROBABLE = """
    def decide(row):
        return [names[row.argmax()]]
"""
ABOVE_THRESHOLDS = """
    thresholds = json.load(open("thresholds.json", encoding="utf-8"))["thresholds"]

    def decide(row):
        return [name for name, probability in zip(names, row) if probability > thresholds[name]]
"""
TOP_K = """
    k = json.load(open("thresholds.json", encoding="utf-8"))["k"]

    def decide(row):
        return [names[label] for label in np.argsort(-row)[:k]]
"""
CLOSED = """
    parents = json.load(open("labels.json", encoding="utf-8"))["parents"]
    decide_alone = decide

    def decide(row):
        given = decide_alone(row)
        for name in given:  # the loop also visits the appended parents
            parent = parents[names.index(name)]
            if parent >= 0 and names[parent] not in given:
                given.append(names[parent])
        return given
"""


def export_readme(run: TrainedRun, verified: str) -> str:
    """The README of an exported run. verified: the result of the verification, as a sentence."""
    package, encoder = ENCODERS[type(run.tokenizer)]
    decisions = run.classifier.decisions
    decider = MOST_PROBABLE
    if run.labels.task == "multilabel":
        decider = ABOVE_THRESHOLDS if decisions.by_thresholds else TOP_K
    first, last = tokens_read(run.experiment.batches)
    return README.substitute(
        title=f"{run.command.choices.get('model', 'model')} on {run.command.choices.get('data', 'documents')}",
        num_labels=len(run.labels.names),
        task=run.labels.task,
        verified=verified,
        package=package,
        encoder=dedent(encoder),
        decider=dedent(decider) + (dedent(CLOSED) if decisions.ancestor_edges else ""),
        first=first,
        last=last,
    )


def tokens_read(batches: BatchSettings) -> tuple[int, int]:
    """Numbers of tokens that are read from the beginning and the end of a long document."""
    limit = NO_LIMIT if batches.max_tokens is None else batches.max_tokens
    if batches.truncation == "head_tail":
        return (limit + 1) // 2, limit // 2
    return (limit, 0) if batches.truncation == "head" else (0, limit)
