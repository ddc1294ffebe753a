"""Contributions of tokens to what a run says."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.documents import word_tokenizer
from newsreel.batches.batch import Batch, DocumentDataset, Truncation
from newsreel.core.errors import UserError
from newsreel.embeddings.embedding import Embedding, OneHotEmbedding, TableEmbedding
from newsreel.inference.explain import Explainer, Explanation, page
from newsreel.models.bow import BagOfWords
from newsreel.models.cnn import KimCNN, StackedCNN
from newsreel.models.flatten import FlattenMLP
from newsreel.models.network import Network
from newsreel.models.recurrent import RecurrentNetwork
from newsreel.text.tokens import TokenSequences
from newsreel.text.words import FittedWords

TOKENS = ["<pad>", "<unk>", "good", "bad", "film", "plot"]
RECURRENT = {"cell": "lstm", "hidden_size": 5, "num_layers": 1, "dropout": 0.0, "recurrent_dropout": 0.0,
             "layer_norm": False}  # fmt: skip


def learned() -> TableEmbedding:
    return TableEmbedding(torch.randn(len(TOKENS), 4))


def one_hot() -> OneHotEmbedding:
    return OneHotEmbedding(len(TOKENS))


def lstm(embedding: Embedding, num_outputs: int) -> Network:
    return RecurrentNetwork(embedding, num_outputs, directions="both", pooling="max_mean", **RECURRENT)  # type: ignore[arg-type]


def cnn(embedding: Embedding, num_outputs: int) -> Network:
    return StackedCNN(embedding, num_outputs, num_filters=5, width=2, num_layers=2, pool_size=2, pooling="max_mean",
                      hidden_sizes=[4], input_dropout=0.0, dropout=0.0)  # fmt: skip


def kim_cnn(embedding: Embedding, num_outputs: int) -> Network:
    return KimCNN(embedding, num_outputs, num_filters=5, kernel_sizes=[1, 2], dropout=0.0)


def mlp(embedding: Embedding, num_outputs: int) -> Network:
    return BagOfWords(embedding, num_outputs, weighting="count", sublinear_tf=False, hidden_sizes=[6], dropout=0.0)


def bow(embedding: Embedding, num_outputs: int) -> Network:
    return BagOfWords(embedding, num_outputs, weighting="tf", sublinear_tf=False, hidden_sizes=[], dropout=0.0)


def flatten(embedding: Embedding, num_outputs: int) -> Network:
    return FlattenMLP(embedding, num_outputs, num_tokens=3, hidden_sizes=[6], dropout=0.0)


def batch_of(*words: str) -> Batch:
    token_ids = [TOKENS.index(word) for word in words]
    return Batch(torch.tensor([token_ids or [0]]), torch.tensor([len(words)]), torch.zeros(1), 1)


def explainer(network: Network, labels: list[str], label: str | None = None, steps: int = 50) -> Explainer:
    return Explainer(network.eval(), TOKENS, labels, label, steps)


def logits_of(network: Network, batch: Batch) -> list[float]:
    with torch.no_grad():
        return network(batch.token_ids, batch.lengths)[0].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("embedding", [learned, one_hot])
@pytest.mark.parametrize("build", [lstm, cnn, kim_cnn, mlp, bow, flatten])
def test_contributions_sum_to_the_difference_that_the_words_make(build: object, embedding: object) -> None:
    torch.manual_seed(3)
    network = build(embedding(), 3)  # type: ignore[operator]
    batch = batch_of("good", "film", "bad", "plot", "good", "<unk>", "film")
    explain = explainer(network, ["a", "b", "c"])
    for target, name in enumerate(explain.labels):
        explanation = explain.explain(batch, target)
        assert explanation.target == name
        assert explanation.logit == pytest.approx(logits_of(network, batch)[target], abs=1e-5)
        total = sum(value for _, value in explanation.attributions)
        difference = explanation.logit - explanation.baseline
        assert total == pytest.approx(difference, abs=max(0.01 * abs(difference), 1e-3))
        assert explanation.complete
        assert any(abs(value) > 1e-3 for _, value in explanation.attributions)


def test_words_stand_in_the_order_in_which_they_are_read() -> None:
    words = ["good", "film", "bad", "plot", "good"]
    for build in (lstm, cnn, bow):
        explanation = explainer(build(learned(), 2), ["a", "b"]).explain(batch_of(*words), 0)
        assert [token for token, _ in explanation.attributions] == words
    explanation = explainer(flatten(learned(), 2), ["a", "b"]).explain(batch_of(*words), 0)
    assert [token for token, _ in explanation.attributions] == words[-3:]  # the places of the network
    explanation = explainer(flatten(learned(), 2), ["a", "b"]).explain(batch_of("good"), 0)
    assert [token for token, _ in explanation.attributions] == ["good"]


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [("head", ["good", "zorb <unk>", "bad", "film"]), ("tail", ["bad", "film", "blip <unk>", "plot"]),
     ("head_tail", ["good", "zorb <unk>", "blip <unk>", "plot"])],
)  # fmt: skip
def test_unknown_words_are_told_as_the_document_has_them(truncation: Truncation, expected: list[str]) -> None:
    words = ["good", "zorb", "bad", "film", "blip", "plot"]
    ids = np.array([TOKENS.index(word) if word in TOKENS else 1 for word in words])
    documents = DocumentDataset(TokenSequences(ids, np.array([0, 6])), np.array([0]), np.zeros(1), 4, truncation)
    for build in (lstm, bow):
        (explanation,) = explainer(build(learned(), 2), ["a", "b"])(documents, np.array([[0.2, 0.8]]), [words])
        assert [token for token, _ in explanation.attributions] == expected
    (explanation,) = explainer(flatten(learned(), 2), ["a", "b"])(documents, np.array([[0.2, 0.8]]), [words])
    assert [token for token, _ in explanation.attributions] == expected[-3:]  # the places of the network


def test_tokenizers_spell_what_they_encode() -> None:
    words = FittedWords(word_tokenizer().rules, ["<pad>", "<unk>", "film"])
    assert words.surface_forms("A Film, zorb!") == ["a", "film", "zorb"]
    assert words.surface_forms("") == []


@pytest.mark.parametrize("build", [lstm, cnn, kim_cnn, mlp, bow, flatten])
def test_an_empty_document_has_nothing_to_explain(build: object) -> None:
    network = build(learned(), 2)  # type: ignore[operator]
    explanation = explainer(network, ["a", "b"]).explain(batch_of(), 1)
    assert list(explanation.attributions) == []
    assert explanation.logit == pytest.approx(logits_of(network, batch_of())[1])
    assert explanation.gap == pytest.approx(0, abs=1e-6)


def test_a_linear_bag_contributes_weight_times_value() -> None:
    network = BagOfWords(one_hot(), 1, weighting="tfidf", sublinear_tf=False, hidden_sizes=[], dropout=0.0)
    idf, values, bias = [1.0, 1.0, 2.0, 3.0, 1.0, 1.0], [9.0, 9.0, 0.5, -1.5, 0.25, 9.0], 0.125
    with torch.no_grad():
        network.idf.copy_(torch.tensor(idf))
        network.bag.table.weight.copy_(torch.tensor(values)[:, None])  # type: ignore[operator, union-attr]
        network.bag.output_bias.fill_(bias)
    explain = explainer(network, ["negative", "positive"])
    explanation = explain.explain(batch_of("good", "film", "good", "<unk>", "bad"), 1)
    norm = (4**2 + 1**2 + 3**2) ** 0.5  # good twice with idf 2, film, bad with idf 3
    shares = [("good", 2 * 0.5), ("film", 0.25), ("good", 2 * 0.5), ("<unk>", 0.0), ("bad", 3 * -1.5)]
    assert [token for token, _ in explanation.attributions] == [token for token, _ in shares]
    expected = [value / norm for _, value in shares]
    assert [value for _, value in explanation.attributions] == pytest.approx(expected, abs=1e-6)
    assert explanation.baseline == bias
    assert explanation.logit == pytest.approx(bias + sum(expected))
    against = explain.explain(batch_of("good", "film", "good", "<unk>", "bad"), 0)  # the other of two labels
    assert [value for _, value in against.attributions] == pytest.approx([-value for value in expected], abs=1e-6)
    assert against.logit == pytest.approx(-explanation.logit)


def test_weights_of_each_label_explain_that_label() -> None:
    network = BagOfWords(one_hot(), 2, weighting="nb", sublinear_tf=False, hidden_sizes=[], dropout=0.0)
    with torch.no_grad():
        network.ratios.copy_(torch.tensor([[0, 0], [0, 0], [3, 0], [4, 1], [0, 0], [0, 0]]))
        network.bag.table.weight.fill_(2)  # type: ignore[operator, union-attr]
        network.bag.output_bias.copy_(torch.tensor([0.5, -0.5]))
    explain = explainer(network, ["a", "b"])
    batch = batch_of("good", "bad", "bad")
    first, second = explain.explain(batch, 0), explain.explain(batch, 1)
    assert [value for _, value in first.attributions] == pytest.approx([2 * 3 / 5, 4 / 5, 4 / 5])
    assert [value for _, value in second.attributions] == pytest.approx([0, 1, 1])
    assert (first.baseline, second.baseline) == (0.5, -0.5)


def test_other_networks_integrate_gradients_from_zeros_to_the_rows() -> None:
    torch.manual_seed(5)
    network = cnn(learned(), 2).eval()
    batch = batch_of("good", "film", "bad", "plot", "good")
    explanation = explainer(network, ["a", "b"], steps=200).explain(batch, 1)
    rows = network.embedding(batch.token_ids).detach()  # (1, T, E)
    table = network.embedding.table  # type: ignore[attr-defined]
    gradients = torch.zeros_like(rows)
    num_steps = 4_000
    for step in range(num_steps):  # the midpoint rule, on a table that is scaled
        scaled = TableEmbedding(table.weight.detach() * (step + 0.5) / num_steps)
        network.embedding = scaled
        found: list[Tensor] = []

        def keep(module: object, ids: object, output: Tensor, found: list[Tensor] = found) -> Tensor:
            found.append(output.detach().requires_grad_())
            return found[-1]

        scaled.register_forward_hook(keep)
        logit = network(batch.token_ids, batch.lengths)[0, 1]
        gradients += torch.autograd.grad(logit, found[0])[0] / num_steps
    expected = (rows * gradients).sum(dim=2)[0].tolist()
    assert [value for _, value in explanation.attributions] == pytest.approx(expected, abs=5e-3)


def test_the_most_probable_label_is_explained_unless_another_is_named() -> None:
    class Documents:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, chosen: list[int]) -> Batch:
            return batch_of(*[["good"], ["bad", "film"]][chosen[0]])

    probabilities = np.array([[0.2, 0.8], [0.7, 0.3]])
    network = bow(learned(), 2)
    explanations = explainer(network, ["a", "b"])(Documents(), probabilities, [None, None])  # type: ignore[arg-type]
    assert [explanation.target for explanation in explanations] == ["b", "a"]
    explanations = explainer(network, ["a", "b"], "b")(Documents(), probabilities, [None, None])  # type: ignore[arg-type]
    assert [explanation.target for explanation in explanations] == ["b", "b"]
    with pytest.raises(UserError, match="explain_label=c is not a label of this run"):
        explainer(network, ["a", "b"], "c")


def test_a_missing_package_is_named_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    explainer(bow(learned(), 2), ["a", "b"]).explain(batch_of("good"), 0)  # linear: needs none
    with pytest.raises(UserError, match=r"captum.*pip install.*\.\[explain\]"):
        explainer(lstm(learned(), 2), ["a", "b"]).explain(batch_of("good"), 0)


def test_fields_and_page(tmp_path: Path) -> None:
    explanation = Explanation("<b>", 1.5, 0.25, [("<script>", 1.0), ("a&b", -0.5), ("plain", 0.1)])
    fields = json.loads(json.dumps(explanation.fields()))
    assert fields == {
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
