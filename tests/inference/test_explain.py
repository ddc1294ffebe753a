"""Contributions of tokens to what a run says."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.documents import word_tokenizer
from newsreel.batches.batch import Batch, DocumentDataset, Truncation
from newsreel.core.errors import UserError
from newsreel.embeddings.embedding import OneHotEmbedding, TableEmbedding
from newsreel.evaluation.explanations import Explainer, Explanation
from newsreel.inference.explain import page
from newsreel.models.bow import BagOfWords
from newsreel.models.cnn import KimCNN, StackedCNN
from newsreel.models.flatten import FlattenMLP
from newsreel.models.network import Network
from newsreel.models.recurrent import RecurrentNetwork
from newsreel.text.character_ngrams import CharacterNgramRules, FittedCharacterNgrams
from newsreel.text.characters import CharacterRules, FittedCharacters
from newsreel.text.tokens import TokenSequences
from newsreel.text.words import FittedWords

TOKENS = ["<pad>", "<unk>", "good", "bad", "film", "plot"]
bow = partial(BagOfWords, weighting="tf", sublinear_tf=False, hidden_sizes=[], dropout=0.0)
lstm = partial(RecurrentNetwork, cell="lstm", hidden_size=5, num_layers=1, directions="both", pooling="max_mean",
               dropout=0.0, recurrent_dropout=0.0, layer_norm=False)  # fmt: skip
cnn = partial(StackedCNN, num_filters=5, kernel_size=2, num_layers=2, pool_size=2, pooling="max_mean", hidden_sizes=[4],
              input_dropout=0.0, dropout=0.0)  # fmt: skip
flatten = partial(FlattenMLP, num_tokens=3, hidden_sizes=[6], dropout=0.0)
NETWORKS = {
    "bow": bow,
    "mlp": partial(bow, weighting="count", hidden_sizes=[6]),
    "lstm": lstm,
    "cnn": cnn,
    "kim_cnn": partial(KimCNN, num_filters=5, kernel_sizes=[1, 2], dropout=0.0),
    "flatten": flatten,
}


def learned() -> TableEmbedding:
    return TableEmbedding(torch.randn(len(TOKENS), 4))


def one_hot() -> OneHotEmbedding:
    return OneHotEmbedding(len(TOKENS))


def batch_of(*words: str) -> Batch:
    token_ids = [TOKENS.index(word) for word in words]
    return Batch(torch.tensor([token_ids or [0]]), torch.tensor([len(words)]), torch.zeros(1), 1)


def explainer(network: Network, labels: Sequence[str] = "ab", label: str | None = None, steps: int = 50) -> Explainer:
    return Explainer(network.eval(), TOKENS, list(labels), label, steps)


def tokens_of(explanation: Explanation) -> list[str]:
    return [token for token, _ in explanation.attributions]


def values_of(explanation: Explanation) -> list[float]:
    return [value for _, value in explanation.attributions]


@pytest.mark.parametrize("embedding", [learned, one_hot])
@pytest.mark.parametrize("name", NETWORKS)
def test_contributions_sum_to_the_difference_that_the_words_make(name: str, embedding: Any) -> None:
    torch.manual_seed(3)
    network = NETWORKS[name](embedding(), 3)
    explain = explainer(network, "abc")
    for words in (["good", "film", "bad", "plot", "good", "<unk>", "film"], []):
        batch = batch_of(*words)
        logits = network(batch.token_ids, batch.lengths)[0].tolist()
        for target, label in enumerate("abc"):
            explanation = explain.explain(batch, target)
            assert explanation.target == label
            assert explanation.logit == pytest.approx(logits[target], abs=1e-5)
            difference = explanation.logit - explanation.baseline
            tolerance = max(0.01 * abs(difference), 1e-3 if words else 1e-6)
            assert sum(values_of(explanation)) == pytest.approx(difference, abs=tolerance)
            assert explanation.complete
            assert any(abs(value) > 1e-3 for value in values_of(explanation)) == bool(words)


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [("head", ["good", "zorb <unk>", "bad", "film"]), ("tail", ["bad", "film", "blip <unk>", "plot"]),
     ("head_tail", ["good", "zorb <unk>", "blip <unk>", "plot"])],
)  # fmt: skip
def test_words_are_told_in_order_and_as_the_document_has_them(truncation: Truncation, expected: list[str]) -> None:
    words = ["good", "zorb", "bad", "film", "blip", "plot"]
    ids = np.array([TOKENS.index(word) if word in TOKENS else 1 for word in words])
    documents = DocumentDataset(TokenSequences(ids, np.array([0, 6])), np.array([0]), np.zeros(1), 4, truncation)
    for build, places in ((lstm, 4), (cnn, 4), (bow, 4), (flatten, 3)):
        (explanation,) = explainer(build(learned(), 2))(documents, np.array([[0.2, 0.8]]), [words])
        assert tokens_of(explanation) == expected[-places:]
        assert tokens_of(explainer(build(learned(), 2)).explain(batch_of("good"), 0)) == ["good"]


def test_tokenizers_spell_what_they_encode() -> None:
    words = FittedWords(word_tokenizer().rules, ["<pad>", "<unk>", "film"])
    assert words.surface_forms("A Film, zorb!") == ["a", "film", "zorb"]
    assert words.surface_forms("") == []


@pytest.mark.parametrize(
    ("truncation", "max_tokens", "expected"),
    [
        ("head", None, [("ab", 0.5 - 1.5), ("日", 0.25)]),
        ("head", 1, [("ab", 0.5)]),  # "日" is not read
        ("tail", 2, [("ab", -1.5), ("日", 0.25)]),
    ],
)
def test_characters_are_explained_by_word(truncation: Truncation, max_tokens: int | None, expected: Any) -> None:
    """Characters a, b and 日 as tokens; with count weights, each contributes its coefficient."""
    network = bow(OneHotEmbedding(5), 1, weighting="count")
    with torch.no_grad():
        network.bag.table.weight.copy_(torch.tensor([9.0, 9.0, 0.5, -1.5, 0.25])[:, None])
    tokens = ["<pad>", "<unk>", "a", "b", "日"]
    rules = CharacterRules(strip_html=True, unescape_html=False, normalization="NFC", lowercase=True)
    tokenizer = FittedCharacters(rules, tokens)
    sequences = tokenizer.encode(["ab日"])
    documents = DocumentDataset(sequences, np.array([0]), np.zeros(1), max_tokens, truncation)
    explain = Explainer(network.eval(), tokens, "ab", "b", 10)
    (explanation,) = explain(documents, np.array([[0.1, 0.9]]), [None], [tokenizer.spans("Ab日")])
    assert tokens_of(explanation) == [token for token, _ in expected]
    assert values_of(explanation) == pytest.approx([value for _, value in expected])
    assert explanation.complete


def test_an_ngram_contributes_to_the_words_that_it_covers() -> None:
    rules = CharacterNgramRules(strip_html=True, unescape_html=False, normalization=None, lowercase=False,
                                analyzer="char", min_n=4, max_n=4)  # fmt: skip
    tokenizer = FittedCharacterNgrams(rules, None, ["b cd", "cdef"])
    network = bow(OneHotEmbedding(4), 1, weighting="count")
    with torch.no_grad():
        network.bag.table.weight.copy_(torch.tensor([9.0, 9.0, 4.0, -1.0])[:, None])
    documents = DocumentDataset(tokenizer.encode(["ab cdef x"]), np.array([0]), np.zeros(1), None, "head")
    explain = Explainer(network.eval(), tokenizer.tokens, "ab", "b", 10)
    (explanation,) = explain(documents, np.array([[0.1, 0.9]]), [None], [tokenizer.spans("ab cdef x")])
    assert tokens_of(explanation) == ["ab", "cdef"]  # no n-gram with x is in the vocabulary
    assert values_of(explanation) == pytest.approx([4.0 * 2 / 4, 4.0 * 2 / 4 - 1.0])


def test_a_linear_bag_contributes_weight_times_value() -> None:
    network = bow(one_hot(), 1, weighting="tfidf")
    with torch.no_grad():
        network.idf.copy_(torch.tensor([1.0, 1.0, 2.0, 3.0, 1.0, 1.0]))
        network.bag.table.weight.copy_(torch.tensor([9.0, 9.0, 0.5, -1.5, 0.25, 9.0])[:, None])
        network.bag.output_bias.fill_(0.125)
    words = ["good", "film", "good", "<unk>", "bad"]
    explain = explainer(network, ["negative", "positive"])
    explanation = explain.explain(batch_of(*words), 1)
    norm = (4**2 + 1**2 + 3**2) ** 0.5  # good twice with idf 2, film, bad with idf 3
    expected = [value / norm for value in (2 * 0.5, 0.25, 2 * 0.5, 0.0, 3 * -1.5)]
    assert tokens_of(explanation) == words
    assert values_of(explanation) == pytest.approx(expected, abs=1e-6)
    assert explanation.baseline == 0.125
    assert explanation.logit == pytest.approx(0.125 + sum(expected))
    against = explain.explain(batch_of(*words), 0)  # the other of two labels
    assert values_of(against) == pytest.approx([-value for value in expected], abs=1e-6)
    assert against.logit == pytest.approx(-explanation.logit)


def test_weights_of_each_label_explain_that_label() -> None:
    network = bow(one_hot(), 2, weighting="nb")
    with torch.no_grad():
        network.ratios.copy_(torch.tensor([[0, 0], [0, 0], [3, 0], [4, 1], [0, 0], [0, 0]]))
        network.bag.table.weight.fill_(2)
        network.bag.output_bias.copy_(torch.tensor([0.5, -0.5]))
    first, second = (explainer(network).explain(batch_of("good", "bad", "bad"), target) for target in (0, 1))
    assert values_of(first) == pytest.approx([2 * 3 / 5, 4 / 5, 4 / 5])
    assert values_of(second) == pytest.approx([0, 1, 1])
    assert (first.baseline, second.baseline) == (0.5, -0.5)


def test_other_networks_integrate_gradients_from_zeros_to_the_rows() -> None:
    torch.manual_seed(5)
    network = cnn(learned(), 2).eval()
    batch = batch_of("good", "film", "bad", "plot", "good")
    explanation = explainer(network, steps=200).explain(batch, 1)
    rows = network.embedding(batch.token_ids).detach()  # (1, T, E)
    weights = network.embedding.table.weight.detach()
    gradients = torch.zeros_like(rows)
    num_steps = 500
    found: list[Tensor] = []

    def keep(module: object, ids: object, output: Tensor) -> Tensor:
        found.append(output.detach().requires_grad_())
        return found[-1]

    for step in range(num_steps):  # the midpoint rule, on a table that is scaled
        network.embedding = TableEmbedding(weights * (step + 0.5) / num_steps)
        network.embedding.register_forward_hook(keep)
        logit = network(batch.token_ids, batch.lengths)[0, 1]
        gradients += torch.autograd.grad(logit, found[-1])[0] / num_steps
    expected = (rows * gradients).sum(dim=2)[0].tolist()
    assert values_of(explanation) == pytest.approx(expected, abs=5e-3)


def test_the_most_probable_label_is_explained_unless_another_is_named() -> None:
    documents = DocumentDataset(
        TokenSequences(np.array([2, 3, 4]), np.array([0, 1, 3])), np.arange(2), np.zeros(2), None, "head"
    )
    probabilities = np.array([[0.2, 0.8], [0.7, 0.3]])
    for label, expected in ((None, ["b", "a"]), ("b", ["b", "b"])):
        explanations = explainer(bow(learned(), 2), label=label)(documents, probabilities, [None, None])
        assert [explanation.target for explanation in explanations] == expected
    with pytest.raises(UserError, match="explain_label=c is not a label of this run"):
        explainer(bow(learned(), 2), label="c")


def test_a_missing_package_is_named_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    explainer(bow(learned(), 2)).explain(batch_of("good"), 0)  # linear: needs none
    with pytest.raises(UserError, match=r"captum.*pip install.*\.\[explain\]"):
        explainer(lstm(learned(), 2)).explain(batch_of("good"), 0)


def test_fields_and_page(tmp_path: Path) -> None:
    explanation = Explanation("<b>", 1.5, 0.25, [("<script>", 1.0), ("a&b", -0.5), ("plain", 0.1)])
    assert json.loads(json.dumps(explanation.fields())) == {
        "target": "<b>", "logit": 1.5, "baseline": 0.25, "gap": 0.65,
        "attributions": [["<script>", 1.0], ["a&b", -0.5], ["plain", 0.1]],
    }  # fmt: skip
    assert not explanation.complete
    with page(tmp_path / "page.html") as write:
        write([explanation])
        write([Explanation("none", 0.0, 0.0, [])])
        assert not (tmp_path / "page.html").exists()
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>" not in html
    assert '<mark style="background:rgb(31 119 180/1.00)" title="+1">&lt;script&gt;</mark>' in html
    assert '<mark style="background:rgb(255 127 14/0.50)" title="-0.5">a&amp;b</mark>' in html
    assert "1. &lt;b&gt;: logit 1.5, without words 0.25" in html
    assert "2. none" in html
