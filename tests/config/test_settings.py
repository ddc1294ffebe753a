"""Configs against the signatures that they configure."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn

from helpers.configs import CONFIGURED, composed, require_a_key_for_each_setting
from helpers.project import CONFIGS
from newsreel.config.schema import read_experiment
from newsreel.config.sections import check_section
from newsreel.core.errors import UserError
from newsreel.embeddings.embedding import Embedding, OneHotEmbedding, TableEmbedding
from newsreel.models.network import Network

CHOICES = {name: sorted(file.stem for file in (CONFIGS / name).glob("*.yaml")) for name in (*CONFIGURED, "trainer")}


@pytest.mark.parametrize("number", range(max(map(len, CHOICES.values()))))
def test_keys_of_a_config_are_the_keyword_parameters_of_its_target(number: int) -> None:
    config = composed(*(f"{group}={files[number % len(files)]}" for group, files in CHOICES.items()))
    for group in CONFIGURED:
        require_a_key_for_each_setting(group, config[group])


def test_a_setting_without_a_type_is_named_with_its_class() -> None:
    def target(*, size, rate: float) -> None:  # type: ignore[no-untyped-def]
        """As somebody's new network."""

    with pytest.raises(UserError, match=r"The setting size of .*target has no type: annotate it"):
        check_section("model", {"size": 3, "rate": 0.1}, target)


OTHERS = list(product(["data=imdb", "data=synthetic"], ["tokenizer=words", "tokenizer=subwords"], ["auto", "cpu"]))
FEW = [(model, OTHERS[3 * number % len(OTHERS)]) for number, model in enumerate(CHOICES["model"])]
REST = [row for row in product(CHOICES["model"], OTHERS) if row not in FEW]


@pytest.mark.parametrize(("model", "others"), [*FEW, *(pytest.param(*row, marks=pytest.mark.slow) for row in REST)])
def test_every_choice_composes_with_every_other(model: str, others: tuple[str, str, str]) -> None:
    data, tokenizer, trainer = others
    assert read_experiment(composed(f"model={model}", data, tokenizer, f"trainer={trainer}")).seed == 1


