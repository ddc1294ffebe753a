"""The base class of all networks: token ids in, logits out.

Axes: B documents, T tokens, S variants of one document.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from annotated_types import Len
from scipy.sparse import csr_array
from torch import Tensor, nn

from newsreel.batches.batch import Batch
from newsreel.embeddings.dropout import Dropout
from newsreel.embeddings.embedding import Embedding, Size
from newsreel.models.convex import Features

HiddenSizes = Annotated[Sequence[Size], Len(0, 100)]  # of the layers of an `mlp` before its output


class AttributionInputs(NamedTuple):
    """The inputs of one document's logits, per token, for explanations."""

    token_ids: Tensor  # (T,) in reading order; <pad> at unused positions
    values: Tensor  # (1, T, …) input values of each token; zeros are the baseline
    logits: Callable[[Tensor], Tensor]  # for other values of the same tokens: (S, T, …) → (S, num_outputs)
    linear: bool  # whether logits are a weighted sum of the values plus a bias


class Network(nn.Module):
    """Base class of classifier networks. Padding must not change a document's logits.

    The constructor takes what depends on the data (the embedding, the number of outputs) as positional arguments, and
    settings as keyword-only arguments with the names used in the network's file under configs/model.
    """

    # Whether the network reads (B, T, E) embeddings, including one-hot ones. Networks that use the embedding's
    # `bag_layer` or `projected` instead do not need them.
    needs_dense_embeddings: ClassVar[bool] = True
    order_invariant: ClassVar[bool] = False  # whether logits are independent of token order
    micro_batch_size: int | None = 16  # most documents of a micro-batch on CPU; None: batches are not divided
    # Whether batches have the distinct words of documents, and `forward` takes their (B, T) counts as a third argument.
    # Without it, the token ids are those of the documents, as in predictions.
    takes_counts: ClassVar[bool] = False

    @classmethod
    def is_linear_in_words(cls, settings: Mapping[str, Any]) -> bool:
        """Whether logits are linear in the words with these settings on one-hot words; then `features` and `word_layer`
        are defined, and training.solver=newton can train the network.
        """
        return False

    def features(self, counts: csr_array) -> Features:
        """The weights of words in documents, from their (N, V) counts."""
        raise NotImplementedError

    def word_layer(self) -> tuple[Tensor, Tensor]:
        """(V, num_outputs) weights of words and (num_outputs,) biases."""
        raise NotImplementedError

    @abstractmethod
    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) token ids padded at the end, (B,) lengths → (B, num_outputs) logits."""

    embedding: Embedding  # in networks that look tokens up in one
    output: nn.Linear  # the last layer; networks that name it otherwise override `output_bias`

    @property
    def output_bias(self) -> Tensor:
        """(num_outputs,) bias of the last layer."""
        return self.output.bias

    def init_bias_from_priors(self, priors: Tensor) -> None:
        """Initialise the output bias with the log-odds of (num_outputs,) label priors, each strictly between 0 and 1.

        Otherwise the first steps only learn that rare labels are rare (Lin et al. 2017, section 3.3).
        """
        with torch.no_grad():
            self.output_bias.copy_(priors.logit())

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The parameters in groups from the output down to the embedding, for learning rates and unfreezing."""
        below = {
            weights for module in self.modules() if isinstance(module, Embedding) for weights in module.parameters()
        }
        groups = [[each for each in self.parameters() if (each in below) == is_below] for is_below in (False, True)]
        return [group for group in groups if group]

    def copy_layers(self, weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> list[str]:
        """Copy layers besides the embedding from another network; returns descriptions of them, none by default.

        weights: of the other network, by name. settings: its section `model`.
        """
        return []

    def attribution_inputs(self, token_ids: Tensor, lengths: Tensor) -> AttributionInputs:
        """Inputs of (1, T) token ids: by default their embeddings."""
        looked_up: list[tuple[Tensor, Tensor]] = []  # ids and embeddings: a network may read only some of the tokens
        handle = self.embedding.register_forward_hook(lambda _, ids, rows: looked_up.append((ids[0], rows)))
        try:
            self(token_ids, lengths)
        finally:
            handle.remove()
        ids, rows = looked_up[0]

        def logits(new_rows: Tensor) -> Tensor:
            handle = self.embedding.register_forward_hook(lambda *_: new_rows)
            try:
                size = len(new_rows)
                return self(token_ids.expand(size, -1), lengths.expand(size))  # type: ignore[no-any-return]
            finally:
                handle.remove()

        return AttributionInputs(ids[0], rows.detach(), logits, linear=False)

    def fit_statistics(self, training: Iterable[Batch]) -> None:
        """Compute statistics of the training documents, such as idf, before training. Does nothing by default."""

    def fit_word_statistics(self, counts: csr_array, targets: Tensor) -> None:
        """In place of `fit_statistics` for networks that take counts: from (N, V) counts of words and the targets."""
        raise NotImplementedError


def glorot_linear(size: int, num_outputs: int) -> nn.Linear:
    """A linear layer with Glorot-uniform weights (Glorot and Bengio 2010) and zero biases, as in Keras."""
    layer = nn.Linear(size, num_outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """ReLU, dropout and a linear layer between consecutive sizes; empty for a single size."""
    layers: list[nn.Module] = []
    for size, next_size in pairwise(sizes):
        layers += [nn.ReLU(), Dropout(dropout), glorot_linear(size, next_size)]
    return nn.Sequential(*layers)
