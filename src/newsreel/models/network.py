"""The Network: token ids in, logits out.

Axes: B documents, T tokens, S variants of one document.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from newsreel.batches.batch import Batch
from newsreel.embeddings.embedding import Embedding


class AttributionInputs(NamedTuple):
    """What the logits of one document are computed from, token by token: for explanations."""

    token_ids: Tensor  # (T,) what is read, in its order; <pad> where nothing is
    values: Tensor  # (1, T, …) what each token brings; zeros bring nothing
    logits: Callable[[Tensor], Tensor]  # of other values of the same tokens: (S, T, …) → (S, num_outputs)
    linear: bool  # whether logits are a weighted sum of the values, plus a bias


class Network(nn.Module):
    """A classifier's network. Padding never changes a document's logits.

    What the data says (the embedding, the number of outputs) are positional arguments of the constructor; what the
    user chooses are keyword-only ones, named as in the network's file under configs/model.
    """

    # Whether every token's row is read, (B, T, E), one-hot rows too. A network that asks the embedding for `bag_layer`
    # or `projected` instead is spared that.
    needs_dense_embeddings: ClassVar[bool] = True
    order_invariant: ClassVar[bool] = False  # whether the order of a document's tokens means nothing to it

    @abstractmethod
    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) token ids padded at the end, (B,) lengths → (B, num_outputs) logits."""

    embedding: Embedding  # where a network looks its words up in one under this name
    output: nn.Linear  # the last layer, where a network has it under this name

    @property
    def output_bias(self) -> Tensor:
        """(num_outputs,) the last layer's bias."""
        return self.output.bias

    def init_bias_from_priors(self, shares: Tensor) -> None:
        """Let the first logits be around the log-odds of (num_outputs,) shares, each above 0 and below 1.

        Labels that few documents have are else learned to be rare before anything else is (Lin et al. 2017, section
        3.3).
        """
        with torch.no_grad():
            self.output_bias.copy_(shares.logit())

    def attribution_inputs(self, token_ids: Tensor, lengths: Tensor) -> AttributionInputs:
        """How (1, T) token ids are read: as the rows that the embedding gives for them."""
        looked_up: list[tuple[Tensor, Tensor]] = []  # ids and rows: a network may have chosen among the tokens
        handle = self.embedding.register_forward_hook(lambda _, ids, rows: looked_up.append((ids[0], rows)))
        try:
            self(token_ids, lengths)
        finally:
            handle.remove()
        ids, rows = looked_up[0]

        def logits(other_rows: Tensor) -> Tensor:
            handle = self.embedding.register_forward_hook(lambda *_: other_rows)
            try:
                size = len(other_rows)
                return self(token_ids.expand(size, -1), lengths.expand(size))  # type: ignore[no-any-return]
            finally:
                handle.remove()

        return AttributionInputs(ids[0], rows.detach(), logits, linear=False)

    def fit_statistics(self, training: Iterable[Batch]) -> None:
        """Set what is computed from the training documents rather than learned by gradients, before training."""


def glorot_linear(size: int, num_outputs: int) -> nn.Linear:
    """A linear layer that starts with Glorot-uniform weights (Glorot and Bengio 2010) and zero biases, as in Keras."""
    layer = nn.Linear(size, num_outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """ReLU, dropout and a dense layer from each of the sizes to the next; nothing for one size."""
    layers: list[nn.Module] = []
    for size, next_size in pairwise(sizes):
        layers += [nn.ReLU(), nn.Dropout(dropout), glorot_linear(size, next_size)]
    return nn.Sequential(*layers)
