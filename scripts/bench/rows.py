"""The rows of the benchmark: what is compared with what, and how far newsreel is to get."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.contenders import Code, Contender, Inference, Part, Peer, Train

BIGRAMS = "model=bow data=imdb tokenizer=ngrams tokenizer.max_n=2 model.weighting=nb"
TRIGRAMS = "model=bow data=imdb tokenizer=ngrams model.weighting=nb"
LECTURE_DATA = "data=imdb data.validation_fraction=0.2"
JOBS = (
    "-m model=lstm data=synthetic data.num_documents=5000 training.max_epochs=2 trainer.threads=1 seed=1,2,3,4,5,6,7,8"
)
# LibMultiLabel's network and batches
KIM_CNN_R90 = (
    "model=kim_cnn data=reuters embedding=learned embedding.dimension=300 model.num_filters=128 "
    "model.kernel_sizes=[2,4,8] batches.batch_size=64 batches.max_tokens=500 batches.truncation=head "
    "tokenizer.max_size=null tokenizer.min_document_count=1 training.learning_rate=0.0005 training.max_epochs=2 "
    "training.scale_min_steps=false"
)

LINEAR_SVC = Peer(
    name="scikit-learn TfidfVectorizer 1–2-grams + LinearSVC",
    figure="wall_s",
    environment="scikit-learn",
    program="linear",
    arguments="svc",
)
LOGISTIC = Peer(
    name="scikit-learn TfidfVectorizer 1–2-grams + LogisticRegression",
    figure="wall_s",
    environment="scikit-learn",
    program="linear",
    arguments="logistic",
)
FASTTEXT = Peer(name="fastText 2-grams", figure="wall_s", environment="fasttext", program="fasttext_bigrams")
SPACY_BOW = Peer(
    name="spaCy TextCatBOW 1–2-grams", figure="wall_s", environment="spacy", program="spacy_textcat", arguments="bow"
)
TORCH_TEXT_CLASSIFIERS = Peer(
    name="torchTextClassifiers",
    figure="wall_s",
    environment="torchtextclassifiers",
    program="torchtextclassifiers_mean",
)


@dataclass(frozen=True)
class Row:
    """A comparison. The ratio is that of newsreel's figure to the peer's."""

    key: str
    description: str  # of what is measured, in the page
    ours: Contender
    peer: Contender
    reach: float | None = None  # of the ratio: at most for times and memory, at least for speeds; None: only shown
    min_accuracy: float | None = None  # on the test documents
    bound: str = ""  # what limits a row that falls short

    @property
    def higher_is_better(self) -> bool:
        return self.ours.figure.endswith("_per_s")

    def is_reached(self, ratio: float, accuracy: float | None) -> bool:
        """Whether newsreel gets as far as it is to get."""
        if self.min_accuracy is not None and (accuracy is None or accuracy < self.min_accuracy):
            return False
        return self.reach is None or (ratio >= self.reach if self.higher_is_better else ratio <= self.reach)


def command_rows() -> Iterator[Row]:
    """From the command to the tested model."""

    def bow(settings: str, cold: bool = True) -> Train:
        return Train(name="newsreel", figure="wall_s", settings=settings, cache="cold" if cold else "warm")

    text = "from the command to the tested model: bow"
    yield Row("bow-cold", f"{text}, 1–2-grams, cold cache", bow(BIGRAMS), LINEAR_SVC, 0.8, 0.918)
    yield Row(
        "bow-cold-fasttext",
        f"{text}, 1–2-grams, cold cache",
        bow(BIGRAMS),
        FASTTEXT,
        1.2,
        0.918,
        bound="Importing torch and Lightning takes the time of the peer in `start`, before anything is read; fastText "
        "has no imports. Its accuracy is two points lower.",
    )
    yield Row("bow-cold-3grams", f"{text}, 1–3-grams, cold cache", bow(TRIGRAMS), LINEAR_SVC, 1.0, 0.921)
    yield Row(
        "bow-warm",
        f"{text}, 1–2-grams, warm cache",
        bow(BIGRAMS, cold=False),
        LINEAR_SVC,
        0.35,
        bound="Half of the time are the imports of torch and Lightning (the peer in `start`).",
    )
    yield Row("bow-cold-logistic", f"{text}, 1–2-grams, cold cache", bow(BIGRAMS), LOGISTIC)
    yield Row("bow-cold-spacy", f"{text}, 1–2-grams, cold cache", bow(BIGRAMS), SPACY_BOW)
    yield Row(
        "bow-cold-torchtextclassifiers",
        f"{text}, 1–2-grams, cold cache; the peer averages embeddings",
        bow(BIGRAMS),
        TORCH_TEXT_CLASSIFIERS,
    )


def prepare_rows() -> Iterator[Row]:
    """From documents in memory to encoded ones, without imports."""
    for key, max_n, settings, reach in (
        ("prepare-words", 1, "tokenizer=words", 0.4),
        ("prepare-2grams", 2, "model=bow tokenizer=ngrams tokenizer.max_n=2", 0.3),
    ):
        yield Row(
            key,
            f"prepare 50,000 reviews, {'words' if max_n == 1 else '1–2-grams'}, cold cache, without imports",
            Part(name="newsreel", figure="seconds", program="prepare", settings=f"data=imdb {settings}", is_cold=True),
            Peer(
                name="scikit-learn CountVectorizer",
                figure="seconds",
                environment="scikit-learn",
                program="linear",
                arguments=f"count --max-n {max_n}",
            ),
            reach,
        )


def keras_rows() -> Iterator[Row]:
    """Training speed of the lecture's networks."""
    for network, layers, reach in (
        ("rnn", "SimpleRNN 32", 6),
        ("lstm", "LSTM 32", 5),
        ("bilstm", "Bidirectional LSTM 32", 4),
        ("cnn", "Conv1D", 2.5),
    ):
        settings = f"experiment=lecture/{network} training.max_epochs=3"
        yield Row(
            f"keras-{network}",
            f"training speed of {layers}, batches of 128, at most 500 words; accuracy after 3 epochs",
            Train(name="newsreel", figure="documents_per_s", settings=settings),
            Peer(
                name=f"Keras {layers}",
                figure="documents_per_s",
                environment="keras",
                program="keras_networks",
                data=LECTURE_DATA,
                arguments=network,
            ),
            reach,
            bound="Two thirds of a step are oneDNN's recurrent layer itself (`trainer.profile=true`)."
            * (network == "lstm"),
        )


