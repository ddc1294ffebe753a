"""The Network: token ids in, logits out."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from newsreel.batches.batch import Batch


class Network(nn.Module):
    """A classifier's network. Padding never changes a document's logits.

    What the data says (the embedding, the number of outputs) are positional arguments of the constructor; what the
    user chooses are keyword-only ones, named as in the network's file under configs/model.
    """

    # Whether every token's row is read, (B, T, E), one-hot rows too. A network that asks the embedding for `bag_layer`
    # or `projected` instead is spared that.
    reads_rows: ClassVar[bool] = True
    reads_bags: ClassVar[bool] = False  # whether the order of a document's tokens means nothing to it

    @abstractmethod
    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) token ids padded at the end, (B,) lengths → (B, num_outputs) logits."""

    output: nn.Linear  # the last layer, where a network has it under this name

    @property
    def output_bias(self) -> Tensor:
        """(num_outputs,) the last layer's bias."""
        return self.output.bias

    def start_at(self, shares: Tensor) -> None:
        """Let the first logits be around the log-odds of (num_outputs,) shares, each above 0 and below 1.

        Labels that few documents have are else learned to be rare before anything else is (Lin et al. 2017, section
        3.3).
        """
        with torch.no_grad():
            self.output_bias.copy_(shares.logit())

    def fit_statistics(self, training: Iterable[Batch]) -> None:
        """Set what is computed from the training documents rather than learned by gradients, before training."""


def dense(size: int, num_outputs: int) -> nn.Linear:
    """A linear layer that starts with Glorot-uniform weights (Glorot and Bengio 2010) and zero biases, as in Keras."""
    layer = nn.Linear(size, num_outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def perceptron(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """ReLU, dropout and a dense layer from each of the sizes to the next; nothing for one size."""
    layers: list[nn.Module] = []
    for size, next_size in pairwise(sizes):
        layers += [nn.ReLU(), nn.Dropout(dropout), dense(size, next_size)]
    return nn.Sequential(*layers)