def test_a_model_brings_its_own_settings_and_the_command_line_wins() -> None:
    bow = composed("model=bow")
    assert bow["training"]["learning_rate"] != composed("model=lstm")["training"]["learning_rate"]
    assert bow["embedding"]["_target_"].endswith(".OneHot")
    typed = composed("model=bow", "embedding=learned", "training.learning_rate=0.5")
    assert typed["embedding"]["_target_"].endswith(".Learned")
    assert typed["training"]["learning_rate"] == 0.5


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        ("+model.hiden_size=3", "model.hiden_size is not a setting; did you mean model.hidden_size?"),
        ("+sead=3", "sead is not a setting; did you mean seed?"),
        ("model.hidden_size=abc", "model.hidden_size is abc: it must be a whole number"),
        ("model.hidden_size=true", "model.hidden_size is true: it must be a whole number"),
        ("model.hidden_size=0", "model.hidden_size is 0: it must be at least 1"),
        ("model.hidden_size=null", "model.hidden_size is null: it must be a whole number"),
        ("model.dropout=1", "model.dropout is 1: it must be at least 0 and below 1"),
        ("model.pooling=maxx", "one of last, max, mean, max_mean, attention; did you mean max?"),
        ("~model.dropout", "model.dropout is missing: the chosen file in configs/model has to give it"),
        ("+_target_=newsreel.models.cnn.KimCNN", "_target_ stands outside every section: a file that begins with"),
        ("+model.num_outputs=2", "model.num_outputs cannot be set: num_outputs is a positional parameter of Recurrent"),
        ("tokenizer.lowercase=1", "tokenizer.lowercase is 1: it must be true or false"),
        ("tokenizer.max_size=many", "tokenizer.max_size is many: it must be a whole number, or null"),
        ("model=bow model.hidden_sizes=16", "model.hidden_sizes is 16: it must be a list"),
        ("model=bow model.hidden_sizes=[16,x]", "its item x: it must be a whole number"),
        ("model=bow model.hidden_sizes=[0]", "its item 0: it must be at least 1"),
        ("evaluation.hierarchy=close", "hierarchy is close, but the labels of this corpus have no hierarchy"),
        ("paths.cache_dir=", "paths.cache_dir is empty"),
        ("trainer=cpu trainer.precision=16-mixed", "which needs a GPU: use bf16-mixed"),
        ("training.initial_accumulator=1", "which only adagrad has, but training.optimizer is adam: set"),
        ("training.optimizer=sgd training.betas=[0.8,0.99]", "betas is [0.8, 0.99], which only adam and adamw have"),
        ("training.betas=[0.8]", "training.betas is [0.8]: it must be a list of 2 to 2 items"),
        ("training.betas=[0.8,1]", "its item 1: it must be at least 0 and below 1"),
        ("training.ema=0.5", "training.ema is 0.5: it must be at least 0.9 and below 1, or null"),
        ("tokenizer.word_pattern=a*", "tokenizer.word_pattern=a* matches the empty text"),
        ("data.limit=0", "data.limit is 0: it must be at least 1, or null"),
        ("training=3", "training is 3: it must be a section of settings"),
        ("~published", "published is missing"),
        ("+colour=red", "colour is not a setting; choose from seed, regularize, pretrained"),
        ("data.hierarchy=rcv data=synthetic", "data.hierarchy is rcv: it must be rcv1, or null"),
        ("seed=4294967296", "seed is 4294967296: it must be at least 0 and at most 4294967295"),
        ("trainer.checkpoint_every_s=nan", "checkpoint_every_s is nan: it must be a finite number, or null"),
        ("+logger.mode=offline", "logger.mode is not a setting; there are none"),
        ("model._target_=newsreel.models.recurrent.LSTM", "which cannot be imported"),
        ("model._target_=newsreel.models.nothing.LSTM", "which cannot be imported"),
        ("model._target_=newsreel.models.cnn.MaskedConvolution", "MaskedConvolution, which is not a Network"),
        ("model._target_=newsreel.models.network.Network", "Network, which is not a Network that can be used"),
        ("model._target_=newsreel.nothing.LSTM", "must name a class of newsreel, as newsreel.models.module.Class"),
        ("model._target_=newsreel.corpora.imdb.IMDB", "must name a class of newsreel, as newsreel.models.module.Class"),
        ("model._target_=collections.Counter", "must name a class of newsreel, as newsreel.models.module.Class"),
        ("data._target_=os.system", "must name a class of newsreel, as newsreel.corpora.module.Class"),
        (f"model=kim_cnn model.kernel_sizes={[1] * 101}".replace(" 1", "1"), "it must be a list of 1 to 100 items"),
        ("batches.num_workers=100000", "batches.num_workers is 100000: it must be at least 0 and at most 256"),
        ("data.path=/nowhere", "data.path=/nowhere: there is no such file or folder"),
        ("data.path=/ data.source=hub", "data.source=hub is another source"),
        (
            "model=cnn embedding=one_hot tokenizer.max_size=20000",
            "32 documents × 600 tokens × 20000 words = 1.4 GiB | Use embedding=learned, which | or a model that",
        ),
        ("model=cnn embedding=one_hot batches.max_tokens=null", "set batches.max_tokens"),
        (
            "model=bilstm embedding=one_hot model.hidden_size=300 tokenizer.max_size=1000000",
            "need 9.0 GiB; the limit is 4 GiB | embedding.table.weight alone has 1,000,000 × 2,400 numbers of 4 bytes",
        ),
        (
            "model=flatten model.hidden_sizes=[65536]",
            "layers.1.weight alone has 65,536 × 25,600 numbers of 4 bytes | Lower the sizes in model",
        ),
        ("embedding.dimension=65536 tokenizer.max_size=20000", "embedding.table.weight alone has 20,000 × 65,536 num"),
        ("seed=1.5 training.max_epochs=0 model.dropout=2", "seed is | training.max_epochs is | model.dropout"),
        ("training.vat=-1", "training.vat is -1: it must be at least 0"),
        ("training.perturbation_norm=0", "training.perturbation_norm is 0: it must be above 0"),
        ("batches.unlabeled_batch_size=0", "batches.unlabeled_batch_size is 0: it must be at least 1, or null"),
        ("model=bow training.vat=1", "training.vat is 1, but this model reads bags of words: use another model"),
        ("model=bow training.entropy=0.5", "training.entropy is 0.5, but this model reads bags of words"),
        ("embedding=one_hot training.adversarial=1", "adversarial is 1, but one-hot words have no vectors to perturb"),
        (
            "training.vat=1 training.adversarial=2 embedding.max_norm=3 trainer.compile=true",
            "adversarial is 2 and training.vat is 1, which keeps | set embedding.max_norm=null | set trainer.compile",
        ),
        (
            "evaluation.folds=3 data.pseudo_labels=run",
            "evaluation.folds is 3, but the run that data.pseudo_labels names | set evaluation.folds=null",
        ),
        (
            "evaluation.folds=3 evaluation.thresholds=scut_fbr embedding=learned pretrained=run",
            "the run that pretrained names may have been trained on documents of every fold",
        ),
        ("tokenizer=ngrams", "this tokenizer produces bags | use model=bow, or tokenizer=words"),
    ],
)
def test_what_is_wrong_is_named_with_the_rule_and_the_remedy(overrides: str, messages: str) -> None:
    with pytest.raises(UserError) as error:
        read_experiment(composed(*overrides.split()))
    for message in messages.split(" | "):
        assert message in str(error.value)


@pytest.mark.parametrize("overrides", ["tokenizer=ngrams model=bow", "tokenizer=ngrams model=bow embedding=learned"])
def test_ngrams_serve_a_model_that_reads_bags(overrides: str) -> None:
    read_experiment(composed(*overrides.split()))


def test_weights_too_large_for_the_documents_are_refused() -> None:
    experiment = read_experiment(composed("embedding=one_hot", "tokenizer.max_size=null"))
    assert experiment.build_network(OneHotEmbedding(100), 1)
    with pytest.raises(UserError, match=r"embedding\.table\.weight alone has 9,000,000 × 256 numbers"):
        experiment.build_network(OneHotEmbedding(9_000_000), 1)


def test_a_network_whose_last_layer_has_another_name_is_refused() -> None:
    class Nameless(Network):
        """As somebody's new network."""

        def __init__(self, embedding: Embedding, num_outputs: int) -> None:
            super().__init__()
            self.last = nn.Linear(embedding.dimension, num_outputs)

    experiment = replace(read_experiment(composed("embedding=learned")), network=Nameless)
    with pytest.raises(UserError, match=r"Nameless has no self\.output.* or override the property output_bias"):
        experiment.build_network(TableEmbedding(torch.zeros(5, 3)), 2)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("newsreel.config.schema.is_gpu_available", lambda: False)
    with pytest.raises(UserError, match="use trainer=cpu or trainer=auto"):
        read_experiment(composed("trainer=gpu"))