def baseline_rows() -> Iterator[Row]:
    """The code as it was before the work on speed."""

    def row(key: str, text: str, figure: str, settings: str, reach: float) -> Row:
        ours = Train(name="newsreel", figure=figure, settings=settings)
        return Row(key, text, ours, Train(name="baseline", figure=figure, settings=settings, is_baseline=True), reach)

    yield row("fit-lstm", "`model=lstm data=imdb`: time of the fit", "fit_s", "model=lstm data=imdb", 0.5)
    for model in ("bilstm", "cnn", "kim_cnn", "gru"):
        settings = f"model={model} data=imdb training.max_epochs=2"
        text = f"`{settings}`: training speed"
        yield row(f"speed-{model}", text, "documents_per_s", settings, 1.5)


def busy_rows() -> Iterator[Row]:
    """Beside other work."""
    settings = "model=lstm data=imdb training.max_epochs=1"
    for number, key, text, reach in ((1, "busy-one", "one busy process", 0.45), (2, "busy-two", "two of them", 0.35)):
        yield Row(
            key,
            f"`{settings}`: training speed beside {text}, and alone",
            Train(name="beside", figure="documents_per_s", settings=settings, num_busy=number),
            Train(name="alone", figure="documents_per_s", settings=settings),
            reach,
        )


def bare_rows() -> Iterator[Row]:
    """What is around the network's own work."""
    for model, epochs, reach in (("lstm", 2, 1.05), ("cnn", 2, 1.05), ("rnn", 2, 1.08), ("bow", 4, 1.2)):
        settings = f"model={model} data=imdb training.max_epochs={epochs}"
        if model == "bow":
            settings += " training.solver=minibatch"
        yield Row(
            f"epoch-{model}",
            f"`{settings}`: seconds of a training epoch, without validation",
            Train(name="newsreel", figure="epoch_s", settings=settings),
            Part(name="bare PyTorch loop", figure="epoch_s", program="bare_loop", settings=settings),
            reach,
        )
    settings = "model=lstm data=imdb training.max_epochs=1"
    yield Row(
        "evaluate",
        "the test of an LSTM on 25,000 reviews, encoded before",
        Inference(name="newsreel", figure="seconds", work="evaluate", settings=settings),
        Inference(name="bare forward pass", figure="seconds", work="forward", settings=settings),
        1.10,
    )
    yield Row(
        "predict",
        "predictions of an LSTM for 25,000 reviews, from a file to a JSONL file",
        Inference(name="newsreel", figure="seconds", work="predict", settings=settings),
        Inference(
            name="bare encoding and forward pass", figure="seconds", work="encode_and_forward", settings=settings
        ),
        1.20,
    )


def peer_network_rows() -> Iterator[Row]:
    """Convolutional networks of other libraries."""
    yield Row(
        "kimcnn-r90",
        "KimCNN on R90: seconds of a training epoch with LibMultiLabel's own settings; micro-F1 after 2 epochs",
        Train(name="newsreel", figure="epoch_s", settings=KIM_CNN_R90),
        Peer(
            name="LibMultiLabel KimCNN",
            figure="epoch_s",
            environment="libmultilabel",
            program="libmultilabel_kimcnn",
            data="data=reuters",
            arguments="--epochs 2",
        ),
        0.3,
    )
    data = "data=imdb data.limit=1000"
    yield Row(
        "cnn-spacy",
        "training speed of a CNN on 1,800 reviews (spaCy would take an hour for all); accuracy after 2 epochs",
        Train(name="newsreel", figure="documents_per_s", settings=f"model=cnn {data} training.max_epochs=2"),
        Peer(
            name="spaCy TextCatReduce over HashEmbedCNN",
            figure="documents_per_s",
            environment="spacy",
            program="spacy_textcat",
            data=data,
            arguments="cnn",
        ),
    )


def start_row() -> Row:
    return Row(
        "start",
        "warm cache: from the start of the command to the end of the first training step",
        Train(
            name="newsreel",
            figure="first_step_s",
            settings="model=lstm data=imdb data.train_limit=1000 training.max_epochs=1",
            cache="warm",
        ),
        Code(name="`import torch, lightning`", figure="wall_s", code="import torch, lightning"),
        1.15,
    )


def size_rows() -> Iterator[Row]:
    """Generated documents: time a document, and memory, beside those of a smaller corpus."""

    def contenders(size: int) -> dict[str, Contender]:
        name, data = f"{size:,} documents", f"data=synthetic data.num_documents={size}"
        bow = f"model=bow {data}"
        return {
            "prepare": Part(name=name, figure="ms_per_document", program="prepare", settings=data, is_cold=True),
            "bow": Train(name=name, figure="fit_ms_per_document", settings=bow),
            "predict": Inference(name=name, figure="ms_per_document", work="predict", settings=bow),
            "memory": Train(name=name, figure="peak_rss_mb", settings=bow, cache="warm"),
        }

    texts = {
        "prepare": "preparing words, per document, beside that with a smaller corpus",
        "bow": "fitting, per document",
        "predict": "predicting, per document",
        "memory": "peak memory of training and testing, with a warm cache",
    }
    for smaller, size in ((50_000, 200_000), (200_000, 804_000)):
        for work, ours in contenders(size).items():
            yield Row(f"size-{work}-{size // 1000}k", texts[work], ours, contenders(smaller)[work], 1.2)


def sweep_row() -> Row:
    return Row(
        "sweep",
        "8 short jobs with 2 workers of joblib, and one after another",
        Train(
            name="2 workers",
            figure="commands_per_s",
            settings=f"{JOBS} hydra/launcher=joblib hydra.launcher.n_jobs=2",
        ),
        Train(name="one after another", figure="commands_per_s", settings=JOBS),
        1.7,
    )


ROWS = {
    row.key: row
    for row in (
        *command_rows(),
        *prepare_rows(),
        *keras_rows(),
        *baseline_rows(),
        *busy_rows(),
        *bare_rows(),
        *peer_network_rows(),
        start_row(),
        *size_rows(),
        sweep_row(),
    )
}
